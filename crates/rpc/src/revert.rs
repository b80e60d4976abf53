//! Revert data as geth words it.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{Panic, PanicKind, Revert, SolError};
use serde_json::json;

use crate::{RpcError, code};

/// Code 3, `execution reverted` with the reason when there is one, and the raw bytes as data.
pub(crate) fn reverted(output: &Bytes) -> RpcError {
    let message = match reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    RpcError {
        code: code::REVERT,
        message,
        data: Some(json!(output)),
    }
}

fn reason(output: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(output) {
        return Some(revert.reason);
    }
    let panic = Panic::abi_decode(output).ok()?;
    let kind = u32::try_from(panic.code)
        .ok()
        .and_then(PanicKind::from_number);
    Some(match kind {
        Some(kind) => format!("{} ({:#x})", kind.as_str(), U256::from(panic.code)),
        None => format!("unknown panic code: {:#x}", panic.code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_message_and_custom_errors_only_in_the_data() {
        let text = Revert::from("no funds").abi_encode();
        let error = reverted(&text.into());
        assert_eq!(error.message, "execution reverted: no funds");
        let custom = reverted(&Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(custom.message, "execution reverted");
        assert_eq!(custom.data, Some(json!("0xdeadbeef")));
        let panic = Panic::from(0x11u64).abi_encode();
        assert!(reverted(&panic.into()).message.contains("(0x11)"));
    }
}
