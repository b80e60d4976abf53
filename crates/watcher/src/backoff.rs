//! When to ask an operator again after a failed fetch.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// First pause after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses that double with each failure in a row, by key.
#[derive(Debug)]
pub(crate) struct Backoff<K>(HashMap<K, (Instant, Duration)>);

impl<K: Eq + Hash> Backoff<K> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// End of the last pause, over or not; `None` after a success.
    pub(crate) fn until(&self, key: &K) -> Option<Instant> {
        self.0.get(key).map(|(until, _)| *until)
    }

    /// Whether it is still too early.
    pub(crate) fn waits(&self, key: &K, now: Instant) -> bool {
        self.until(key).is_some_and(|until| now < until)
    }

    pub(crate) fn failed(&mut self, key: K, now: Instant) {
        let last = self.0.get(&key).map(|(_, pause)| *pause);
        let pause = last.map_or(FIRST, |pause| pause.saturating_mul(2).min(LONGEST));
        self.0.insert(key, (now + pause, pause));
    }

    pub(crate) fn clear(&mut self, key: &K) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_a_success() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        assert!(!backoff.waits(&1, now));
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoff.failed(1, now);
            let pause = Duration::from_secs(pause);
            assert_eq!(backoff.until(&1), Some(now + pause));
            assert!(backoff.waits(&1, now + pause - Duration::from_millis(1)));
            assert!(!backoff.waits(&1, now + pause));
        }
        assert!(!backoff.waits(&2, now));
        backoff.clear(&1);
        assert!(!backoff.waits(&1, now));
    }
}
