//! WHIR (ePrint 2024/1586) of Plonky3, and the only place that knows it.

use std::sync::{Arc, LazyLock, OnceLock};

use p3_blake3::Blake3;
use p3_commit::{BatchOpening, BatchOpeningRef, Mmcs};
use p3_dft::Radix2DFTSmallBatch;
use p3_matrix::{
    Dimensions, Matrix,
    dense::{DenseMatrix, RowMajorMatrix},
};
use p3_merkle_tree::{MerkleCap, MerkleTree, MerkleTreeError, MerkleTreeMmcs, PrunedMerklePaths};
use p3_multilinear_util::point::Point;
use p3_sumcheck::{
    OpeningBatch, OpeningProtocol, PrescribedPointPcs, TableShape, TableSpec,
    layout::{Layout, SuffixProver, Table},
};
use p3_symmetric::{CompressionFunctionFromHasher, SerializingHasher};
use p3_whir::{
    parameters::{FoldingFactor, ProtocolParameters, SecurityAssumption, WhirConfig},
    pcs::{proof::PcsProof, prover::WhirProver},
};

use super::sponge::OpeningChallenger;
use crate::{
    field::{EF, F},
    params::{MAX_LOG, POW_BITS, Row, Side, TERM_BITS},
};

type Binary = MerkleTreeMmcs<
    F,
    u8,
    SerializingHasher<Blake3>,
    CompressionFunctionFromHasher<Blake3, 2, 32>,
    2,
    32,
>;
type Prover = WhirProver<EF, F, Radix2DFTSmallBatch<F>, Trees, OpeningChallenger, Columns>;
type Columns = SuffixProver<F, EF>;

/// Binary Merkle trees over Blake3 whose prover data is shared: p3 consumes the data of a commitment when it opens it, and models are opened again and again.
#[derive(Clone, Debug)]
pub(crate) struct Trees(Binary);

impl Trees {
    fn new() -> Self {
        let compress = CompressionFunctionFromHasher::new(Blake3);
        Self(Binary::new(SerializingHasher::new(Blake3), compress, 0))
    }
}

impl Mmcs<F> for Trees {
    type ProverData<M> = Arc<MerkleTree<F, u8, M, 2, 32>>;
    type Commitment = MerkleCap<F, [u8; 32]>;
    type Proof = Vec<[u8; 32]>;
    type MultiProof = PrunedMerklePaths<u8, 32>;
    type Error = MerkleTreeError;

    fn commit<M: Matrix<F>>(&self, inputs: Vec<M>) -> (Self::Commitment, Self::ProverData<M>) {
        let (root, tree) = self.0.commit(inputs);
        (root, Arc::new(tree))
    }

    fn open_batch<M: Matrix<F>>(
        &self,
        index: usize,
        data: &Self::ProverData<M>,
    ) -> BatchOpening<F, Self> {
        let (values, proof) = self.0.open_batch(index, data).unpack();
        BatchOpening::new(values, proof)
    }

    fn get_matrices<'a, M: Matrix<F>>(&self, data: &'a Self::ProverData<M>) -> Vec<&'a M> {
        self.0.get_matrices(data)
    }

    fn verify_batch(
        &self,
        root: &Self::Commitment,
        dimensions: &[Dimensions],
        index: usize,
        opening: BatchOpeningRef<'_, F, Self>,
    ) -> Result<(), Self::Error> {
        let opening = BatchOpeningRef::new(opening.opened_values, opening.opening_proof);
        self.0.verify_batch(root, dimensions, index, opening)
    }

    fn open_multi_batch<M: Matrix<F>>(
        &self,
        indices: &[usize],
        data: &Self::ProverData<M>,
    ) -> (Vec<Vec<Vec<F>>>, Self::MultiProof) {
        self.0.open_multi_batch(indices, data)
    }

    fn verify_multi_batch<R: AsRef<[F]> + PartialEq>(
        &self,
        root: &Self::Commitment,
        dimensions: &[Dimensions],
        indices: &[usize],
        values: &[Vec<R>],
        proof: &Self::MultiProof,
    ) -> Result<(), Self::Error> {
        self.0
            .verify_multi_batch(root, dimensions, indices, values, proof)
    }
}

