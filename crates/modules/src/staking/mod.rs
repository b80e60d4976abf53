//! `staking`: operators bond native coin, register the key that signs their receipts, and say where they are.
//!
//! | part of the stake | may | slashable |
//! |---|---|---|
//! | free = bonded - locked | cover a new claim, start to unbond | by equivocation |
//! | locked | nothing until its claim ends | by its claim, by equivocation |
//! | unbonding | be withdrawn at its time | by equivocation |
//!
//! A receipt key belongs to one operator for ever. A new one takes over after a delay; the old one then signs nothing
//! new, but what it signed stays verifiable and slashable for the unbonding time.

pub(crate) mod dispatch;
mod slash;

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolEvent;
use assay_abi::{IErrors, IStaking, STAKING};
use assay_storage::{BytesLike, Cursor, Mapping, Place, Queue, Set, Slot, Storage, layout};

use crate::burn::pay;
use crate::clock;
use crate::error::{Ruling, require, revert};
use crate::parameters::Parameters;

pub(crate) use slash::Slash;

/// Longest endpoint, bytes.
pub const MAX_ENDPOINT: usize = 256;
/// Most unbondings of one operator at a time; bounds the loop of a slash.
pub const MAX_UNBONDINGS: u64 = 32;
/// Longest page of a list.
pub const MAX_PAGE: u64 = 256;

layout! {
    /// An operator's record.
    pub struct OperatorRecord {
        /// Wei bonded and not unbonding.
        pub bonded: Slot<u128>,
        /// Wei of `bonded` that cover open claims.
        pub locked: Slot<u128>,
        /// Wei unbonding.
        pub unbonding: Slot<u128>,
        /// Rises with each proven equivocation.
        pub generation: Slot<u32>,
        /// Locks no more stake.
        pub jailed: Slot<bool>,
        /// Registered once.
        pub registered: Slot<bool>,
        /// Key in force until `pending_from`.
        pub key: Slot<Address>,
        /// Key in force from `pending_from`; zero if none.
        pub pending_key: Slot<Address>,
        /// Chain milliseconds.
        pub pending_from: Slot<u64>,
        /// Where the operator serves.
        pub endpoint: BytesLike,
        /// Stake that is leaving, oldest first.
        pub unbondings: Queue<UnbondingRecord>,
    }
}

layout! {
    /// Stake that is leaving.
    pub struct UnbondingRecord {
        /// Wei.
        pub amount: Slot<u128>,
        /// Chain milliseconds from which it may be withdrawn.
        pub ready_at: Slot<u64>,
    }
}

layout! {
    /// A receipt key.
    pub struct KeyRecord {
        /// Its operator; zero for unknown keys.
        pub operator: Slot<Address>,
        /// Chain milliseconds from which it may sign.
        pub from: Slot<u64>,
        /// Chain milliseconds from which it may not; 0 while open.
        pub until: Slot<u64>,
    }
}

layout! {
    /// Storage of the module.
    pub struct Staking {
        /// Wei held: bonded and unbonding of all operators.
        pub held: Slot<u128>,
        /// Everyone who ever registered.
        pub operators: Set<Address>,
        /// Records by operator.
        pub records: Mapping<Address, OperatorRecord>,
        /// Receipt keys.
        pub keys: Mapping<Address, KeyRecord>,
    }
}

pub(super) fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(STAKING, event.encode_log_data())?)
}

pub(super) fn plus(a: u128, b: u128) -> Ruling<u128> {
    a.checked_add(b).ok_or_else(|| {
        revert(IErrors::Overflow {
            operation: "stake".to_string(),
        })
    })
}

pub(super) fn minus(a: u128, b: u128) -> Ruling<u128> {
    a.checked_sub(b).ok_or_else(|| {
        revert(IErrors::Overflow {
            operation: "stake".to_string(),
        })
    })
}

fn wei(value: U256) -> Ruling<u128> {
    u128::try_from(value).map_err(|_| {
        revert(IErrors::Overflow {
            operation: "amount".to_string(),
        })
    })
}

