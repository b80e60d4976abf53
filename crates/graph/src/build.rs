//! Building a graph node by node, with names for error messages.

use crate::{
    bounds::{self, Facts},
    consts::{Const, ConstKind},
    error::GraphError,
    layout,
    node::{ConstId, Graph, Header, Node, NodeId, Op},
    shape::Checker,
    types::{DType, Data, TensorType},
};

/// One output row of a linear or conv2d.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightRow {
    /// Right shift of the accumulator, −15 … 31.
    pub shift: i8,
    /// Added to the accumulator.
    pub bias: i32,
    /// Weights, each within the constant's element type.
    pub values: Vec<i32>,
}

/// One output row of a `blocks` constant: `w = steps[g]·code + offsets[g]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// Right shift of the accumulator, −15 … 31.
    pub shift: i8,
    /// Added to the accumulator.
    pub bias: i32,
    /// One a group.
    pub steps: Vec<i16>,
    /// One a group; empty when they are `−step·2^(bits−1)`.
    pub offsets: Vec<i16>,
    /// One a column, each below `2^bits`.
    pub codes: Vec<u8>,
}

/// Collects nodes and constants; every [`push`](Self::push) is checked at once, bounds included, so that an importer can try, look at the error, and choose otherwise.
#[derive(Debug)]
pub struct GraphBuilder {
    header: Header,
    nodes: Vec<Node>,
    names: Vec<String>,
    consts: Vec<Const>,
    structural: Vec<TensorType>,
    facts: Facts,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            nodes: Vec::new(),
            names: Vec::new(),
            consts: Vec::new(),
            structural: Vec::new(),
            facts: Facts::default(),
        }
    }

    /// The input node. Always a checkpoint.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn input(&mut self, ty: TensorType) -> Result<NodeId, GraphError> {
        self.push("input", Op::Input { ty }, &[], true)
    }

    fn constant(&mut self, kind: ConstKind, bytes: Vec<u8>) -> Result<ConstId, GraphError> {
        let have = bytes.len();
        let constant = Const::new(kind, bytes.into()).ok_or(GraphError::Length {
            what: "constant",
            want: kind.total_bytes(),
            have,
        })?;
        self.consts.push(constant);
        Ok(self.consts.len() as ConstId - 1)
    }

    /// A `weights` constant; all rows have the same length.
    ///
    /// # Errors
    /// [`GraphError::Length`] for ragged or empty rows or values outside `dtype`.
    pub fn weights(&mut self, dtype: DType, rows: &[WeightRow]) -> Result<ConstId, GraphError> {
        let cols = rows.first().map_or(0, |r| r.values.len());
        let mut bytes = Vec::new();
        for row in rows {
            if row.values.len() != cols || cols == 0 {
                return Err(GraphError::Length {
                    what: "weight row",
                    want: cols.max(1),
                    have: row.values.len(),
                });
            }
            bytes.push(row.shift as u8);
            bytes.extend(row.bias.to_le_bytes());
            bytes.extend(narrow(dtype, &row.values, "weight row")?);
        }
        self.constant(
            ConstKind::Weights {
                rows: rows.len() as u32,
                cols: cols as u32,
                dtype,
            },
            bytes,
        )
    }

    /// A `blocks` constant of codes of `bits` bits (4, 5, 6 or 8) in groups of 16 or 32 columns; all rows alike.
    ///
    /// # Errors
    /// [`GraphError::Length`] for ragged rows, codes that are too wide, or other widths.
    pub fn blocks(
        &mut self,
        bits: u8,
        group: u8,
        rows: &[BlockRow],
    ) -> Result<ConstId, GraphError> {
        let cols = rows.first().map_or(0, |r| r.codes.len());
        let offsets = rows.first().is_some_and(|r| !r.offsets.is_empty());
        let kind = ConstKind::Blocks {
            rows: rows.len() as u32,
            cols: cols as u32,
            bits,
            group,
            offsets,
        };
        if !kind.is_possible() {
            return Err(GraphError::Length {
                what: "blocks (columns a multiple of 32; 4, 5, 6 or 8 bits; groups of 16 or 32)",
                want: cols.next_multiple_of(32).max(32),
                have: cols,
            });
        }
        let groups = cols / usize::from(group);
        let mut bytes = Vec::with_capacity(kind.total_bytes());
        for row in rows {
            let wide = row.codes.iter().filter(|c| u32::from(**c) >> bits != 0);
            for (what, want, have) in [
                ("codes of a row", cols, row.codes.len()),
                ("steps of a row", groups, row.steps.len()),
                (
                    "offsets of a row",
                    if offsets { groups } else { 0 },
                    row.offsets.len(),
                ),
                ("codes wider than their bits", 0, wide.count()),
            ] {
                if want != have {
                    return Err(GraphError::Length { what, want, have });
                }
            }
            bytes.push(row.shift as u8);
            bytes.extend(row.bias.to_le_bytes());
            for v in row.steps.iter().chain(&row.offsets) {
                bytes.extend(v.to_le_bytes());
            }
            if bits == 8 {
                bytes.extend(&row.codes);
                continue;
            }
            bytes.extend(
                row.codes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|[a, b]| (a & 15) | b << 4),
            );
            for plane in 4..bits {
                let bit = |c: &u8| c >> plane & 1;
                bytes.extend(
                    row.codes
                        .as_chunks::<8>()
                        .0
                        .iter()
                        .map(|c| c.iter().rev().fold(0u8, |byte, c| byte << 1 | bit(c))),
                );
            }
        }
        self.constant(kind, bytes)
    }

    /// A `rows` constant of `cols` columns.
    ///
    /// # Errors
    /// [`GraphError::Length`] when `values` is not a whole number of rows or a value does not fit.
    pub fn rows(
        &mut self,
        dtype: DType,
        cols: usize,
        values: &[i32],
    ) -> Result<ConstId, GraphError> {
        if cols == 0 || values.is_empty() || !values.len().is_multiple_of(cols) {
            return Err(GraphError::Length {
                what: "rows",
                want: cols,
                have: values.len(),
            });
        }
        let kind = ConstKind::Rows {
            rows: (values.len() / cols) as u32,
            cols: cols as u32,
            dtype,
        };
        self.constant(kind, narrow(dtype, values, "rows")?)
    }

    /// A `norm` constant: gain and bias of each channel.
    ///
    /// # Errors
    /// [`GraphError::Length`] when empty.
    pub fn norm(&mut self, params: &[(i16, i32)]) -> Result<ConstId, GraphError> {
        let bytes = params
            .iter()
            .flat_map(|(g, b)| g.to_le_bytes().into_iter().chain(b.to_le_bytes()))
            .collect();
        self.constant(
            ConstKind::Norm {
                n: params.len() as u32,
            },
            bytes,
        )
    }

    /// A `table` constant.
    ///
    /// # Errors
    /// [`GraphError::Length`] when a value does not fit.
    pub fn table(&mut self, dtype: DType, values: &[i32]) -> Result<ConstId, GraphError> {
        self.constant(
            ConstKind::Table {
                entries: values.len() as u32,
                dtype,
            },
            narrow(dtype, values, "table")?,
        )
    }

    /// Appends a node. The rule that non-checkpoints are read only inside their segment is checked by [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`GraphError::Node`], [`GraphError::Bound`], [`GraphError::Cap`], naming the node; the node is not added then.
    pub fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[NodeId],
        checkpoint: bool,
    ) -> Result<NodeId, GraphError> {
        let node = Node {
            op,
            inputs: inputs.to_vec(),
            checkpoint,
        };
        let index = self.nodes.len() as u32;
        let kinds: Vec<_> = self.consts.iter().map(Const::kind).collect();
        let checker = Checker {
            header: self.header,
            kinds: &kinds,
            types: &self.structural,
            index,
            name,
        };
        let (ty, cost) = checker.infer(&node)?;
        layout::check_caps(index, name, &cost)?;
        self.facts
            .step(self.header, &self.consts, name, &node, &ty)?;
        self.structural.push(ty);
        self.nodes.push(node);
        self.names.push(name.to_owned());
        Ok(index)
    }

    /// Output type of a node pushed before, with the range that any legal run stays in.
    pub fn type_of(&self, id: NodeId) -> Option<&TensorType> {
        self.facts.types.get(id as usize)
    }

    /// Marks a node as a checkpoint after the fact.
    pub fn checkpoint(&mut self, id: NodeId) {
        if let Some(n) = self.nodes.get_mut(id as usize) {
            n.checkpoint = true;
        }
    }

    /// Names given to the nodes so far.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The finished graph; its last node becomes a checkpoint.
    ///
    /// # Errors
    /// [`GraphError::Node`] when a node that is no checkpoint is read outside its segment.
    pub fn finish(mut self) -> Result<Graph, GraphError> {
        if let Some(last) = self.nodes.last_mut() {
            last.checkpoint = true;
        }
        Graph::new(self.header, self.nodes, self.consts, &self.names)
    }
}

fn narrow(dtype: DType, values: &[i32], what: &'static str) -> Result<Vec<u8>, GraphError> {
    if dtype == DType::I32 {
        return Err(GraphError::Length {
            what: "bytes of a constant's element (i8 or i16)",
            want: 2,
            have: 4,
        });
    }
    let fitting = values
        .iter()
        .filter(|v| bounds::fits(**v, **v, dtype))
        .count();
    Data::from_i32(dtype, values)
        .map(|d| d.to_bytes())
        .ok_or(GraphError::Length {
            what,
            want: values.len(),
            have: fitting,
        })
}
