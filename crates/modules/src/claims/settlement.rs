//! How a claim ends, and what disputes do to it.

use alloy_primitives::{Address, B256, U256};
use assay_abi::{CLAIMS, IClaims, IDisputes, IErrors};
use assay_storage::Storage;

use super::fees::{FeeRule, Roles, divide};
use super::{ClaimRecord, Claims, TIER_ZK, emit, overflow, state, sub};
use crate::amount::{mul_div_floor, split};
use crate::burn::{Burn, Cause};
use crate::clock;
use crate::disputes::Disputes;
use crate::error::{Ruling, require};
use crate::models::Models;
use crate::parameters::{BPS, Parameters, to_stake};
use crate::pools::Pools;
use crate::staking::{Slash, Staking};
use crate::usd::Usd;

impl Claims {
    /// Pays a claim whose window is over, or refunds it if its operator has equivocated since.
    pub(super) fn finalize(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        let claim = self.known(storage, claim_id)?;
        let open = claim.open_disputes.read(storage)?;
        require(open == 0, || IClaims::OpenDisputes { count: open })?;
        let by_time = claim.tier.read(storage)? != TIER_ZK;
        require(by_time, || IClaims::ProofRequired { claimId: claim_id })?;
        let have = claim.state.read(storage)?;
        require(have == state::ASSERTED, || IErrors::WrongState {
            have,
            want: state::ASSERTED,
        })?;
        let (now, deadline) = (clock::now(storage)?, claim.deadline.read(storage)?);
        require(now >= deadline, || IClaims::NotFinal { deadline, now })?;
        self.settle(storage, claim_id, &claim)
    }

    /// Unlocks the stake and pays the fee, or refunds it if the operator has equivocated since.
    pub(super) fn settle(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        claim: &ClaimRecord,
    ) -> Ruling<()> {
        let (operator, exposure) = (claim.operator.read(storage)?, claim.exposure.read(storage)?);
        let fee = claim.fee.read(storage)?;
        let line = claim.line_id.read(storage)?;
        self.release_line(storage, line, exposure)?;
        let generation = claim.generation.read(storage)?;
        let covered = Staking::new().unlock(storage, operator, exposure, generation)?;
        if !covered {
            claim.state.write(storage, state::REFUNDED)?;
            return self.refund(storage, claim_id, claim, fee);
        }
        claim.state.write(storage, state::FINAL)?;
        self.pay_out(storage, claim_id, claim, operator, fee)?;
        emit(
            storage,
            &IClaims::Finalized {
                claimId: claim_id,
                operator,
                fee,
            },
        )
    }

    /// Moves a fee from escrow to those who stood behind the answer.
    fn pay_out(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        claim: &ClaimRecord,
        operator: Address,
        fee: u128,
    ) -> Ruling<()> {
        sub(storage, self.total_fees, fee)?;
        let parameters = Parameters::new();
        let rule = FeeRule {
            weights: [
                parameters.fee_operator_bps.read(storage)?.into(),
                parameters.fee_model_bps.read(storage)?.into(),
                parameters.fee_data_bps.read(storage)?.into(),
                parameters.fee_verifiers_bps.read(storage)?.into(),
                parameters.fee_network_bps.read(storage)?.into(),
            ],
            burn_top: parameters.burn_top_bps.read(storage)?.into(),
            burn_min: parameters.burn_min_bps.read(storage)?.into(),
        };
        let quality = parameters.default_quality.read(storage)?;
        let roles = Roles {
            operator: true,
            model: true,
            data: false,
            verifiers: false,
        };
        let parts =
            divide(fee, &rule, quality.into(), roles, &[]).ok_or_else(|| overflow("fee split"))?;
        let model_id = claim.model_id.read(storage)?;
        let lineage = Models::new().facts(storage, model_id)?.lineage;
        let (maker, commission) = Models::new().maker(storage, lineage)?;
        let commission = u128::from(commission);
        let rest = BPS
            .checked_sub(commission)
            .ok_or_else(|| overflow("commission"))?;
        let [to_maker, to_stakers] =
            split(parts.model, [commission, rest]).ok_or_else(|| overflow("model split"))?;
        let usd = Usd::new();
        for (to, amount) in [(operator, parts.operator), (maker, to_maker)] {
            if amount > 0 {
                usd.move_tokens(storage, CLAIMS, to, U256::from(amount))?;
            }
        }
        Pools::new().fee(storage, lineage, to_stakers, claim_id)?;
        let treasury = parameters.treasury.read(storage)?;
        if treasury.is_zero() {
            Burn::new().reserve_usd(storage, CLAIMS, parts.treasury, Cause::EmptyRole, claim_id)?;
        } else if parts.treasury > 0 {
            usd.move_tokens(storage, CLAIMS, treasury, U256::from(parts.treasury))?;
        }
        Burn::new().reserve_usd(storage, CLAIMS, parts.burn, Cause::Fee, claim_id)?;
        let event = IClaims::FeeSplit {
            claimId: claim_id,
            operator: U256::from(parts.operator),
            maker: U256::from(to_maker),
            stakers: U256::from(to_stakers),
            data: U256::from(parts.data),
            verifiers: U256::from(parts.verifiers),
            treasury: U256::from(parts.treasury),
            burn: U256::from(parts.burn),
        };
        emit(storage, &event)
    }

