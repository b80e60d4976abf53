//! Buyers' accounts.

use assay_wallet::Key;

/// A buyer as the gateway knows it: an API key and the key that signs for it. `Debug` shows no secret.
#[derive(Clone)]
pub struct Account {
    /// Name for logs and folders: 1 to 64 of a-z, 0-9, `-`, `_`.
    pub name: String,
    /// Bearer token of HTTP requests.
    pub api_key: String,
    /// Signs requests; its balance in the claims module pays.
    pub key: Key,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("address", &self.key.address())
            .finish_non_exhaustive()
    }
}
