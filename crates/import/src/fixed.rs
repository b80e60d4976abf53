//! From real numbers to integers with power-of-two shifts: weight rows, norm parameters, tables.

use assay_graph::{A_MAX, WeightRow};

use crate::float::floor_log2;

/// How integers of a tensor read as real numbers, per channel or (one entry) for all: `real = mid + step · integer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Real value of integer 0.
    pub mid: Vec<f64>,
    /// Real distance of two neighbouring integers, above 0.
    pub step: Vec<f64>,
}

impl Affine {
    /// One power of two for all channels: `real = integer · 2^(−bits)`.
    pub fn power_of_two(bits: i32) -> Self {
        Self {
            mid: vec![0.0],
            step: vec![pow2(-bits)],
        }
    }

    /// One step and no offset for all channels.
    pub fn uniform(step: f64) -> Self {
        Self {
            mid: vec![0.0],
            step: vec![step],
        }
    }

    /// Real value of integer 0 of channel `c`.
    pub fn mid(&self, c: usize) -> f64 {
        pick(&self.mid, c)
    }

    /// Step of channel `c`.
    pub fn step(&self, c: usize) -> f64 {
        pick(&self.step, c)
    }
}

fn pick(values: &[f64], c: usize) -> f64 {
    match values {
        [one] => *one,
        many => many.get(c).copied().unwrap_or(0.0),
    }
}

/// `2^n`, exact for |n| up to 1,000.
pub fn pow2(n: i32) -> f64 {
    2f64.powi(n)
}

/// Largest n with `peak · 2^n <= limit`; 30 for a peak of 0.
pub fn bits_for(peak: f64, limit: f64) -> i32 {
    if peak <= 0.0 {
        30
    } else {
        floor_log2(limit / peak).clamp(-30, 30)
    }
}

/// Round to nearest, half away from zero, saturating.
pub fn round_i32(v: f64) -> i32 {
    v.round().clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32
}

/// One output channel of a linear layer between two affine tensors.
///
/// `weights` are the real weights over the input channels `columns` (channel indices of `input`), `bias` the real bias, `mean[c]` the mean real
/// value of input channel c over the calibration data (may be empty): the mean error that rounding the weights makes is taken back by the bias.
/// `limit` is the largest weight magnitude (127 for `i8`).
pub fn weight_row(
    weights: &[f32],
    bias: f32,
    input: &Affine,
    mean: &[f64],
    output: (f64, f64),
    limit: f64,
) -> WeightRow {
    let (out_mid, out_step) = output;
    let scaled: Vec<f64> = weights
        .iter()
        .enumerate()
        .map(|(c, w)| f64::from(*w) * input.step(c) / out_step)
        .collect();
    let peak = scaled.iter().fold(0f64, |a, w| a.max(w.abs()));
    let shift = bits_for(peak, limit).clamp(-15, 31);
    let unit = pow2(shift);
    let mut real_bias = f64::from(bias) - out_mid;
    let mut correction = 0f64;
    let mut values = Vec::with_capacity(scaled.len());
    for (c, (w, s)) in weights.iter().zip(&scaled).enumerate() {
        let q = (s * unit).round().clamp(-limit, limit);
        values.push(q as i32);
        real_bias += f64::from(*w) * input.mid(c);
        let average = mean.get(c).map_or(0.0, |m| {
            (m - input.mid(c)) / input.step(c).max(f64::MIN_POSITIVE)
        });
        correction += (s - q / unit) * average;
    }
    WeightRow {
        shift: shift as i8,
        bias: round_i32((real_bias / out_step + correction) * unit),
        values,
    }
}

