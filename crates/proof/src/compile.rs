//! From a graph and the shapes of runs to a plan.

use std::sync::Arc;

use assay_graph::{Const, Extent, Op, Sampling, Structure, TensorType};

use crate::{
    error::PlanError,
    ops::{self, Context},
    params::{MAX_LOG, MIN_LOG},
    plan::{
        Plan,
        builder::{Builder, Limits, WORK},
        expr::{Operand, Term, View},
        facts::Facts,
        layout::Layout,
    },
};

/// What is planned: a model, by its structure, and some runs of one shape.
pub(crate) struct Source<'a> {
    pub(crate) structure: &'a Structure,
    /// The constants, for whoever holds them; else facts must be replayed.
    pub(crate) consts: Option<&'a [Const]>,
    pub(crate) runs: usize,
    pub(crate) extent: Extent,
    /// Inputs of all runs after one another. A verifier has none of them in hiding mode.
    pub(crate) inputs: Arc<Vec<i32>>,
    /// Whether the runs are hidden: inputs are columns, and the plan must not depend on the runs.
    pub(crate) hidden: bool,
    /// Outputs of all runs; a prover may leave them out to learn them.
    pub(crate) outputs: Option<Arc<Vec<i32>>>,
    /// Nodes that are not planned as calm ones, see [`Limits`]; ascending.
    pub(crate) restless: &'a [u32],
    /// How the runs of a language model are sampled; none: the likeliest tokens.
    pub(crate) samplings: &'a [Sampling],
}

/// A plan and, on the prover's side, the cells of its columns.
pub(crate) struct Compiled {
    pub(crate) plan: Plan,
    pub(crate) data: Option<Vec<Vec<i32>>>,
    pub(crate) facts: Facts,
    /// The outputs, where they were computed.
    pub(crate) outputs: Option<Arc<Vec<i32>>>,
    /// Nodes that are not as calm as they were planned.
    pub(crate) restless: Vec<u32>,
    /// Integers of the nodes, where they were computed.
    #[cfg(test)]
    pub(crate) nodes: Vec<Option<Arc<Vec<i32>>>>,
}

impl Source<'_> {
    /// Plans for a prover, who learns from the run which nodes are not calm: nodes are planned as calm ones until the run shows otherwise. Returns those nodes too.
    pub(crate) fn settle(&self, facts: &Facts) -> Result<(Compiled, Vec<u32>), PlanError> {
        let mut restless = self.restless.to_vec();
        loop {
            let source = Source {
                inputs: Arc::clone(&self.inputs),
                outputs: self.outputs.clone(),
                restless: &restless,
                ..*self
            };
            let mut compiled = source.compile(facts.clone(), true)?;
            if compiled.restless.is_empty() {
                return Ok((compiled, restless));
            }
            restless.append(&mut compiled.restless);
            restless.sort_unstable();
            restless.dedup();
        }
    }

    /// Builds the plan; `prover` computes the columns' cells too.
    pub(crate) fn compile(&self, facts: Facts, prover: bool) -> Result<Compiled, PlanError> {
        self.compile_within(facts, prover, WORK)
    }

    /// As [`Self::compile`], if the plan's verifier has at most so much work.
    pub(crate) fn compile_within(
        &self,
        facts: Facts,
        prover: bool,
        work: u64,
    ) -> Result<Compiled, PlanError> {
        let Structure {
            nodes,
            types,
            kinds,
            ..
        } = self.structure;
        let values = types.iter().map(|t| t.len(self.extent)).sum::<usize>();
        let values = values.saturating_mul(self.runs);
        // a node's element is a cell at least, but for views: refused before anything of that size is made
        limit("witness", values / 4, MAX_LOG)?;
        let mut b = Builder::new(facts, Limits::for_values(values), prover);
        b.work = work;
        let mut ctx = Context {
            nodes,
            types,
            kinds,
            consts: self.consts,
            runs: self.runs,
            extent: self.extent,
            max_seq: self.structure.header.max_seq,
            outputs: self.outputs.clone(),
            samplings: self.samplings,
            values: Vec::with_capacity(nodes.len()),
        };
        for (i, node) in nodes.iter().enumerate() {
            b.limits.calm = !self.hidden && self.restless.binary_search(&(i as u32)).is_err();
            let value = match &node.op {
                Op::Input { ty } => {
                    if prover || !self.hidden {
                        check_inputs(&self.inputs, ty, self)?;
                    }
                    if self.hidden {
                        (b.node, b.op) = (i as u32, "input");
                        ops::hidden_input(&mut b, &ctx, ty, &self.inputs)?
                    } else {
                        ops::input(&mut b, &ctx, ty, Arc::clone(&self.inputs))
                    }
                }
                _ => ops::plan(&mut b, &ctx, i as u32)?,
            };
            if let Some(error) = b.failed.take() {
                return Err(error);
            }
            ctx.values.push(value);
        }
        let (Some(last), Some(ty)) = (ctx.values.last(), types.last()) else {
            return Err(PlanError::Key("the graph is empty".into()));
        };
        let computed = last.ints.clone();
        let outputs = self.outputs.clone().or_else(|| computed.clone());
        let outputs = outputs.unwrap_or_else(|| Arc::new(vec![0; ty.len(self.extent) * self.runs]));
        // integers that differ by p would be equal in the field
        if let Some(v) = self
            .outputs
            .iter()
            .flat_map(|o| o.iter())
            .find(|v| i64::from(**v) < last.lo || i64::from(**v) > last.hi)
        {
            return Err(PlanError::Output {
                value: *v,
                lo: last.lo,
                hi: last.hi,
            });
        }
        b.fits(last.hi - last.lo)?;
        let axes = last.factors();
        let public = b.public(&axes, outputs);
        let terms = vec![Term::linear(
            last.view
                .minus(&View::of(Operand::Public(public), axes.len())),
        )];
        b.relation("the statement's outputs", &axes, terms);
        let restless = std::mem::take(&mut b.restless);
        #[cfg(test)]
        let applied = b.applied.clone();
        let (mut plan, data, facts) = b.finish(MIN_LOG);
        for tile in Layout::new(plan.weights.iter().map(|w| w.shape.clone()).collect(), 0).tiles {
            limit("weights", 1 << tile.log, MAX_LOG)?;
        }
        if self.hidden {
            plan = plan.hide()?;
        }
        Ok(Compiled {
            #[cfg(test)]
            nodes: (0..)
                .zip(&ctx.values)
                .map(|(i, v)| v.ints.clone().filter(|_| !applied.contains(&i)))
                .collect(),
            restless,
            plan,
            data,
            facts,
            outputs: computed,
        })
    }
}

fn check_inputs(inputs: &[i32], ty: &TensorType, source: &Source<'_>) -> Result<(), PlanError> {
    let want = ty.len(source.extent) * source.runs;
    if inputs.len() != want {
        return Err(assay_graph::GraphError::Length {
            what: "inputs",
            want,
            have: inputs.len(),
        }
        .into());
    }
    match inputs.iter().find(|v| **v < ty.lo || **v > ty.hi) {
        Some(v) => Err(assay_graph::GraphError::Input(format!(
            "value {v} lies outside {} to {}",
            ty.lo, ty.hi
        ))
        .into()),
        None => Ok(()),
    }
}

/// Refuses sizes above `2^limit`.
pub(crate) fn limit(what: &'static str, size: usize, limit: usize) -> Result<(), PlanError> {
    let have = crate::mle::log2_ceil(size.min(1 << 62));
    if have > limit {
        return Err(PlanError::Size {
            what,
            have: have as u32,
            limit: limit as u32,
        });
    }
    Ok(())
}
