//! Collects columns, tables and relations while operators state what they need; on the prover's side with the integers of the columns.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use assay_graph::ConstId;

use super::{
    Cell, Choice, Column, Part, Plan, Public, Table, TableId, Tables, Weight,
    expr::{Affine, ColumnId, Operand, PublicId, Read, Relation, ScaleId, Term, View, WeightId},
    facts::Facts,
    gadgets::Ranged,
};
use crate::error::PlanError;

/// Work that a verifier does where nothing else is said, see [`Builder::spend`]: a few seconds, and 1.3 GiB.
pub const WORK: u64 = 1 << 26;

/// How large the lookup tables may be; decides how many cells a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A range of up to `2^limb` values is one cell.
    pub(crate) limb: u8,
    /// Functions of up to so many rows are tables.
    pub(crate) function: usize,
    /// Whether the node is planned for a run in which no clamp of it acts and its carries are short: that needs fewer cells, and says the same.
    pub(crate) calm: bool,
}

impl Limits {
    /// For a run of about `values` elements of nodes: tables should cost no more than what is looked up in them.
    pub(crate) fn for_values(values: usize) -> Self {
        let log = values.max(1).ilog2() as u8;
        Self {
            limb: log.saturating_sub(2).clamp(8, 16),
            function: 1 << log.clamp(13, 18),
            calm: false,
        }
    }
}

