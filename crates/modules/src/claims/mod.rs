//! `claims`: buyers' balances, receipts, claims and their settlement.
//!
//! | state | call | condition | next |
//! |---|---|---|---|
//! | none | `assertSingle` | receipt and request signed, next in line, exposure covered | asserted |
//! | none | `skip` | receipt expired unasserted | skipped |
//! | asserted | `finalize` | window over, no open dispute | final; refunded if the operator equivocated since |
//! | asserted, challenged | dispute opens | window not over | challenged |
//! | challenged | last open dispute lost by its challenger | | asserted |
//! | asserted, challenged | a dispute is won, or equivocation | | rejected |
//! | asserted, challenged | `answerWithProof` | tier zk: window not over | final; refunded if the operator equivocated since |
//! | asserted, tier zk | `expire` | window over | rejected |
//!
//! A claim of tier zk can be neither challenged nor finalised by time: it ends by a proof or is rejected.
//!
//! Every open claim has a deadline; final, rejected, skipped and refunded are absorbing. The fee leaves escrow exactly
//! once; locked stake leaves the claim exactly once.

mod assertion;
pub(crate) mod dispatch;
mod equivocation;
pub mod fees;
mod proving;
mod settlement;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolEvent};
use assay_abi::{CLAIMS, IClaims, IErrors};
use assay_storage::{Cursor, Mapping, Place, Slot, Storage, layout};

use crate::clock;
use crate::error::{Ruling, require, revert};
use crate::parameters::Parameters;
use crate::usd::{Authorization, Usd};

/// States of a claim, as the ABI numbers them.
pub mod state {
    /// Unknown.
    pub const NONE: u8 = 0;
    /// Asserted, in its window.
    pub const ASSERTED: u8 = 1;
    /// At least one dispute is open.
    pub const CHALLENGED: u8 = 2;
    /// Paid.
    pub const FINAL: u8 = 3;
    /// Lost; fee refunded, exposure slashed.
    pub const REJECTED: u8 = 4;
    /// Never asserted in time; nothing moved.
    pub const SKIPPED: u8 = 5;
    /// Fee refunded because the operator equivocated.
    pub const REFUNDED: u8 = 6;
}

layout! {
    /// A claim.
    pub struct ClaimRecord {
        /// See [`state`].
        pub state: Slot<u8>,
        /// Tier of the receipt.
        pub tier: Slot<u8>,
        /// The window was extended by a late challenge.
        pub extended: Slot<bool>,
        /// Positions or tokens of the input.
        pub n_in: Slot<u32>,
        /// Disputes open now.
        pub open_disputes: Slot<u32>,
        /// Operator's generation when its stake was locked.
        pub generation: Slot<u32>,
        /// Position in the line.
        pub seq: Slot<u64>,
        /// Who answered.
        pub operator: Slot<Address>,
        /// Chain milliseconds.
        pub asserted_at: Slot<u64>,
        /// Who pays.
        pub requester: Slot<Address>,
        /// Chain milliseconds at which the window ends.
        pub deadline: Slot<u64>,
        /// usd base units in escrow.
        pub fee: Slot<u128>,
        /// usd base units.
        pub value_at_risk: Slot<u128>,
        /// Wei locked.
        pub exposure: Slot<u128>,
        /// Leaves of the committed tree.
        pub n_leaves: Slot<u64>,
        /// Exposure line.
        pub line_id: Slot<B256>,
        /// Model.
        pub model_id: Slot<B256>,
        /// Commitment to the input.
        pub input_commit: Slot<B256>,
        /// Commitment to the output.
        pub output_commit: Slot<B256>,
        /// Root of the committed tree; zero if not yet posted.
        pub trace_root: Slot<B256>,
        /// Tokens of the answer.
        pub n_out: Slot<u32>,
        /// Hash of the sampling statement; zero where nothing is sampled.
        pub sampling_hash: Slot<B256>,
        /// Root over the token masks, or another extension's hash (`extHash`).
        pub mask_root: Slot<B256>,
        /// What a proof names: struct hash of the receipt without its evidence hash; zero if that is the claim's id.
        pub body_id: Slot<B256>,
        /// A proof of the answer was accepted.
        pub proven: Slot<bool>,
    }
}

layout! {
    /// Receipts between one operator and one requester.
    pub struct LineRecord {
        /// Sequence number of the last receipt asserted or skipped.
        pub asserted_seq: Slot<u64>,
        /// Exposure of receipts up to it, wei.
        pub cum_exposure: Slot<u128>,
        /// Exposure of open claims, wei.
        pub outstanding: Slot<u128>,
    }
}

