//! A plan says what the prover commits to and what must hold of it. It follows from the graph's structure, the key's facts and the shapes of the runs alone: nothing in it comes from a proof.

pub(crate) mod block;
pub(crate) mod builder;
pub(crate) mod expr;
pub(crate) mod facts;
pub(crate) mod gadgets;
pub(crate) mod layout;
pub(crate) mod requant;
pub(crate) mod row;
pub(crate) mod stages;
pub(crate) mod value;
pub(crate) mod wide;

use std::sync::Arc;

use assay_graph::ConstId;

use self::{
    expr::{ColumnId, Relation},
    layout::Layout,
};
use crate::{error::PlanError, field::DEGREE, hiding, mle::log2_ceil, pcs, relations::Sizes};

/// Index of a table of the lookup argument.
pub(crate) type TableId = usize;

/// Rows that a cell (and its partner) may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// Keys `0 … len − 1`, no value.
    Range { len: usize },
    /// Key `i` has value `values[i]`.
    Function { values: Arc<Vec<i32>> },
    /// Keys `0 … 2^b − 1` with value b, for b in `0 ..= bits`: a range that depends on a cell.
    Widths { bits: u8 },
    /// Keys r with `|r| < 2^e`, for e in `0 ..= bits`, with value `4e + o`: o in −1, 0, 1 is what r adds to a quotient by 2^e that is rounded to the nearest, halves up.
    Rounding { bits: u8 },
}

/// A table, and what is added to a cell to make its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) table: TableId,
    pub(crate) offset: i64,
}

/// Which table a cell is looked up in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// All cells of the column in one.
    One(Choice),
    /// By the index along an axis.
    Axis {
        axis: usize,
        choices: Arc<Vec<Choice>>,
    },
}

/// What makes a cell of a column legal. Every committed cell is in exactly one lookup, but for copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Cell plus offset is a key of the table.
    Key(Tables),
    /// The cell is the value that belongs to the key column's cell at the same place.
    Value { key: ColumnId },
    /// The cell is that of a column of another stage, where it is in a lookup.
    Copy,
}

/// A committed tensor.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) shape: Vec<usize>,
    pub(crate) cell: Cell,
    /// The column that holds the values that belong to these keys.
    pub(crate) partner: Option<ColumnId>,
    /// Node that it belongs to.
    pub(crate) node: u32,
    /// Operator that it belongs to.
    #[cfg(test)]
    pub(crate) op: &'static str,
}

/// Which part of a constant a weight tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// `[rows, cols]` of weights, blocks (as integers) or rows.
    Values,
    /// `[rows]` of weights and blocks, `[n]` of a norm.
    Bias,
    /// `[n]` of a norm.
    Gain,
}

/// A committed tensor of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) constant: ConstId,
    pub(crate) part: Part,
    pub(crate) shape: Vec<usize>,
}

/// A tensor the verifier knows.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Arc<Vec<i32>>,
}

/// What is proven about a run, and where everything lies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) columns: Vec<Column>,
    pub(crate) tables: Vec<Table>,
    pub(crate) weights: Vec<Weight>,
    pub(crate) publics: Vec<Public>,
    pub(crate) scales: Vec<Arc<Vec<i64>>>,
    pub(crate) relations: Vec<Relation>,
    /// Cells of the witness: all columns, then the multiplicities as one more tensor of `2^table_log`; of a hidden one also the pads' cells and those that make opened leaves random.
    pub(crate) witness: Layout,
    /// How many numbers can be hidden: none but in hiding mode.
    pub(crate) pads: usize,
    /// Leaves of the lookup argument: key columns from 0 on; the tables are the last `2^table_log` leaves.
    pub(crate) leaves: Layout,
    /// Tensor of `leaves` → column.
    pub(crate) leaf_columns: Vec<ColumnId>,
    pub(crate) table_log: usize,
    pub(crate) leaf_log: usize,
}

