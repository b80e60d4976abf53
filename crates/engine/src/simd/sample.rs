//! Rows of logits on their way to a token: one body each, compiled for every tier.

multiversion! {
    /// Logits with 8 more fractional bits, divided by the temperature (16.16; 0 leaves them), within ±2^29.
    pub fn adjust(x: &[i16], temperature: u32, out: &mut [i32]) {
        if temperature == 0 {
            for (o, x) in out.iter_mut().zip(x) {
                *o = i32::from(*x) << 8;
            }
            return;
        }
        let divisor = f64::from(temperature);
        for (o, x) in out.iter_mut().zip(x) {
            // the numerator has 39 bits, so the quotient of doubles is on the same side of every integer
            let q = (f64::from(*x) * 16_777_216.0 / divisor).floor().clamp(-536_870_912.0, 536_870_912.0);
            *o = (q + 6_755_399_441_055_744.0).to_bits() as i32;
        }
    }
}

multiversion! {
    /// `min(limit, rnd(max − y, 8))`.
    pub fn gaps(y: &[i32], max: i32, limit: u32, out: &mut [u16]) {
        for (o, y) in out.iter_mut().zip(y) {
            let d = max.wrapping_sub(*y).wrapping_add(128).cast_unsigned() >> 8;
            *o = d.min(limit) as u16;
        }
    }
}

multiversion! {
    /// The first index of distance at most `cut` at which the running sum of masses exceeds `left`.
    pub fn walk(gaps: &[u16], cut: u16, masses: &[i64], left: &mut i64, found: &mut u32) {
        for (b, block) in gaps.chunks(64).enumerate() {
            let mut least = u16::MAX;
            for d in block {
                least = least.min(*d);
            }
            if least > cut {
                continue;
            }
            for (i, d) in block.iter().enumerate() {
                if *d <= cut {
                    let m = masses[usize::from(*d)];
                    if *left < m {
                        *found = (64 * b + i) as u32;
                        return;
                    }
                    *left -= m;
                }
            }
        }
        *found = 0;
    }
}
