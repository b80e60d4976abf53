//! Merkle trees over Blake3 in the form in which WHIR asks for them.
//!
//! A first oracle is either a committed word, or a *line*: the word `w + ρ·g` of two committed words, `w` of base field cells and `g` of extension elements, which has no tree of its own.
//! A leaf of a line is the leaves of both at its position. WHIR sees a word over the base field: each element of the line as [`COMPONENTS`] cells, its coefficients and zeros.

use std::sync::Arc;

use p3_blake3::Blake3;
use p3_challenger::CanObserve;
use p3_commit::{BatchOpening, BatchOpeningRef, Mmcs};
use p3_field::{BasedVectorSpace, PrimeCharacteristicRing};
use p3_matrix::{Dimensions, Matrix};
use p3_maybe_rayon::prelude::*;
use p3_merkle_tree::{MerkleCap, MerkleTree, MerkleTreeMmcs, PrunedMerklePaths};
use p3_symmetric::{CompressionFunctionFromHasher, SerializingHasher};
use serde::{Deserialize, Serialize};

use super::{Root, sponge::OpeningChallenger};
use crate::field::{DEGREE, EF, F};

type Binary = MerkleTreeMmcs<
    F,
    u8,
    SerializingHasher<Blake3>,
    CompressionFunctionFromHasher<Blake3, 2, 32>,
    2,
    32,
>;

/// The digests that lead from opened leaves to a root.
pub(crate) type Pruned = PrunedMerklePaths<u8, 32>;

/// Logarithm of [`COMPONENTS`].
pub(crate) const COMPONENT_LOG: usize = 3;
/// Base field cells that stand for one extension element in WHIR's view of a line.
pub(crate) const COMPONENTS: usize = 1 << COMPONENT_LOG;
/// Base field cells behind an element of a line: the one of `w`, the coefficients of the one of `g`.
pub(crate) const SOURCES: usize = 1 + DEGREE;

/// A commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Oracle {
    /// One tree.
    Tree(Root),
    /// `w + ρ·g`.
    Line {
        /// Of `w` and `g`.
        roots: [Root; 2],
        /// `ρ`.
        rho: EF,
    },
}

impl Oracle {
    /// The roots of its trees.
    pub(crate) fn roots(&self) -> &[Root] {
        match self {
            Self::Tree(root) => std::slice::from_ref(root),
            Self::Line { roots, .. } => roots,
        }
    }
}

impl CanObserve<Oracle> for OpeningChallenger {
    fn observe(&mut self, oracle: Oracle) {
        self.observe(MerkleCap::<F, Root>::new(oracle.roots().to_vec()));
    }
}

/// A tree with its word. Shared: p3 consumes the data of a commitment when it opens it, and models are opened again and again.
pub(crate) type Tree<M> = Arc<MerkleTree<F, u8, M, 2, 32>>;

/// What a prover keeps of an oracle.
#[derive(Clone)]
pub(crate) enum Kept<M> {
    /// One tree.
    Tree(Tree<M>),
    /// `w + ρ·g`.
    Line {
        /// Of `w` and `g`.
        trees: [Tree<M>; 2],
        /// `ρ`.
        rho: EF,
    },
}

/// What authenticates opened leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Paths {
    /// One tree.
    Tree(Pruned),
    /// `w + ρ·g`.
    Line {
        /// Per leaf the cells of `w`, then those of `g`.
        leaves: Vec<Vec<F>>,
        /// In the trees of `w` and `g`.
        paths: [Pruned; 2],
    },
}

impl Paths {
    /// The digests, per tree.
    pub(crate) fn parts(&self) -> &[Pruned] {
        match self {
            Self::Tree(paths) => std::slice::from_ref(paths),
            Self::Line { paths, .. } => paths,
        }
    }
}

/// `X`, the element whose powers are the basis of the extension.
pub(crate) fn generator() -> EF {
    EF::from_basis_coefficients_fn(|i| F::from_bool(i == 1))
}

/// The coefficients of extension elements, followed by zeros, [`COMPONENTS`] cells each.
pub(crate) fn components(elements: &[EF]) -> Vec<F> {
    // elements that one thread does
    const PART: usize = 1 << 12;
    let mut out = F::zero_vec(elements.len() * COMPONENTS);
    let parts = out.par_chunks_mut(PART * COMPONENTS);
    parts
        .zip(elements.par_chunks(PART))
        .for_each(|(cells, elements)| spread(elements.iter().copied(), cells));
    out
}

fn spread(elements: impl Iterator<Item = EF>, cells: &mut [F]) {
    for (cells, element) in cells
        .as_chunks_mut::<COMPONENTS>()
        .0
        .iter_mut()
        .zip(elements)
    {
        cells[..DEGREE].copy_from_slice(element.as_basis_coefficients_slice());
    }
}

/// WHIR's view of a leaf of a line, given the cells of `w`, then those of `g`.
pub(crate) fn on_line(leaf: &[F], rho: EF) -> Vec<F> {
    let (w, g) = leaf.split_at(leaf.len() / SOURCES);
    let g = g.as_chunks::<DEGREE>().0;
    let points = w
        .iter()
        .zip(g)
        .map(|(w, g)| rho * EF::from_basis_coefficients_fn(|i| g[i]) + *w);
    let mut out = F::zero_vec(w.len() * COMPONENTS);
    spread(points, &mut out);
    out
}

