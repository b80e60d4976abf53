//! The byte-level alphabet of GPT-2: every byte has a printable character.

/// Character of a byte: itself for `!..=~`, `¡..=¬`, `®..=ÿ`; the others follow from U+0100 in order of the byte.
pub(super) fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x100 + 0x21 + u32::from(byte - 0x7F),
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Byte of a character of the alphabet.
pub(super) fn char_to_byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Bytes that a token of the vocabulary stands for; a token with a character outside the alphabet stands for its own UTF-8
/// (padding and unused tokens).
pub(super) fn token_to_bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(char_to_byte)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_a_bijection_and_the_one_of_the_library() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        for byte in 0..=255 {
            let character = byte_to_char(byte);
            assert_eq!(char_to_byte(character), Some(byte));
            assert!(alphabet.contains(&character), "{byte}");
        }
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
    }
}
