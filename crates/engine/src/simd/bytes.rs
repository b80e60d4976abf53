//! Canonical bytes of tensors without copying them.

use std::borrow::Cow;

use assay_graph::Data;

/// Canonical bytes (little endian, in element order).
#[cfg(target_endian = "little")]
pub fn canonical(data: &Data) -> Cow<'_, [u8]> {
    let (start, len) = match data {
        Data::I8(v) => (v.as_ptr().cast::<u8>(), v.len()),
        Data::I16(v) => (v.as_ptr().cast::<u8>(), v.len() * 2),
        Data::I32(v) => (v.as_ptr().cast::<u8>(), v.len() * 4),
    };
    // SAFETY: `start` is a live slice of `len` bytes; integers have no padding and any byte is a valid u8; the lifetime is the slice's.
    Cow::Borrowed(unsafe { std::slice::from_raw_parts(start, len) })
}

/// Canonical bytes (little endian, in element order).
#[cfg(not(target_endian = "little"))]
pub fn canonical(data: &Data) -> Cow<'_, [u8]> {
    Cow::Owned(data.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_the_definition() {
        let values = [i16::MIN, -2, -1, 0, 1, 258, i16::MAX];
        let all = [
            Data::I8(values.iter().map(|v| *v as i8).collect()),
            Data::I16(values.to_vec()),
            Data::I32(values.iter().map(|v| i32::from(*v) * 65_536).collect()),
        ];
        for data in all {
            assert_eq!(canonical(&data).as_ref(), data.to_bytes());
        }
    }
}
