//! What a proof takes before it is made, and into how many stages it is cut.

use std::sync::Arc;

use assay_graph::{Extent, Sampling};

use crate::{
    compile::Source,
    error::PlanError,
    key::Key,
    params::{Side, row},
    pcs::padded,
    plan::{Plan, Table, builder::WORK, expr::Term, facts::Facts, stages::Stages},
    shards::Shards,
    statement::Mode,
};

/// How large a proof's parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Stages that are proven one after another.
    pub stages: usize,
    /// Committed cells of the witnesses, before they are filled up to powers of two.
    pub cells: usize,
    /// Logarithm of the largest witness' size.
    pub witness_log: usize,
    /// Cells that are looked up.
    pub lookups: usize,
    /// Rows of all tables.
    pub rows: usize,
    /// Logarithm of the largest number of fractions that a stage's lookups sum up.
    pub leaf_log: usize,
    /// Relations.
    pub relations: usize,
    /// Products of two operands in them.
    pub products: usize,
    /// Elements of all products' sums.
    pub terms: usize,
    /// Committed cells of the weights.
    pub weights: usize,
    /// Bytes of a prover's key: the committed weights with their codewords and trees, and the graph's.
    pub key_memory: u64,
    /// Bytes that the stage takes which takes most, beside the key and `4·cells`.
    pub stage_memory: u64,
}

/// Elements of a stage's products' sums, and how many products there are.
fn products(plan: &Plan) -> (usize, usize) {
    let (mut products, mut terms) = (0, 0);
    for relation in &plan.relations {
        for term in &relation.terms {
            if let Term::Product { sums, a, b, .. } = term {
                products += 1;
                let lens = relation.axes.iter().chain(sums).enumerate();
                terms += lens
                    .filter(|(l, _)| a.mentions(*l) && b.mentions(*l))
                    .map(|(_, n)| n.next_power_of_two())
                    .product::<usize>();
            }
        }
    }
    (products, terms)
}

/// Bytes of `2^log` committed cells with their codeword and its tree.
fn committed(side: Side, log: usize) -> u64 {
    let rate = row(side, padded(log)).map_or(0, |row| row.rates[0]);
    (4 << log) + (5 << (log + usize::from(rate)))
}

/// Bytes that a key holds: the weights committed, and one more for each in the graph.
fn of_key(plan: &Plan) -> u64 {
    let shards = Shards::new(&plan.weights);
    let pieces = shards.logs.iter().map(|log| committed(Side::Weights, *log));
    pieces.sum::<u64>() + shards.layout.cells as u64
}

/// Bytes that proving a stage takes: the committed witness of `2^w` cells and the most of: fractions, 34 for each and 20 for each row of tables; products, 28 for each element; the functional of all
/// claims and the opening, `24·2^w`. A hidden cell takes [`HIDDEN_CELL`], most of it for its mask.
fn of_stage(plan: &Plan) -> u64 {
    let log = plan.witness.log;
    let lookups = (34 << plan.leaf_log) + (20 << plan.table_log);
    let products = 28 * products(plan).1 as u64;
    if plan.pads > 0 {
        return (HIDDEN_CELL << log) + lookups + products;
    }
    committed(Side::Witness, log) + lookups.max(products).max(24 << log)
}

/// That a plan in one stage fits `memory` bytes: hidden runs are not cut.
///
/// # Errors
/// [`PlanError::Memory`].
pub(crate) fn fits(plan: &Plan, memory: u64) -> Result<(), PlanError> {
    let stages = Stages::new(plan.clone(), 0)?;
    let need = Cost::of(&stages).memory();
    if need > memory {
        return Err(PlanError::Memory {
            need,
            limit: memory,
        });
    }
    Ok(())
}

impl Cost {
    pub(crate) fn of(stages: &Stages) -> Self {
        let plans = &stages.plans;
        let sum = |of: fn(&Plan) -> usize| plans.iter().map(of).sum();
        let most = |of: fn(&Plan) -> usize| plans.iter().map(of).max().unwrap_or(0);
        Self {
            stages: plans.len(),
            cells: sum(|p| p.witness.cells),
            witness_log: most(|p| p.witness.log),
            lookups: sum(|p| p.leaves.cells),
            rows: sum(|p| p.tables.iter().map(Table::len).sum()),
            leaf_log: most(|p| p.leaf_log),
            relations: sum(|p| p.relations.len()),
            products: sum(|p| products(p).0),
            terms: sum(|p| products(p).1),
            weights: plans
                .first()
                .map_or(0, |p| Shards::new(&p.weights).layout.cells),
            key_memory: plans.first().map_or(0, of_key),
            stage_memory: plans.iter().map(of_stage).max().unwrap_or(0),
        }
    }

