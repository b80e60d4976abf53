//! The thread that decides when the next block is made.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Chain, ChainError};

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMode {
    /// `delay` after the first pending transaction; an empty block when `heartbeat` has passed without one.
    Timer {
        /// How long transactions are collected.
        delay: Duration,
        /// Longest time without a block; `None` for never.
        heartbeat: Option<Duration>,
    },
    /// As soon as something is pending; everything pending at that moment is in the block. For development.
    Instant,
    /// A block every `period`, empty or not.
    Interval {
        /// Time between blocks.
        period: Duration,
    },
    /// Only when [`Chain::produce`] is called.
    Manual,
}

impl BlockMode {
    /// 200 ms after the first pending transaction, a heartbeat every 60 s (specification chain.md section 9.5).
    pub const SOLO: Self = Self::Timer {
        delay: Duration::from_millis(200),
        heartbeat: Some(Duration::from_secs(60)),
    };
}

/// A running sequencer thread; stops when dropped.
#[derive(Debug)]
pub struct Sequencer {
    chain: Arc<Chain>,
    thread: Option<JoinHandle<Result<(), ChainError>>>,
}

impl Sequencer {
    /// Starts making blocks.
    ///
    /// # Errors
    /// An operating system error when no thread can be started.
    pub fn start(chain: Arc<Chain>, mode: BlockMode) -> std::io::Result<Self> {
        let worker = Arc::clone(&chain);
        let thread = std::thread::Builder::new()
            .name("assay-sequencer".into())
            .spawn(move || run(&worker, mode))?;
        Ok(Self {
            chain,
            thread: Some(thread),
        })
    }

    /// Finishes the block in progress and stops.
    ///
    /// # Errors
    /// What made the sequencer stop earlier, if anything.
    pub fn stop(mut self) -> Result<(), ChainError> {
        self.halt()
    }

    fn halt(&mut self) -> Result<(), ChainError> {
        {
            let (lock, condition) = &self.chain.wake;
            lock.lock().stop = true;
            condition.notify_all();
        }
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or_else(|_| {
                Err(ChainError::Stopped("the sequencer thread panicked".into()))
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(target: "assay::chain", %error, "sequencer had stopped");
        }
    }
}

fn run(chain: &Chain, mode: BlockMode) -> Result<(), ChainError> {
    let mut last = Instant::now();
    loop {
        let deadline = match mode {
            BlockMode::Timer { heartbeat, .. } => {
                heartbeat.and_then(|every| last.checked_add(every))
            }
            BlockMode::Interval { period } => last.checked_add(period),
            BlockMode::Instant | BlockMode::Manual => None,
        };
        let pending = match wait(chain, mode, deadline) {
            Event::Stop => return Ok(()),
            Event::Pending => true,
            Event::Deadline => false,
        };
        if let BlockMode::Timer { delay, .. } = mode
            && pending
            && sleep_unless_stopped(chain, delay)
        {
            return Ok(());
        }
        let produced = chain.produce(!pending)?;
        if produced.is_some() || !pending {
            last = Instant::now();
        }
        // What did not fit, or came meanwhile, is the next block's.
        if produced.is_some() && mode != BlockMode::Manual && chain.has_pending() {
            chain.wake.0.lock().pending = true;
        }
    }
}

enum Event {
    Stop,
    Pending,
    Deadline,
}

/// Waits for a pending transaction (unless the mode ignores them), the deadline, or the order to stop.
fn wait(chain: &Chain, mode: BlockMode, deadline: Option<Instant>) -> Event {
    let (lock, condition) = &chain.wake;
    let mut wake = lock.lock();
    loop {
        if wake.stop {
            return Event::Stop;
        }
        let pending = std::mem::take(&mut wake.pending);
        if pending && matches!(mode, BlockMode::Timer { .. } | BlockMode::Instant) {
            return Event::Pending;
        }
        match deadline {
            None => condition.wait(&mut wake),
            Some(at) => {
                if condition.wait_until(&mut wake, at).timed_out() {
                    return Event::Deadline;
                }
            }
        }
    }
}

/// Returns true when told to stop.
fn sleep_unless_stopped(chain: &Chain, delay: Duration) -> bool {
    let Some(until) = Instant::now().checked_add(delay) else {
        return false;
    };
    let (lock, condition) = &chain.wake;
    let mut wake = lock.lock();
    while !wake.stop {
        if condition.wait_until(&mut wake, until).timed_out() {
            wake.pending = false;
            return wake.stop;
        }
    }
    true
}
