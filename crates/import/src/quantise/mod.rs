//! From a float network to an integer graph: calibrated ranges, one static step per tensor, weights in `i8` with a shift per row.
//!
//! Three profiles: [`Profile::A8`] keeps activations in `i8` wherever no operator wants more, [`Profile::A16`] keeps all in `i16`, [`Profile::W12`] has
//! 12-bit weights as well. Accumulator bounds are
//! shown by the graph builder from the actual weights; where one breaks, the clamp of the tensor in front is lowered and the graph is built again.

mod emit;
mod ranges;

use std::sync::Arc;

use assay_engine::{Engine, EngineOptions};
use assay_graph::{Data, Graph, GraphError, Tensor, eval};
use serde::{Deserialize, Serialize};

use crate::{error::ImportError, net::Net};

pub use ranges::NetRanges;

/// Most rebuilds while clamps are lowered.
const MAX_ATTEMPTS: usize = 1000;

/// Widths of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// `i8` except before norms and softmax, in sums that lead to them, and at the output.
    A8,
    /// Activations `i16` throughout.
    A16,
    /// As [`A16`](Self::A16), with weights of 12 bits in `i16`.
    W12,
}

impl Profile {
    /// Element type and largest magnitude of weights.
    pub(crate) const fn weights(self) -> (assay_graph::DType, f64) {
        match self {
            Self::A8 | Self::A16 => (assay_graph::DType::I8, 127.0),
            Self::W12 => (assay_graph::DType::I16, 2047.0),
        }
    }
}

/// What calibration runs on.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Declared range of the input: no legal input lies outside, and clients' values are clamped to it.
    pub range: (f64, f64),
    /// Inputs in the order of the network's input.
    pub inputs: Vec<Vec<f32>>,
}

/// How the integers at an end of the graph read: `real = integer · step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Real value of one step.
    pub step: f64,
    /// Smallest integer.
    pub lo: i32,
    /// Largest integer.
    pub hi: i32,
}

/// A quantised network.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The integer graph.
    pub graph: Graph,
    /// Node names, in order.
    pub names: Vec<String>,
    /// The input's reading (step 1 for ids).
    pub input: End,
    /// The output's reading (step 1 for an arg max).
    pub output: End,
    /// Profile used.
    pub profile: Profile,
}

/// How integer and float runs differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Inputs compared.
    pub samples: u64,
    /// Root mean square of the output error over that of the float output around its mean.
    pub relative_error: f64,
    /// Largest output error.
    pub max_error: f64,
    /// Rows (over the last axis) whose largest element is the same.
    pub same_arg_max: f64,
}

/// Quantises with a given profile. `block_bits` as in the graph's header.
///
/// # Errors
/// [`ImportError::Graph`] when no clamp satisfies a bound or a cap breaks, [`ImportError::Malformed`] when there is nothing to calibrate on.
pub fn quantise(
    net: &Net,
    calibration: &Calibration,
    profile: Profile,
    block_bits: u8,
) -> Result<Quantised, ImportError> {
    let ranges = NetRanges::measure(net, calibration)?;
    let mut limits = vec![32767f64; net.nodes.len()];
    for _ in 0..MAX_ATTEMPTS {
        let mut emitter = emit::Emitter::new(
            net,
            &ranges,
            calibration.range,
            profile,
            &limits,
            block_bits,
        );
        match emitter.build() {
            Ok((input, output)) => {
                let (graph, names) = emitter.finish()?;
                return Ok(Quantised {
                    graph,
                    names,
                    input,
                    output,
                    profile,
                });
            }
            Err(ImportError::Graph(GraphError::Bound {
                name, bound, limit, ..
            })) => {
                let lowered = emitter.lower(&mut limits, limit as f64 / bound.max(1) as f64);
                if !lowered {
                    let why = format!(
                        "accumulator can reach {bound}, the limit is {limit}, and no clamp in front can be lowered"
                    );
                    return Err(ImportError::malformed(format!("node `{name}`"), why));
                }
            }
            Err(e) => return Err(e),
        }
    }
    Err(ImportError::malformed(
        "network",
        "no clamps were found that keep all accumulators within their bounds",
    ))
}

