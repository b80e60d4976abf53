//! A plan in stages: runs of consecutive nodes, each with a witness of its own, so that a prover needs memory for one stage at a time and pads each to a power of two of its own.
//!
//! A column belongs to the stage of its node. A stage that reads a column of another one has a copy of it, which no table holds: home and copies are committed before a point is drawn at which all
//! of them must have one value (a *link*), so they are the same vector except with the error of one evaluation. Cuts follow from the plan and one number in the statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Cell, Choice, Column, Plan, Table, TableId, Tables,
    expr::{ColumnId, Operand, Relation, Term, View},
};
use crate::{compile::limit, error::PlanError, mle::log2_ceil, params::MIN_LOG};

/// Most stages of a proof.
pub(crate) const MAX_STAGES: usize = 64;

/// Logarithm of the most fractions of a stage: multiplicities can't wrap, and the fingerprints' error stays far below the others.
const MOST_LOOKUPS: usize = 28;

/// A column that several stages have.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) shape: Vec<usize>,
    /// Stage and column there: where it belongs first, then its copies.
    pub(crate) ends: Vec<(usize, ColumnId)>,
}

/// A plan in stages.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    pub(crate) plans: Vec<Plan>,
    pub(crate) links: Vec<Link>,
    /// For each stage the column of the whole plan that each of its columns is.
    pub(crate) columns: Vec<Vec<ColumnId>>,
}

impl Stages {
    /// Cuts a plan so that the columns of a stage have at most `most` cells, unless one node alone has more; 0 for one stage.
    ///
    /// # Errors
    /// [`PlanError::Size`] for more than [`MAX_STAGES`] stages.
    pub(crate) fn new(plan: Plan, most: usize) -> Result<Self, PlanError> {
        let homes = homes(&plan, most);
        let count = homes.iter().max().map_or(1, |last| last + 1);
        if count > MAX_STAGES {
            return Err(PlanError::Size {
                what: "stages",
                have: log2_ceil(count) as u32,
                limit: log2_ceil(MAX_STAGES) as u32,
            });
        }
        let stages = if count == 1 {
            Self {
                columns: vec![(0..plan.columns.len()).collect()],
                plans: vec![plan],
                links: Vec::new(),
            }
        } else {
            split(&plan, &homes, count)
        };
        for plan in &stages.plans {
            limit("lookups", 1 << plan.leaf_log, MOST_LOOKUPS)?;
        }
        Ok(stages)
    }

