//! Ranges of a network's tensors over the calibration data.

use super::Calibration;
use crate::{error::ImportError, net::Net};

/// Range and channel means of every node.
#[derive(Clone, Debug)]
pub struct NetRanges {
    /// Largest magnitude per node.
    pub peak: Vec<f64>,
    /// Smallest and largest value per node.
    pub extent: Vec<(f64, f64)>,
    /// Mean of each channel of the last axis per node.
    pub mean: Vec<Vec<f64>>,
}

impl NetRanges {
    /// Runs the float network over the calibration inputs.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] when there is no input, one has another size, or a value is not finite.
    pub fn measure(net: &Net, calibration: &Calibration) -> Result<Self, ImportError> {
        let what = "calibration data";
        let (lo, hi) = calibration.range;
        if !(lo.is_finite() && hi.is_finite() && lo < hi) {
            return Err(ImportError::malformed(
                what,
                format!("input range {lo} to {hi}"),
            ));
        }
        if calibration.inputs.is_empty() {
            return Err(ImportError::malformed(what, "no inputs"));
        }
        let size: usize = net.input_dims().iter().product();
        let nodes = net.nodes.len();
        let mut ranges = Self {
            peak: vec![0.0; nodes],
            extent: vec![(0.0, 0.0); nodes],
            mean: vec![Vec::new(); nodes],
        };
        let mut counts = vec![0u64; nodes];
        for (i, input) in calibration.inputs.iter().enumerate() {
            if input.len() != size {
                return Err(ImportError::malformed(
                    what,
                    format!("input {i} has {} values, {size} wanted", input.len()),
                ));
            }
            let clamped: Vec<f32> = input
                .iter()
                .map(|v| {
                    if net.ids {
                        *v
                    } else {
                        f64::from(*v).clamp(lo, hi) as f32
                    }
                })
                .collect();
            for (n, values) in net.eval(&clamped).iter().enumerate() {
                ranges.add(net, n, values, &mut counts)?;
            }
        }
        for (means, count) in ranges.mean.iter_mut().zip(counts) {
            means.iter_mut().for_each(|m| *m /= count.max(1) as f64);
        }
        Ok(ranges)
    }

    fn add(
        &mut self,
        net: &Net,
        n: usize,
        values: &[f32],
        counts: &mut [u64],
    ) -> Result<(), ImportError> {
        let node = net.nodes.get(n);
        let width = node
            .and_then(|x| x.dims.last())
            .copied()
            .unwrap_or(1)
            .max(1);
        let (Some(peak), Some(extent), Some(mean), Some(count)) = (
            self.peak.get_mut(n),
            self.extent.get_mut(n),
            self.mean.get_mut(n),
            counts.get_mut(n),
        ) else {
            return Ok(());
        };
        mean.resize(width, 0.0);
        for row in values.chunks_exact(width) {
            for (m, v) in mean.iter_mut().zip(row) {
                let v = f64::from(*v);
                if !v.is_finite() {
                    let name = node.map_or("", |x| x.name.as_str());
                    return Err(ImportError::malformed(
                        "calibration data",
                        format!("node `{name}` computes {v}"),
                    ));
                }
                *peak = peak.max(v.abs());
                *extent = (extent.0.min(v), extent.1.max(v));
                *m += v;
            }
            *count += 1;
        }
        Ok(())
    }
}
