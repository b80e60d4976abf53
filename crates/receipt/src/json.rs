//! The JSON form of numbers and bytes: decimal strings and lower-case hex, exactly one text for each value.

/// Integers as decimal strings without sign and leading zeros.
pub(crate) mod decimal {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T: Display + FromStr, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<T>() {
            Ok(value) if value.to_string() == text => Ok(value),
            _ => Err(D::Error::custom(format!(
                "`{}` is not a decimal integer of this field",
                text.chars().take(48).collect::<String>()
            ))),
        }
    }
}

/// Fixed-length bytes as `0x` and lower-case hex.
pub(crate) mod fixed_hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: AsRef<[u8]>, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(value.as_ref())))
    }

    pub(crate) fn deserialize<'de, T, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>
    where
        T: for<'a> TryFrom<&'a [u8]>,
    {
        let text = String::deserialize(deserializer)?;
        parse(&text)
            .and_then(|bytes| T::try_from(bytes.as_slice()).ok())
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "`{}` is not 0x and lower-case hex of this field's length",
                    text.chars().take(160).collect::<String>()
                ))
            })
    }

    pub(crate) fn parse(text: &str) -> Option<Vec<u8>> {
        let digits = text.strip_prefix("0x")?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        hex::decode(digits).ok()
    }
}

/// Optional byte strings of any length as `0x` and lower-case hex.
pub(crate) mod optional_hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => serializer.serialize_str(&format!("0x{}", hex::encode(bytes))),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| {
            super::fixed_hex::parse(&text)
                .ok_or_else(|| D::Error::custom("bytes are not 0x and lower-case hex"))
        })
        .transpose()
    }
}