    /// The least number of cells for which [`Self::new`] makes at most `count` stages.
    pub(crate) fn least(plan: &Plan, count: usize) -> usize {
        let total: usize = plan.columns.iter().map(cells).sum();
        let (mut low, mut high) = (total / count.max(1), total.max(1));
        while low + 1 < high {
            let middle = low.midpoint(high);
            let stages = homes(plan, middle).iter().max().map_or(1, |last| last + 1);
            if stages <= count {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// The cells of each stage's columns, from those of the whole plan.
    pub(crate) fn distribute(&self, mut data: Vec<Vec<i32>>) -> Vec<Vec<Vec<i32>>> {
        let is_copy = |stage: usize, column: ColumnId| {
            matches!(self.plans[stage].columns[column].cell, Cell::Copy)
        };
        let mut out: Vec<Vec<Vec<i32>>> = Vec::with_capacity(self.plans.len());
        for (stage, ids) in self.columns.iter().enumerate() {
            let copies = ids.iter().enumerate();
            let of = |(new, old): (usize, &ColumnId)| {
                if is_copy(stage, new) {
                    data[*old].clone()
                } else {
                    Vec::new()
                }
            };
            out.push(copies.map(of).collect());
        }
        for (stage, (ids, out)) in self.columns.iter().zip(&mut out).enumerate() {
            for (new, old) in ids.iter().enumerate() {
                if !is_copy(stage, new) {
                    out[new] = std::mem::take(&mut data[*old]);
                }
            }
        }
        out
    }

    /// Rows of the tables of all stages.
    pub(crate) fn rows(&self) -> usize {
        let tables = self.plans.iter().flat_map(|p| &p.tables);
        tables.map(Table::len).sum()
    }

    /// Lengths of the points of all links: for each axis the most coordinates.
    pub(crate) fn link_lengths(&self) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for link in &self.links {
            for (axis, n) in link.shape.iter().enumerate() {
                if all.len() <= axis {
                    all.push(0);
                }
                all[axis] = all[axis].max(log2_ceil(*n));
            }
        }
        all
    }
}

/// Cells of a column.
fn cells(column: &Column) -> usize {
    column.shape.iter().product()
}

/// The stage of each column.
fn homes(plan: &Plan, most: usize) -> Vec<usize> {
    let home = |c: &Column| match c.cell {
        // values stay with their keys
        Cell::Value { key } => plan.columns[key].node,
        _ => c.node,
    };
    if most == 0 {
        return vec![0; plan.columns.len()];
    }
    let mut of_node: BTreeMap<u32, usize> = BTreeMap::new();
    for column in &plan.columns {
        *of_node.entry(home(column)).or_default() += cells(column);
    }
    let (mut stage, mut sum) = (0, 0);
    let mut stages: HashMap<u32, usize> = HashMap::new();
    for (node, n) in of_node {
        if sum > 0 && sum + n > most {
            (stage, sum) = (stage + 1, 0);
        }
        sum += n;
        stages.insert(node, stage);
    }
    plan.columns.iter().map(|c| stages[&home(c)]).collect()
}

/// The stage of a relation: the last one of which it reads a column.
fn stage_of(relation: &Relation, homes: &[usize]) -> usize {
    columns(relation).map(|c| homes[c]).max().unwrap_or(0)
}

/// The columns that a relation reads.
fn columns(relation: &Relation) -> impl Iterator<Item = ColumnId> {
    let views = relation.terms.iter().flat_map(|t| match t {
        Term::Constant { .. } => [None, None],
        Term::Linear { view, .. } => [Some(view), None],
        Term::Product { a, b, .. } => [Some(a), Some(b)],
    });
    let reads = views.flatten().flat_map(|v| &v.terms);
    reads.filter_map(|(_, read)| match read.operand {
        Operand::Column(id) => Some(id),
        _ => None,
    })
}

fn split(plan: &Plan, homes: &[usize], count: usize) -> Stages {
    let of_relation: Vec<usize> = plan.relations.iter().map(|r| stage_of(r, homes)).collect();
    let mut copies = vec![BTreeSet::new(); count];
    for (relation, stage) in plan.relations.iter().zip(&of_relation) {
        copies[*stage].extend(columns(relation).filter(|c| homes[*c] != *stage));
    }
    let columns: Vec<Vec<ColumnId>> = copies
        .iter()
        .enumerate()
        .map(|(stage, copies)| {
            let own = (0..homes.len()).filter(|c| homes[*c] == stage);
            own.chain(copies.iter().copied()).collect()
        })
        .collect();
    let mut places: BTreeMap<ColumnId, Vec<(usize, ColumnId)>> = BTreeMap::new();
    let mut plans = Vec::with_capacity(count);
    for (stage, ids) in columns.iter().enumerate() {
        let here: HashMap<ColumnId, ColumnId> = ids
            .iter()
            .enumerate()
            .map(|(new, old)| (*old, new))
            .collect();
        for (old, new) in &here {
            if homes[*old] == stage {
                places.entry(*old).or_default().insert(0, (stage, *new));
            } else {
                places.entry(*old).or_default().push((stage, *new));
            }
        }
        let relations = plan.relations.iter().zip(&of_relation);
        let relations = relations
            .filter(|(_, s)| **s == stage)
            .map(|(r, _)| renamed(r, &here))
            .collect();
        let mut tables = Chosen::new(&plan.tables);
        let columns = ids
            .iter()
            .map(|old| {
                let c = &plan.columns[*old];
                if homes[*old] != stage {
                    return Column {
                        cell: Cell::Copy,
                        partner: None,
                        ..c.clone()
                    };
                }
                let cell = match &c.cell {
                    Cell::Key(t) => Cell::Key(tables.renamed(t)),
                    Cell::Value { key } => Cell::Value { key: here[key] },
                    Cell::Copy => Cell::Copy,
                };
                Column {
                    cell,
                    partner: c.partner.map(|p| here[&p]),
                    ..c.clone()
                }
            })
            .collect();
        let part = Plan {
            columns,
            tables: tables.chosen,
            weights: plan.weights.clone(),
            publics: plan.publics.clone(),
            scales: plan.scales.clone(),
            relations,
            ..Plan::default()
        };
        plans.push(part.arrange(MIN_LOG));
    }
    let links = places
        .into_iter()
        .filter(|(_, ends)| ends.len() > 1)
        .map(|(id, mut ends)| {
            ends[1..].sort_unstable();
            Link {
                shape: plan.columns[id].shape.clone(),
                ends,
            }
        })
        .collect();
    Stages {
        plans,
        links,
        columns,
    }
}

/// The tables that a stage's columns are looked up in.
struct Chosen<'a> {
    all: &'a [Table],
    chosen: Vec<Table>,
    ids: HashMap<TableId, TableId>,
}

impl<'a> Chosen<'a> {
    fn new(all: &'a [Table]) -> Self {
        Self {
            all,
            chosen: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn choice(&mut self, choice: Choice) -> Choice {
        let table = *self.ids.entry(choice.table).or_insert_with(|| {
            self.chosen.push(self.all[choice.table].clone());
            self.chosen.len() - 1
        });
        Choice { table, ..choice }
    }

    fn renamed(&mut self, tables: &Tables) -> Tables {
        match tables {
            Tables::One(choice) => Tables::One(self.choice(*choice)),
            Tables::Axis { axis, choices } => Tables::Axis {
                axis: *axis,
                choices: choices
                    .iter()
                    .map(|c| self.choice(*c))
                    .collect::<Vec<_>>()
                    .into(),
            },
        }
    }
}

/// A relation whose columns have the numbers that they have in a stage.
fn renamed(relation: &Relation, here: &HashMap<ColumnId, ColumnId>) -> Relation {
    let view = |v: &mut View| {
        for (_, read) in &mut v.terms {
            if let Operand::Column(id) = &mut read.operand {
                *id = here[id];
            }
        }
    };
    let mut out = relation.clone();
    for term in &mut out.terms {
        match term {
            Term::Constant { .. } => {}
            Term::Linear { view: v, .. } => view(v),
            Term::Product { a, b, .. } => {
                view(a);
                view(b);
            }
        }
    }
    out
}
