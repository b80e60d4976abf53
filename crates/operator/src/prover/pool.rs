//! Threads that step back for all others.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The lowest priority of a thread on Linux.
const LOWEST: i32 = 19;

/// A pool of `threads` (0: half of the cores, at least one) at the lowest priority.
///
/// # Errors
/// When there are no threads to be had.
pub(crate) fn quiet(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if threads == 0 { cores / 2 } else { threads };
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("prover-{i}"))
        .start_handler(|_| step_back())
        .build()
}

/// Lowers the priority of this thread. It works as well without, only less politely.
fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
        tracing::debug!(target: "assay::operator", %error, "priority is not lowered");
    }
}
