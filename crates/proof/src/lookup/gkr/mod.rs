//! The sum of fractions: `Σ_i num_i / den_i = 0` for `2^L` leaves, proven layer by layer (Papini and Haböck, ePrint 2023/1284).
//!
//! A layer of `2^l` fractions arises from the one below by adding the fractions `i` and `i + 2^l`: the **highest** bit of an index tells the child, so both children are
//! contiguous and the point of the leaves comes out lowest bit first. With `p`, `q` for numerators and denominators and an index 0 or 1 for the child,
//! `p = p0 q1 + p1 q0` and `q = q0 q1`.
//!
//! A claim on `p(r)` and `q(r)` is passed on by a sumcheck of `p(r) + λ q(r) = Σ_x eq(r, x) [p0 q1 + p1 q0 + λ q0 q1](x)`, which binds the highest variable first. The factor of `eq`
//! that belongs to the variable being bound is left out of the round polynomial (Gruen, ePrint 2024/108): the round's claim is `c = Σ_y eq(r', y) [(1 − r_j) g(y, 0) + r_j g(y, 1)]`,
//! the message is the quadratic `t(X) = Σ_y eq(r', y) g(y, X)` and the next claim is `t(ρ)`. As `c = t(0) + r_j (t(1) − t(0))`, the linear and the quadratic coefficient
//! are sent and the verifier gets `t(0)` without a division. The factor `eq(r, ρ)` appears nowhere.
//!
//! Memory of the prover, with `N = 2^L`: `4 N` bytes of numerators (borrowed), `20 N` in which first all layers but the lowest two lie, then the lowest, then the leaves' denominators, each
//! made when it is needed, and `10 N` where the numerators of the leaves go when they are folded: `34 N`.

mod layer;
mod memory;
mod prove;
mod scalar;
#[cfg(test)]
mod tests;
mod verify;

use crate::{
    field::{EF, F},
    packed::{self, Pack, WIDTH},
};

pub(crate) use memory::with_capacity;
pub(crate) use prove::prove;
#[cfg(test)]
pub(crate) use tests::Given;
pub(crate) use verify::verify;

/// The fractions to be summed up.
pub(crate) trait Leaves: Sync {
    /// All numerators.
    fn numerators(&self) -> &[F];
    /// Denominator `i`.
    fn denominator(&self, i: usize) -> EF;
    /// The denominators from pack `first` on.
    fn denominators(&self, first: usize, out: &mut [Pack]) {
        for (i, out) in out.iter_mut().enumerate() {
            let all: [EF; WIDTH] =
                std::array::from_fn(|l| self.denominator((first + i) * WIDTH + l));
            *out = packed::pack(&all)[0];
        }
    }
}

/// What is left to show: the multilinear extensions of the leaves at one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeafClaim<V = EF> {
    /// `L` coordinates, lowest bit first.
    pub(crate) point: Vec<EF>,
    /// The numerators there.
    pub(crate) numerator: V,
    /// The denominators there.
    pub(crate) denominator: V,
}

/// Elements of a proof for `2^log` leaves, exactly: four of the root, and for the layer above `2^(k+1)` fractions `k` rounds of two and four at the end.
pub(crate) fn elements(log: usize) -> usize {
    4 + (1..log).map(|k| 2 * k + 4).sum::<usize>()
}

/// Products of two elements that the verifier needs: three for the root, two for each layer.
pub(crate) fn products(log: usize) -> usize {
    3 + 2 * log.saturating_sub(1)
}

/// The soundness error is at most this, divided by the size of the extension field: degree two in every round, and one for each `λ` and each choice of a child.
pub(crate) fn error_degree_sum(log: usize) -> u64 {
    (1..log as u64).map(|k| 2 * k + 2).sum::<u64>() + 1
}

/// Labels of the messages.
const ROOT: &str = "gkr root";
const ROUND: &str = "gkr round";
const LAYER: &str = "gkr layer";

/// A layer's four values at the point that its sumcheck ends in, or the root's two children.
#[derive(Clone, Copy)]
struct Children {
    p0: EF,
    p1: EF,
    q0: EF,
    q1: EF,
}

impl Children {
    fn numerator(&self) -> EF {
        self.p0 * self.q1 + self.p1 * self.q0
    }

    fn denominator(&self) -> EF {
        self.q0 * self.q1
    }

    /// Numerator and denominator with the child's bit set to `mu`.
    fn at(&self, mu: EF) -> [EF; 2] {
        [
            self.p0 + mu * (self.p1 - self.p0),
            self.q0 + mu * (self.q1 - self.q0),
        ]
    }

    fn message(&self) -> [EF; 4] {
        [self.p0, self.p1, self.q0, self.q1]
    }
}
