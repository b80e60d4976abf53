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