    /// Peak memory of a prover, in bytes; an eighth is added for what is not counted and for gaps between allocations.
    pub fn memory(&self) -> u64 {
        let counted = self.stage_memory + 4 * self.cells as u64 + self.key_memory;
        counted + counted / 8
    }
}

/// Bytes for each cell of a hidden witness.
const HIDDEN_CELL: u64 = 160;

/// Cells below which a proof is never cut.
const SMALL: usize = 1 << 21;

/// What one more stage costs, in cells that are committed or looked up: openings, copies, tables that several stages have.
const STAGE: u64 = 1 << 19;

/// Most stages that are tried.
const TRIED: usize = 32;

/// The number that cuts a plan (see [`Stages::new`]) so that proving takes the least time within `memory` bytes.
///
/// # Errors
/// [`PlanError::Memory`] if no cut fits.
pub(crate) fn choose(plan: &Plan, memory: u64) -> Result<u32, PlanError> {
    let cells = plan.witness.cells;
    let mut best: Option<(u64, u32)> = None;
    let mut least = u64::MAX;
    let mut last = 0;
    for count in 1..=TRIED {
        let most = if count == 1 {
            0
        } else {
            Stages::least(plan, count)
        };
        let Ok(cut) = u32::try_from(most) else {
            continue;
        };
        let Ok(stages) = Stages::new(plan.clone(), most) else {
            break;
        };
        if stages.plans.len() <= last {
            continue;
        }
        last = stages.plans.len();
        let need = Cost::of(&stages).memory();
        least = least.min(need);
        let sizes = stages
            .plans
            .iter()
            .map(|p| (1 << p.leaf_log) + (1 << p.witness.log) + STAGE);
        let time: u64 = sizes.sum();
        let checkable = stages.rows() as u64 <= WORK;
        if checkable && need <= memory && best.is_none_or(|(t, _)| time < t) {
            best = Some((time, cut));
        }
        let fits = best.is_some();
        // more stages than this only add to the time
        if fits && (cells <= SMALL || best.is_some_and(|(t, _)| count as u64 * STAGE > t / 2)) {
            break;
        }
    }
    best.map(|(_, cut)| cut).ok_or(PlanError::Memory {
        need: least,
        limit: memory,
    })
}

impl Key {
    /// What a proof of `runs` runs of this size takes, if it may take `memory` bytes.
    ///
    /// # Errors
    /// [`PlanError`] when there can be none.
    pub fn cost(
        &self,
        mode: Mode,
        extent: Extent,
        runs: usize,
        memory: u64,
    ) -> Result<Cost, PlanError> {
        self.cost_of(mode, extent, runs, memory, (&[], &[]))
    }

    /// Whether a proof (in committed mode, within `memory` bytes) can be made of one run of this size, whatever its input is: also if every clamp of the model acts. For whoever owes a proof before the run is known.
    ///
    /// # Errors
    /// [`PlanError`] when there are runs without one.
    pub fn provable(
        &self,
        extent: Extent,
        sampling: Option<&Sampling>,
        memory: u64,
    ) -> Result<(), PlanError> {
        let every: Vec<u32> = (0..self.structure.nodes.len() as u32).collect();
        let samplings: Vec<Sampling> = sampling.cloned().into_iter().collect();
        for restless in [&[], &every[..]] {
            self.cost_of(Mode::Committed, extent, 1, memory, (restless, &samplings))?;
        }
        Ok(())
    }

    fn cost_of(
        &self,
        mode: Mode,
        extent: Extent,
        runs: usize,
        memory: u64,
        (restless, samplings): (&[u32], &[Sampling]),
    ) -> Result<Cost, PlanError> {
        let ty = self
            .structure
            .types
            .first()
            .ok_or_else(|| PlanError::Key("the graph is empty".into()))?;
        let source = Source {
            structure: &self.structure,
            consts: None,
            runs,
            extent,
            inputs: Arc::new(vec![ty.lo; ty.len(extent) * runs]),
            hidden: mode == Mode::Hiding,
            outputs: None,
            restless,
            samplings,
        };
        let facts = Facts::Replay {
            facts: Arc::clone(&self.facts),
            next: 0,
        };
        let plan = source.compile(facts, false)?.plan;
        let cut = match mode {
            Mode::Hiding => fits(&plan, memory).map(|()| 0)?,
            Mode::Committed | Mode::Direct => choose(&plan, memory)?,
        };
        Ok(Cost::of(&Stages::new(plan, cut as usize)?))
    }
}
