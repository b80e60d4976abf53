//! Elementary functions from IEEE basic operations only.

use std::f64::consts::LN_2;

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `e^x`; relative error below 1e-15. 0 below −745, infinite above 709.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -745.0 {
        return 0.0;
    }
    let n = (x / LN_2).round();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor series on |r| <= ln2 / 2; the 14th term is below 1e-17
    let mut term = 1.0;
    let mut sum = 1.0;
    for i in 1..=14 {
        term *= r / f64::from(i);
        sum += term;
    }
    scale(sum, n as i32)
}

/// `v · 2^n` for |n| up to 1,100, by two exact steps (so that subnormal results are reached).
fn scale(v: f64, n: i32) -> f64 {
    let half = n / 2;
    v * power_of_two(half) * power_of_two(n - half)
}

fn power_of_two(n: i32) -> f64 {
    f64::from_bits((u64::from((n + 1023).unsigned_abs())) << 52)
}

/// Natural logarithm of a positive finite number; relative error below 1e-14. NaN for others.
pub fn ln(x: f64) -> f64 {
    if !(x > 0.0 && x.is_finite()) {
        return f64::NAN;
    }
    let e = floor_log2(x);
    let mut m = scale(x, -e);
    let mut e = f64::from(e);
    if m > std::f64::consts::SQRT_2 {
        m /= 2.0;
        e += 1.0;
    }
    // 2·artanh((m − 1)/(m + 1)), |argument| < 0.172
    let s = (m - 1.0) / (m + 1.0);
    let (mut power, mut sum) = (s, 0.0);
    for i in 0..12 {
        sum += power / f64::from(2 * i + 1);
        power *= s * s;
    }
    2.0 * sum + e * LN_2
}

/// `floor(log2(x))` of a positive finite number, exact; −1,100 for others.
pub fn floor_log2(x: f64) -> i32 {
    if !(x > 0.0 && x.is_finite()) {
        return -1100;
    }
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32;
    if exponent == 0 {
        63 - bits.leading_zeros() as i32 - 1074
    } else {
        exponent - 1023
    }
}

/// Error function, by the series of positive terms `2/√π · e^(−x²) · Σ 2^k x^(2k+1) / (2k+1)!!` (Abramowitz & Stegun 7.1.6); ±1 beyond ±6.
pub fn erf(x: f64) -> f64 {
    if x.abs() >= 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    let mut k = 1.0;
    while k < 200.0 {
        term *= 2.0 * x * x / (2.0 * k + 1.0);
        sum += term;
        if term.abs() < sum.abs() * 1e-17 {
            break;
        }
        k += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * exp(-x * x) * sum
}

/// Hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    if x.abs() < 1e-4 {
        return x - x * x * x / 3.0;
    }
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// Logistic function.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// `x · Φ(x)`, the exact (not the tanh) form of Hendrycks & Gimpel, arXiv 1606.08415.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_match_known_values() {
        for (have, want) in [
            (exp(1.0), std::f64::consts::E),
            (exp(-20.5), 1.250_152_866_386_742_6e-9),
            (ln(10.0), std::f64::consts::LN_10),
            (ln(1e-7), -16.118_095_650_958_32),
            (erf(0.5), 0.520_499_877_813_046_5),
            (erf(-2.0), -0.995_322_265_018_952_7),
            (tanh(0.3), 0.291_312_612_451_590_9),
            (sigmoid(-3.0), 0.047_425_873_177_566_78),
            (gelu(1.0), 0.841_344_746_068_543),
        ] {
            assert!((have - want).abs() <= 1e-13 * want.abs(), "{have} {want}");
        }
        assert_eq!(floor_log2(1.0), 0);
        assert_eq!(floor_log2(0.99), -1);
        assert_eq!(floor_log2(128.0), 7);
        assert_eq!(exp(-800.0), 0.0);
        assert_eq!(exp(800.0), f64::INFINITY);
    }
}
