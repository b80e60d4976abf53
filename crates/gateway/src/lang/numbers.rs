//! Numbers of clients to the integers of a sampling statement: the only place where floats become what is signed.
//!
//! 16.16 fixed point, rounded to the nearest, ties away from zero.

use assay_graph::sampling::{MAX_BIASES, MAX_FACTOR, MIN_TEMPERATURE, ONE};
use serde_json::{Map, Value};

use crate::HttpError;

/// A range of real numbers, both ends included.
type Range = (f64, f64);

/// `value · 2^16` rounded; `value` lies in a small range.
fn fixed(value: f64) -> i64 {
    // In range by the callers' checks: at most 100 · 2^16.
    (value * f64::from(ONE)).round() as i64
}

/// A number of the body inside a range; `None` when it is absent or null.
pub(crate) fn real(
    body: &Map<String, Value>,
    param: &'static str,
    (low, high): Range,
) -> Result<Option<f64>, HttpError> {
    let value = match body.get(param) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().filter(|value| value.is_finite()),
    };
    let wrong = || {
        HttpError::invalid(
            param,
            format!("`{param}` must be a number from {low} to {high}"),
        )
    };
    let value = value.ok_or_else(wrong)?;
    if (low..=high).contains(&value) {
        Ok(Some(value))
    } else {
        Err(wrong())
    }
}

/// An integer of the body inside a range; `None` when it is absent or null. `5.0` is an integer, `5.5` is none.
pub(crate) fn whole(
    body: &Map<String, Value>,
    param: &'static str,
    (low, high): (i64, i64),
) -> Result<Option<i64>, HttpError> {
    let value = match body.get(param) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => integer(value),
    };
    match value {
        Some(value) if (i128::from(low)..=i128::from(high)).contains(&value) => {
            Ok(i64::try_from(value).ok())
        }
        _ => Err(HttpError::invalid(
            param,
            format!("`{param}` must be an integer from {low} to {high}"),
        )),
    }
}

/// The integer that a JSON number stands for, if it does.
pub(crate) fn integer(value: &Value) -> Option<i128> {
    if let Some(value) = value.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = value.as_u64() {
        return Some(value.into());
    }
    // Beyond 2^53 a float names no single integer.
    let value = value
        .as_f64()
        .filter(|value| value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0)?;
    Some(value as i128)
}

/// Temperature: 0 is greedy, numbers below the least one are raised to it, absent is 1.
pub(crate) fn temperature(body: &Map<String, Value>) -> Result<u32, HttpError> {
    let value = real(body, "temperature", (0.0, 2.0))?.unwrap_or(1.0);
    if value == 0.0 {
        return Ok(0);
    }
    Ok(unsigned(fixed(value)).max(MIN_TEMPERATURE))
}

/// `top_p`: absent is all; 0 is the least mass that can be said.
pub(crate) fn top_p(body: &Map<String, Value>) -> Result<u32, HttpError> {
    let value = real(body, "top_p", (0.0, 1.0))?.unwrap_or(1.0);
    Ok(unsigned(fixed(value)).clamp(1, ONE))
}

/// `min_p`: absent is 0.
pub(crate) fn min_p(body: &Map<String, Value>) -> Result<u32, HttpError> {
    let value = real(body, "min_p", (0.0, 1.0))?.unwrap_or(0.0);
    Ok(unsigned(fixed(value)).min(ONE))
}

/// `top_k`: absent, 0 and -1 keep all.
pub(crate) fn top_k(body: &Map<String, Value>) -> Result<u32, HttpError> {
    let value = whole(body, "top_k", (-1, i64::from(u32::MAX)))?.unwrap_or(0);
    Ok(u32::try_from(value).unwrap_or(0))
}