/// Roots of unity, grown as needed and shared by all sizes and proofs.
static DFT: LazyLock<Radix2DFTSmallBatch<F>> = LazyLock::new(Radix2DFTSmallBatch::default);

/// What a prover keeps of a commitment.
#[derive(Clone)]
pub(crate) struct Data {
    columns: Columns,
    tree: Arc<MerkleTree<F, u8, DenseMatrix<F>, 2, 32>>,
    root: MerkleCap<F, [u8; 32]>,
}

impl Data {
    pub(crate) fn root(&self) -> [u8; 32] {
        self.root.roots().first().copied().unwrap_or_default()
    }

    pub(crate) fn cells(&self) -> &[F] {
        self.columns
            .table(0)
            .iter_polys()
            .next()
            .unwrap_or_default()
    }
}

#[cfg(test)]
impl Data {
    /// The cells of one commitment under the tree of another.
    pub(crate) fn mixed(cells: Self, tree: &Self) -> Self {
        Self {
            columns: cells.columns,
            ..tree.clone()
        }
    }

    /// The cells under the tree of a word that differs from theirs in each third leaf.
    pub(crate) fn spoiled(self) -> Self {
        let mut word = Trees::new().get_matrices(&self.tree)[0].clone();
        let width = word.width;
        for leaf in word.values.chunks_mut(width).step_by(3) {
            leaf[0] += <F as p3_field::PrimeCharacteristicRing>::ONE;
        }
        let (root, tree) = Trees::new().commit_matrix(word);
        Self { tree, root, ..self }
    }
}

/// The scheme for one size.
pub(crate) struct Scheme {
    prover: Prover,
}

/// What p3 derives from the choices in a row; the names are those of [`Row`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) queries: Vec<u16>,
    pub(crate) query_pow: Vec<u8>,
    pub(crate) fold_pow: Vec<u8>,
    pub(crate) tenths: u16,
}

impl Derived {
    /// Reads the outcome, and checks that the domains are those that the row implies and that nothing is used that openings have no place for.
    fn read(prover: &Prover, row: &Row<'_>) -> Option<Self> {
        let rounds = prover.round_parameters();
        let last = prover.final_round_config();
        let shape = prover.commitment_ood_samples() == 0
            && prover.final_sumcheck_rounds() == row.last()
            && rounds.len() + 1 == row.oracles()
            && rounds.iter().all(|round| round.ood_samples == 0)
            && rounds.iter().chain([&last]).enumerate().all(|(i, round)| {
                round.folding_factor == usize::from(row.folds[i])
                    && round.log_folded_domain_size == row.leaves(i)
                    && round.domain_size == 1 << (row.leaves(i) + round.folding_factor)
            });
        if !shape {
            return None;
        }
        let terminal = prover.terminal();
        let queries = rounds
            .iter()
            .map(|r| r.num_queries)
            .chain([terminal.num_queries]);
        let query_pow = rounds.iter().map(|r| r.pow_bits).chain([terminal.pow_bits]);
        let fold_pow = [prover.starting_folding_pow_bits()].into_iter();
        let fold_pow = fold_pow.chain(rounds.iter().map(|r| r.folding_pow_bits));
        let fold_pow = fold_pow.chain([prover.final_folding_pow_bits()]);
        let security = prover.prescribed_security(&protocol(row))?;
        // one candidate: a root stands for one vector
        let bits = security.error().bits();
        (security.log2_max_candidates == 0.0 && bits.is_finite()).then_some(())?;
        Some(Self {
            queries: queries
                .map(|q| u16::try_from(q).ok())
                .collect::<Option<_>>()?,
            query_pow: query_pow
                .map(|b| u8::try_from(b).ok())
                .collect::<Option<_>>()?,
            fold_pow: fold_pow
                .map(|b| u8::try_from(b).ok())
                .collect::<Option<_>>()?,
            tenths: (bits * 10.0).floor() as u16,
        })
    }

