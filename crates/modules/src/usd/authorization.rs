//! EIP-3009: transfers by signed authorisation with random nonces.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolStruct;
use assay_abi::IUsd;
use assay_storage::Storage;

use super::{Usd, domain, emit, now_seconds};
use crate::error::{Ruling, require};
use crate::signature::signer;

alloy_sol_types::sol! {
    struct TransferWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    struct ReceiveWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }
}

/// What an authorisation says, whoever may submit it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authorization {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) valid_after: U256,
    pub(crate) valid_before: U256,
    pub(crate) nonce: B256,
}

impl Usd {
    fn check_unused(
        &self,
        storage: &mut dyn Storage,
        authorizer: Address,
        nonce: B256,
    ) -> Ruling<()> {
        let used = self
            .authorizations
            .at(&authorizer)
            .at(&nonce)
            .read(storage)?;
        require(!used, || IUsd::AuthorizationAlreadyUsed {
            authorizer,
            nonce,
        })
    }

    fn check_signer(
        &self,
        storage: &mut dyn Storage,
        digest: B256,
        signature: &[u8],
        authorizer: Address,
    ) -> Ruling<()> {
        let signer = signer(storage, digest, signature)?;
        require(signer == authorizer, || IUsd::AuthorizationInvalidSigner {
            signer,
            authorizer,
        })
    }

    fn settle(
        &self,
        storage: &mut dyn Storage,
        a: Authorization,
        digest: B256,
        signature: &[u8],
    ) -> Ruling<()> {
        let now = now_seconds(storage);
        require(now > a.valid_after, || IUsd::AuthorizationNotYetValid {
            validAfter: a.valid_after,
            now,
        })?;
        require(now < a.valid_before, || IUsd::AuthorizationExpired {
            validBefore: a.valid_before,
            now,
        })?;
        self.check_unused(storage, a.from, a.nonce)?;
        self.check_signer(storage, digest, signature, a.from)?;
        self.authorizations
            .at(&a.from)
            .at(&a.nonce)
            .write(storage, true)?;
        emit(
            storage,
            &IUsd::AuthorizationUsed {
                authorizer: a.from,
                nonce: a.nonce,
            },
        )?;
        self.move_tokens(storage, a.from, a.to, a.value).map(|_| ())
    }

    /// Anyone submits.
    pub(super) fn transfer_authorized(
        &self,
        storage: &mut dyn Storage,
        a: Authorization,
        signature: &[u8],
    ) -> Ruling<()> {
        let message = TransferWithAuthorization {
            from: a.from,
            to: a.to,
            value: a.value,
            validAfter: a.valid_after,
            validBefore: a.valid_before,
            nonce: a.nonce,
        };
        let digest = message.eip712_signing_hash(&domain(storage.env().chain_id));
        self.settle(storage, a, digest, signature)
    }

    /// Only the payee submits, so nobody can separate payment from delivery.
    pub(crate) fn receive_authorized(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        a: Authorization,
        signature: &[u8],
    ) -> Ruling<()> {
        require(caller == a.to, || IUsd::CallerMustBePayee {
            caller,
            payee: a.to,
        })?;
        let message = ReceiveWithAuthorization {
            from: a.from,
            to: a.to,
            value: a.value,
            validAfter: a.valid_after,
            validBefore: a.valid_before,
            nonce: a.nonce,
        };
        let digest = message.eip712_signing_hash(&domain(storage.env().chain_id));
        self.settle(storage, a, digest, signature)
    }

    /// Uses up a nonce without a transfer.
    pub(super) fn cancel_authorization(
        &self,
        storage: &mut dyn Storage,
        authorizer: Address,
        nonce: B256,
        signature: &[u8],
    ) -> Ruling<()> {
        self.check_unused(storage, authorizer, nonce)?;
        let digest = CancelAuthorization { authorizer, nonce }
            .eip712_signing_hash(&domain(storage.env().chain_id));
        self.check_signer(storage, digest, signature, authorizer)?;
        self.authorizations
            .at(&authorizer)
            .at(&nonce)
            .write(storage, true)?;
        emit(storage, &IUsd::AuthorizationCanceled { authorizer, nonce })
    }
}