/// A lie of a test: what is claimed, at which node (else at all), for which element, and how much is added.
#[cfg(test)]
pub(crate) type Lie = (&'static str, Option<u32>, usize, i64);

#[cfg(test)]
thread_local! {
    /// What a test's prover lies about.
    pub(crate) static LIES: std::cell::RefCell<Vec<Lie>> =
        const { std::cell::RefCell::new(Vec::new()) };
}

/// Where an operator states what must hold.
pub(crate) struct Builder {
    pub(crate) facts: Facts,
    pub(crate) limits: Limits,
    /// Node and operator that are being planned, for errors.
    pub(crate) node: u32,
    pub(crate) op: &'static str,
    /// Cells of the columns, on the prover's side.
    pub(crate) data: Option<Vec<Vec<i32>>>,
    columns: Vec<Column>,
    tables: Vec<Table>,
    table_ids: HashMap<Table, TableId>,
    weights: Vec<Weight>,
    weight_ids: HashMap<(ConstId, Part), WeightId>,
    publics: Vec<Public>,
    scales: Vec<Arc<Vec<i64>>>,
    relations: Vec<Relation>,
    one: Option<PublicId>,
    /// How many nodes need the table of the one that is being planned.
    pub(crate) alike: usize,
    /// Nodes whose value is already that of the table behind them.
    pub(crate) applied: HashSet<u32>,
    /// Unit vectors of norms so far: by input, whether it is centred, and epsilon.
    pub(crate) units: HashMap<(u32, bool, u64), Ranged>,
    /// Nodes that are not as calm as they were planned.
    pub(crate) restless: Vec<u32>,
    /// What the verifier may be made to go through, and what it is so far: rows of tables, elements of vectors and lists that it makes.
    pub(crate) work: u64,
    spent: u64,
    /// Why there is no plan, if that is known already.
    pub(crate) failed: Option<PlanError>,
    /// Columns and those of their low limbs.
    pub(crate) low_of: HashMap<ColumnId, ColumnId>,
    /// Rows of a node by the exponent for some bits.
    pub(crate) blocks: HashMap<(u32, u8), Ranged>,
}

impl Builder {
    /// An empty plan; `prover` keeps the integers too.
    pub(crate) fn new(facts: Facts, limits: Limits, prover: bool) -> Self {
        Self {
            facts,
            limits,
            node: 0,
            op: "",
            data: prover.then(Vec::new),
            columns: Vec::new(),
            tables: Vec::new(),
            table_ids: HashMap::new(),
            weights: Vec::new(),
            weight_ids: HashMap::new(),
            publics: Vec::new(),
            scales: Vec::new(),
            relations: Vec::new(),
            one: None,
            alike: 1,
            applied: HashSet::new(),
            units: HashMap::new(),
            restless: Vec::new(),
            work: WORK,
            spent: 0,
            failed: None,
            low_of: HashMap::new(),
            blocks: HashMap::new(),
        }
    }

    /// The plan, laid out; the columns' cells and the facts.
    pub(crate) fn finish(self, min_log: usize) -> (Plan, Option<Vec<Vec<i32>>>, Facts) {
        let plan = Plan {
            columns: self.columns,
            tables: self.tables,
            weights: self.weights,
            publics: self.publics,
            scales: self.scales,
            relations: self.relations,
            ..Plan::default()
        };
        (plan.arrange(min_log), self.data, self.facts)
    }

    /// What a prover claims. Whatever follows from it is computed from it; so a test that changes it here lies consistently.
    #[cfg_attr(
        not(test),
        allow(unused_variables, clippy::unused_self, reason = "for tests")
    )]
    pub(crate) fn claimed(&self, what: &'static str, ints: Option<Vec<i64>>) -> Option<Vec<i64>> {
        #[cfg(test)]
        let ints = ints.map(|mut v| {
            LIES.with_borrow(|lies| {
                let here = |l: &&Lie| l.0 == what && l.1.is_none_or(|n| n == self.node);
                for (_, _, at, add) in lies.iter().filter(here) {
                    if let Some(x) = v.get_mut(*at) {
                        *x += add;
                    }
                }
            });
            v
        });
        ints
    }

    pub(crate) fn unsupported(&self, why: impl Into<String>) -> PlanError {
        PlanError::Unsupported {
            node: self.node,
            op: self.op,
            why: why.into(),
        }
    }

    /// Notes whether the node is as calm as it is planned.
    pub(crate) fn stays_calm(&mut self, calm: bool) {
        if !calm && self.restless.last() != Some(&self.node) {
            self.restless.push(self.node);
        }
    }

    /// Checks that two expressions whose values differ by at most `span` are equal as integers when they are in the field.
    pub(crate) fn fits(&self, span: i64) -> Result<(), PlanError> {
        let limit = crate::field::MODULUS - 1;
        if span > limit {
            return Err(PlanError::Range {
                node: self.node,
                op: self.op,
                bound: span,
                limit,
            });
        }
        Ok(())
    }

    /// Counts work that is about to be done.
    ///
    /// # Errors
    /// [`PlanError::Work`] when there is too much of it.
    pub(crate) fn spend(&mut self, n: usize) -> Result<(), PlanError> {
        self.spent = self.spent.saturating_add(n as u64);
        if self.spent > self.work {
            return Err(PlanError::Work {
                need: self.spent,
                limit: self.work,
            });
        }
        Ok(())
    }

    /// As [`Self::spend`], where the plan goes on: it is refused with its node.
    fn must_spend(&mut self, n: usize) {
        if let Err(e) = self.spend(n) {
            self.failed.get_or_insert(e);
        }
    }

    /// As [`Self::fits`], where the plan goes on: it is refused in the end.
    pub(crate) fn must_fit(&mut self, span: i64) {
        if let Err(e) = self.fits(span) {
            self.failed.get_or_insert(e);
        }
    }

    pub(crate) fn table(&mut self, table: Table) -> TableId {
        if let Some(id) = self.table_ids.get(&table) {
            return *id;
        }
        let id = self.tables.len();
        self.must_spend(table.len());
        self.tables.push(table.clone());
        self.table_ids.insert(table, id);
        id
    }

    fn push(&mut self, shape: &[usize], cell: Cell, data: Option<Vec<i32>>) -> ColumnId {
        let id = self.columns.len();
        self.columns.push(Column {
            shape: shape.to_vec(),
            cell,
            partner: None,
            node: self.node,
            #[cfg(test)]
            op: self.op,
        });
        if let Some(all) = &mut self.data {
            let data = data.unwrap_or_default();
            debug_assert_eq!(data.len(), shape.iter().product::<usize>());
            all.push(data);
        }
        id
    }

    /// A column whose cells are keys of tables without values.
    pub(crate) fn column(
        &mut self,
        shape: &[usize],
        tables: Tables,
        data: Option<Vec<i32>>,
    ) -> ColumnId {
        self.push(shape, Cell::Key(tables), data)
    }

    /// Two columns: keys and the values that belong to them.
    pub(crate) fn pair(
        &mut self,
        shape: &[usize],
        tables: Tables,
        keys: Option<Vec<i32>>,
        values: Option<Vec<i32>>,
    ) -> (ColumnId, ColumnId) {
        let key = self.push(shape, Cell::Key(tables), keys);
        let value = self.push(shape, Cell::Value { key }, values);
        self.columns[key].partner = Some(value);
        (key, value)
    }

    /// What a column is.
    pub(crate) fn column_of(&self, id: ColumnId) -> &Column {
        &self.columns[id]
    }

    /// Smallest and largest cell that a column can have, where one table holds them all.
    pub(crate) fn bounds_of(&self, id: ColumnId) -> Option<(i64, i64)> {
        match &self.columns[id].cell {
            Cell::Key(Tables::One(choice)) => {
                let table = &self.tables[choice.table];
                let (lo, hi) = table.keys();
                Some((lo - choice.offset, hi - choice.offset))
            }
            Cell::Value { key } => match &self.columns[*key].cell {
                Cell::Key(Tables::One(choice)) => Some(self.tables[choice.table].images()),
                _ => None,
            },
            Cell::Key(_) | Cell::Copy => None,
        }
    }

    /// Whether a column's cells are keys of one table without values.
    pub(crate) fn is_range(&self, id: ColumnId) -> bool {
        match &self.columns[id].cell {
            Cell::Key(Tables::One(choice)) => {
                matches!(self.tables[choice.table], Table::Range { .. })
            }
            _ => false,
        }
    }

    /// A view's integers over labels of these lengths, on the prover's side; none where it reads weights.
    pub(crate) fn evaluate(&self, view: &View, axes: &[usize]) -> Option<Vec<i64>> {
        let data = self.data.as_ref()?;
        let n = axes.iter().product();
        let mut out = vec![0i64; n];
        for (c, read) in &view.terms {
            let values: &[i32] = match read.operand {
                Operand::Column(id) => &data[id],
                Operand::Public(id) => &self.publics[id].data,
                Operand::Weight(_) => return None,
            };
            let shape = self.shape(read.operand);
            let mut labels = vec![0usize; axes.len()];
            for o in &mut out {
                let mut at = Some(0);
                for (index, n) in read.indices.iter().zip(shape) {
                    at = at
                        .zip(index.at(&labels).filter(|i| i < n))
                        .map(|(at, i)| at * n + i);
                }
                *o += at.map_or(0, |at| c * i64::from(values[at]));
                for (l, n) in labels.iter_mut().zip(axes).rev() {
                    *l += 1;
                    if *l < *n {
                        break;
                    }
                    *l = 0;
                }
            }
        }
        Some(out)
    }

    /// A tensor that the verifier knows.
    pub(crate) fn public_of(&self, id: PublicId) -> &Public {
        &self.publics[id]
    }

    /// Gives keys of one range without values a partner: the function of the key, by its values over the range.
    pub(crate) fn attach(&mut self, key: ColumnId, values: Vec<i32>) -> Option<ColumnId> {
        let column = &self.columns[key];
        let (Cell::Key(Tables::One(choice)), None) = (&column.cell, column.partner) else {
            return None;
        };
        let (choice, shape) = (*choice, column.shape.clone());
        if self.tables[choice.table] != (Table::Range { len: values.len() }) {
            return None;
        }
        let images = self.data.as_ref().map(|data| {
            let of = |v: &i32| {
                let at = usize::try_from(i64::from(*v) + choice.offset).ok();
                at.and_then(|at| values.get(at)).copied().unwrap_or(0)
            };
            data[key].iter().map(of).collect()
        });
        let table = self.table(Table::Function {
            values: Arc::new(values),
        });
        let value = self.push(&shape, Cell::Value { key }, images);
        self.columns[key].cell = Cell::Key(Tables::One(Choice { table, ..choice }));
        self.columns[key].partner = Some(value);
        Some(value)
    }

    /// A part of a constant, committed with the weights.
    pub(crate) fn weight(&mut self, constant: ConstId, part: Part, shape: &[usize]) -> View {
        let next = self.weights.len();
        let id = *self.weight_ids.entry((constant, part)).or_insert(next);
        if id == next {
            self.weights.push(Weight {
                constant,
                part,
                shape: shape.to_vec(),
            });
        }
        View::of(Operand::Weight(id), shape.len())
    }

    /// A tensor that the verifier knows.
    pub(crate) fn public(&mut self, shape: &[usize], data: Arc<Vec<i32>>) -> PublicId {
        self.must_spend(data.len());
        self.publics.push(Public {
            shape: shape.to_vec(),
            data,
        });
        self.publics.len() - 1
    }

    /// Dimensions of an operand.
    pub(crate) fn shape(&self, operand: Operand) -> &[usize] {
        match operand {
            Operand::Column(id) => &self.columns[id].shape,
            Operand::Weight(id) => &self.weights[id].shape,
            Operand::Public(id) => &self.publics[id].shape,
        }
    }

    /// The number 1, by which a product without a second factor sums a view.
    pub(crate) fn one(&mut self) -> View {
        let id = match self.one {
            Some(id) => id,
            None => self.public(&[1], Arc::new(vec![1])),
        };
        self.one = Some(id);
        View {
            terms: vec![(
                1,
                Read {
                    operand: Operand::Public(id),
                    indices: vec![Affine::fixed(0).into()],
                },
            )],
        }
    }

    /// A public vector of factors.
    pub(crate) fn scale(&mut self, factors: Vec<i64>) -> ScaleId {
        if let Some(id) = self.scales.iter().position(|s| **s == factors) {
            return id;
        }
        self.must_spend(factors.len());
        self.scales.push(Arc::new(factors));
        self.scales.len() - 1
    }

    /// States that the terms add up to 0 for all values of the output labels.
    pub(crate) fn relation(&mut self, label: &'static str, axes: &[usize], terms: Vec<Term>) {
        self.relations.push(Relation {
            label,
            node: self.node,
            axes: axes.to_vec(),
            terms,
        });
    }
}
