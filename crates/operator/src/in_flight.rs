//! Answers under way: what they will cost and lock, and how they are ended early.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;

/// One answer under way.
#[derive(Debug)]
struct Entry {
    requester: Address,
    fee: u128,
    exposure: u128,
    stop: Arc<AtomicBool>,
}

/// Answers under way by the hash of their request.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashMap<B256, Entry>>);

/// A place among the answers under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    all: Arc<InFlight>,
    request_hash: B256,
    stop: Arc<AtomicBool>,
}

impl InFlight {
    /// Reserves what an answer will cost and lock; `None` when the same request is under way.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        request_hash: B256,
        requester: Address,
        (fee, exposure): (u128, u128),
    ) -> Option<Reservation> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut jobs = self.0.lock();
        if jobs.contains_key(&request_hash) {
            return None;
        }
        jobs.insert(
            request_hash,
            Entry {
                requester,
                fee,
                exposure,
                stop: Arc::clone(&stop),
            },
        );
        Some(Reservation {
            all: Arc::clone(self),
            request_hash,
            stop,
        })
    }

    /// Sums over all answers under way but `except`: exposure of all, fees of `requester`.
    pub(crate) fn sums(&self, requester: Address, except: B256) -> (u128, u128) {
        let jobs = self.0.lock();
        let others = jobs.iter().filter(|(hash, _)| **hash != except);
        others.fold((0u128, 0u128), |(exposure, fees), (_, entry)| {
            let fee = if entry.requester == requester {
                entry.fee
            } else {
                0
            };
            (
                exposure.saturating_add(entry.exposure),
                fees.saturating_add(fee),
            )
        })
    }

    /// Ends an answer with its next token. Whether there is such an answer.
    pub(crate) fn stop(&self, request_hash: B256) -> bool {
        let jobs = self.0.lock();
        let entry = jobs.get(&request_hash);
        if let Some(entry) = entry {
            entry.stop.store(true, Ordering::Relaxed);
        }
        entry.is_some()
    }
}

impl Reservation {
    /// The flag that ends the answer.
    pub(crate) fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.request_hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_counted_until_it_is_dropped() {
        let all = Arc::new(InFlight::default());
        let (a, b) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let hash = B256::repeat_byte;
        let first = all.reserve(hash(1), a, (5, 50)).unwrap();
        assert!(all.reserve(hash(1), a, (5, 50)).is_none());
        let second = all.reserve(hash(2), b, (7, 70)).unwrap();
        assert_eq!(all.sums(a, hash(9)), (120, 5));
        assert_eq!(all.sums(a, hash(1)), (70, 0));
        assert!(all.stop(hash(1)) && !all.stop(hash(3)));
        assert!(first.stop().load(Ordering::Relaxed));
        assert!(!second.stop().load(Ordering::Relaxed));
        drop(first);
        assert!(!all.stop(hash(1)));
        assert_eq!(all.sums(a, hash(9)), (70, 0));
        assert!(all.reserve(hash(1), a, (5, 50)).is_some());
    }
}
