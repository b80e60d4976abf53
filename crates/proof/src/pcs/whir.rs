//! WHIR (ePrint 2024/1586) of Plonky3, and the only place that knows it.

use std::sync::{LazyLock, OnceLock};

use p3_commit::Encoder;
use p3_dft::Radix2DFTSmallBatch;
use p3_field::PrimeCharacteristicRing;
use p3_matrix::dense::{DenseMatrix, RowMajorMatrix};
use p3_multilinear_util::point::Point;
use p3_sumcheck::{
    OpeningBatch, OpeningProtocol, PrescribedPointPcs, TableShape, TableSpec,
    layout::{Layout, SuffixProver, Table},
};
use p3_whir::{
    parameters::{FoldingFactor, ProtocolParameters, SecurityAssumption, WhirConfig},
    pcs::{proof::PcsProof, prover::WhirProver},
};

use super::{
    Root,
    sponge::OpeningChallenger,
    trees::{Kept, Oracle, Tree, Trees},
};
use crate::{
    field::{EF, F},
    params::{MAX_LOG, POW_BITS, Row, SIDES, Side, TERM_BITS},
};

type Prover = WhirProver<EF, F, Radix2DFTSmallBatch<F>, Trees, OpeningChallenger, Columns>;
type Columns = SuffixProver<F, EF>;

/// Roots of unity, grown as needed and shared by all sizes and proofs.
static DFT: LazyLock<Radix2DFTSmallBatch<F>> = LazyLock::new(Radix2DFTSmallBatch::default);

/// A word in a tree: a codeword per column.
pub(crate) type Word = Tree<DenseMatrix<F>>;

/// What a prover keeps of a first oracle.
#[derive(Clone)]
pub(crate) struct Data {
    columns: Columns,
    kept: Kept<DenseMatrix<F>>,
}

impl Data {
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

    /// The cells under the tree of a word that differs from theirs in each third leaf, and its root.
    pub(crate) fn spoiled(self) -> (Root, Self) {
        let Kept::Tree(tree) = &self.kept else {
            unreachable!()
        };
        let (root, tree) = spoiled(tree);
        let kept = Kept::Tree(tree);
        (root, Self { kept, ..self })
    }
}

/// The tree of a word that differs from another in each third leaf, and its root.
#[cfg(test)]
pub(crate) fn spoiled(tree: &Word) -> (Root, Word) {
    use p3_commit::Mmcs;
    let trees = Trees::new();
    let mut word = trees.get_matrices(&Kept::Tree(tree.clone()))[0].clone();
    let width = word.width;
    for leaf in word.values.chunks_mut(width).step_by(3) {
        leaf[0] += F::ONE;
    }
    trees.plant(word)
}

/// Encodes rows of `width` cells with the rate `2^-rate`, column by column: the cells of a column are the coefficients of its polynomial, the leaves its values at the roots of unity in
/// order. Returns the tree and its root.
pub(crate) fn encode(cells: &[F], width: usize, rate: usize) -> (Root, Word) {
    // zeros that are written: pages of zeros on demand would be faulted in twice
    let mut values = Vec::with_capacity(cells.len() << rate);
    values.extend_from_slice(cells);
    values.resize(cells.len() << rate, F::ZERO);
    let word = DFT.encode_batch_padded(RowMajorMatrix::new(values, width), rate);
    Trees::new().plant(word)
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
    pub(crate) fn commit(&self, cells: Vec<F>) -> (Root, Data) {
        let width = 1 << self.prover.round_folding_factor(0);
        let (root, tree) = encode(&cells, width, self.prover.params().starting_log_inv_rate);
        (root, self.data(cells, Kept::Tree(tree)))
    }

    /// The first oracle of `2^log` cells.
    pub(crate) fn data(&self, cells: Vec<F>, kept: Kept<DenseMatrix<F>>) -> Data {
        let folding = self.prover.round_folding_factor(0);
        let table = Table::new(RowMajorMatrix::new_row(cells));
        let columns = Columns::from_witness(Columns::new_witness(vec![table], folding));
        Data { columns, kept }
    }

    /// Proves the value at a point.
    pub(crate) fn open(
        &self,
        data: Data,
        point: &[EF],
        challenger: &mut OpeningChallenger,
    ) -> Option<Proof> {
        let Data { mut columns, kept } = data;
        let evals = columns.eval_at(0, &batch(), &p3_point(point), challenger);
        let whir = self
            .prover
            .prove(Vec::new(), challenger, columns, kept, 1)
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
        oracle: &Oracle,
        point: &[EF],
        proof: &Proof,
        challenger: &mut OpeningChallenger,
    ) -> bool {
        let points = [p3_point(point)];
        self.prover
            .verify_at(oracle, proof, &protocol(row), &points, challenger)
            .is_ok()
    }
}

/// An opening in p3's terms.
pub(crate) type Proof = PcsProof<F, EF, Trees>;

/// The scheme of a row of the parameter set, derived once per process. `None` if what was derived here is not what the row states.
pub(crate) fn scheme(side: Side, row: &Row<'_>) -> Option<&'static Scheme> {
    static SCHEMES: [[OnceLock<Option<Scheme>>; MAX_LOG + 1]; SIDES] =
        [const { [const { OnceLock::new() }; MAX_LOG + 1] }; SIDES];
    let slot = SCHEMES[side as usize].get(usize::from(row.log))?;
    slot.get_or_init(|| {
        let (scheme, derived) = Scheme::derive(row)?;
        derived.agrees(row).then_some(scheme)
    })
    .as_ref()
}
