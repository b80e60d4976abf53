//! Parameter sets: for each size of a commitment the code rates and folds, and what follows from them, pinned.
//!
//! The commitment scheme derives query counts, proof-of-work bits and its error bound with floating-point logarithms. Both sides derive them on their own machine, so a difference
//! in the last bit of a logarithm could split them. Therefore each row also states the outcome, and a derivation that differs from its row is refused. The encoding of openings and
//! the budget use the pinned numbers only. The tests regenerate the table; `examples/whir_search.rs` is where the choices come from.

use crate::pcs::trees::COMPONENT_LOG;

/// Which commitment. The sizes and uses differ, so may the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The model's weights: committed once, opened in each proof.
    Weights,
    /// The columns of one proof.
    Witness,
    /// The columns of one proof that hides them ([`crate::pcs::hiding`]).
    Hidden,
}

/// Number of sides.
pub(crate) const SIDES: usize = 3;

impl Side {
    /// The name used in errors and reports: `weights`, `witness`, `hidden witness`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Witness => "witness",
            Self::Hidden => "hidden witness",
        }
    }
}

/// Number of the parameter set in proofs and keys.
pub const PARAM_SET: u16 = 1;
/// Its name: the field (degree 5 over KoalaBear), the regime (unique decoding), bits per error term.
pub const PARAM_SET_NAME: &str = "kb5-ud-108";
/// Bits that each error term of an opening has at least, proof of work included.
pub(crate) const TERM_BITS: usize = 108;
/// Largest proof of work, in bits.
pub(crate) const POW_BITS: usize = 16;
/// Smallest size with a row of its own, as a logarithm. Smaller vectors are extended with zeros.
pub const MIN_LOG: usize = 6;
/// Largest size, as a logarithm.
pub const MAX_LOG: usize = 27;

/// The parameters of one size and what they lead to. An *oracle* is a committed codeword: the one of the commitment itself, then one per later round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// Logarithm of the number of cells.
    pub(crate) log: u8,
    /// Logarithm of the inverse rate of each oracle.
    pub(crate) rates: &'a [u8],
    /// Variables folded after each oracle; also the logarithm of the length of its leaves.
    pub(crate) folds: &'a [u8],
    /// Derived: queries into each oracle, before they are limited by the number of leaves.
    pub(crate) queries: &'a [u16],
    /// Derived: bits of work before the queries into each oracle.
    pub(crate) query_pow: &'a [u8],
    /// Derived: bits of work in each round of the sumchecks after each oracle, then of the last sumcheck.
    pub(crate) fold_pow: &'a [u8],
    /// Derived: the union bound of all error terms, in tenths of bits, rounded down.
    pub(crate) tenths: u16,
}

impl Row<'_> {
    /// Oracles: the commitment and one per round.
    pub(crate) fn oracles(&self) -> usize {
        self.folds.len()
    }

    /// Variables of the polynomial that is sent in the clear.
    pub(crate) fn last(&self) -> usize {
        usize::from(self.log) - self.folds.iter().map(|f| usize::from(*f)).sum::<usize>()
    }

    /// Logarithm of the number of leaves of an oracle.
    pub(crate) fn leaves(&self, oracle: usize) -> usize {
        let folded: usize = self.folds[..=oracle].iter().map(|f| usize::from(*f)).sum();
        usize::from(self.log) + usize::from(self.rates[oracle]) - folded
    }

    /// Leaves opened in an oracle.
    pub(crate) fn opened(&self, oracle: usize) -> usize {
        usize::from(self.queries[oracle]).min(1 << self.leaves(oracle))
    }
}

/// The row of a size, if the parameter set has one. Those of [`Side::Hidden`] describe the vector that is opened, which has [`COMPONENTS`](crate::pcs::trees::COMPONENTS) cells for each
/// committed one.
pub(crate) fn row(side: Side, log: usize) -> Option<&'static Row<'static>> {
    let table = match side {
        Side::Weights => WEIGHTS,
        Side::Witness => WITNESS,
        Side::Hidden => HIDDEN,
    };
    let cells = match side {
        Side::Hidden => log + COMPONENT_LOG,
        _ => log,
    };
    table.iter().find(|row| usize::from(row.log) == cells)
}

