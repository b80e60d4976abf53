//! The prover: runs the graph, commits to the columns, and answers the verifier's challenges in the order of `verifier`.

mod contract;
mod hidden;
mod products;
mod values;
mod weights;

use std::sync::Arc;

use assay_graph::{Data, Extent, Sampling, Tensor};
use p3_field::PrimeCharacteristicRing;
use rayon::prelude::*;

pub(crate) use self::values::evaluate_weights;
use self::{
    values::{Prover, link_values, spread},
    weights::Held,
};
use crate::{
    budget,
    compile::{self, Compiled},
    cost,
    error::{PlanError, ProveError},
    field::{EF, F, embed},
    functional::{Functional, Points},
    key::ProvingKey,
    links::{self, Links},
    lookup,
    packed::{Lane, Pack, WIDTH},
    params::Side,
    pcs,
    plan::{Plan, facts::Facts, stages::Stages},
    proof::{self, OfWeights, Proof},
    reduce, relations,
    sampling::check_sampling,
    shards::Shards,
    statement::{Mode, Run, Statement},
    transcript::{Channel, Lie, Sender},
};

type LieOfCells<'a> = &'a mut dyn FnMut(&Plan, &mut Vec<Vec<i32>>);
type LieOfStages<'a> = &'a mut dyn FnMut(&Stages, &mut Vec<Vec<Vec<i32>>>);
type LieOfCounts<'a> = &'a mut dyn FnMut(&mut Vec<u32>);
type LieOfPads<'a> = &'a mut dyn FnMut(&mut Vec<EF>);

/// Lies for tests: called before cells are committed and before messages are sent.
#[derive(Default)]
pub(crate) struct Tamper<'a> {
    /// Gets the plan and the cells of the columns.
    pub(crate) columns: Option<LieOfCells<'a>>,
    /// Gets the stages and the cells of their columns.
    pub(crate) stages: Option<LieOfStages<'a>>,
    /// How the plan is cut, instead of what is best.
    pub(crate) stage: Option<u32>,
    /// Nodes that are not planned calm even if they are.
    pub(crate) restless: Vec<u32>,
    /// Gets the multiplicities.
    pub(crate) counts: Option<LieOfCounts<'a>>,
    /// Gets the pads, after they are committed.
    pub(crate) pads: Option<LieOfPads<'a>>,
    /// Gets label and message.
    pub(crate) messages: Option<Lie<'a>>,
}

/// A run to be proven.
#[derive(Clone, Debug)]
pub struct Input {
    /// The input tensor.
    pub tensor: Tensor,
    /// Positions that answer; 1 for graphs that generate nothing.
    pub out: u32,
    /// How tokens are sampled; only of language models, whose tensor holds prompt and answer without its last token.
    pub sampling: Option<Sampling>,
}

/// Steps of a proof, for progress bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The graph runs and its columns are filled.
    Run,
    /// The columns are committed.
    Commit,
    /// The lookups are proven.
    Lookups,
    /// The products are proven.
    Products,
    /// The witness is opened.
    Witness,
    /// The weights are opened.
    Weights,
}

/// Proves the runs. `context` is bound to the proof (at most 256 bytes).
///
/// # Errors
/// [`ProveError`].
pub fn prove(
    key: &ProvingKey,
    inputs: &[Input],
    context: &[u8],
    progress: &mut dyn FnMut(Step),
) -> Result<Proof, ProveError> {
    prove_tampered(key, inputs, context, progress, Tamper::default(), None)
}

/// As [`prove`], to verifiers who learn nothing about the runs but their outputs ([`Mode::Hiding`]).
///
/// # Errors
/// [`ProveError`]; for models whose inputs are tokens, and for keys without a commitment.
pub fn prove_hiding(
    key: &ProvingKey,
    inputs: &[Input],
    context: &[u8],
    progress: &mut dyn FnMut(Step),
) -> Result<Proof, ProveError> {
    if key.committed.is_empty() {
        return Err(ProveError::Runs(
            "proofs that hide need a key with a commitment".into(),
        ));
    }
    let (mode, tamper) = (Mode::Hiding, Tamper::default());
    prove_in(mode, key, (inputs, None), context, progress, tamper)
}

