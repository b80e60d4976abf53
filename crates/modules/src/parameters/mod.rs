//! `parameters`: every number of the rules that a network may choose, fixed at genesis, with bounds in code.
//!
//! Other modules read single values through [`Parameters`]; nothing is read anywhere else and nothing changes after
//! block 0.

pub(crate) mod dispatch;

use alloy_primitives::{Address, U256};
use assay_abi::{IErrors, IParameters, PARAMETERS};
use assay_storage::{Cursor, Place, Slot, Storage, StorageError, layout};

use crate::error::{Ruling, revert};

/// One whole ASSAY in wei.
pub const ASSAY: u128 = 1_000_000_000_000_000_000;
/// One usd in base units.
pub const USD_UNIT: u128 = 1_000_000;
/// Basis points of one.
pub const BPS: u128 = 10_000;
/// Parts per million of one.
pub const PPM: u128 = 1_000_000;

const DAY_MS: u64 = 86_400_000;

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident : $ty:ident = $dev:expr, $public:expr, $low:expr => $high:expr, $unit:literal;)*) => {
        /// The numbers of a network.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Params {
            $($(#[$doc])* pub $name: $ty,)*
        }

        layout! {
            /// Storage of the module.
            pub struct Parameters {
                $($(#[$doc])* pub $name: Slot<$ty>,)*
                /// Receiver of the treasury's part of fees.
                pub treasury: Slot<Address>,
            }
        }

        impl Params {
            /// For a network on one machine: minutes instead of days, clock without cap.
            pub fn dev() -> Self {
                Self { $($name: $dev,)* }
            }

            /// For a public network.
            pub fn public() -> Self {
                Self { $($name: $public,)* }
            }

            /// Checks each value against its bounds.
            fn check_bounds(&self) -> Result<(), ParamsError> {
                $(
                    let (low, high): ($ty, $ty) = ($low, $high);
                    if self.$name < low || self.$name > high {
                        return Err(ParamsError::OutOfBounds {
                            name: stringify!($name), value: self.$name.into(), low: low.into(), high: high.into(),
                        });
                    }
                )*
                Ok(())
            }
        }

        impl Parameters {
            fn write(&self, storage: &mut dyn Storage, params: &Params) -> Result<(), StorageError> {
                $(self.$name.write(storage, params.$name)?;)*
                Ok(())
            }

            /// All values.
            ///
            /// # Errors
            /// As [`Storage::sload`].
            pub fn load(&self, storage: &mut dyn Storage) -> Result<Params, StorageError> {
                Ok(Params { $($name: self.$name.read(storage)?,)* })
            }

            fn rows(&self, storage: &mut dyn Storage) -> Result<Vec<IParameters::Parameter>, StorageError> {
                Ok(vec![$(IParameters::Parameter {
                    name: stringify!($name).to_string(),
                    value: U256::from(self.$name.read(storage)?),
                    low: U256::from::<$ty>($low),
                    high: U256::from::<$ty>($high),
                    unit: $unit.to_string(),
                },)*])
            }
        }
    };
}

parameters! {
    /// Most that one block adds to chain time; 0 lifts the cap (development).
    clock_cap_ms: u64 = 0, 60_000, 0 => 600_000, "ms";

    /// Shortest challenge window.
    window_min_s: u64 = 10, 600, 1 => 86_400, "s";
    /// Longest challenge window.
    window_max_s: u64 = 3_600, 86_400, 1 => 604_800, "s";
    /// Longest time from `issuedAt` to `includeBy`.
    include_by_max_s: u64 = 600, 600, 10 => 3_600, "s";
    /// Time from the announcement of a buyer's withdrawal to its payment; 0: none needed (development).
    withdrawal_delay_ms: u64 = 0, 1_200_000, 0 => 7 * DAY_MS, "ms";
    /// A first challenge in this last part of the window extends it by as much, once.
    late_extension_bps: u64 = 1_000, 1_000, 0 => 5_000, "bps";
    /// Least audit probability of a receipt.
    audit_base_ppm: u64 = 80_000, 80_000, 1 => 1_000_000, "ppm";
    /// Chance that a drawn audit has an honest auditor: `1 - (1 - h)^s`, h = 0.67, s = 3.
    detection_ppm: u64 = 964_063, 964_063, 1 => 1_000_000, "ppm";
    /// Price of one whole ASSAY at which usd terms become stake.
    assay_price: u128 = 1_000_000, 1_000_000, 1 => 1_000_000_000_000, "usd base units";

    /// Fee weight of the operator.
    fee_operator_bps: u64 = 7_000, 7_000, 5_000 => 10_000, "bps";
    /// Fee weight of the model (maker and stakers).
    fee_model_bps: u64 = 1_200, 1_200, 0 => 5_000, "bps";
    /// Fee weight of data sets.
    fee_data_bps: u64 = 600, 600, 0 => 5_000, "bps";
    /// Fee weight of verifiers.
    fee_verifiers_bps: u64 = 500, 500, 300 => 1_000, "bps";
    /// Fee weight of treasury and burn together.
    fee_network_bps: u64 = 700, 700, 300 => 1_500, "bps";
    /// Burnt part of a fee at best quality.
    burn_top_bps: u64 = 400, 400, 300 => 500, "bps";
    /// Least burnt part of a fee.
    burn_min_bps: u64 = 100, 100, 0 => 1_500, "bps";
    /// Quality taken for models without a measured one.
    default_quality: u64 = 5_000, 5_000, 0 => 10_000, "bps";
    /// Maker's part of the model share for new lineages.
    default_commission_bps: u64 = 3_000, 3_000, 0 => 6_000, "bps";
    /// Largest rise of a maker's commission at a time.
    commission_step_bps: u64 = 100, 100, 1 => 1_000, "bps";
    /// Notice before a higher commission takes effect.
    commission_notice_ms: u64 = 60_000, 7 * DAY_MS, 0 => 60 * DAY_MS, "ms";

    /// Part of slashed exposure that goes to the first valid challenger.
    slash_challenger_bps: u64 = 3_000, 3_000, 0 => 3_000, "bps";
    /// Part that goes to the requester, at most its declared value at risk.
    slash_buyer_bps: u64 = 2_000, 2_000, 0 => 2_000, "bps";

    /// Clock of each side of a dispute, at least.
    dispute_clock_ms: u64 = 120_000, 3_600_000, 1_000 => 7 * DAY_MS, "ms";
    /// Time per move from which longer clocks are computed.
    move_ms: u64 = 5_000, 60_000, 1_000 => 600_000, "ms";
    /// Time to replay a job, added to clocks.
    replay_ms: u64 = 10_000, 60_000, 0 => DAY_MS, "ms";
    /// Least bond of a challenger.
    min_challenge_bond: u128 = ASSAY, 10 * ASSAY, 1 => 1_000_000 * ASSAY, "wei";
    /// Resource ratio of the challenger's bond.
    bond_ratio: u64 = 10, 10, 1 => 1_000, "times";
    /// Gas of one move, for the bond.
    move_gas: u64 = 60_000, 60_000, 21_000 => 10_000_000, "gas";
    /// Gas price for the bond.
    bond_gas_price: u128 = 1_000_000_000, 1_000_000_000, 7 => 1_000_000_000_000_000, "wei";

    /// Least bond of an operator.
    min_operator_bond: u128 = 100 * ASSAY, 10_000 * ASSAY, 1 => 1_000_000_000 * ASSAY, "wei";
    /// Delay of a new receipt key.
    key_delay_ms: u64 = 1_000, 600_000, 0 => DAY_MS, "ms";
    /// Time from `unbond` to withdrawal, slashable throughout.
    unbonding_ms: u64 = 9_000_000, 21 * DAY_MS, 0 => 60 * DAY_MS, "ms";

    /// Length of an economic epoch.
    epoch_ms: u64 = 60_000, DAY_MS, 1_000 => 7 * DAY_MS, "ms";
    /// Epochs from unbonding to withdrawal from a pool.
    pool_unbonding_epochs: u64 = 5, 21, 1 => 60, "epochs";

    /// Longest structure of a model.
    max_structure_bytes: u64 = 131_072, 65_536, 1_024 => 1_048_576, "bytes";
    /// Time from setting a proof key to its use, in which everyone can make it again.
    proof_key_notice_ms: u64 = 0, 7 * DAY_MS, 0 => 60 * DAY_MS, "ms";
    /// Bonded operators that must have made a proof key again before it is used.
    proof_key_attesters: u64 = 1, 3, 1 => 64, "operators";
}

/// Why a set of parameters is refused at genesis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A value is outside its bounds.
    #[error("parameter `{name}` is {value}, allowed is {low} to {high}")]
    OutOfBounds {
        /// Name of the parameter.
        name: &'static str,
        /// Its value.
        value: u128,
        /// Least allowed.
        low: u128,
        /// Most allowed.
        high: u128,
    },
    /// Fee weights must add up to 10,000.
    #[error("fee weights add up to {0} bps instead of 10000")]
    WeightSum(u64),
    /// The shortest window is above the longest.
    #[error("window_min_s {low} is above window_max_s {high}")]
    Windows {
        /// Shortest.
        low: u64,
        /// Longest.
        high: u64,
    },
    /// Burnt parts are not ordered `min <= top` and `min <= network`.
    #[error("burn_min_bps {min} is above burn_top_bps {top} or fee_network_bps {network}")]
    Burn {
        /// Least burnt part.
        min: u64,
        /// Burnt part at best quality.
        top: u64,
        /// Weight of treasury and burn.
        network: u64,
    },
    /// A buyer could leave between an answer and its assertion: the delay is 0 (development) or at least `include_by_max_s`.
    #[error("withdrawal_delay_ms {have} is shorter than include_by_max_s in milliseconds, {need}")]
    Withdrawal {
        /// Delay.
        have: u64,
        /// Least.
        need: u64,
    },
    /// Stake could leave before the longest claim can be disputed: `2 * (1.1 * window + 2 * clock)`.
    #[error("unbonding_ms {have} is shorter than two of the longest claims, {need}")]
    Unbonding {
        /// Unbonding time.
        have: u64,
        /// Least.
        need: u64,
    },
}

impl Params {
    /// Checks bounds and the relations between values.
    ///
    /// # Errors
    /// The first violated bound or relation.
    pub fn check(&self) -> Result<(), ParamsError> {
        self.check_bounds()?;
        let weights = [
            self.fee_operator_bps,
            self.fee_model_bps,
            self.fee_data_bps,
            self.fee_verifiers_bps,
        ];
        let sum = weights.iter().fold(self.fee_network_bps, |sum, weight| {
            sum.saturating_add(*weight)
        });
        if u128::from(sum) != BPS {
            return Err(ParamsError::WeightSum(sum));
        }
        if self.window_min_s > self.window_max_s {
            return Err(ParamsError::Windows {
                low: self.window_min_s,
                high: self.window_max_s,
            });
        }
        if self.burn_min_bps > self.burn_top_bps || self.burn_min_bps > self.fee_network_bps {
            let (min, top, network) = (self.burn_min_bps, self.burn_top_bps, self.fee_network_bps);
            return Err(ParamsError::Burn { min, top, network });
        }
        let (have, need) = (
            self.withdrawal_delay_ms,
            self.include_by_max_s.saturating_mul(1_000),
        );
        if have != 0 && have < need {
            return Err(ParamsError::Withdrawal { have, need });
        }
        let window = self.window_max_s.saturating_mul(1_100);
        let need = window
            .saturating_add(self.dispute_clock_ms.saturating_mul(2))
            .saturating_mul(2);
        if self.unbonding_ms < need {
            return Err(ParamsError::Unbonding {
                have: self.unbonding_ms,
                need,
            });
        }
        Ok(())
    }
}

impl Parameters {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(PARAMETERS))
    }

    pub(crate) fn genesis(
        &self,
        storage: &mut dyn Storage,
        params: &Params,
        treasury: Address,
    ) -> Result<(), StorageError> {
        params
            .check()
            .map_err(|error| StorageError::Fatal(error.to_string()))?;
        self.write(storage, params)?;
        self.treasury.write(storage, treasury)
    }

    fn find(&self, storage: &mut dyn Storage, name: &str) -> Ruling<IParameters::Parameter> {
        let rows = self.rows(storage)?;
        let found = rows.into_iter().find(|row| row.name == name);
        found.ok_or_else(|| {
            revert(IParameters::UnknownParameter {
                name: name.to_string(),
            })
        })
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self::new()
    }
}

/// Turns an amount of usd (base units) into stake (wei) at the network's price, rounded up.
///
/// # Errors
/// `Overflow` above 2^128 wei.
pub(crate) fn to_stake(storage: &mut dyn Storage, usd: u128) -> Ruling<u128> {
    let price = Parameters::new().assay_price.read(storage)?;
    crate::amount::mul_div_ceil(usd, ASSAY, price).ok_or_else(|| {
        revert(IErrors::Overflow {
            operation: "usd to stake".to_string(),
        })
    })
}
