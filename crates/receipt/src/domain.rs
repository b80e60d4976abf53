//! EIP-712 domain: binds every signature to one chain and one claims module.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{Eip712Domain, eip712_domain};

/// `name` of the domain.
pub const DOMAIN_NAME: &str = "Assay Receipt";
/// `version` of the domain.
pub const DOMAIN_VERSION: &str = "1";

/// Where a signature is valid: chain id and the address of the module `claims`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of the module `claims`.
    pub claims: Address,
}

impl Domain {
    /// Domain of the chain with `chain_id` and the claims module at its fixed address.
    pub const fn new(chain_id: u64, claims: Address) -> Self {
        Self { chain_id, claims }
    }

    /// The domain as EIP-712 libraries know it.
    pub fn eip712(&self) -> Eip712Domain {
        eip712_domain! {
            name: DOMAIN_NAME,
            version: DOMAIN_VERSION,
            chain_id: self.chain_id,
            verifying_contract: self.claims,
        }
    }

    /// EIP-712 domain separator.
    pub fn separator(&self) -> B256 {
        self.eip712().separator()
    }

    /// `keccak256(0x1901 || separator || struct_hash)`: what is signed.
    pub fn digest(&self, struct_hash: B256) -> B256 {
        let mut bytes = [0u8; 66];
        let (head, tail) = bytes.split_at_mut(2);
        head.copy_from_slice(&[0x19, 0x01]);
        let (separator, hash) = tail.split_at_mut(32);
        separator.copy_from_slice(self.separator().as_slice());
        hash.copy_from_slice(struct_hash.as_slice());
        keccak256(bytes)
    }
}
