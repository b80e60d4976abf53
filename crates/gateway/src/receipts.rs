//! Bundles of answers that were sold, one file each, in a folder of their buyer.

use std::fs;
use std::path::PathBuf;

use alloy_primitives::B256;
use assay_receipt::Bundle;

use crate::{Account, GatewayError, HttpError};

/// Folder of bundles.
#[derive(Debug)]
pub(crate) struct Receipts {
    folder: PathBuf,
}

impl Receipts {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, GatewayError> {
        fs::create_dir_all(&folder).map_err(|source| GatewayError::Disk {
            path: folder.clone(),
            source,
        })?;
        Ok(Self { folder })
    }

    fn path(&self, account: &Account, claim_id: B256) -> PathBuf {
        self.folder
            .join(&account.name)
            .join(format!("{claim_id}.json"))
    }

    /// Stores a bundle before its answer is passed on.
    pub(crate) fn store(
        &self,
        account: &Account,
        claim_id: B256,
        bundle: &Bundle,
    ) -> Result<(), HttpError> {
        let failed = |error: &dyn std::fmt::Display| {
            HttpError::Internal(format!("receipt {claim_id} is not stored: {error}"))
        };
        let path = self.path(account, claim_id);
        let text = bundle.to_json().map_err(|error| failed(&error))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(&error))?;
        }
        let temporary = path.with_extension("new");
        fs::write(&temporary, text).map_err(|error| failed(&error))?;
        fs::rename(&temporary, &path).map_err(|error| failed(&error))
    }

    /// The bundle of one of the account's own answers.
    pub(crate) fn load(&self, account: &Account, claim_id: B256) -> Result<Bundle, HttpError> {
        let missing = || HttpError::NotFound(format!("no receipt {claim_id} of this account"));
        let text = fs::read_to_string(self.path(account, claim_id)).map_err(|_| missing())?;
        Bundle::from_json(&text).map_err(|error| HttpError::Internal(error.to_string()))
    }
}
