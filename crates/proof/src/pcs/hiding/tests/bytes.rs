//! Openings as bytes.

use proptest::prelude::*;

use super::{
    super::{
        super::{codec, opening_cap, trees::SOURCES},
        *,
    },
    Case, Numbers, row,
};
use crate::field::EF_BYTES;

#[test]
fn each_byte_counts() {
    let case = Case::new(11, 13);
    for at in (0..case.bytes.len()).step_by(191) {
        for flip in [1, 0x80] {
            let mut wrong = case.clone();
            wrong.bytes[at] ^= flip;
            assert!(wrong.check("a flipped bit").is_err(), "byte {at}");
        }
    }
    for len in (0..case.bytes.len()).step_by(97) {
        let mut short = case.clone();
        short.bytes.truncate(len);
        short.is_unreadable("a truncated opening");
    }
    for more in [1, 2, 32, 100_000] {
        let mut long = case.clone();
        long.bytes.resize(case.bytes.len() + more, 0);
        long.is_unreadable("an opening with more behind it");
    }
}

#[test]
fn arbitrary_bytes_are_rejected() {
    let mut rng = Numbers(17);
    for log in [11, 12, 13, 16] {
        let cap = opening_cap(log, Side::Hidden);
        for len in [0, 1, 100, cap, cap + 1] {
            for kind in 0..3 {
                let byte = |rng: &mut Numbers| match kind {
                    0 => 0,
                    1 => 0xff,
                    _ => rng.next() as u8 & 0x7e,
                };
                let case = Case {
                    log,
                    roots: [[1; 32]; 2],
                    rho: EF::TWO,
                    point: rng.point(log),
                    value: EF::ONE,
                    bytes: (0..len).map(|_| byte(&mut rng)).collect(),
                };
                assert!(case.check("arbitrary bytes").is_err());
            }
        }
    }
}

#[test]
fn numbers_have_one_encoding() {
    let case = Case::new(11, 19);
    let row = row(11);
    // the first sumcheck, the root of the second oracle, the work, the bits
    assert!(row.oracles() == 2 && row.fold_pow[0] == 0 && row.query_pow[0] > 0);
    let leaves = usize::from(row.folds[0]) * 2 * EF_BYTES + 32 + 4 + row.opened(0).div_ceil(8);
    let width = 4 * (SOURCES << fold(row));
    for at in [leaves, leaves + 4, leaves + width - 4, leaves + width] {
        let mut other = case.clone();
        let word = other.bytes[at..].first_chunk_mut::<4>().unwrap();
        let v = u32::from_le_bytes(*word).checked_add(crate::field::MODULUS as u32);
        *word = v.unwrap_or(u32::MAX).to_le_bytes();
        other.is_unreadable("a number that is not below the modulus");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// All bytes that can be read are those of what was read.
    #[test]
    fn readable_bytes_are_canonical(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        inside in any::<bool>(),
    ) {
        static CASE: std::sync::LazyLock<Case> = std::sync::LazyLock::new(|| Case::new(11, 23));
        let mut case = CASE.clone();
        let row = row(11);
        // either anywhere, or where leaves are marked as repeated
        let bits = usize::from(row.folds[0]) * 2 * EF_BYTES + 36;
        let range = if inside { bits..bits + row.opened(0).div_ceil(8) } else { 0..case.bytes.len() };
        for (at, byte) in changes {
            case.bytes[range.start + at.index(range.len())] = byte;
        }
        if let Ok(proof) = case.read() {
            prop_assert_eq!(codec::write(row, &proof), Some(case.bytes));
        }
    }
}
