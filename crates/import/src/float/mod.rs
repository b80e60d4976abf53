//! Float arithmetic that gives the same bits on every machine: plain IEEE operations in a fixed order, no platform `libm`, no threads, no fused multiply-add.
//!
//! Import results (scales, shifts, weights) depend on these values, and the model id depends on them.

mod math;

pub use math::{erf, exp, floor_log2, gelu, ln, sigmoid, tanh};

const LANES: usize = 8;
const TILE: usize = 4;

/// `y[t][r] = bias[r] + Σ_c x[t][c] · w[r][c]`, row-major; `x` is `[tokens, cols]`, `w` is `[rows, cols]`, result `[tokens, rows]`.
///
/// Each sum runs in eight lanes over the columns, then the remainder, then the lanes in order: always the same order.
/// Extra elements of `x` beyond whole rows are ignored. An empty bias counts as zeros.
pub fn linear(x: &[f32], w: &[f32], bias: &[f32], cols: usize) -> Vec<f32> {
    if cols == 0 {
        return Vec::new();
    }
    let rows = w.len() / cols;
    let tokens = x.len() / cols;
    let mut out = vec![0f32; tokens * rows];
    for (xs, ys) in x
        .chunks(cols * TILE)
        .zip(out.chunks_mut((rows * TILE).max(1)))
    {
        let mut lines = xs.chunks_exact(cols);
        let tile: [&[f32]; TILE] = std::array::from_fn(|_| lines.next().unwrap_or(&[]));
        for (r, row) in w.chunks_exact(cols).enumerate() {
            let b = bias.get(r).copied().unwrap_or(0.0);
            let sums = if tile.iter().all(|t| t.len() == cols) {
                dots(&tile, row)
            } else {
                tile.map(|x| dot(x, row))
            };
            for (t, sum) in sums.into_iter().enumerate() {
                if let Some(y) = ys.get_mut(t * rows + r) {
                    *y = sum + b;
                }
            }
        }
    }
    out
}

/// Sum of products of two equally long slices, in the fixed order of [`linear`].
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (ac, ar) = a.as_chunks::<LANES>();
    let (bc, br) = b.as_chunks::<LANES>();
    for (x, y) in ac.iter().zip(bc) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    finish(&lanes, ar, br)
}

/// [`dot`] of each line of a tile with one row: the same sums, with the row loaded once.
#[inline(never)] // inlined into its caller the loop is not vectorised (4 times slower, rustc 1.95)
fn dots(tile: &[&[f32]; TILE], row: &[f32]) -> [f32; TILE] {
    let mut lanes = [[0f32; LANES]; TILE];
    let (wc, wr) = row.as_chunks::<LANES>();
    let [a, b, c, d] = tile.map(|t| t.as_chunks::<LANES>());
    for ((((w, a), b), c), d) in wc.iter().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
        for i in 0..LANES {
            lanes[0][i] += a[i] * w[i];
            lanes[1][i] += b[i] * w[i];
            lanes[2][i] += c[i] * w[i];
            lanes[3][i] += d[i] * w[i];
        }
    }
    let rests = [a.1, b.1, c.1, d.1];
    std::array::from_fn(|t| finish(&lanes[t], rests[t], wr))
}

fn finish(lanes: &[f32; LANES], a: &[f32], b: &[f32]) -> f32 {
    let rest: f32 = a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + x * y);
    lanes.iter().fold(0.0, |sum, lane| sum + lane) + rest
}

/// Layer normalisation of each row of `x` (`[rows, gain.len()]`) in place of a copy, sums in f64.
pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f64) -> Vec<f32> {
    let n = gain.len().max(1);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let var = row
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / n as f64;
        let inverse = 1.0 / (var + eps).sqrt();
        out.extend(row.iter().zip(gain.iter().zip(bias)).map(|(v, (g, b))| {
            ((f64::from(*v) - mean) * inverse * f64::from(*g) + f64::from(*b)) as f32
        }));
    }
    out
}

/// Softmax of one row in place.
pub fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    for v in row.iter_mut() {
        let e = exp(f64::from(*v - max));
        sum += e;
        *v = e as f32;
    }
    for v in row.iter_mut() {
        *v = (f64::from(*v) / sum) as f32;
    }
}