/// Tries the profiles from the cheapest on and takes the first whose relative error on the calibration data is at most `tolerance`, else the most exact one.
///
/// # Errors
/// As [`quantise`]; [`ImportError::Measure`] when a run fails.
pub fn quantise_auto(
    net: &Net,
    calibration: &Calibration,
    block_bits: u8,
    tolerance: f64,
) -> Result<(Quantised, Accuracy), ImportError> {
    let sample: Vec<Vec<f32>> = calibration.inputs.iter().take(16).cloned().collect();
    let mut best: Option<(Quantised, Accuracy)> = None;
    for profile in [Profile::A8, Profile::A16, Profile::W12] {
        let quantised = quantise(net, calibration, profile, block_bits)?;
        let accuracy = quantised.compare(net, &sample)?;
        let enough = accuracy.relative_error <= tolerance;
        if best
            .as_ref()
            .is_none_or(|(_, b)| accuracy.relative_error < b.relative_error)
        {
            best = Some((quantised, accuracy));
        }
        if enough {
            break;
        }
    }
    best.ok_or_else(|| ImportError::malformed("network", "no profile"))
}

impl Quantised {
    /// Real numbers (ids as numbers) to the graph's input; values outside the declared range are clamped.
    ///
    /// # Errors
    /// [`ImportError::Graph`] when the number of values is wrong.
    pub fn input_tensor(&self, values: &[f32]) -> Result<Tensor, ImportError> {
        let ty = self
            .graph
            .input_type()
            .ok_or_else(|| ImportError::malformed("graph", "it is empty"))?;
        let ints: Vec<i32> = values
            .iter()
            .map(|v| to_int(f64::from(*v), &self.input))
            .collect();
        let data = Data::from_i32(ty.dtype, &ints)
            .ok_or_else(|| ImportError::malformed("input", "a value does not fit"))?;
        Ok(Tensor::new(ty.dims(1), data)?)
    }

    /// The graph's output as real numbers, by the definition of every operator (slow).
    ///
    /// # Errors
    /// [`ImportError::Graph`] for an input of another size.
    pub fn run(&self, values: &[f32]) -> Result<Vec<f32>, ImportError> {
        let outputs = eval::run(&self.graph, &self.input_tensor(values)?)?;
        let last = outputs
            .last()
            .ok_or_else(|| ImportError::Measure("no output".into()))?;
        Ok(self.real(last))
    }

    fn real(&self, output: &Tensor) -> Vec<f32> {
        output
            .data
            .to_i32()
            .iter()
            .map(|v| (f64::from(*v) * self.output.step) as f32)
            .collect()
    }

    /// Compares integer and float runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn compare(&self, net: &Net, inputs: &[Vec<f32>]) -> Result<Accuracy, ImportError> {
        let last = net.output_dims().last().copied().unwrap_or(1).max(1);
        let wants: Vec<Vec<f32>> = inputs.iter().map(|x| net.run(x)).collect();
        let count = wants.iter().map(Vec::len).sum::<usize>().max(1);
        let mean = wants.iter().flatten().map(|v| f64::from(*v)).sum::<f64>() / count as f64;
        let engine = Engine::new(Arc::new(self.graph.clone()), EngineOptions::default())
            .map_err(|e| ImportError::Measure(e.to_string()))?;
        let (mut error, mut signal, mut worst) = (0f64, 0f64, 0f64);
        let (mut same, mut rows) = (0u64, 0u64);
        for (input, want) in inputs.iter().zip(&wants) {
            let run = engine
                .run(&self.input_tensor(input)?)
                .map_err(|e| ImportError::Measure(e.to_string()))?;
            let have = self.real(&run.output);
            for (h, w) in have.iter().zip(want) {
                let e = f64::from(h - w).abs();
                error += e * e;
                signal += (f64::from(*w) - mean).powi(2);
                worst = worst.max(e);
            }
            for (h, w) in have.chunks_exact(last).zip(want.chunks_exact(last)) {
                rows += 1;
                same += u64::from(crate::net::arg_max(h) == crate::net::arg_max(w));
            }
        }
        Ok(Accuracy {
            samples: inputs.len() as u64,
            relative_error: (error / signal.max(1e-30)).sqrt(),
            max_error: worst,
            same_arg_max: same as f64 / rows.max(1) as f64,
        })
    }
}

/// Nearest integer of a real number within an end's range; NaN becomes 0.
pub(crate) fn to_int(v: f64, end: &End) -> i32 {
    let v = if v.is_nan() { 0.0 } else { v };
    crate::fixed::round_i32(v / end.step).clamp(end.lo, end.hi)
}
