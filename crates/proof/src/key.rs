//! Keys: what a verifier that does not hold the weights needs of a model, and what a prover computes once for it.

use std::sync::Arc;

use assay_graph::{Const, Extent, Graph, Structure};
use p3_field::PrimeCharacteristicRing;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    compile::{Compiled, Source},
    error::PlanError,
    field::{F, embed},
    params::{PARAM_SET, Side},
    pcs::{self, Committed},
    plan::{
        Part, Weight,
        facts::{Fact, Facts},
        layout::Tile,
    },
    shards::Shards,
};

/// A model's verifying key: structure, the facts of its constants that plans depend on, and the commitment to its weights. A deterministic function of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub(crate) model_id: [u8; 32],
    pub(crate) structure: Arc<Structure>,
    pub(crate) facts: Arc<Vec<Fact>>,
    /// Roots of the pieces of the weights.
    pub(crate) roots: Vec<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    version: u16,
    param_set: u16,
    model_id: [u8; 32],
    roots: Vec<[u8; 32]>,
    structure: Vec<u8>,
    facts: Vec<Fact>,
}

/// Version of the encoding.
const VERSION: u16 = 2;
/// Largest key that is read.
pub const MAX_KEY: usize = 64 << 20;

impl Key {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = Encoded {
            version: VERSION,
            param_set: PARAM_SET,
            model_id: self.model_id,
            roots: self.roots.clone(),
            structure: self.structure.to_bytes(),
            facts: (*self.facts).clone(),
        };
        postcard::to_allocvec(&encoded).unwrap_or_default()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`PlanError::Key`] for bytes that are no key in its canonical form, [`PlanError::Graph`] for a bad structure.
    pub fn decode(bytes: &[u8]) -> Result<Self, PlanError> {
        if bytes.len() > MAX_KEY {
            return Err(PlanError::Key(format!(
                "{} bytes, at most {MAX_KEY} are read",
                bytes.len()
            )));
        }
        let bad = |e: postcard::Error| PlanError::Key(e.to_string());
        let encoded: Encoded = postcard::from_bytes(bytes).map_err(bad)?;
        if encoded.version != VERSION || encoded.param_set != PARAM_SET {
            return Err(PlanError::Key("it is of another version".into()));
        }
        let key = Self {
            model_id: encoded.model_id,
            structure: Arc::new(Structure::from_bytes(&encoded.structure)?),
            facts: Arc::new(encoded.facts),
            roots: encoded.roots,
        };
        if key.encode() != bytes {
            return Err(PlanError::Key("it is not in its canonical form".into()));
        }
        Ok(key)
    }

    /// The key's hash: what a registry stores under a model id.
    pub fn id(&self) -> [u8; 32] {
        blake3::derive_key("assay proof key v1", &self.encode())
    }

    /// The structure of the graphs that the key is for.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }

    /// The model that the key claims to belong to. That it does is known from a registry, or by making the key again from the model.
    pub fn model_id(&self) -> [u8; 32] {
        self.model_id
    }
}

/// Bytes that a proof may take where nothing else is said: 4 GiB.
pub const MEMORY: u64 = 4 << 30;

/// A model that can be proven: key, constants and committed weights. Made once, used for many proofs.
#[derive(Clone)]
pub struct ProvingKey {
    pub(crate) key: Key,
    pub(crate) graph: Arc<Graph>,
    /// The pieces of the weights; none for proofs to verifiers that hold the weights.
    pub(crate) committed: Vec<Committed>,
    /// Bytes that a proof may take.
    pub(crate) memory: u64,
}

impl ProvingKey {
    /// Plans the model, reads the facts of its constants and commits to its weights.
    ///
    /// # Errors
    /// [`PlanError`] for operators without a proof rule, or models too large for the parameter sets.
    pub fn new(graph: Arc<Graph>) -> Result<Self, PlanError> {
        let (mut key, weights) = outline(&graph)?;
        let shards = Shards::new(&weights);
        let mut committed = Vec::new();
        for (shard, log) in shards.logs.iter().enumerate() {
            let mut cells = vec![F::ZERO; 1 << log];
            for (i, weight) in weights.iter().enumerate() {
                let tiles = &shards.layout.of_tensor[i];
                if tiles
                    .iter()
                    .any(|t| Shards::offset(shard, &shards.layout.tiles[*t]).is_some())
                {
                    let values = values(graph.consts(), weight);
                    let place = |tile: &Tile| Shards::offset(shard, tile);
                    shards
                        .layout
                        .scatter_where(i, &values, &mut cells, place, |v: i32| embed(i64::from(v)));
                }
            }
            committed.push(pcs::commit(*log, cells, Side::Weights)?);
        }
        key.roots = committed.iter().map(Committed::root).collect();
        Ok(Self {
            key,
            graph,
            committed,
            memory: MEMORY,
        })
    }

    /// Without a commitment: for proofs to verifiers that hold the weights.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn direct(graph: Arc<Graph>) -> Result<Self, PlanError> {
        let (key, _) = outline(&graph)?;
        Ok(Self {
            key,
            graph,
            committed: Vec::new(),
            memory: MEMORY,
        })
    }

    /// With another bound on the memory that a proof may take, in bytes: [`MEMORY`] unless said otherwise. Proofs that need more are cut into stages.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// The verifying key; it has no roots without a commitment.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// Key without roots, and the weights.
fn outline(graph: &Graph) -> Result<(Key, Vec<Weight>), PlanError> {
    let structure = Arc::new(graph.structure());
    let extent = Extent { seq: 1, out: 1 };
    let ty = structure
        .types
        .first()
        .ok_or_else(|| PlanError::Key("the graph is empty".into()))?;
    let source = Source {
        structure: &structure,
        consts: Some(graph.consts()),
        runs: 1,
        extent,
        inputs: Arc::new(vec![ty.lo; ty.len(extent)]),
        hidden: false,
        outputs: None,
        restless: &[],
        samplings: &[],
    };
    let Compiled { plan, facts, .. } = source.compile(Facts::Record(Vec::new()), false)?;
    let Facts::Record(facts) = facts else {
        return Err(PlanError::Key("facts were not recorded".into()));
    };
    let key = Key {
        model_id: graph.model_id(),
        structure,
        facts: Arc::new(facts),
        roots: Vec::new(),
    };
    Ok((key, plan.weights))
}

/// The integers of a weight tensor, row-major.
pub(crate) fn values(consts: &[Const], weight: &Weight) -> Vec<i32> {
    let Some(c) = consts.get(weight.constant as usize) else {
        return Vec::new();
    };
    let rows = weight.shape.first().copied().unwrap_or(0) as u32;
    match (weight.part, c.kind()) {
        (
            Part::Values,
            assay_graph::ConstKind::Rows { .. } | assay_graph::ConstKind::Table { .. },
        ) => c.values(),
        (Part::Values, _) => (0..rows)
            .into_par_iter()
            .flat_map_iter(|r| c.row_values(r).map(|v| v.values).unwrap_or_default())
            .collect(),
        (Part::Bias, assay_graph::ConstKind::Norm { .. }) => {
            c.norm().into_iter().map(|(_, b)| b).collect()
        }
        (Part::Bias, _) => (0..rows)
            .into_par_iter()
            .map(|r| c.row_values(r).map_or(0, |v| v.bias))
            .collect(),
        (Part::Gain, _) => c.norm().into_iter().map(|(g, _)| g.into()).collect(),
    }
}
