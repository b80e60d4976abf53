//! Accounts of the development network. Everybody knows their keys.

use alloy_primitives::Address;

use crate::{Key, KeyError};

/// The phrase that every Ethereum tool uses for tests. Its keys are public: UNSAFE for anything of value.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";
/// What to print wherever a development key is used.
pub const DEV_WARNING: &str =
    "development keys are public: whoever knows this program can spend what they hold";
/// How many accounts a development network funds.
const DEV_ACCOUNTS: u32 = 20;

/// UNSAFE development key `index`, path `m/44'/60'/0'/0/index` of [`DEV_MNEMONIC`].
///
/// # Errors
/// [`KeyError::Mnemonic`] for an index of 2^31 or more.
pub fn dev_key(index: u32) -> Result<Key, KeyError> {
    Key::from_mnemonic(DEV_MNEMONIC, index)
}

/// Whether `address` is one of the first 20 development accounts, whose keys are public.
pub fn is_dev_address(address: Address) -> bool {
    (0..DEV_ACCOUNTS).any(|index| dev_key(index).is_ok_and(|key| key.address() == address))
}
