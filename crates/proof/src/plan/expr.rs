//! The language in which operators state what must hold: columns seen through index expressions, sums of products of them, and nothing else.
//!
//! A relation has *labels*, like the letters of an einsum. Its output labels come first: the relation holds for each of their values. A product has further labels that are summed over.
//! Whatever an operator does with indices (windows, slices, transposes, heads, gathers by public ids) is an index expression, so that prover and verifier need to know three things only:
//! the multilinear extension of a column at a point, of a relation at a random point, and of a product under a sumcheck.

use std::sync::Arc;

/// Index of a label in its relation: output labels first, then summed ones.
pub(crate) type Label = usize;
/// Index of a committed column of the witness.
pub(crate) type ColumnId = usize;
/// Index of a committed tensor of weights.
pub(crate) type WeightId = usize;
/// Index of a tensor that the verifier knows.
pub(crate) type PublicId = usize;
/// Index of a public vector of factors.
pub(crate) type ScaleId = usize;

/// `offset + Σ stride·label`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Affine {
    pub(crate) offset: i64,
    pub(crate) terms: Vec<(Label, i64)>,
}

/// Index along one axis of a tensor; where it leaves the axis the tensor counts as 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Index {
    pub(crate) affine: Affine,
    /// The index is this public list's entry at `affine` (rows of an embedding).
    pub(crate) gather: Option<Arc<Vec<u32>>>,
}

/// What a view reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Operand {
    /// A column of the witness.
    Column(ColumnId),
    /// A constant of the model, committed once.
    Weight(WeightId),
    /// A tensor of the statement or one that follows from the graph.
    Public(PublicId),
}

/// A tensor seen through indices, one for each of its axes. A label may occur in one axis only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Read {
    pub(crate) operand: Operand,
    pub(crate) indices: Vec<Index>,
}

/// Linear combination of reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) terms: Vec<(i64, Read)>,
}

/// A summand of a relation.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    /// A constant wherever the relation holds, times the public factor of a label.
    Constant {
        value: i64,
        scale: Option<(Label, ScaleId)>,
    },
    /// A view; labels that it does not mention are broadcast.
    Linear {
        view: View,
        scale: Option<(Label, ScaleId)>,
    },
    /// `coefficient · Σ a·b` over the labels `axes.len() …` of the relation, which have these lengths.
    Product {
        coefficient: i64,
        sums: Vec<usize>,
        a: View,
        b: View,
    },
}

/// The terms add up to 0 for every value of the output labels, as integers of absolute value below p.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    /// For people and tests.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what tests and people know a relation by")
    )]
    pub(crate) label: &'static str,
    /// Node that it belongs to.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what tests and people know a relation by")
    )]
    pub(crate) node: u32,
    /// Lengths of the output labels.
    pub(crate) axes: Vec<usize>,
    pub(crate) terms: Vec<Term>,
}

impl Affine {
    pub(crate) fn label(label: Label) -> Self {
        Self {
            offset: 0,
            terms: vec![(label, 1)],
        }
    }

    pub(crate) fn fixed(offset: i64) -> Self {
        Self {
            offset,
            terms: Vec::new(),
        }
    }

    /// The expression with `subs[l]` in place of label `l`.
    pub(crate) fn substitute(&self, subs: &[Self]) -> Self {
        let mut out = Self::fixed(self.offset);
        for (l, stride) in &self.terms {
            let sub = &subs[*l];
            out.offset += stride * sub.offset;
            for (m, s) in &sub.terms {
                match out.terms.iter_mut().find(|(k, _)| k == m) {
                    Some((_, have)) => *have += stride * s,
                    None => out.terms.push((*m, stride * s)),
                }
            }
        }
        out
    }

    /// Value for an assignment of labels.
    pub(crate) fn at(&self, labels: &[usize]) -> i64 {
        self.offset
            + self
                .terms
                .iter()
                .map(|(l, s)| s * labels[*l] as i64)
                .sum::<i64>()
    }
}

impl Index {
    pub(crate) fn label(label: Label) -> Self {
        Affine::label(label).into()
    }

    /// Index for an assignment of labels; none before the axis or behind the list.
    pub(crate) fn at(&self, labels: &[usize]) -> Option<usize> {
        let i = usize::try_from(self.affine.at(labels)).ok()?;
        match &self.gather {
            None => Some(i),
            Some(list) => list.get(i).map(|i| *i as usize),
        }
    }
}

impl From<Affine> for Index {
    fn from(affine: Affine) -> Self {
        Self {
            affine,
            gather: None,
        }
    }
}

impl Read {
    /// A tensor whose axis `i` is label `i`.
    pub(crate) fn plain(operand: Operand, rank: usize) -> Self {
        Self {
            operand,
            indices: (0..rank).map(Index::label).collect(),
        }
    }

    pub(crate) fn substitute(&self, subs: &[Affine]) -> Self {
        let indices = self.indices.iter().map(|i| Index {
            affine: i.affine.substitute(subs),
            gather: i.gather.clone(),
        });
        Self {
            operand: self.operand,
            indices: indices.collect(),
        }
    }

    /// Whether the read depends on a label.
    pub(crate) fn mentions(&self, label: Label) -> bool {
        self.indices
            .iter()
            .any(|i| i.affine.terms.iter().any(|(l, _)| *l == label))
    }
}

impl View {
    pub(crate) fn of(operand: Operand, rank: usize) -> Self {
        Self {
            terms: vec![(1, Read::plain(operand, rank))],
        }
    }

    pub(crate) fn column(id: ColumnId, rank: usize) -> Self {
        Self::of(Operand::Column(id), rank)
    }

    pub(crate) fn substitute(&self, subs: &[Affine]) -> Self {
        Self {
            terms: self
                .terms
                .iter()
                .map(|(c, r)| (*c, r.substitute(subs)))
                .collect(),
        }
    }

    /// Renames label `i` to `labels[i]`.
    pub(crate) fn rename(&self, labels: &[Label]) -> Self {
        let subs: Vec<Affine> = labels.iter().map(|l| Affine::label(*l)).collect();
        self.substitute(&subs)
    }

    pub(crate) fn scaled(&self, factor: i64) -> Self {
        Self {
            terms: self
                .terms
                .iter()
                .map(|(c, r)| (c * factor, r.clone()))
                .collect(),
        }
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            terms: self.terms.iter().chain(&other.terms).cloned().collect(),
        }
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&other.scaled(-1))
    }

    pub(crate) fn mentions(&self, label: Label) -> bool {
        self.terms.iter().any(|(_, r)| r.mentions(label))
    }
}

impl Term {
    pub(crate) fn constant(value: i64) -> Self {
        Self::Constant { value, scale: None }
    }

    pub(crate) fn linear(view: View) -> Self {
        Self::Linear { view, scale: None }
    }
}
