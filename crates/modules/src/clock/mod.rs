//! `clock`: chain time, the only time that deadlines know.
//!
//! `c_n = c_(n-1) + min(ts_n - ts_(n-1), cap)`: a halted chain costs nobody the clock. A cap of 0 (development) makes
//! chain time equal to block time, so that a local network can jump.

pub(crate) mod dispatch;

use assay_abi::CLOCK;
use assay_storage::{Cursor, Place, Slot, Storage, StorageError, layout};

use crate::parameters::Parameters;

layout! {
    /// Storage of the module.
    pub struct Clock {
        /// Chain time, milliseconds.
        pub now_ms: Slot<u64>,
        /// Timestamp of the last block, milliseconds.
        pub block_ms: Slot<u64>,
    }
}

impl Clock {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(CLOCK))
    }

    /// Starts chain time at the timestamp of block 0.
    pub(crate) fn genesis(&self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        let start = storage.env().timestamp_ms;
        self.now_ms.write(storage, start)?;
        self.block_ms.write(storage, start)
    }

    pub(crate) fn begin_block(&self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        let timestamp = storage.env().timestamp_ms;
        let elapsed = timestamp.saturating_sub(self.block_ms.read(storage)?);
        let cap = Parameters::new().clock_cap_ms.read(storage)?;
        let step = if cap == 0 { elapsed } else { elapsed.min(cap) };
        let now = self.now_ms.read(storage)?.saturating_add(step);
        self.now_ms.write(storage, now)?;
        self.block_ms.write(storage, timestamp)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Chain time in milliseconds.
pub(crate) fn now(storage: &mut dyn Storage) -> Result<u64, StorageError> {
    Clock::new().now_ms.read(storage)
}