/// The functional of all claims on a witness, over its cells.
fn whole(
    plan: &Plan,
    (functional, points): (&Functional, &Points<'_>),
    (leaves, factors): (&lookup::Leaves, [EF; 3]),
) -> Vec<Pack> {
    let mut out =
        lookup::gkr::with_capacity(1 << (plan.witness.log - WIDTH.trailing_zeros() as usize));
    out.resize(out.capacity(), [Lane::ZERO; 5]);
    spread(functional, points, &plan.witness, &mut out);
    leaves.spread(plan, factors, &mut out);
    out
}

/// A stage's witness, committed.
enum Witness {
    Open(pcs::Committed),
    Hidden(pcs::hiding::Masked),
}

impl Witness {
    fn cells(&self) -> &[F] {
        match self {
            Self::Open(committed) => committed.cells(),
            Self::Hidden(masked) => masked.cells(),
        }
    }
}

/// Proves openly; the outputs may be said to be others than they are.
pub(crate) fn prove_tampered(
    key: &ProvingKey,
    inputs: &[Input],
    context: &[u8],
    progress: &mut dyn FnMut(Step),
    tamper: Tamper<'_>,
    outputs: Option<Vec<i32>>,
) -> Result<Proof, ProveError> {
    let mode = if key.committed.is_empty() {
        Mode::Direct
    } else {
        Mode::Committed
    };
    prove_in(mode, key, (inputs, outputs), context, progress, tamper)
}

/// Proves in a mode that the key allows.
pub(crate) fn prove_in(
    mode: Mode,
    key: &ProvingKey,
    (inputs, outputs): (&[Input], Option<Vec<i32>>),
    context: &[u8],
    progress: &mut dyn FnMut(Step),
    mut tamper: Tamper<'_>,
) -> Result<Proof, ProveError> {
    let hiding = mode == Mode::Hiding;
    progress(Step::Run);
    let structure = &key.key.structure;
    let (Some(first), Some(out_ty)) = (inputs.first(), structure.types.last()) else {
        return Err(ProveError::Runs("there is no run".into()));
    };
    if hiding && structure.is_generative() {
        return Err(ProveError::Runs("tokens can't be hidden".into()));
    }
    let seq = assay_graph::eval::check_input(&key.graph, &first.tensor).map_err(PlanError::from)?;
    let extent = Extent {
        seq,
        out: first.out,
    };
    if inputs
        .iter()
        .any(|i| i.tensor.dims != first.tensor.dims || i.out != first.out)
    {
        return Err(ProveError::Runs(
            "runs of one proof have the same number of positions".into(),
        ));
    }
    let integers: Vec<i32> = inputs.iter().flat_map(|i| i.tensor.data.to_i32()).collect();
    let samplings: Vec<Sampling> = inputs.iter().filter_map(|i| i.sampling.clone()).collect();
    let source = compile::Source {
        structure,
        consts: Some(key.graph.consts()),
        runs: inputs.len(),
        extent,
        inputs: Arc::new(integers),
        hidden: hiding,
        outputs: outputs.map(Arc::new),
        restless: &tamper.restless,
        samplings: &samplings,
    };
    let facts = Facts::Replay {
        facts: Arc::clone(&key.key.facts),
        next: 0,
    };
    let (compiled, restless) = source.settle(&facts)?;
    let Compiled {
        plan,
        data,
        outputs: computed,
        ..
    } = compiled;
    let (Some(mut data), Some(computed)) = (data, computed) else {
        return Err(ProveError::Runs("nothing was computed".into()));
    };
    let said = source.outputs.clone().unwrap_or(computed);
    let per_run = out_ty.len(extent);
    let runs = inputs
        .iter()
        .zip(said.chunks_exact(per_run))
        .map(|(i, o)| Run {
            input: if hiding {
                Vec::new()
            } else {
                i.tensor.data.to_bytes()
            },
            output: Data::from_i32(out_ty.dtype, o)
                .map(|d| d.to_bytes())
                .unwrap_or_default(),
            sampling: i.sampling.as_ref().map_or_else(Vec::new, Sampling::encode),
        });
    let runs: Vec<Run> = runs.collect();
    let each = inputs.iter().zip(said.chunks_exact(per_run)).zip(&runs);
    for ((input, answer), run) in each {
        check_sampling(
            structure,
            &run.sampling,
            &input.tensor.data.to_i32(),
            answer,
        )
        .map_err(|why| ProveError::Runs(why.into()))?;
    }
    let stage = match tamper.stage {
        Some(stage) => stage,
        None if hiding => cost::fits(&plan, key.memory).map(|()| 0)?,
        None => cost::choose(&plan, key.memory)?,
    };
    let statement = Statement {
        mode,
        model_id: key.key.model_id,
        key_id: if mode == Mode::Direct {
            [0; 32]
        } else {
            key.key.id()
        },
        seq,
        out: first.out,
        restless,
        stage,
        runs,
        context: context.to_vec(),
    };
    if let Some(lie) = &mut tamper.columns {
        lie(&plan, &mut data);
    }

    progress(Step::Commit);
    let shards = Shards::new(&plan.weights);
    let stages = Stages::new(plan, statement.stage as usize)?;
    let mut data = stages.distribute(data);
    if let Some(lie) = &mut tamper.stages {
        lie(&stages, &mut data);
    }
    let pieces: &[usize] = if mode == Mode::Direct {
        &[]
    } else {
        &shards.logs
    };
    budget::of_stages(&stages, pieces)
        .check()
        .map_err(ProveError::Budget)?;
    let start = proof::transcript(&statement, &key.key, &stages);
    let mut sender = Sender::new(start.clone(), tamper.messages);
    // all stages are committed before anything is drawn; of several, each is committed again when its turn comes
    let mut kept = None;
    let mut counts = Vec::with_capacity(stages.plans.len());
    for (plan, data) in stages.plans.iter().zip(&data) {
        let mut found = match lookup::multiplicities(plan, data) {
            Ok(found) => found,
            Err(_) if tamper.columns.is_some() => vec![0; 1 << plan.table_log],
            Err(column) => {
                return Err(ProveError::Runs(format!(
                    "column {column} has a cell outside its table"
                )));
            }
        };
        if let Some(lie) = &mut tamper.counts {
            lie(&mut found);
        }
        let cells = cells(plan, data, &found);
        let witness = if hiding {
            let mut random = hidden::random(&statement, inputs.iter().map(|i| &i.tensor))?;
            let (masked, mut pads) = hidden::conceal(plan, cells, &mut random)?;
            let [root, mask] = masked.roots();
            proof::send_root(&mut sender, proof::WITNESS, &root);
            proof::send_root(&mut sender, proof::MASK, &mask);
            if let Some(lie) = &mut tamper.pads {
                lie(&mut pads);
            }
            sender.hide(pads);
            Witness::Hidden(masked)
        } else {
            let committed = pcs::commit(plan.witness.log, cells, Side::Witness)?;
            proof::send_root(&mut sender, proof::WITNESS, &committed.root());
            Witness::Open(committed)
        };
        kept = (stages.plans.len() == 1).then_some(witness);
        counts.push(found);
    }
    let point = links::point(&stages, &mut sender);
    let values = link_values(&stages, &data, &point);
    sender.send(links::LABEL, &values);
    let links = Links::new(point, values);

    let weights = Held {
        key,
        shards: &shards,
    };
    let mut claimed = Vec::with_capacity(stages.plans.len());
    for (stage, plan) in stages.plans.iter().enumerate() {
        let data = std::mem::take(&mut data[stage]);
        let witness = match kept.take() {
            Some(witness) => witness,
            None => {
                progress(Step::Commit);
                let cells = cells(plan, &data, &counts[stage]);
                Witness::Open(pcs::commit(plan.witness.log, cells, Side::Witness)?)
            }
        };
        progress(Step::Lookups);
        let looked = lookup::prove(plan, witness.cells(), &mut sender);

        progress(Step::Products);
        let prover = Prover {
            plan,
            data,
            weights,
        };
        let lengths = relations::random_lengths(plan);
        let random = lengths
            .iter()
            .map(|n| sender.transcript().challenges(*n))
            .collect();
        let powers = proof::powers(sender.transcript().challenge(), plan.relations.len());
        let mut points = Points::new(plan, random);
        let linear = relations::linear(&mut points, plan, &powers);
        let linear_witness = prover.of_columns(&points, &linear.witness);
        let linear_weights = weights.value(plan, &points, &linear.weights);
        let parts = [linear_witness, linear_weights];
        sender.send_where("linear parts", &parts, |i| i == 1);
        let instances = relations::instances(&mut points, plan, &powers);
        let last = prover.products(&mut points, &instances, &mut sender);
        let mut atoms = proof::atoms(&mut points, plan, &instances);
        drop(instances);
        let mut known = atoms.solve(&last);
        let missing = atoms
            .list
            .par_iter()
            .zip(&mut known)
            .filter(|(_, v)| v.is_none());
        missing.for_each(|(atom, v)| {
            let functional = atom.functional();
            *v = Some(if atom.weights {
                weights.value(plan, &points, &functional)
            } else {
                prover.of_columns(&points, &functional)
            });
        });
        let mut values: Vec<EF> = known.into_iter().flatten().collect();
        sender.send_where("operands", &values, |i| atoms.list[i].weights);
        links.claim(&stages, stage, &mut points, &mut atoms, &mut values);

        drop(prover);

        progress(Step::Witness);
        let committed = match witness {
            Witness::Open(committed) => committed,
            Witness::Hidden(masked) => {
                drop(points);
                let stage = (&stages, plan);
                claimed.push(hidden::finish(stage, start, masked, &mut sender)?);
                break;
            }
        };
        let gamma = sender.transcript().challenge();
        let claims = proof::claims(&atoms, &values, &linear, &parts, &looked, gamma);
        let leaves = (&looked.leaves, claims.lookup_factors);
        let functional = whole(plan, (&claims.witness, &points), leaves);
        let (point, _) = reduce::prove(
            "witness",
            claims.witness_value,
            functional,
            committed.cells(),
            &mut sender,
        );
        let opening = pcs::open(committed, &point, &mut sender.transcript)?;
        sender.send_section(&opening);
        claimed.push((claims.weights, claims.weights_value, points));
    }

    if mode != Mode::Direct {
        progress(Step::Weights);
        let mut value = EF::ZERO;
        let claims: Vec<OfWeights<'_>> = proof::factors(claimed.len(), &mut sender)
            .into_iter()
            .zip(claimed)
            .map(|(factor, (functional, part, points))| {
                value += factor * part;
                OfWeights {
                    factor,
                    functional,
                    points,
                }
            })
            .collect();
        // the first piece, which is the largest, is what the others leave
        let others = (1..shards.logs.len()).map(|shard| weights.of_piece(&claims, shard));
        let mut parts: Vec<EF> = std::iter::once(value).chain(others).collect();
        for i in 1..parts.len() {
            let part = parts[i];
            parts[0] -= part;
        }
        sender.send_open("pieces of the weights", &parts[..parts.len() - 1]);
        for (shard, (piece, part)) in key.committed.iter().zip(&parts).enumerate() {
            let (point, _) = weights::reduce(
                "weights",
                *part,
                &shards,
                shard,
                &claims,
                piece.cells(),
                &mut sender,
            );
            let opening = pcs::open(piece.clone(), &point, &mut sender.transcript)?;
            sender.send_section(&opening);
        }
    }
    Ok(Proof {
        statement,
        body: sender.bytes,
    })
}

/// A stage's columns and multiplicities in their places.
fn cells(plan: &Plan, data: &[Vec<i32>], counts: &[u32]) -> Vec<F> {
    let layout = &plan.witness;
    let mut cells = vec![F::ZERO; 1 << layout.log];
    for (id, column) in data.iter().enumerate() {
        layout.scatter(id, column, &mut cells, |v: i32| embed(i64::from(v)));
    }
    layout.scatter(plan.multiplicities(), counts, &mut cells, F::from_u32);
    cells
}
