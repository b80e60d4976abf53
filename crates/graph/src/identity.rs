//! Roots and the model id.

use crate::{
    consts::Const,
    encode::Structure,
    node::{ConstId, Graph, SEMANTICS},
    trace::{Family, Hash, Tree, derive, leaf_hash},
};

/// Root over the canonical header and nodes.
pub fn graph_root(structure: &Structure) -> Hash {
    let mut leaves = vec![leaf_hash(Family::Graph, &structure.head_bytes())];
    leaves.extend(
        structure
            .nodes
            .iter()
            .map(|n| leaf_hash(Family::Graph, &Structure::node_bytes(n))),
    );
    Tree::new(Family::Graph, leaves).root()
}

/// `model id = H(version ∥ graphRoot ∥ nodeCount ∥ tablesRoot ∥ weightsRoot)`.
pub fn model_id(structure: &Structure, tables_root: &Hash, weights_root: &Hash) -> Hash {
    let count = structure.nodes.len() as u32;
    derive(
        "assay model id v1",
        &[
            &SEMANTICS.to_le_bytes(),
            &graph_root(structure),
            &count.to_le_bytes(),
            tables_root,
            weights_root,
        ],
    )
}

/// Trees over the rows of all constants and over the constants; what openings are cut from.
#[derive(Clone, Debug)]
pub struct ConstTrees {
    rows: Vec<Tree>,
    weights: Tree,
    tables: Tree,
    /// Index of each constant in its tree.
    index: Vec<u64>,
}

impl ConstTrees {
    /// Hashes all constants (once a model).
    pub fn new(consts: &[Const]) -> Self {
        let rows: Vec<Tree> = consts.iter().map(row_tree).collect();
        let (mut weights, mut tables, mut index) = (Vec::new(), Vec::new(), Vec::new());
        for (c, tree) in consts.iter().zip(&rows) {
            let list = if c.kind().is_table() {
                &mut tables
            } else {
                &mut weights
            };
            index.push(list.len() as u64);
            list.push(tree.root());
        }
        Self {
            rows,
            weights: Tree::new(Family::Constant, weights),
            tables: Tree::new(Family::Constant, tables),
            index,
        }
    }

    /// Root over all constants that are not tables.
    pub fn weights_root(&self) -> Hash {
        self.weights.root()
    }

    /// Root over all tables.
    pub fn tables_root(&self) -> Hash {
        self.tables.root()
    }

    /// Path of a row to its constant's root, and of that root to the weights' or tables' root.
    pub fn paths(
        &self,
        constant: ConstId,
        row: u32,
        is_table: bool,
    ) -> Option<(Vec<Hash>, Vec<Hash>)> {
        let tree = self.rows.get(constant as usize)?;
        let outer = if is_table {
            &self.tables
        } else {
            &self.weights
        };
        Some((
            tree.path(u64::from(row))?,
            outer.path(*self.index.get(constant as usize)?)?,
        ))
    }
}

fn row_tree(c: &Const) -> Tree {
    let leaves = (0..c.kind().rows())
        .filter_map(|r| c.row(r))
        .map(|bytes| leaf_hash(Family::Constant, bytes))
        .collect();
    Tree::new(Family::Constant, leaves)
}

/// The roots that a model is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The model id.
    pub model_id: Hash,
    /// Root over header and nodes.
    pub graph_root: Hash,
    /// Root over tables.
    pub tables_root: Hash,
    /// Root over all other constants.
    pub weights_root: Hash,
}

impl Graph {
    /// Roots and model id; hashes all constants.
    pub fn identity(&self) -> Identity {
        self.identity_with(&ConstTrees::new(&self.consts))
    }

    /// Roots and model id from trees made before.
    pub fn identity_with(&self, trees: &ConstTrees) -> Identity {
        let structure = self.structure();
        let (tables_root, weights_root) = (trees.tables_root(), trees.weights_root());
        Identity {
            model_id: model_id(&structure, &tables_root, &weights_root),
            graph_root: graph_root(&structure),
            tables_root,
            weights_root,
        }
    }

    /// The model id; hashes all constants.
    pub fn model_id(&self) -> Hash {
        self.identity().model_id
    }
}
