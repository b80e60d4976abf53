//! EIP-1559 base fee with a floor, and the fee history that wallets ask for.

use alloy_consensus::Header;
use alloy_eips::eip1559::{BaseFeeParams, calc_next_block_base_fee};

/// Lowest base fee and lowest fee cap, in wei per gas (specification chain.md section 3.2).
pub const FEE_FLOOR: u64 = 7;

/// Base fee of the block after `parent`, in wei per gas.
pub fn next_base_fee(parent: &Header) -> u64 {
    calc_next_block_base_fee(
        parent.gas_used,
        parent.gas_limit,
        parent.base_fee_per_gas.unwrap_or(FEE_FLOOR),
        BaseFeeParams::ethereum(),
    )
    .max(FEE_FLOOR)
}

/// Fees of a range of blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeeHistory {
    /// First block of the range.
    pub oldest: u64,
    /// Wei per gas, one more entry than blocks: the last is for the next block.
    pub base_fees: Vec<u64>,
    /// (gas used, gas limit) per block.
    pub gas: Vec<(u64, u64)>,
    /// Per block, the tips in wei per gas at the percentiles asked for, weighted by gas.
    pub rewards: Vec<Vec<u128>>,
}

/// Tips at `percentiles` (ascending, in hundredths of a percent) over `tips`: pairs of tip and gas used.
pub(crate) fn percentiles(tips: &mut [(u128, u64)], percentiles: &[u32]) -> Vec<u128> {
    tips.sort_unstable();
    let total: u128 = tips.iter().map(|(_, gas)| u128::from(*gas)).sum();
    let mut rewards = Vec::with_capacity(percentiles.len());
    for percentile in percentiles {
        // Hundredths of a percent: 10,000 is all of the gas.
        let threshold = total.saturating_mul(u128::from(*percentile)) / 10_000;
        let mut sum = 0u128;
        let mut reward = 0;
        for (tip, gas) in tips.iter() {
            sum = sum.saturating_add(u128::from(*gas));
            reward = *tip;
            if sum >= threshold {
                break;
            }
        }
        rewards.push(reward);
    }
    rewards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_fee_has_a_floor_and_rises_when_blocks_are_full() {
        let mut parent = Header {
            gas_limit: 60_000_000,
            base_fee_per_gas: Some(FEE_FLOOR),
            ..Header::default()
        };
        assert_eq!(next_base_fee(&parent), FEE_FLOOR);
        parent.gas_used = 60_000_000;
        assert!(next_base_fee(&parent) > FEE_FLOOR);
        parent.base_fee_per_gas = Some(1_000_000_000);
        assert_eq!(next_base_fee(&parent), 1_125_000_000);
    }

    #[test]
    fn percentiles_are_weighted_by_gas() {
        let mut tips = vec![(5, 100), (1, 100), (3, 800)];
        assert_eq!(percentiles(&mut tips, &[0, 5_000, 10_000]), [1, 3, 5]);
        assert_eq!(percentiles(&mut [], &[5_000]), [0]);
    }
}