/// `repetition_penalty`: a factor, absent is 1.
pub(crate) fn repetition(body: &Map<String, Value>) -> Result<u32, HttpError> {
    let value = real(body, "repetition_penalty", (0.01, 100.0))?.unwrap_or(1.0);
    Ok(unsigned(fixed(value)).clamp(MIN_TEMPERATURE, MAX_FACTOR))
}

/// `frequency_penalty` or `presence_penalty`: -2 to 2, absent is 0.
pub(crate) fn penalty(body: &Map<String, Value>, param: &'static str) -> Result<i32, HttpError> {
    let value = real(body, param, (-2.0, 2.0))?.unwrap_or(0.0);
    Ok(signed(fixed(value)))
}

/// `logit_bias`: token ids (as strings, as JSON wants) to -100 … 100; ascending by token.
pub(crate) fn biases(
    body: &Map<String, Value>,
    vocabulary: u32,
) -> Result<Vec<(u32, i32)>, HttpError> {
    const NAME: &str = "logit_bias";
    let entries = match body.get(NAME) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => {
            return Err(HttpError::invalid(
                NAME,
                "`logit_bias` must be an object of token ids to numbers from -100 to 100",
            ));
        }
    };
    if entries.len() > MAX_BIASES {
        return Err(HttpError::invalid(
            NAME,
            format!("{} biases, at most {MAX_BIASES}", entries.len()),
        ));
    }
    let mut biases = Vec::with_capacity(entries.len());
    for (token, bias) in entries {
        let id = token.parse::<u32>().ok().filter(|id| *id < vocabulary);
        let shown: String = token.chars().take(40).collect();
        let id = id.ok_or_else(|| {
            HttpError::invalid(NAME, format!("`{shown}` is no token id below {vocabulary}"))
        })?;
        let bias = bias
            .as_f64()
            .filter(|bias| (-100.0..=100.0).contains(bias))
            .ok_or_else(|| {
                HttpError::invalid(
                    NAME,
                    format!("the bias of token {id} must be a number from -100 to 100"),
                )
            })?;
        biases.push((id, signed(fixed(bias))));
    }
    biases.sort_unstable();
    // "1" and "01" are one token.
    biases.dedup_by_key(|(id, _)| *id);
    Ok(biases)
}

