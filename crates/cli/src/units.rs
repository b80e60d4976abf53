//! Amounts for people: `1.25 usd`, `10,000 ASSAY`; and back.

use alloy_primitives::U256;

use crate::exit::{Exit, stop};

/// Decimals of the native coin.
pub(crate) const COIN: u32 = 18;
/// Decimals of `usd`.
pub(crate) const USD: u32 = 6;

/// Exact decimal text, thousands grouped, at least two decimals.
pub(crate) fn amount(value: U256, decimals: u32) -> String {
    let digits = format!("{value:0>width$}", width = decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    let fraction = fraction.trim_end_matches('0');
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    format!("{grouped}.{fraction:0<2}")
}

/// A count with its thousands grouped.
pub(crate) fn group(value: u64) -> String {
    let whole = amount(U256::from(value), 0);
    whole.split('.').next().unwrap_or_default().to_owned()
}

/// Native coin for people: six decimals, `…` where there are more.
pub(crate) fn coin(value: U256) -> String {
    let exact = amount(value, COIN);
    let shown = exact.find('.').map_or(exact.len(), |dot| dot + 7);
    match exact.get(..shown) {
        Some(short) if shown < exact.len() => format!("{short}… ASSAY"),
        _ => format!("{exact} ASSAY"),
    }
}

/// Native coin to the last unit.
pub(crate) fn coin_exact(value: U256) -> String {
    format!("{} ASSAY", amount(value, COIN))
}

/// `amount` with its unit.
pub(crate) fn usd(value: U256) -> String {
    format!("{} usd", amount(value, USD))
}

/// Reads `1,234.5` exactly.
///
/// # Errors
/// When it is no number or has more decimals than the unit.
pub(crate) fn parse(text: &str, decimals: u32) -> anyhow::Result<U256> {
    let clean: String = text.chars().filter(|c| *c != ',' && *c != '_').collect();
    let (whole, fraction) = clean.split_once('.').unwrap_or((&clean, ""));
    let digits = format!("{whole}{fraction:0<width$}", width = decimals as usize);
    let valid = clean.bytes().any(|b| b.is_ascii_digit())
        && fraction.len() <= decimals as usize
        && digits.bytes().all(|b| b.is_ascii_digit());
    match U256::from_str_radix(&digits, 10) {
        Ok(value) if valid => Ok(value),
        _ => stop(
            Exit::Failed,
            format!("`{text}` is no amount with at most {decimals} decimals"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_six_decimals() {
        assert_eq!(coin(U256::from(1_500_000_000_000_000_000u64)), "1.50 ASSAY");
        assert_eq!(
            coin(U256::from(1_234_567_890_000_000_000u64)),
            "1.234567… ASSAY"
        );
        assert_eq!(coin_exact(U256::from(1u64)), "0.000000000000000001 ASSAY");
    }

    #[test]
    fn counts_are_grouped() {
        for (count, words) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (134_515_008, "134,515,008"),
        ] {
            assert_eq!(group(count), words);
        }
    }

    #[test]
    fn amounts_round_trip() {
        for (text, decimals, value) in [
            ("0.00", 6, 0u64),
            ("1.00", 6, 1_000_000),
            ("1,234.567891", 6, 1_234_567_891),
            ("0.000001", 6, 1),
        ] {
            assert_eq!(amount(U256::from(value), decimals), text);
            assert_eq!(parse(text, decimals).ok(), Some(U256::from(value)));
        }
        for bad in ["", ".", "1.2345678", "1e6", "-1", "x"] {
            assert!(parse(bad, 6).is_err(), "{bad}");
        }
    }
}
