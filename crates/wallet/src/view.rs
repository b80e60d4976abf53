//! The chain as a verification of receipts sees it.

use alloy_primitives::{Address, B256};
use assay_abi::{CLAIMS, IClaims, IStaking, STAKING};
use assay_receipt::{ChainClaim, ChainKey, ChainView, ViewError};

use crate::{ChainClient, ClientError};

/// Names of the states of a claim, by number (abi, `IClaims.Claim.state`).
const STATES: [&str; 7] = [
    "unknown",
    "asserted",
    "challenged",
    "final",
    "rejected",
    "skipped",
    "refunded",
];

impl ChainView for ChainClient {
    fn receipt_key(&self, operator: Address, key: Address, at: u64) -> Result<ChainKey, ViewError> {
        let call = IStaking::keyCall { receiptKey: key };
        let registered = self.call(STAKING, &call)?;
        let at_ms = at.saturating_mul(1_000);
        // Chain time of a receipt is in whole seconds, rounded down; the key counts from the second it begins in.
        let begun = registered.from / 1_000 <= at;
        let ended = registered.until != 0 && registered.until <= at_ms;
        Ok(if registered.operator == operator && begun && !ended {
            ChainKey::Registered
        } else {
            ChainKey::NotRegistered
        })
    }

    fn claim(&self, claim_id: B256) -> Result<ChainClaim, ViewError> {
        match self.proven_claim(claim_id) {
            Ok(proven) => Ok(ChainClaim {
                state: name_of(proven.state),
                deadline: (proven.state != 0).then_some(proven.deadline / 1_000),
                source: format!(
                    "storage proof against state root {} of block {}, which {} gave",
                    proven.state_root,
                    proven.block,
                    self.url()
                ),
            }),
            // Not every node offers proofs.
            Err(ClientError::Rpc { .. }) => self.called_claim(claim_id),
            Err(error) => Err(error.into()),
        }
    }
}

fn name_of(state: u8) -> String {
    let name = STATES.get(usize::from(state)).copied();
    name.unwrap_or("unknown").to_owned()
}

impl ChainClient {
    /// State of a claim by a call, without a proof.
    fn called_claim(&self, claim_id: B256) -> Result<ChainClaim, ViewError> {
        let block = self.block_number()?;
        let source = format!("claims module at block {block}, asked of {}", self.url());
        let call = IClaims::claimCall { claimId: claim_id };
        let (state, deadline) = match self.call(CLAIMS, &call) {
            Ok(claim) => (claim.state, claim.deadline),
            Err(ClientError::Reverted(error)) if error.name == "UnknownClaim" => (0, 0),
            Err(error) => return Err(error.into()),
        };
        Ok(ChainClaim {
            state: name_of(state),
            deadline: (state != 0).then_some(deadline / 1_000),
            source,
        })
    }
}