    /// Whether a row states this outcome.
    pub(crate) fn agrees(&self, row: &Row<'_>) -> bool {
        self.queries == row.queries
            && self.query_pow == row.query_pow
            && self.fold_pow == row.fold_pow
            && self.tenths == row.tenths
    }
}

/// One vector, opened at one point.
fn protocol(row: &Row<'_>) -> OpeningProtocol {
    OpeningProtocol::new(vec![TableSpec::new(
        TableShape::new(usize::from(row.log), 1),
        vec![batch()],
    )])
}

fn batch() -> OpeningBatch<usize> {
    OpeningBatch::new(vec![0], Vec::new())
}

/// p3 lists the coordinates of a point from the highest bit of the index down.
fn p3_point(point: &[EF]) -> Point<EF> {
    Point::new(point.iter().rev().copied().collect())
}

impl Scheme {
    /// The scheme that the log size, rates and folds of a row describe. `None` if it does not exist at the required security.
    pub(crate) fn derive(row: &Row<'_>) -> Option<(Self, Derived)> {
        let wide = |list: &[u8]| list.iter().map(|v| usize::from(*v)).collect::<Vec<_>>();
        let parameters = ProtocolParameters {
            starting_log_inv_rate: usize::from(*row.rates.first()?),
            round_log_inv_rates: wide(&row.rates[1..]),
            folding_factor: FoldingFactor::PerRound(wide(row.folds)),
            soundness_type: SecurityAssumption::UniqueDecoding,
            security_level: TERM_BITS,
            pow_bits: POW_BITS,
        };
        let config = WhirConfig::new(usize::from(row.log), parameters).ok()?;
        let prover = Prover::new(config, DFT.clone(), Trees::new());
        let derived = Derived::read(&prover, row)?;
        Some((Self { prover }, derived))
    }

    /// Commits to `2^log` cells. No randomness.
    pub(crate) fn commit(&self, cells: Vec<F>) -> Data {
        let folding = self.prover.round_folding_factor(0);
        let table = Table::new(RowMajorMatrix::new_row(cells));
        let witness = Columns::new_witness(vec![table], folding);
        let rate = self.prover.params().starting_log_inv_rate;
        let (columns, root, tree) = Columns::commit(&*DFT, &Trees::new(), witness, folding, rate);
        Data {
            columns,
            tree,
            root,
        }
    }

    /// Proves the value at a point.
    pub(crate) fn open(
        &self,
        data: Data,
        point: &[EF],
        challenger: &mut OpeningChallenger,
    ) -> Option<Proof> {
        let Data {
            mut columns, tree, ..
        } = data;
        let evals = columns.eval_at(0, &batch(), &p3_point(point), challenger);
        let whir = self
            .prover
            .prove(Vec::new(), challenger, columns, tree, 1)
            .ok()?;
        Some(PcsProof {
            whir,
            evals: vec![evals],
        })
    }

    /// Checks the proof, whose shape is that of the row.
    pub(crate) fn verify(
        &self,
        row: &Row<'_>,
        root: [u8; 32],
        point: &[EF],
        proof: &Proof,
        challenger: &mut OpeningChallenger,
    ) -> bool {
        let root = MerkleCap::new(vec![root]);
        let points = [p3_point(point)];
        self.prover
            .verify_at(&root, proof, &protocol(row), &points, challenger)
            .is_ok()
    }
}

/// An opening in p3's terms.
pub(crate) type Proof = PcsProof<F, EF, Trees>;

/// The scheme of a row of the parameter set, derived once per process. `None` if what was derived here is not what the row states.
pub(crate) fn scheme(side: Side, row: &Row<'_>) -> Option<&'static Scheme> {
    static SCHEMES: [[OnceLock<Option<Scheme>>; MAX_LOG + 1]; 2] =
        [const { [const { OnceLock::new() }; MAX_LOG + 1] }; 2];
    let slot = SCHEMES[side as usize].get(usize::from(row.log))?;
    slot.get_or_init(|| {
        let (scheme, derived) = Scheme::derive(row)?;
        derived.agrees(row).then_some(scheme)
    })
    .as_ref()
}
