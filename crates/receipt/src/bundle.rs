//! The JSON file that a buyer keeps: receipt, signature, and whatever opens it.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::json::{decimal, fixed_hex, optional_hex};
use crate::{Domain, Receipt, ReceiptError, ReceiptSignature, Request};

/// Version of the bundle's JSON form.
pub const BUNDLE_VERSION: u8 = 1;
/// Largest bundle that is read, in bytes of JSON.
pub const MAX_BUNDLE_BYTES: usize = 256 << 20;

/// A receipt with its signature and everything its holder may want to show.
///
/// Only `receipt` and `signature` are always there. Input, output and salt are private to the buyer: leave them
/// out before passing a bundle on to someone who should not see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form, [`BUNDLE_VERSION`].
    #[serde(with = "decimal")]
    pub version: u8,
    /// Chain that the signatures are bound to.
    #[serde(with = "decimal")]
    pub chain_id: u64,
    /// Address of the module `claims` that the signatures are bound to.
    #[serde(with = "fixed_hex")]
    pub claims: Address,
    /// The receipt.
    pub receipt: Receipt,
    /// Signature of the operator's receipt key.
    pub signature: ReceiptSignature,
    /// What the buyer asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// Signature of the requester's key over the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_signature: Option<ReceiptSignature>,
    /// Salt of the commitments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// Canonical bytes of the input.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_hex"
    )]
    pub input: Option<Vec<u8>>,
    /// Canonical bytes of the output.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_hex"
    )]
    pub output: Option<Vec<u8>>,
    /// Canonical bytes of the sampling statement that `samplingHash` names.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_hex"
    )]
    pub sampling: Option<Vec<u8>>,
    /// Canonical bytes of the grammar that the answer was constrained to.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_hex"
    )]
    pub grammar: Option<Vec<u8>>,
    /// Name under which the model was asked for; for people, bound by nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// 32 bytes of salt in their JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(#[serde(with = "fixed_hex")] pub B256);

impl Bundle {
    /// A bundle with nothing but the receipt and its signature.
    pub fn new(domain: Domain, receipt: Receipt, signature: ReceiptSignature) -> Self {
        Self {
            version: BUNDLE_VERSION,
            chain_id: domain.chain_id,
            claims: domain.claims,
            receipt,
            signature,
            request: None,
            request_signature: None,
            salt: None,
            input: None,
            output: None,
            sampling: None,
            grammar: None,
            model: None,
        }
    }

    /// Adds what opens the commitments.
    #[must_use]
    pub fn with_opening(mut self, salt: B256, input: Vec<u8>, output: Vec<u8>) -> Self {
        self.salt = Some(Salt(salt));
        self.input = Some(input);
        self.output = Some(output);
        self
    }

    /// Adds the signed request.
    #[must_use]
    pub fn with_request(mut self, request: Request, signature: ReceiptSignature) -> Self {
        self.request = Some(request);
        self.request_signature = Some(signature);
        self
    }

    /// Chain and module that the signatures are bound to.
    pub fn domain(&self) -> Domain {
        Domain::new(self.chain_id, self.claims)
    }

    /// The JSON file, indented.
    ///
    /// # Errors
    /// [`ReceiptError::Json`]; cannot happen for a value of this type.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string_pretty(self).map_err(|error| ReceiptError::Json(error.to_string()))
    }

    /// Reads the JSON file and checks the form of the receipt and the request.
    ///
    /// # Errors
    /// [`ReceiptError::Length`] above [`MAX_BUNDLE_BYTES`], [`ReceiptError::Json`], or a violated rule of a field.
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        if text.len() > MAX_BUNDLE_BYTES {
            return Err(ReceiptError::Length {
                what: "bundle",
                want: MAX_BUNDLE_BYTES,
                have: text.len(),
            });
        }
        let bundle: Self =
            serde_json::from_str(text).map_err(|error| ReceiptError::Json(error.to_string()))?;
        if bundle.version != BUNDLE_VERSION {
            return Err(ReceiptError::Range {
                field: "version",
                have: bundle.version.into(),
                low: BUNDLE_VERSION.into(),
                high: BUNDLE_VERSION.into(),
            });
        }
        bundle.receipt.check()?;
        if let Some(request) = &bundle.request {
            request.check()?;
        }
        Ok(bundle)
    }
}