layout! {
    /// A withdrawal that a buyer has announced.
    pub struct WithdrawalRecord {
        /// usd base units; still part of the balance.
        pub amount: Slot<u128>,
        /// Chain milliseconds.
        pub ready_at: Slot<u64>,
    }
}

layout! {
    /// Storage of the module.
    pub struct Claims {
        /// usd of all buyers.
        pub total_balances: Slot<u128>,
        /// usd of all open claims.
        pub total_fees: Slot<u128>,
        /// usd by buyer.
        pub balances: Mapping<Address, Slot<u128>>,
        /// Claims by id (struct hash of the receipt).
        pub claims: Mapping<B256, ClaimRecord>,
        /// Lines by id.
        pub lines: Mapping<B256, LineRecord>,
        /// Line to sequence number to equivocation shown.
        pub equivocations: Mapping<B256, Mapping<u64, Slot<bool>>>,
        /// Announced withdrawals by buyer.
        pub withdrawals: Mapping<Address, WithdrawalRecord>,
        /// Requester to key that may sign its requests to chain seconds until which.
        pub signers: Mapping<Address, Mapping<Address, Slot<u64>>>,
        /// Hashes of open requests of which a receipt was asserted.
        pub spent: Mapping<B256, Slot<bool>>,
    }
}

/// Tier of answers that are paid for a proof alone.
pub const TIER_ZK: u8 = 4;

/// `keccak256(operator ++ requester)`.
pub fn line_id(operator: Address, requester: Address) -> B256 {
    keccak256([operator.as_slice(), requester.as_slice()].concat())
}

pub(crate) fn domain(storage: &dyn Storage) -> Eip712Domain {
    assay_abi::receipt_domain(storage.env().chain_id, CLAIMS)
}

fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(CLAIMS, event.encode_log_data())?)
}

fn overflow(operation: &str) -> crate::Fault {
    revert(IErrors::Overflow {
        operation: operation.to_string(),
    })
}

fn add(storage: &mut dyn Storage, slot: Slot<u128>, amount: u128) -> Ruling<u128> {
    let sum = slot
        .read(storage)?
        .checked_add(amount)
        .ok_or_else(|| overflow("claims sum"))?;
    slot.write(storage, sum)?;
    Ok(sum)
}

fn sub(storage: &mut dyn Storage, slot: Slot<u128>, amount: u128) -> Ruling<u128> {
    let rest = slot
        .read(storage)?
        .checked_sub(amount)
        .ok_or_else(|| overflow("claims difference"))?;
    slot.write(storage, rest)?;
    Ok(rest)
}

