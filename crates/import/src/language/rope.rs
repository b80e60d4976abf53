//! Rotary angles, the same on every machine: plain IEEE operations, no platform sine.

use crate::float::{exp, ln};

/// Cosine and sine for `|x| ≤ 2^25`, within 1e-9.
pub fn turn(x: f64) -> (f64, f64) {
    // 2π in two parts: the first has 30 bits, so that products with whole turns are exact
    const HIGH: f64 = 6.283_185_303_211_212;
    const LOW: f64 = 3.968_374_318_722_162e-9;
    let turns = (x / (HIGH + LOW)).round();
    let r = (x - turns * HIGH) - turns * LOW;
    // an eighth of the angle, then three doublings
    let y = r / 8.0;
    let z = y * y;
    let (mut sine, mut term) = (y, y);
    for k in 1..9 {
        let k = f64::from(2 * k);
        term *= -z / (k * (k + 1.0));
        sine += term;
    }
    let (mut versed, mut term) = (0.0, 1.0);
    for k in 1..9 {
        let k = f64::from(2 * k);
        term *= -z / (k * (k - 1.0));
        versed -= term;
    }
    for _ in 0..3 {
        // 1 − cos 2y = 2 sin²y, sin 2y = 2 sin y cos y
        (sine, versed) = (2.0 * sine * (1.0 - versed), 2.0 * sine * sine);
    }
    (1.0 - versed, sine)
}

/// `(cos, sin)` of each position and pair, `[positions, d/2]`: angle `t · base^(−2i/d)`.
pub fn table(positions: usize, d: usize, base: f64) -> Vec<(f64, f64)> {
    let half = d / 2;
    let step = ln(base);
    let speeds: Vec<f64> = (0..half)
        .map(|i| exp(-step * (2 * i) as f64 / d as f64))
        .collect();
    (0..positions)
        .flat_map(|t| speeds.iter().map(move |s| turn(t as f64 * s)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_those_of_the_platform() {
        let mut worst = 0f64;
        for i in 0..200_000 {
            let x = f64::from(i) * 0.37 - 1000.0;
            let (c, s) = turn(x);
            worst = worst.max((c - x.cos()).abs()).max((s - x.sin()).abs());
        }
        assert!(worst < 1e-9, "{worst}");
    }
}