/// Leaves that don't belong to an oracle.
#[derive(Debug)]
pub(crate) struct Refused;

/// Binary trees over Blake3, and lines.
#[derive(Clone, Debug)]
pub(crate) struct Trees(Binary);

impl Trees {
    pub(crate) fn new() -> Self {
        let compress = CompressionFunctionFromHasher::new(Blake3);
        Self(Binary::new(SerializingHasher::new(Blake3), compress, 0))
    }

    /// The tree of a word, one leaf per row, and its root.
    pub(crate) fn plant<M: Matrix<F>>(&self, word: M) -> (Root, Tree<M>) {
        let (cap, tree) = self.0.commit_matrix(word);
        let root = cap.roots().first().copied().unwrap_or_default();
        (root, Arc::new(tree))
    }

    fn check<R: AsRef<[F]> + PartialEq>(
        &self,
        root: Root,
        dimensions: Dimensions,
        indices: &[usize],
        leaves: &[Vec<R>],
        paths: &Pruned,
    ) -> Result<(), Refused> {
        let cap = MerkleCap::new(vec![root]);
        let result = self
            .0
            .verify_multi_batch(&cap, &[dimensions], indices, leaves, paths);
        result.map_err(|_| Refused)
    }
}

impl Mmcs<F> for Trees {
    type ProverData<M> = Kept<M>;
    type Commitment = Oracle;
    type Proof = Paths;
    type MultiProof = Paths;
    type Error = Refused;

    fn commit<M: Matrix<F>>(&self, inputs: Vec<M>) -> (Oracle, Kept<M>) {
        let (cap, tree) = self.0.commit(inputs);
        let root = cap.roots().first().copied().unwrap_or_default();
        (Oracle::Tree(root), Kept::Tree(Arc::new(tree)))
    }

    fn open_batch<M: Matrix<F>>(&self, index: usize, data: &Kept<M>) -> BatchOpening<F, Self> {
        let (mut values, proof) = self.open_multi_batch(&[index], data);
        BatchOpening::new(values.pop().unwrap_or_default(), proof)
    }

    fn get_matrices<'a, M: Matrix<F>>(&self, data: &'a Kept<M>) -> Vec<&'a M> {
        let trees = match data {
            Kept::Tree(tree) => std::slice::from_ref(tree),
            Kept::Line { trees, .. } => trees,
        };
        trees
            .iter()
            .flat_map(|tree| self.0.get_matrices(&**tree))
            .collect()
    }

    fn verify_batch(
        &self,
        oracle: &Oracle,
        dimensions: &[Dimensions],
        index: usize,
        opening: BatchOpeningRef<'_, F, Self>,
    ) -> Result<(), Refused> {
        let values = [opening.opened_values.to_vec()];
        self.verify_multi_batch(oracle, dimensions, &[index], &values, opening.opening_proof)
    }

    fn open_multi_batch<M: Matrix<F>>(
        &self,
        indices: &[usize],
        data: &Kept<M>,
    ) -> (Vec<Vec<Vec<F>>>, Paths) {
        match data {
            Kept::Tree(tree) => {
                let (leaves, paths) = self.0.open_multi_batch(indices, tree);
                (leaves, Paths::Tree(paths))
            }
            Kept::Line { trees, rho } => {
                let [(mut leaves, w), (masks, g)] = trees
                    .each_ref()
                    .map(|tree| self.0.open_multi_batch(indices, tree));
                for (leaf, mask) in leaves.iter_mut().zip(masks) {
                    leaf.extend(mask);
                }
                let leaves: Vec<Vec<F>> = leaves.into_iter().map(|leaf| leaf.concat()).collect();
                let values = leaves
                    .iter()
                    .map(|leaf| vec![on_line(leaf, *rho)])
                    .collect();
                let paths = [w, g];
                (values, Paths::Line { leaves, paths })
            }
        }
    }

    fn verify_multi_batch<R: AsRef<[F]> + PartialEq>(
        &self,
        oracle: &Oracle,
        dimensions: &[Dimensions],
        indices: &[usize],
        values: &[Vec<R>],
        proof: &Paths,
    ) -> Result<(), Refused> {
        let [Dimensions { width, height }] = *dimensions else {
            return Err(Refused);
        };
        match (oracle, proof) {
            (Oracle::Tree(root), Paths::Tree(paths)) => {
                self.check(*root, dimensions[0], indices, values, paths)
            }
            (Oracle::Line { roots, rho }, Paths::Line { leaves, paths }) => {
                let cells = width / COMPONENTS;
                let agree = values.len() == leaves.len()
                    && values.iter().zip(leaves).all(|(value, leaf)| {
                        leaf.len() == cells * SOURCES
                            && matches!(&value[..], [value] if value.as_ref() == on_line(leaf, *rho))
                    });
                if !agree {
                    return Err(Refused);
                }
                let (w, g): (Vec<_>, Vec<_>) = leaves
                    .iter()
                    .map(|leaf| leaf.split_at(cells))
                    .map(|(w, g)| (vec![w], vec![g]))
                    .unzip();
                for (i, (width, leaves)) in
                    [(cells, w), (cells * DEGREE, g)].into_iter().enumerate()
                {
                    let dimensions = Dimensions { width, height };
                    self.check(roots[i], dimensions, indices, &leaves, &paths[i])?;
                }
                Ok(())
            }
            _ => Err(Refused),
        }
    }
}
