//! Proving keys: made once for each model, kept while memory allows.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::B256;
use assay_graph::{ConstKind, Extent, Graph, Sampling, Structure};
use assay_proof::{Key, MEMORY, ProvingKey};
use parking_lot::Mutex;

/// Bytes that a committed weight takes: itself, its codeword, the tree above it.
const BYTES_PER_WEIGHT: u64 = 20;

/// Keys of models, the least recently used one first.
pub(crate) struct Keys {
    /// Most bytes of keys that are kept; the last one is kept in any case.
    limit: u64,
    known: Mutex<Known>,
    /// Held while a key is made: one at a time.
    making: Mutex<()>,
    /// Whether models can be planned, of those whose key was not made.
    plans: Mutex<HashMap<B256, Result<(), String>>>,
}

#[derive(Default)]
struct Known {
    kept: Vec<(B256, ProvingKey, u64)>,
    /// Ids of all keys that were made, and why models have none.
    verdicts: HashMap<B256, Result<B256, String>>,
    /// Verifying keys of the same models: they say which runs can be proven.
    verifying: HashMap<B256, Key>,
}

impl Known {
    fn take(&mut self, model_id: B256) -> Option<Result<ProvingKey, String>> {
        if let Some(Err(reason)) = self.verdicts.get(&model_id) {
            return Some(Err(reason.clone()));
        }
        let at = self.kept.iter().position(|(id, ..)| *id == model_id)?;
        let entry = self.kept.remove(at);
        let key = entry.1.clone();
        self.kept.push(entry);
        Some(Ok(key))
    }
}

impl Keys {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            known: Mutex::default(),
            making: Mutex::default(),
            plans: Mutex::default(),
        }
    }

    /// Id of the model's key or why it has none; `None` before anyone asked for it.
    pub(crate) fn verdict(&self, model_id: B256) -> Option<Result<B256, String>> {
        self.known.lock().verdicts.get(&model_id).cloned()
    }

    /// Whether the model has proofs, without making its key. Callers wait for each other.
    ///
    /// # Errors
    /// Why the model is not provable, in words.
    pub(crate) fn plan(&self, model_id: B256, graph: &Arc<Graph>) -> Result<(), String> {
        if let Some(verdict) = self.verdict(model_id) {
            return verdict.map(drop);
        }
        let mut plans = self.plans.lock();
        let plan = plans.entry(model_id).or_insert_with(|| {
            let plan = ProvingKey::direct(Arc::clone(graph));
            plan.map(drop).map_err(|error| error.to_string())
        });
        plan.clone()
    }

    /// Whether the answer to this input can be proven, whatever it will be.
    ///
    /// # Errors
    /// Why not, in words.
    pub(crate) fn admits(
        &self,
        model_id: B256,
        input: &[u8],
        sampling: Option<&Sampling>,
    ) -> Result<(), String> {
        let key = self.known.lock().verifying.get(&model_id).cloned();
        let key = key.ok_or("no proof key of it was made here yet")?;
        let extent = longest_run(key.structure(), input, sampling);
        key.provable(extent, sampling, MEMORY)
            .map_err(|error| format!("an answer to this may have no proof: {error}"))
    }

    /// The model's key, made if it is not here. Takes seconds for large models; callers wait for each other.
    ///
    /// # Errors
    /// Why the model is not provable, in words.
    pub(crate) fn get(&self, model_id: B256, graph: &Arc<Graph>) -> Result<ProvingKey, String> {
        if let Some(found) = self.known.lock().take(model_id) {
            return found;
        }
        let _turn = self.making.lock();
        let bytes = weights(graph).saturating_mul(BYTES_PER_WEIGHT);
        {
            let mut known = self.known.lock();
            if let Some(found) = known.take(model_id) {
                return found;
            }
            while !known.kept.is_empty() && held(&known).saturating_add(bytes) > self.limit {
                known.kept.remove(0);
            }
        }
        let made = ProvingKey::new(Arc::clone(graph)).map_err(|error| error.to_string());
        let mut known = self.known.lock();
        let verdict = made.as_ref().map(|key| B256::from(key.key().id()));
        known
            .verdicts
            .insert(model_id, verdict.map_err(String::clone));
        if let Ok(key) = &made {
            known.verifying.insert(model_id, key.key().clone());
            known.kept.push((model_id, key.clone(), bytes));
        }
        made
    }
}

/// The size of the longest run that an input can lead to.
fn longest_run(structure: &Structure, input: &[u8], sampling: Option<&Sampling>) -> Extent {
    let most = structure.header.max_seq;
    let one = Extent { seq: 1, out: 1 };
    let position = structure
        .types
        .first()
        .map_or(1, |ty| ty.len(one) * ty.dtype.size());
    let fed = u32::try_from(input.len() / position.max(1)).unwrap_or(u32::MAX);
    let fed = fed.clamp(1, most);
    let out = sampling.map_or(1, |s| s.max_out.clamp(1, most - fed + 1));
    Extent {
        seq: fed + out - 1,
        out,
    }
}

fn held(known: &Known) -> u64 {
    known.kept.iter().map(|(.., bytes)| *bytes).sum()
}

/// Numbers of a graph's weights.
fn weights(graph: &Graph) -> u64 {
    let numbers = graph.consts().iter().map(|constant| match constant.kind() {
        ConstKind::Weights { rows, cols, .. }
        | ConstKind::Blocks { rows, cols, .. }
        | ConstKind::Rows { rows, cols, .. } => u64::from(rows) * u64::from(cols),
        other => other.total_bytes() as u64,
    });
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use assay_graph::{DType, Dim, GraphBuilder, Header, TensorType};

    use super::*;

    #[test]
    fn the_longest_run_is_what_is_owed() {
        let header = Header {
            max_seq: 16,
            block_bits: 10,
        };
        let mut b = GraphBuilder::new(header);
        let shape = vec![Dim::Seq];
        let (lo, hi) = (0, 9);
        let dtype = DType::I32;
        b.input(TensorType {
            dtype,
            shape,
            lo,
            hi,
        })
        .unwrap();
        let structure = b.finish().unwrap().structure();
        let run = |tokens: usize, max_out: Option<u32>| {
            let sampling = max_out.map(|max_out| Sampling {
                max_out,
                ..Sampling::default()
            });
            let extent = longest_run(&structure, &vec![0; 4 * tokens], sampling.as_ref());
            (extent.seq, extent.out)
        };
        assert_eq!(run(5, None), (5, 1));
        assert_eq!(run(5, Some(4)), (8, 4));
        assert_eq!(run(5, Some(100)), (16, 12));
        assert_eq!(run(16, Some(100)), (16, 1));
        assert_eq!(run(0, Some(0)), (1, 1));
        assert_eq!(run(99, Some(3)), (16, 1));
    }
}
