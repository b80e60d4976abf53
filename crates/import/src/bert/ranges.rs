//! What calibration learns: the range and mean of every channel at every site.

use std::collections::BTreeMap;

use super::forward::{Forward, Probe, Site};

/// Range of one channel over the calibration text.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Smallest value.
    pub lo: f32,
    /// Largest value.
    pub hi: f32,
    sum: f64,
    count: u64,
}

impl Channel {
    const EMPTY: Self = Self {
        lo: f32::INFINITY,
        hi: f32::NEG_INFINITY,
        sum: 0.0,
        count: 0,
    };

    /// Mean value; 0 when nothing was seen.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }

    /// Largest magnitude.
    pub fn peak(&self) -> f64 {
        f64::from(self.hi.max(-self.lo).max(0.0))
    }
}

/// Ranges by site and layer.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    sites: BTreeMap<(Site, usize), Vec<Channel>>,
    /// Tokens seen.
    pub tokens: u64,
}

impl Ranges {
    /// Runs the reference over calibration sentences (token ids).
    pub fn calibrate(forward: &Forward<'_>, sentences: &[Vec<u32>]) -> Self {
        let mut ranges = Self::default();
        for ids in sentences {
            forward.run(ids, &mut ranges);
            ranges.tokens += ids.len() as u64;
        }
        ranges
    }

    /// Channels of a site; empty when it was never seen.
    pub fn channels(&self, site: Site, layer: usize) -> &[Channel] {
        self.sites.get(&(site, layer)).map_or(&[], Vec::as_slice)
    }

    /// Largest magnitude of any channel of a site.
    pub fn peak(&self, site: Site, layer: usize) -> f64 {
        self.channels(site, layer)
            .iter()
            .map(Channel::peak)
            .fold(0.0, f64::max)
    }
}

impl Probe for Ranges {
    fn see(&mut self, site: Site, layer: usize, x: &[f32], width: usize) {
        let width = width.max(1);
        // scores have as many columns as positions: one channel for all
        let channels = if site == Site::Score { 1 } else { width };
        let stats = self
            .sites
            .entry((site, layer))
            .or_insert_with(|| vec![Channel::EMPTY; channels]);
        for row in x.chunks_exact(width) {
            for (c, v) in row.iter().enumerate() {
                if let Some(s) = stats.get_mut(if channels == 1 { 0 } else { c }) {
                    s.lo = s.lo.min(*v);
                    s.hi = s.hi.max(*v);
                    s.sum += f64::from(*v);
                    s.count += 1;
                }
            }
        }
    }
}
