//! Who gets what of a fee (economics, section a): pure arithmetic, to the last unit.

use crate::amount::{mul_div_floor, split};
use crate::parameters::BPS;

/// Weights and burn rule of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeRule {
    /// Weights of operator, model, data, verifiers, network (treasury and burn).
    pub weights: [u128; 5],
    /// Burnt part at best quality, basis points.
    pub burn_top: u128,
    /// Least burnt part, basis points.
    pub burn_min: u128,
}

/// Which roles have someone in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Operator.
    pub operator: bool,
    /// Model maker.
    pub model: bool,
    /// Data sets.
    pub data: bool,
    /// Verifiers of completed audits.
    pub verifiers: bool,
}

/// Parts of a fee; they and the royalties add up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeParts {
    /// To the operator.
    pub operator: u128,
    /// To maker and stakers, royalties deducted.
    pub model: u128,
    /// To data sets.
    pub data: u128,
    /// To verifiers.
    pub verifiers: u128,
    /// To parents of the lineage, by depth.
    pub royalties: Vec<u128>,
    /// To the treasury.
    pub treasury: u128,
    /// Set aside for burning, shares of absent roles included.
    pub burn: u128,
}

impl FeeParts {
    /// Sum of all parts.
    pub fn total(&self) -> Option<u128> {
        let [a, b, c, d, e, f] = [
            self.operator,
            self.model,
            self.data,
            self.verifiers,
            self.treasury,
            self.burn,
        ];
        self.royalties
            .iter()
            .copied()
            .chain([a, b, c, d, e, f])
            .try_fold(0u128, u128::checked_add)
    }
}

/// Divides a fee. `quality` (0 to 10,000) moves only the boundary between treasury and burn; the share of an absent role
/// is burnt (rule E). `royalty_bps` are those of the parents by depth, out of the model's part.
///
/// `None` on overflow or if the weights add up to 0.
pub fn divide(
    fee: u128,
    rule: &FeeRule,
    quality: u128,
    roles: Roles,
    royalty_bps: &[u128],
) -> Option<FeeParts> {
    let [operator, model, data, verifiers, network] = split(fee, rule.weights)?;
    let [_, _, _, _, network_weight] = rule.weights;
    let wanted = mul_div_floor(rule.burn_top, quality.checked_add(5_000)?, BPS)?;
    let burn_bps = wanted.max(rule.burn_min).min(network_weight);
    let [mut burn, treasury] = split(network, [burn_bps, network_weight.checked_sub(burn_bps)?])?;
    let mut fill = |part: u128, present: bool| -> Option<u128> {
        if present {
            return Some(part);
        }
        burn = burn.checked_add(part)?;
        Some(0)
    };
    let operator = fill(operator, roles.operator)?;
    let mut model = fill(model, roles.model)?;
    let data = fill(data, roles.data)?;
    let verifiers = fill(verifiers, roles.verifiers)?;
    let whole = model;
    let mut royalties = Vec::with_capacity(royalty_bps.len());
    for bps in royalty_bps {
        let royalty = mul_div_floor(whole, *bps, BPS)?;
        model = model.checked_sub(royalty)?;
        royalties.push(royalty);
    }
    Some(FeeParts {
        operator,
        model,
        data,
        verifiers,
        royalties,
        treasury,
        burn,
    })
}