    /// Gives the fee back to the requester's balance.
    fn refund(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        claim: &ClaimRecord,
        fee: u128,
    ) -> Ruling<()> {
        sub(storage, self.total_fees, fee)?;
        let requester = claim.requester.read(storage)?;
        self.credit(storage, requester, fee)?;
        emit(
            storage,
            &IClaims::Refunded {
                claimId: claim_id,
                requester,
                amount: fee,
            },
        )
    }

    pub(super) fn check_open(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        claim: &ClaimRecord,
    ) -> Ruling<()> {
        let have = claim.state.read(storage)?;
        let open = have == state::ASSERTED || have == state::CHALLENGED;
        require(open, || IDisputes::ClaimNotOpen {
            claimId: claim_id,
            state: have,
        })
    }

    /// The claim, if it may be challenged now.
    pub(crate) fn challengeable(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
    ) -> Ruling<ClaimRecord> {
        let claim = self.known(storage, claim_id)?;
        self.check_open(storage, claim_id, &claim)?;
        let believed = claim.tier.read(storage)? != TIER_ZK;
        require(believed, || IClaims::ProofRequired { claimId: claim_id })?;
        let (now, deadline) = (clock::now(storage)?, claim.deadline.read(storage)?);
        require(now < deadline, || IDisputes::WindowOver { deadline, now })?;
        Ok(claim)
    }

    /// A dispute has opened. The first challenge in the last part of the window extends it once.
    pub(crate) fn challenged(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        let claim = self.claims.at(&claim_id);
        let open = claim
            .open_disputes
            .read(storage)?
            .checked_add(1)
            .ok_or_else(|| overflow("disputes"))?;
        claim.open_disputes.write(storage, open)?;
        claim.state.write(storage, state::CHALLENGED)?;
        let (now, mut deadline) = (clock::now(storage)?, claim.deadline.read(storage)?);
        let window = u128::from(deadline.saturating_sub(claim.asserted_at.read(storage)?));
        let bps = Parameters::new().late_extension_bps.read(storage)?;
        let tail = mul_div_floor(window, bps.into(), BPS).and_then(|tail| u64::try_from(tail).ok());
        let tail = tail.ok_or_else(|| overflow("window"))?;
        if !claim.extended.read(storage)? && now.saturating_add(tail) >= deadline {
            deadline = deadline.saturating_add(tail);
            claim.extended.write(storage, true)?;
            claim.deadline.write(storage, deadline)?;
        }
        emit(
            storage,
            &IClaims::Challenged {
                claimId: claim_id,
                openDisputes: open,
                deadline,
            },
        )
    }

    /// A dispute was lost by its challenger: nothing becomes final by it.
    pub(crate) fn defended(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        let claim = self.claims.at(&claim_id);
        let open = claim
            .open_disputes
            .read(storage)?
            .checked_sub(1)
            .ok_or_else(|| overflow("disputes"))?;
        claim.open_disputes.write(storage, open)?;
        if open == 0 {
            claim.state.write(storage, state::ASSERTED)?;
        }
        emit(
            storage,
            &IClaims::Defended {
                claimId: claim_id,
                openDisputes: open,
            },
        )
    }

    /// Fixes the trace root of a claim whose receipt carried none.
    pub(crate) fn set_trace(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        root: B256,
    ) -> Ruling<()> {
        Ok(self.claims.at(&claim_id).trace_root.write(storage, root)?)
    }

    /// The claim is false: fee refunded, exposure slashed, other disputes close.
    pub(crate) fn reject(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        challenger: Option<Address>,
    ) -> Ruling<()> {
        let claim = self.known(storage, claim_id)?;
        self.check_open(storage, claim_id, &claim)?;
        claim.state.write(storage, state::REJECTED)?;
        claim.open_disputes.write(storage, 0)?;
        let fee = claim.fee.read(storage)?;
        self.refund(storage, claim_id, &claim, fee)?;
        let (operator, exposure) = (claim.operator.read(storage)?, claim.exposure.read(storage)?);
        let line = claim.line_id.read(storage)?;
        self.release_line(storage, line, exposure)?;
        let requester = claim.requester.read(storage)?;
        let value = claim.value_at_risk.read(storage)?;
        let most = to_stake(storage, value)?;
        let generation = claim.generation.read(storage)?;
        let slash = Slash {
            reporter: challenger,
            buyer: Some((requester, most)),
            reference: claim_id,
        };
        let slashed =
            Staking::new().slash_locked(storage, operator, exposure, generation, slash)?;
        Disputes::new().on_ended(storage, claim_id)?;
        let event = IClaims::Rejected {
            claimId: claim_id,
            operator,
            challenger: challenger.unwrap_or_default(),
            refunded: fee,
            slashed: U256::from(slashed),
        };
        emit(storage, &event)
    }
}