fn unsigned(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn signed(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(0)
}

/// The key of the random stream: `BLAKE3("assay seed v1", seed as 16 bytes little endian ∥ choice as 4 bytes)`.
pub(crate) fn seed_key(seed: i128, choice: u32) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("assay seed v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&choice.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// `seed`, or one drawn below 2^53, so that every client can read it back.
pub(crate) fn seed(body: &Map<String, Value>) -> Result<i128, HttpError> {
    match body.get("seed") {
        None | Some(Value::Null) => {
            let mut bytes = [0u8; 8];
            getrandom::fill(&mut bytes).map_err(|error| HttpError::Internal(error.to_string()))?;
            Ok(i128::from(u64::from_le_bytes(bytes) >> 11))
        }
        Some(value) => integer(value)
            .filter(|seed| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(seed))
            .ok_or_else(|| {
                HttpError::invalid("seed", "`seed` must be an integer from -2^63 to 2^64 - 1")
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn numbers_become_fixed_point() {
        let one = |t: f64| temperature(&body(json!({"temperature": t}))).unwrap();
        assert_eq!((one(0.0), one(1.0), one(2.0)), (0, ONE, 2 * ONE));
        assert_eq!(one(0.7), 45_875);
        assert_eq!((one(1e-9), one(0.01)), (MIN_TEMPERATURE, 655));
        assert_eq!(temperature(&body(json!({}))).unwrap(), ONE);
        assert_eq!(
            temperature(&body(json!({"temperature": null}))).unwrap(),
            ONE
        );
        let p = |p: f64| top_p(&body(json!({"top_p": p}))).unwrap();
        assert_eq!((p(0.0), p(0.5), p(1.0)), (1, ONE / 2, ONE));
        assert_eq!(min_p(&body(json!({"min_p": 0.05}))).unwrap(), 3_277);
        assert_eq!(top_k(&body(json!({"top_k": -1}))).unwrap(), 0);
        assert_eq!(top_k(&body(json!({"top_k": 40.0}))).unwrap(), 40);
        let penalised = body(json!({"presence_penalty": -1.5}));
        assert_eq!(penalty(&penalised, "presence_penalty").unwrap(), -98_304);
        let repeated = body(json!({"repetition_penalty": 1.1}));
        assert_eq!(repetition(&repeated).unwrap(), 72_090);
        let biased = body(json!({"logit_bias": {"7": -100, "3": 0.5}}));
        assert_eq!(
            biases(&biased, 10).unwrap(),
            vec![(3, 32_768), (7, -6_553_600)]
        );
    }

    #[test]
    fn every_number_stays_within_the_statement() {
        let edge = body(json!({
            "temperature": 2, "top_p": 1, "min_p": 1, "repetition_penalty": 100, "frequency_penalty": 2,
            "presence_penalty": -2, "logit_bias": {"0": 100, "1": -100}, "top_k": u32::MAX,
        }));
        let statement = assay_graph::Sampling {
            temperature: temperature(&edge).unwrap(),
            top_k: top_k(&edge).unwrap(),
            top_p: top_p(&edge).unwrap(),
            min_p: min_p(&edge).unwrap(),
            repetition: repetition(&edge).unwrap(),
            frequency: penalty(&edge, "frequency_penalty").unwrap(),
            presence: penalty(&edge, "presence_penalty").unwrap(),
            bias: biases(&edge, 2).unwrap(),
            ..Default::default()
        };
        statement.check().unwrap();
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        for (param, value) in [
            ("temperature", json!(-0.1)),
            ("temperature", json!(2.1)),
            ("temperature", json!(1e308)),
            ("temperature", json!("hot")),
            ("top_p", json!(1.01)),
            ("min_p", json!(-1)),
            ("top_k", json!(-2)),
            ("top_k", json!(1.5)),
            ("repetition_penalty", json!(0)),
            ("frequency_penalty", json!(3)),
            ("seed", json!(1.5)),
            ("seed", json!(1e300)),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"10": 1})),
            ("logit_bias", json!({"1": 101})),
            ("logit_bias", json!([1])),
        ] {
            let body = body(json!({ param: value }));
            let outcome = match param {
                "temperature" => temperature(&body).map(|_| ()),
                "top_p" => top_p(&body).map(|_| ()),
                "min_p" => min_p(&body).map(|_| ()),
                "top_k" => top_k(&body).map(|_| ()),
                "repetition_penalty" => repetition(&body).map(|_| ()),
                "seed" => seed(&body).map(|_| ()),
                "logit_bias" => biases(&body, 10).map(|_| ()),
                _ => penalty(&body, "frequency_penalty").map(|_| ()),
            };
            match outcome {
                Err(HttpError::Invalid { param: named, .. }) => assert_eq!(named, param),
                other => panic!("{param}: {other:?}"),
            }
        }
    }

    #[test]
    fn seeds_are_kept_apart_and_drawn_ones_are_exact_in_a_double() {
        assert_eq!(seed_key(7, 0), seed_key(7, 0));
        assert_ne!(seed_key(7, 0), seed_key(7, 1));
        assert_ne!(seed_key(7, 0), seed_key(-7, 0));
        assert_eq!(
            seed_key(1, 2)[..4],
            blake3::derive_key(
                "assay seed v1",
                &[&1i128.to_le_bytes()[..], &2u32.to_le_bytes()].concat()
            )[..4]
        );
        assert!(seed(&body(json!({}))).unwrap() < 1 << 53);
        assert_eq!(seed(&body(json!({"seed": -5}))).unwrap(), -5);
        assert_eq!(
            seed(&body(json!({"seed": u64::MAX}))).unwrap(),
            u64::MAX.into()
        );
    }
}
