//! Splitting one operator among the engine's threads: whole rows each, never a reduction.

use rayon::prelude::*;

/// Runs `f(first_row, rows)` over all rows of `out`, split among `threads` when there are at least `least` rows for each.
///
/// Which rows a thread gets changes no bit: `f` computes each row from shared inputs alone.
pub(crate) fn rows<T: Send>(
    threads: usize,
    least: usize,
    out: &mut [T],
    row: usize,
    f: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    let count = out.len() / row.max(1);
    let parts = threads.min(count / least.max(1)).max(1);
    if parts <= 1 || row == 0 {
        return f(0, out);
    }
    let each = count.div_ceil(parts);
    out.par_chunks_mut(each * row)
        .enumerate()
        .for_each(|(i, part)| f(i * each, part));
}
