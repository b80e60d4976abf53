//! The only clock of the chain, and its offset for development.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Wall clock plus an offset; blocks take their time from here and from nowhere else.
///
/// Development mode moves it forward (`evm_increaseTime`) so that challenge windows pass without waiting.
#[derive(Debug, Default)]
pub struct ChainClock {
    offset_ms: AtomicI64,
    next_ms: Mutex<Option<u64>>,
}

impl ChainClock {
    /// Milliseconds since the Unix epoch, offset included.
    pub fn now_ms(&self) -> u64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| {
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            });
        wall.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }

    /// Offset to the wall clock in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock forward; returns the new offset in milliseconds.
    pub fn advance_ms(&self, by: u64) -> i64 {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let update = self
            .offset_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |offset| {
                Some(offset.saturating_add(by))
            });
        update.unwrap_or(0).saturating_add(by)
    }

    /// Fixes the time of the next block; the clock runs on from there.
    pub fn set_next_ms(&self, at: u64) {
        *self.next_ms.lock() = Some(at);
    }

    /// Time for a block whose parent is at `parent_ms`: strictly later, in milliseconds.
    pub fn block_time(&self, parent_ms: u64) -> u64 {
        let fixed = self.next_ms.lock().take();
        let now = match fixed {
            Some(at) => {
                let wall = self.now_ms();
                if at > wall {
                    self.advance_ms(at.saturating_sub(wall));
                }
                at
            }
            None => self.now_ms(),
        };
        now.max(parent_ms.saturating_add(1))
    }

    /// Puts the clock at least at `ms`, so that a chain whose time was moved forward continues after a restart.
    pub fn catch_up(&self, ms: u64) {
        let now = self.now_ms();
        if ms > now {
            self.advance_ms(ms.saturating_sub(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_time_is_strictly_later_than_the_parent() {
        let clock = ChainClock::default();
        let far = clock.now_ms() + 1_000_000;
        assert_eq!(clock.block_time(far), far + 1);
        clock.set_next_ms(far + 5_000);
        assert_eq!(clock.block_time(far), far + 5_000);
        assert!(clock.block_time(far) >= far + 5_000);
    }

    #[test]
    fn time_can_be_advanced() {
        let clock = ChainClock::default();
        let before = clock.now_ms();
        clock.advance_ms(3_600_000);
        assert!(clock.now_ms() >= before + 3_600_000);
    }
}
