//! Methods that move the chain by hand; only with [`crate::RpcConfig::development`] and only from this machine.

use serde_json::{Value, json};

use crate::params::Params;
use crate::reads::Count;
use crate::{Api, RpcError};

impl Api {
    pub(crate) fn development(&self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        match method {
            "evm_mine" => {
                if let Some(at) = params.optional::<Count>(0)? {
                    self.set_next(at.get()?)?;
                }
                self.chain.produce(true)?;
                Ok(json!("0x0"))
            }
            "evm_increaseTime" => {
                let seconds = params.required::<Count>(0)?.get()?;
                leap(seconds)?;
                let offset = self.chain.clock().advance_ms(seconds.saturating_mul(1_000));
                Ok(json!(offset / 1_000))
            }
            "evm_setNextBlockTimestamp" => {
                self.set_next(params.required::<Count>(0)?.get()?)?;
                Ok(Value::Null)
            }
            _ => Err(RpcError::method(method)),
        }
    }

    /// Seconds since the Unix epoch.
    fn set_next(&self, seconds: u64) -> Result<(), RpcError> {
        let parent = self.chain.timestamp_ms();
        leap(seconds.saturating_sub(parent / 1_000))?;
        let at = seconds.saturating_mul(1_000);
        if at <= parent {
            return Err(RpcError::params(format!(
                "timestamp {seconds} is not after the newest block at {} ms",
                parent
            )));
        }
        self.chain.clock().set_next_ms(at);
        Ok(())
    }
}

/// Longest that the clock may be moved at once: ten years, in seconds.
const MAX_LEAP: u64 = 10 * 365 * 86_400;

/// Refuses to move the clock so far that every later date of the chain would be absurd.
fn leap(seconds: u64) -> Result<(), RpcError> {
    if seconds > MAX_LEAP {
        return Err(RpcError::params(format!(
            "{seconds} seconds ahead, at most {MAX_LEAP} at once"
        )));
    }
    Ok(())
}
