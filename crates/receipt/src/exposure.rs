//! Stake that must be locked for one receipt (specification trust.md section 2.2), in integers.

use alloy_primitives::U256;

use crate::{ReceiptError, Tier};

/// `1 - (1 - h)^s` for an honest stake share h = 0.67 and s = 3 auditors, in parts per million:
/// `1 - 0.33^3 = 0.964063` exactly.
pub const DETECTION_PER_AUDIT: u64 = 964_063;
/// One, in the scale of `auditPpm * DETECTION_PER_AUDIT`.
const ONE: u64 = 1_000_000_000_000;

fn checked(value: Option<U256>, what: &'static str) -> Result<u128, ReceiptError> {
    value
        .and_then(|value| u128::try_from(value).ok())
        .ok_or(ReceiptError::Overflow { what })
}

/// Exposure of a receipt in `usd` base units, rounded up.
///
/// `max(fee + V, ceil((fee + V) * (1 - p_d) / p_d))` with `p_d = p * 0.964063`; proven answers (`zk`) need the
/// fee alone, attested ones `3 * fee + V / 10`.
///
/// # Errors
/// [`ReceiptError::AuditPpm`] when `audit_ppm` is 0 or above 1,000,000, [`ReceiptError::Overflow`].
pub fn required_exposure(
    tier: Tier,
    fee: u128,
    value_at_risk: u128,
    audit_ppm: u32,
) -> Result<u128, ReceiptError> {
    if audit_ppm == 0 || audit_ppm > 1_000_000 {
        return Err(ReceiptError::AuditPpm(audit_ppm));
    }
    let (fee, value) = (U256::from(fee), U256::from(value_at_risk));
    let needed = match tier {
        Tier::Zk => Some(fee),
        Tier::Tee => fee
            .checked_mul(U256::from(3))
            .and_then(|fees| fees.checked_add(value.div_ceil(U256::from(10)))),
        _ => {
            let detected = U256::from(u64::from(audit_ppm)) * U256::from(DETECTION_PER_AUDIT);
            let missed = U256::from(ONE).saturating_sub(detected);
            fee.checked_add(value).and_then(|base| {
                let gain = base.checked_mul(missed)?.div_ceil(detected);
                Some(base.max(gain))
            })
        }
    };
    checked(needed, "exposure")
}

/// `usd` base units as stake (10^-18 ASSAY), rounded up, at `price` usd base units per whole ASSAY.
///
/// # Errors
/// [`ReceiptError::Overflow`], also for a price of 0.
pub fn stake_for(usd: u128, price: u128) -> Result<u128, ReceiptError> {
    if price == 0 {
        return Err(ReceiptError::Overflow { what: "stake" });
    }
    let scaled = U256::from(usd).checked_mul(U256::from(10u64.pow(18)));
    checked(
        scaled.map(|scaled| scaled.div_ceil(U256::from(price))),
        "stake",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(audit_ppm: u32) -> u128 {
        required_exposure(Tier::Optimistic, 1_000, 0, audit_ppm).expect("in range")
    }

    #[test]
    fn matches_the_table_of_the_specification() {
        // p = 0.08: 11.966 per unit; p = 0.20: 4.186; p = 0.50: 1.0745; p = 1: floor of 1.
        assert_eq!(factor(80_000), 11_966);
        assert_eq!(factor(200_000), 4_187);
        assert_eq!(factor(500_000), 1_075);
        assert_eq!(factor(1_000_000), 1_000);
    }

    #[test]
    fn rounds_up_and_refuses_what_no_stake_covers() {
        assert_eq!(stake_for(1, 3), Ok(333_333_333_333_333_334));
        assert_eq!(
            required_exposure(Tier::Signed, 1, 1, 0),
            Err(ReceiptError::AuditPpm(0))
        );
        assert!(required_exposure(Tier::Signed, u128::MAX, 1, 1_000_000).is_err());
        assert_eq!(required_exposure(Tier::Tee, 10, 11, 1), Ok(32));
        assert_eq!(required_exposure(Tier::Zk, 10, 11, 1), Ok(10));
    }
}