impl Claims {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(CLAIMS))
    }

    fn deposit(
        &self,
        storage: &mut dyn Storage,
        from: Address,
        buyer: Address,
        amount: U256,
    ) -> Ruling<()> {
        require(!amount.is_zero(), || IErrors::ZeroAmount {})?;
        let moved = Usd::new().move_tokens(storage, from, CLAIMS, amount)?;
        self.deposited(storage, from, buyer, moved)
    }

    /// Deposits for whoever signed, whoever sends it.
    fn deposit_authorized(
        &self,
        storage: &mut dyn Storage,
        call: &IClaims::depositWithAuthorizationCall,
    ) -> Ruling<()> {
        require(!call.value.is_zero(), || IErrors::ZeroAmount {})?;
        let authorization = Authorization {
            from: call.from,
            to: CLAIMS,
            value: call.value,
            valid_after: call.validAfter,
            valid_before: call.validBefore,
            nonce: call.nonce,
        };
        Usd::new().receive_authorized(storage, CLAIMS, authorization, &call.signature)?;
        let moved = u128::try_from(call.value).map_err(|_| overflow("deposit"))?;
        self.deposited(storage, call.from, call.from, moved)
    }

    fn deposited(
        &self,
        storage: &mut dyn Storage,
        from: Address,
        buyer: Address,
        moved: u128,
    ) -> Ruling<()> {
        let balance = self.credit(storage, buyer, moved)?;
        let (amount, balance) = (U256::from(moved), U256::from(balance));
        emit(
            storage,
            &IClaims::Deposited {
                buyer,
                from,
                amount,
                balance,
            },
        )
    }

    fn authorize_signer(
        &self,
        storage: &mut dyn Storage,
        requester: Address,
        signer: Address,
        until: u64,
    ) -> Ruling<()> {
        self.signers
            .at(&requester)
            .at(&signer)
            .write(storage, until)?;
        emit(
            storage,
            &IClaims::SignerAuthorized {
                requester,
                signer,
                until,
            },
        )
    }

    fn announce_withdrawal(
        &self,
        storage: &mut dyn Storage,
        buyer: Address,
        amount: U256,
    ) -> Ruling<()> {
        let announced = u128::try_from(amount).map_err(|_| overflow("withdrawal"))?;
        let delay = Parameters::new().withdrawal_delay_ms.read(storage)?;
        let ready_at = clock::now(storage)?.saturating_add(delay);
        let record = self.withdrawals.at(&buyer);
        record.amount.write(storage, announced)?;
        record.ready_at.write(storage, ready_at)?;
        emit(
            storage,
            &IClaims::WithdrawalAnnounced {
                buyer,
                amount,
                readyAt: ready_at,
            },
        )
    }

    fn withdraw(&self, storage: &mut dyn Storage, buyer: Address, amount: U256) -> Ruling<()> {
        require(!amount.is_zero(), || IErrors::ZeroAmount {})?;
        if Parameters::new().withdrawal_delay_ms.read(storage)? > 0 {
            self.use_announcement(storage, buyer, amount)?;
        }
        let balance = self.debit(storage, buyer, amount)?;
        Usd::new().move_tokens(storage, CLAIMS, buyer, amount)?;
        emit(
            storage,
            &IClaims::Withdrawn {
                buyer,
                amount,
                balance: U256::from(balance),
            },
        )
    }

    fn use_announcement(
        &self,
        storage: &mut dyn Storage,
        buyer: Address,
        amount: U256,
    ) -> Ruling<()> {
        let record = self.withdrawals.at(&buyer);
        let (announced, ready_at) = (record.amount.read(storage)?, record.ready_at.read(storage)?);
        let now = clock::now(storage)?;
        let rest = u128::try_from(amount)
            .ok()
            .and_then(|amount| announced.checked_sub(amount));
        let rest = rest.filter(|_| now >= ready_at);
        let early = || {
            revert(IClaims::WithdrawalNotReady {
                announced: U256::from(announced),
                readyAt: ready_at,
                now,
            })
        };
        Ok(record.amount.write(storage, rest.ok_or_else(early)?)?)
    }

    fn credit(&self, storage: &mut dyn Storage, buyer: Address, amount: u128) -> Ruling<u128> {
        add(storage, self.total_balances, amount)?;
        add(storage, self.balances.at(&buyer), amount)
    }

    fn debit(&self, storage: &mut dyn Storage, buyer: Address, amount: U256) -> Ruling<u128> {
        let slot = self.balances.at(&buyer);
        let have = slot.read(storage)?;
        let taken = u128::try_from(amount).ok().filter(|taken| *taken <= have);
        let short = || {
            revert(IClaims::InsufficientBalance {
                buyer,
                have: U256::from(have),
                need: amount,
            })
        };
        let taken = taken.ok_or_else(short)?;
        sub(storage, self.total_balances, taken)?;
        sub(storage, slot, taken)
    }

    /// The claim, if there is one.
    pub(crate) fn known(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<ClaimRecord> {
        let claim = self.claims.at(&claim_id);
        let known = claim.state.read(storage)? != state::NONE;
        require(known, || IClaims::UnknownClaim { claimId: claim_id })?;
        Ok(claim)
    }

    fn view(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<IClaims::Claim> {
        let claim = self.claims.at(&claim_id);
        Ok(IClaims::Claim {
            state: claim.state.read(storage)?,
            operator: claim.operator.read(storage)?,
            requester: claim.requester.read(storage)?,
            lineId: claim.line_id.read(storage)?,
            seq: claim.seq.read(storage)?,
            modelId: claim.model_id.read(storage)?,
            inputCommit: claim.input_commit.read(storage)?,
            outputCommit: claim.output_commit.read(storage)?,
            traceRoot: claim.trace_root.read(storage)?,
            nLeaves: claim.n_leaves.read(storage)?,
            nIn: claim.n_in.read(storage)?,
            tier: claim.tier.read(storage)?,
            fee: claim.fee.read(storage)?,
            valueAtRisk: claim.value_at_risk.read(storage)?,
            exposure: claim.exposure.read(storage)?,
            assertedAt: claim.asserted_at.read(storage)?,
            deadline: claim.deadline.read(storage)?,
            extended: claim.extended.read(storage)?,
            openDisputes: claim.open_disputes.read(storage)?,
            generation: claim.generation.read(storage)?,
        })
    }

    fn view_line(&self, storage: &mut dyn Storage, line: B256) -> Ruling<IClaims::Line> {
        let line = self.lines.at(&line);
        Ok(IClaims::Line {
            assertedSeq: line.asserted_seq.read(storage)?,
            cumExposure: line.cum_exposure.read(storage)?,
            outstanding: line.outstanding.read(storage)?,
        })
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self::new()
    }
}