/// Parameters of an integer layer norm over `gain.len()` channels whose output reads as `output`.
///
/// Returns (gain, bias) of each channel and the common shift, the largest for which every accumulator stays within [`A_MAX`].
pub fn norm_params(gain: &[f32], bias: &[f32], output: &Affine) -> (Vec<(i16, i32)>, i8) {
    let root = (gain.len() as f64).sqrt();
    let real: Vec<(f64, f64)> = gain
        .iter()
        .zip(bias)
        .enumerate()
        .map(|(c, (g, b))| {
            (
                f64::from(*g) * root / output.step(c) / 32768.0,
                (f64::from(*b) - output.mid(c)) / output.step(c),
            )
        })
        .collect();
    let fits = |shift: i32| {
        let unit = pow2(shift);
        real.iter().all(|(g, b)| {
            let (g, b) = ((g * unit).abs() + 1.0, (b * unit).abs() + 1.0);
            g < 32767.0 && g * 32768.0 + b + unit / 2.0 < A_MAX as f64
        })
    };
    let shift = (0..=31).rev().find(|s| fits(*s)).unwrap_or(0);
    let unit = pow2(shift);
    let params = real
        .iter()
        .map(|(g, b)| {
            (
                (g * unit).round().clamp(-32767.0, 32767.0) as i16,
                round_i32(b * unit),
            )
        })
        .collect();
    (params, shift as i8)
}

/// `ε·n³` at the square of the input's scale (`real = integer · step`), as [`assay_graph::Op::LayerNorm`] wants it.
pub fn norm_epsilon(eps: f64, n: usize, step: f64) -> u64 {
    let n = n as f64;
    let value = eps * n * n * n / (step * step);
    if value >= pow2(62) {
        1 << 62
    } else {
        value.round() as u64
    }
}

/// A table over all integers of an element type: entry `i` belongs to integer `lowest + i`.
pub fn table(lowest: i32, highest: i32, clamp: (i32, i32), f: impl Fn(f64) -> f64) -> Vec<i32> {
    (lowest..=highest)
        .map(|x| round_i32(f(f64::from(x))).clamp(clamp.0, clamp.1))
        .collect()
}

/// The table of a softmax whose scores fall by `step` (natural logarithm) per entry; top value 2^14, at most 4,096 entries, last entry 0.
pub fn exp_table(step: f64) -> Vec<i32> {
    let mut entries = Vec::new();
    for i in 0..4095 {
        let e = round_i32(16384.0 * crate::float::exp(-step * f64::from(i)));
        if e == 0 {
            break;
        }
        entries.push(e);
    }
    entries.push(0);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_row_reproduces_a_linear_map_within_its_rounding() {
        let input = Affine {
            mid: vec![0.5, -1.0, 2.0],
            step: vec![0.01, 0.02, 0.03],
        };
        let weights = [0.7f32, -0.3, 0.11];
        let row = weight_row(&weights, 0.25, &input, &[], (0.1, 0.05), 127.0);
        let q = [100, -50, 27];
        let real: f64 = weights
            .iter()
            .enumerate()
            .map(|(c, w)| f64::from(*w) * (input.mid(c) + input.step(c) * f64::from(q[c])))
            .sum::<f64>()
            + 0.25;
        let acc: i64 = row
            .values
            .iter()
            .zip(q)
            .map(|(w, x)| i64::from(*w) * x as i64)
            .sum::<i64>()
            + i64::from(row.bias);
        let have = acc as f64 / pow2(i32::from(row.shift));
        assert!((have - (real - 0.1) / 0.05).abs() < 0.5, "{have}");
        assert!(row.values.iter().any(|v| v.abs() >= 64));
    }

    #[test]
    fn zero_row_has_zero_weights() {
        let row = weight_row(
            &[0.0, 0.0],
            1.0,
            &Affine::uniform(1.0),
            &[],
            (0.0, 1.0),
            127.0,
        );
        assert_eq!(row.values, [0, 0]);
    }

    #[test]
    fn exp_table_falls_to_zero_and_fits_the_operator() {
        for step in [1e-6, 1.0 / 64.0, 1.0 / 32.0, 5.0] {
            let t = exp_table(step);
            assert!(
                t.len() >= 2
                    && t.len() <= 4096
                    && t.last() == Some(&0)
                    && t.first() == Some(&16384)
            );
            assert!(t.windows(2).all(|w| w[0] >= w[1]));
        }
    }
}