const fn new(
    log: u8,
    rates: &'static [u8],
    folds: &'static [u8],
    queries: &'static [u16],
    query_pow: &'static [u8],
    fold_pow: &'static [u8],
    tenths: u16,
) -> Row<'static> {
    Row {
        log,
        rates,
        folds,
        queries,
        query_pow,
        fold_pow,
        tenths,
    }
}

#[rustfmt::skip]
static WEIGHTS: &[Row<'static>] = &[
    new(6, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(7, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(8, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(9, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(10, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(11, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(12, &[1, 1], &[5, 7], &[222, 222], &[16, 16], &[0, 0, 0], 1071),
    new(13, &[2, 2], &[5, 2], &[136, 136], &[16, 16], &[0, 0, 0], 1072),
    new(14, &[2, 2], &[5, 3], &[136, 136], &[16, 16], &[0, 0, 0], 1072),
    new(15, &[3, 3], &[6, 3], &[111, 111], &[16, 16], &[0, 0, 0], 1071),
    new(16, &[2, 2, 2], &[5, 3, 2], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(17, &[3, 3, 3], &[6, 3, 2], &[111, 111, 111], &[16, 16, 16], &[0, 0, 0, 0], 1065),
    new(18, &[3, 3, 3], &[6, 3, 3], &[111, 111, 111], &[16, 16, 16], &[0, 0, 0, 0], 1065),
    new(19, &[2, 2, 2, 2], &[6, 3, 2, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(20, &[2, 2, 2, 2], &[6, 3, 3, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(21, &[2, 2, 2, 2], &[6, 3, 3, 3], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(22, &[2, 3, 3, 3], &[6, 4, 3, 3], &[136, 111, 111, 111], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1061),
    new(23, &[2, 2, 3, 3, 3], &[6, 3, 3, 3, 2], &[136, 136, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(24, &[1, 2, 3, 3, 3], &[6, 4, 3, 3, 2], &[222, 136, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(25, &[1, 2, 3, 3, 3], &[6, 4, 3, 3, 3], &[222, 136, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(26, &[1, 2, 3, 3, 3], &[6, 4, 4, 3, 3], &[222, 136, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(27, &[1, 2, 3, 3, 3, 3], &[6, 4, 3, 3, 3, 2], &[222, 136, 111, 111, 111, 111], &[16, 16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0, 0], 1055),
];

#[rustfmt::skip]
static WITNESS: &[Row<'static>] = &[
    new(6, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(7, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(8, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(9, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(10, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(11, &[1], &[6], &[222], &[16], &[0, 0], 1081),
    new(12, &[1, 1], &[5, 7], &[222, 222], &[16, 16], &[0, 0, 0], 1071),
    new(13, &[2, 2], &[5, 2], &[136, 136], &[16, 16], &[0, 0, 0], 1072),
    new(14, &[2, 2], &[5, 3], &[136, 136], &[16, 16], &[0, 0, 0], 1072),
    new(15, &[2, 2], &[6, 3], &[136, 136], &[16, 16], &[0, 0, 0], 1072),
    new(16, &[2, 2, 2], &[5, 3, 2], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(17, &[2, 2, 2], &[6, 3, 2], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(18, &[2, 2, 2], &[6, 3, 3], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(19, &[2, 2, 2, 2], &[6, 3, 2, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(20, &[2, 2, 2, 2], &[6, 3, 3, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(21, &[2, 3, 3, 3], &[6, 3, 3, 3], &[136, 111, 111, 111], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1061),
    new(22, &[2, 3, 3, 3], &[6, 4, 3, 3], &[136, 111, 111, 111], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1061),
    new(23, &[2, 3, 3, 3, 3], &[6, 3, 3, 3, 2], &[136, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(24, &[2, 3, 3, 3, 3], &[6, 4, 3, 3, 2], &[136, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(25, &[1, 3, 3, 3, 3], &[6, 4, 3, 3, 3], &[222, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(26, &[1, 3, 3, 3, 3], &[6, 4, 4, 3, 3], &[222, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(27, &[1, 3, 3, 3, 3, 3], &[6, 4, 3, 3, 3, 2], &[222, 111, 111, 111, 111, 111], &[16, 16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0, 0], 1055),
];

#[rustfmt::skip]
static HIDDEN: &[Row<'static>] = &[
    new(14, &[3, 3], &[6, 2], &[111, 111], &[16, 16], &[0, 0, 0], 1071),
    new(15, &[3, 3], &[6, 3], &[111, 111], &[16, 16], &[0, 0, 0], 1071),
    new(16, &[2, 2, 2], &[6, 2, 2], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(17, &[2, 2, 2], &[6, 3, 2], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(18, &[2, 2, 2], &[6, 3, 3], &[136, 136, 136], &[16, 16, 16], &[0, 0, 0, 0], 1066),
    new(19, &[2, 2, 2, 2], &[6, 3, 2, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(20, &[2, 2, 2, 2], &[6, 3, 3, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(21, &[2, 2, 2, 2], &[7, 3, 3, 2], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(22, &[2, 2, 2, 2], &[7, 3, 3, 3], &[136, 136, 136, 136], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1062),
    new(23, &[2, 3, 3, 3], &[7, 4, 3, 3], &[136, 111, 111, 111], &[16, 16, 16, 16], &[0, 0, 0, 0, 0], 1061),
    new(24, &[2, 3, 3, 3, 3], &[7, 3, 3, 3, 2], &[136, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(25, &[2, 3, 3, 3, 3], &[7, 4, 3, 3, 2], &[136, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(26, &[1, 3, 3, 3, 3], &[7, 4, 3, 3, 3], &[222, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
    new(27, &[1, 3, 3, 3, 3], &[7, 4, 4, 3, 3], &[222, 111, 111, 111, 111], &[16, 16, 16, 16, 16], &[0, 0, 0, 0, 0, 0], 1058),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcs::{hiding, whir::Scheme};

    /// The table as it has to be on this machine; printed when it isn't.
    #[test]
    fn parameters_are_what_p3_derives() {
        let mut wrong = false;
        for side in [Side::Weights, Side::Witness, Side::Hidden] {
            println!("{}", side.name());
            let sizes = match side {
                Side::Hidden => hiding::MIN_LOG..=hiding::MAX_LOG,
                _ => MIN_LOG..=MAX_LOG,
            };
            for log in sizes {
                let Some(row) = row(side, log) else {
                    println!("no row for {log}");
                    wrong = true;
                    continue;
                };
                let (_, d) = Scheme::derive(row).expect("a scheme");
                wrong |= !d.agrees(row);
                println!(
                    "    new({}, &{:?}, &{:?}, &{:?}, &{:?}, &{:?}, {}),",
                    row.log, row.rates, row.folds, d.queries, d.query_pow, d.fold_pow, d.tenths
                );
            }
        }
        assert!(!wrong, "the pinned rows differ from what is derived");
    }

    /// A row with another outcome than the derived one makes no scheme.
    #[test]
    fn other_parameters_are_refused() {
        let good = row(Side::Weights, 14).unwrap();
        let (_, derived) = Scheme::derive(good).unwrap();
        assert!(derived.agrees(good));
        for wrong in [
            Row {
                queries: &[136, 135],
                ..*good
            },
            Row {
                query_pow: &[16, 15],
                ..*good
            },
            Row {
                fold_pow: &[0, 0, 1],
                ..*good
            },
            Row {
                tenths: good.tenths + 1,
                ..*good
            },
        ] {
            assert!(!derived.agrees(&wrong));
        }
        // more than the field has roots of unity for; not folded far enough
        assert!(
            Scheme::derive(&Row {
                log: 27,
                rates: &[4],
                folds: &[6],
                ..*good
            })
            .is_none()
        );
        assert!(
            Scheme::derive(&Row {
                log: 14,
                rates: &[1],
                folds: &[4],
                ..*good
            })
            .is_none()
        );
    }
}