impl Table {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Range { len } => *len,
            Self::Function { values } => values.len(),
            Self::Widths { bits } => (2usize << bits) - 1,
            Self::Rounding { bits } => rounding_start(*bits + 1),
        }
    }

    /// Smallest and largest key.
    pub(crate) fn keys(&self) -> (i64, i64) {
        match self {
            Self::Range { len } => (0, *len as i64 - 1),
            Self::Function { values } => (0, values.len() as i64 - 1),
            Self::Widths { bits } => (0, (1 << bits) - 1),
            Self::Rounding { bits } => (1 - (1 << bits), (1 << bits) - 1),
        }
    }

    /// Smallest and largest value.
    pub(crate) fn images(&self) -> (i64, i64) {
        match self {
            Self::Range { .. } => (0, 0),
            Self::Function { values } => {
                let of = |v: Option<&i32>| v.map_or(0, |v| i64::from(*v));
                (of(values.iter().min()), of(values.iter().max()))
            }
            Self::Widths { bits } => (0, (*bits).into()),
            Self::Rounding { bits } => (-1, 4 * i64::from(*bits) + 1),
        }
    }

    /// Key and value of row `i`.
    pub(crate) fn row(&self, i: usize) -> (i64, i64) {
        match self {
            Self::Range { .. } => (i as i64, 0),
            Self::Function { values } => (i as i64, i64::from(values[i])),
            Self::Widths { .. } => {
                let bits = (i + 1).ilog2();
                ((i + 1 - (1usize << bits)) as i64, i64::from(bits))
            }
            Self::Rounding { bits } => {
                let e = (1..=*bits).rev().find(|e| rounding_start(*e) <= i);
                let e = e.unwrap_or(0);
                let key = (i - rounding_start(e)) as i64 - (1i64 << e) + 1;
                (key, rounding_value(key, e))
            }
        }
    }

    /// Row of a key and its value, if there is one.
    pub(crate) fn find(&self, key: i64, value: i64) -> Option<usize> {
        if let Self::Rounding { bits } = self {
            let e = u8::try_from((value + 1) >> 2).ok().filter(|e| e <= bits)?;
            let i = usize::try_from(key + (1i64 << e) - 1).ok()?;
            let known = i < (2 << e) - 1 && rounding_value(key, e) == value;
            return known.then_some(rounding_start(e) + i);
        }
        let i = usize::try_from(key).ok()?;
        match self {
            Self::Range { len } => (i < *len && value == 0).then_some(i),
            Self::Function { values } => {
                (values.get(i).map(|v| i64::from(*v)) == Some(value)).then_some(i)
            }
            Self::Widths { bits } => {
                let b = u8::try_from(value).ok().filter(|b| b <= bits)?;
                (i < 1 << b).then_some((1usize << b) - 1 + i)
            }
            Self::Rounding { .. } => None,
        }
    }
}

/// Rows of a rounding table before those of exponent `e`.
const fn rounding_start(e: u8) -> usize {
    (2 << e) - 2 - e as usize
}

/// `4e + o` of a rest.
pub(crate) const fn rounding_value(key: i64, e: u8) -> i64 {
    let half = (1i64 << e) >> 1;
    let add = if e == 0 {
        0
    } else if key >= half {
        1
    } else if key < -half {
        -1
    } else {
        0
    };
    4 * e as i64 + add
}

/// What distinguishes the rows of table `id` from those of others; not 0.
pub(crate) const fn tag(id: TableId) -> u32 {
    id as u32 + 1
}

impl Plan {
    /// First row of each table among all rows.
    pub(crate) fn table_starts(&self) -> Vec<usize> {
        self.tables
            .iter()
            .scan(0, |next, t| {
                let start = *next;
                *next += t.len();
                Some(start)
            })
            .collect()
    }

    /// Lays out what a builder has collected.
    pub(crate) fn arrange(mut self, min_log: usize) -> Self {
        let rows: usize = self.tables.iter().map(Table::len).sum();
        self.table_log = log2_ceil(rows);
        self.witness = Layout::new(self.shapes(), min_log);
        self.leaf_columns = (0..self.columns.len())
            .filter(|c| matches!(self.columns[*c].cell, Cell::Key(_)))
            .collect();
        let keys = self
            .leaf_columns
            .iter()
            .map(|c| self.columns[*c].shape.clone())
            .collect();
        self.leaves = Layout::new(keys, 0);
        self.leaf_log = log2_ceil(self.leaves.cells + (1 << self.table_log)).max(1);
        self
    }

    /// Shapes of the columns, then of the multiplicities.
    fn shapes(&self) -> Vec<Vec<usize>> {
        let columns = self.columns.iter().map(|c| c.shape.clone());
        columns.chain([vec![1 << self.table_log]]).collect()
    }

    /// Makes room in the witness for what hides it.
    ///
    /// # Errors
    /// [`PlanError::Size`] for a hidden witness without parameters.
    pub(crate) fn hide(mut self) -> Result<Self, PlanError> {
        self.pads = hiding::numbers(&self, &Sizes::new(&self));
        // how many cells are random depends on the size, and the size on them
        let mut log = self.witness.log.max(pcs::hiding::MIN_LOG);
        loop {
            let random = pcs::hiding::random_cells(log)?;
            let mut shapes = self.shapes();
            shapes.push(vec![DEGREE * self.pads]);
            shapes.push(vec![random.next_power_of_two()]);
            self.witness = Layout::new(shapes, log);
            if self.witness.log == log {
                return Ok(self);
            }
            log = self.witness.log;
        }
    }

    /// The tensor of the witness that holds the multiplicities.
    pub(crate) fn multiplicities(&self) -> usize {
        self.columns.len()
    }

    /// The tensor of a hidden witness that holds the pads, five cells each.
    pub(crate) fn pad_tensor(&self) -> usize {
        self.columns.len() + 1
    }

    /// Where the random cells of a hidden witness begin, a multiple of the power of two above their number.
    pub(crate) fn random_cells(&self) -> usize {
        let tiles = self.witness.of_tensor.get(self.columns.len() + 2);
        tiles.map_or(0, |t| self.witness.tiles[t[0]].offset)
    }
}
