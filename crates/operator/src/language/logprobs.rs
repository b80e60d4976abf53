//! Probabilities of tokens, for people: the only floats here. Nothing of it is signed, paid or replayed.

use std::f64::consts::LN_2;

/// Units of a logit in one octave (docs/graph.md: logits are in units of `2^-8` octaves).
const UNITS: f64 = 256.0;
/// Most alternatives that are listed.
pub const MAX_ALTERNATIVES: u8 = 20;

/// Natural logarithms of the model's own probabilities, before penalties, bias, temperature and masks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogProbs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The most likely tokens, falling.
    pub top: Vec<(u32, f32)>,
}

/// Probabilities at one position from its logits; `None` for a token outside them.
pub fn log_probs(logits: &[i16], chosen: u32, alternatives: u8) -> Option<LogProbs> {
    let highest = f64::from(*logits.iter().max()?);
    let octaves = |logit: i16| (f64::from(logit) - highest) / UNITS;
    let sum: f64 = logits.iter().map(|logit| octaves(*logit).exp2()).sum();
    let natural = |logit: i16| (octaves(logit) * LN_2 - sum.ln()) as f32;
    let own = *logits.get(usize::try_from(chosen).ok()?)?;
    let wanted = usize::from(alternatives.min(MAX_ALTERNATIVES)).min(logits.len());
    let mut order: Vec<(std::cmp::Reverse<i16>, u32)> = Vec::new();
    if wanted > 0 {
        order = (0u32..)
            .zip(logits)
            .map(|(token, logit)| (std::cmp::Reverse(*logit), token))
            .collect();
        if wanted < order.len() {
            order.select_nth_unstable(wanted);
        }
        order.truncate(wanted);
        order.sort_unstable();
    }
    Some(LogProbs {
        chosen: natural(own),
        top: order
            .into_iter()
            .map(|(logit, token)| (token, natural(logit.0)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::log_probs;

    #[test]
    fn an_octave_is_a_factor_of_two() {
        let probs = log_probs(&[0, 256, 256, -256], 3, 2).unwrap();
        // Weights 1, 2, 2, 1/2 of 5.5.
        let near = |a: f32, b: f64| (f64::from(a) - b.ln()).abs() < 1e-5;
        assert!(near(probs.chosen, 0.5 / 5.5));
        assert_eq!(probs.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
        assert!(probs.top.iter().all(|t| near(t.1, 2.0 / 5.5)));
        assert!(log_probs(&[], 0, 1).is_none());
        assert!(log_probs(&[1], 1, 1).is_none());
        assert_eq!(log_probs(&[1, 2], 0, 20).unwrap().top.len(), 2);
        assert!(log_probs(&[1, 2], 0, 0).unwrap().top.is_empty());
    }

    #[test]
    fn the_widest_logits_stay_finite() {
        let probs = log_probs(&[i16::MIN, i16::MAX], 0, 2).unwrap();
        assert!(probs.chosen.is_finite() && probs.chosen < -100.0);
    }
}