impl Staking {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(STAKING))
    }

    fn known(&self, storage: &mut dyn Storage, operator: Address) -> Ruling<OperatorRecord> {
        let record = self.records.at(&operator);
        let registered = record.registered.read(storage)?;
        require(registered, || IStaking::UnknownOperator { operator })?;
        Ok(record)
    }

    /// Whether the operator is one whose word counts: bonded and not jailed.
    pub(crate) fn check_standing(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
    ) -> Ruling<()> {
        let record = self.known(storage, operator)?;
        let jailed = record.jailed.read(storage)?;
        require(!jailed, || IStaking::OperatorJailed { operator })?;
        let have = record.bonded.read(storage)?;
        let need = Parameters::new().min_operator_bond.read(storage)?;
        require(have >= need, || IStaking::BondTooSmall {
            bond: U256::from(have),
            minimum: U256::from(need),
        })
    }

    /// Records a new key for `operator`; a key serves one operator, once.
    fn take_key(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        key: Address,
        from: u64,
    ) -> Ruling<()> {
        require(!key.is_zero(), || IStaking::KeyTaken {
            key,
            operator: Address::ZERO,
        })?;
        let record = self.keys.at(&key);
        let owner = record.operator.read(storage)?;
        require(owner.is_zero(), || IStaking::KeyTaken {
            key,
            operator: owner,
        })?;
        record.operator.write(storage, operator)?;
        Ok(record.from.write(storage, from)?)
    }

    fn check_endpoint(endpoint: &str) -> Ruling<()> {
        let (length, limit) = (U256::from(endpoint.len()), U256::from(MAX_ENDPOINT));
        require(length <= limit, || IStaking::EndpointTooLong {
            length,
            limit,
        })
    }

    fn register(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        value: U256,
        key: Address,
        endpoint: &str,
    ) -> Ruling<()> {
        let record = self.records.at(&operator);
        require(!record.registered.read(storage)?, || {
            IStaking::AlreadyRegistered { operator }
        })?;
        let bond = wei(value)?;
        let minimum = Parameters::new().min_operator_bond.read(storage)?;
        require(bond >= minimum, || IStaking::BondTooSmall {
            bond: value,
            minimum: U256::from(minimum),
        })?;
        Self::check_endpoint(endpoint)?;
        let now = clock::now(storage)?;
        self.take_key(storage, operator, key, now)?;
        record.registered.write(storage, true)?;
        record.key.write(storage, key)?;
        record.endpoint.write(storage, endpoint.as_bytes())?;
        self.operators.insert(storage, operator)?;
        let event = IStaking::Registered {
            operator,
            receiptKey: key,
            bonded: value,
            endpoint: endpoint.to_string(),
        };
        emit(storage, &event)?;
        self.add_bond(storage, operator, &record, bond)
    }

    fn bond(&self, storage: &mut dyn Storage, operator: Address, value: U256) -> Ruling<()> {
        let record = self.known(storage, operator)?;
        require(!value.is_zero(), || IErrors::ZeroAmount {})?;
        self.add_bond(storage, operator, &record, wei(value)?)
    }

    fn add_bond(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        record: &OperatorRecord,
        amount: u128,
    ) -> Ruling<()> {
        let bonded = plus(record.bonded.read(storage)?, amount)?;
        record.bonded.write(storage, bonded)?;
        let held = plus(self.held.read(storage)?, amount)?;
        self.held.write(storage, held)?;
        emit(
            storage,
            &IStaking::Bonded {
                operator,
                amount: U256::from(amount),
                bonded: U256::from(bonded),
            },
        )
    }

    fn rotate_key(&self, storage: &mut dyn Storage, operator: Address, key: Address) -> Ruling<()> {
        let record = self.known(storage, operator)?;
        let now = clock::now(storage)?;
        self.settle_rotation(storage, &record, now)?;
        let (pending, pending_from) = (
            record.pending_key.read(storage)?,
            record.pending_from.read(storage)?,
        );
        require(pending.is_zero(), || IStaking::RotationPending {
            key: pending,
            from: pending_from,
        })?;
        let from = now.saturating_add(Parameters::new().key_delay_ms.read(storage)?);
        self.take_key(storage, operator, key, from)?;
        self.keys
            .at(&record.key.read(storage)?)
            .until
            .write(storage, from)?;
        record.pending_key.write(storage, key)?;
        record.pending_from.write(storage, from)?;
        emit(
            storage,
            &IStaking::KeyRotated {
                operator,
                receiptKey: key,
                from,
            },
        )
    }

    /// Makes a key whose time has come the current one.
    fn settle_rotation(
        &self,
        storage: &mut dyn Storage,
        record: &OperatorRecord,
        now: u64,
    ) -> Ruling<()> {
        let pending = record.pending_key.read(storage)?;
        if pending.is_zero() || now < record.pending_from.read(storage)? {
            return Ok(());
        }
        record.key.write(storage, pending)?;
        record.pending_key.write(storage, Address::ZERO)?;
        Ok(record.pending_from.write(storage, 0)?)
    }

    fn set_endpoint(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        endpoint: &str,
    ) -> Ruling<()> {
        let record = self.known(storage, operator)?;
        Self::check_endpoint(endpoint)?;
        record.endpoint.write(storage, endpoint.as_bytes())?;
        emit(
            storage,
            &IStaking::EndpointChanged {
                operator,
                endpoint: endpoint.to_string(),
            },
        )
    }

    fn unbond(&self, storage: &mut dyn Storage, operator: Address, value: U256) -> Ruling<()> {
        let record = self.known(storage, operator)?;
        let amount = wei(value)?;
        require(amount > 0, || IErrors::ZeroAmount {})?;
        let free = self.free(storage, &record)?;
        require(amount <= free, || IStaking::InsufficientFreeStake {
            operator,
            need: value,
            free: U256::from(free),
        })?;
        let waiting = record.unbondings.range(storage)?;
        let room = waiting.end.saturating_sub(waiting.start) < MAX_UNBONDINGS;
        require(room, || IStaking::TooManyUnbondings {
            limit: U256::from(MAX_UNBONDINGS),
        })?;
        let bonded = minus(record.bonded.read(storage)?, amount)?;
        record.bonded.write(storage, bonded)?;
        let unbonding = plus(record.unbonding.read(storage)?, amount)?;
        record.unbonding.write(storage, unbonding)?;
        let ready_at =
            clock::now(storage)?.saturating_add(Parameters::new().unbonding_ms.read(storage)?);
        let entry = record.unbondings.push(storage)?;
        entry.amount.write(storage, amount)?;
        entry.ready_at.write(storage, ready_at)?;
        emit(
            storage,
            &IStaking::UnbondingStarted {
                operator,
                amount: value,
                readyAt: ready_at,
            },
        )
    }

    fn withdraw(&self, storage: &mut dyn Storage, operator: Address) -> Ruling<U256> {
        let record = self.known(storage, operator)?;
        let now = clock::now(storage)?;
        let (mut total, mut next) = (0u128, 0u64);
        for number in record.unbondings.range(storage)? {
            let entry = record.unbondings.at(number);
            let ready_at = entry.ready_at.read(storage)?;
            if ready_at > now {
                next = ready_at;
                break;
            }
            total = plus(total, entry.amount.read(storage)?)?;
            entry.amount.write(storage, 0)?;
            entry.ready_at.write(storage, 0)?;
            record.unbondings.advance(storage)?;
        }
        require(total > 0, || IStaking::NothingMature {
            nextReadyAt: next,
            now,
        })?;
        let unbonding = minus(record.unbonding.read(storage)?, total)?;
        record.unbonding.write(storage, unbonding)?;
        let held = minus(self.held.read(storage)?, total)?;
        self.held.write(storage, held)?;
        pay(storage, STAKING, operator, total)?;
        let amount = U256::from(total);
        emit(storage, &IStaking::Withdrawn { operator, amount })?;
        Ok(amount)
    }

    pub(super) fn free(&self, storage: &mut dyn Storage, record: &OperatorRecord) -> Ruling<u128> {
        minus(record.bonded.read(storage)?, record.locked.read(storage)?)
    }

    /// Locks free stake for a claim and returns the operator's generation.
    pub(crate) fn lock(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        amount: u128,
    ) -> Ruling<u32> {
        let record = self.known(storage, operator)?;
        require(!record.jailed.read(storage)?, || IStaking::OperatorJailed {
            operator,
        })?;
        let free = self.free(storage, &record)?;
        let need = U256::from(amount);
        require(amount <= free, || IStaking::InsufficientFreeStake {
            operator,
            need,
            free: U256::from(free),
        })?;
        let locked = plus(record.locked.read(storage)?, amount)?;
        record.locked.write(storage, locked)?;
        emit(
            storage,
            &IStaking::Locked {
                operator,
                amount: need,
                locked: U256::from(locked),
            },
        )?;
        Ok(record.generation.read(storage)?)
    }

    /// Gives stake of an ended claim back. Stake locked in an older generation is gone already: false.
    pub(crate) fn unlock(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        amount: u128,
        generation: u32,
    ) -> Ruling<bool> {
        let record = self.known(storage, operator)?;
        if record.generation.read(storage)? != generation {
            return Ok(false);
        }
        let locked = minus(record.locked.read(storage)?, amount)?;
        record.locked.write(storage, locked)?;
        emit(
            storage,
            &IStaking::Unlocked {
                operator,
                amount: U256::from(amount),
                locked: U256::from(locked),
            },
        )?;
        Ok(true)
    }

    fn view(&self, storage: &mut dyn Storage, operator: Address) -> Ruling<IStaking::Operator> {
        let record = self.known(storage, operator)?;
        let now = clock::now(storage)?;
        let (mut key, mut pending) = (record.key.read(storage)?, record.pending_key.read(storage)?);
        let mut from = record.pending_from.read(storage)?;
        if !pending.is_zero() && now >= from {
            (key, pending, from) = (pending, Address::ZERO, 0);
        }
        Ok(IStaking::Operator {
            bonded: U256::from(record.bonded.read(storage)?),
            locked: U256::from(record.locked.read(storage)?),
            unbonding: U256::from(record.unbonding.read(storage)?),
            receiptKey: key,
            pendingKey: pending,
            pendingFrom: from,
            jailed: record.jailed.read(storage)?,
            generation: record.generation.read(storage)?,
            endpoint: record.endpoint.read_string(storage)?,
        })
    }

    /// Wei in the unbonding queue.
    pub(crate) fn sum_unbonding(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
    ) -> Ruling<u128> {
        let record = self.records.at(&operator);
        let mut total = 0;
        for number in record.unbondings.range(storage)? {
            total = plus(total, record.unbondings.at(number).amount.read(storage)?)?;
        }
        Ok(total)
    }

    fn view_unbondings(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
    ) -> Ruling<Vec<IStaking::Unbonding>> {
        let record = self.known(storage, operator)?;
        let mut out = Vec::new();
        for number in record.unbondings.range(storage)? {
            let entry = record.unbondings.at(number);
            let amount = U256::from(entry.amount.read(storage)?);
            out.push(IStaking::Unbonding {
                amount,
                readyAt: entry.ready_at.read(storage)?,
            });
        }
        Ok(out)
    }
}

impl Default for Staking {
    fn default() -> Self {
        Self::new()
    }
}

/// Sum, `None` on overflow.
pub(crate) fn plus_all(values: &[u128]) -> Option<u128> {
    values
        .iter()
        .try_fold(0u128, |sum, value| sum.checked_add(*value))
}
