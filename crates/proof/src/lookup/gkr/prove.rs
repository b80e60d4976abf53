//! The prover.

use p3_field::{Field, PrimeCharacteristicRing};

use super::{
    Children, LAYER, LeafClaim, ROOT, ROUND,
    layer::{Eq, Layer},
    memory::Spare,
    scalar::{Fractions, Tables},
};
use crate::{
    field::{EF, F},
    mle::eq_table,
    transcript::{Channel, Sender},
};

/// A layer, packed when it is large enough.
enum AnyLayer<'a> {
    Packed(Layer<'a>),
    Scalar(Fractions),
}

impl AnyLayer<'_> {
    fn size(&self) -> usize {
        match self {
            Self::Packed(l) => l.size(),
            Self::Scalar(f) => f.p.len(),
        }
    }

    fn add_pairs(&self) -> AnyLayer<'static> {
        match self {
            Self::Packed(l) if l.size() > Layer::MIN => AnyLayer::Packed(l.add_pairs()),
            Self::Packed(l) => AnyLayer::Scalar(l.unpack().add_pairs()),
            Self::Scalar(f) => AnyLayer::Scalar(f.add_pairs()),
        }
    }
}

/// Sends the root and all layers and returns the claim about the leaves. Takes the denominators, see the module for the memory needed. The proof is accepted when the fractions
/// add up to zero and no denominator is zero.
///
/// # Panics
/// When the lengths differ or are not a power of two that is at least 2.
pub(crate) fn prove(numerators: &[F], denominators: Vec<EF>, sender: &mut Sender<'_>) -> LeafClaim {
    let size = numerators.len();
    assert_eq!(size, denominators.len());
    assert!(size.is_power_of_two() && size > 1);
    let leaves = if size >= Layer::MIN {
        AnyLayer::Packed(Layer::leaves(numerators, denominators))
    } else {
        AnyLayer::Scalar(Fractions {
            p: numerators.iter().map(|v| EF::from(*v)).collect(),
            q: denominators,
        })
    };
    let mut layers = vec![leaves];
    while let Some(last) = layers.last()
        && last.size() > 2
    {
        layers.push(last.add_pairs());
    }

    let mut point = Vec::new();
    let mut claim = [EF::ZERO; 2];
    let mut spare = Spare::default();
    while let Some(layer) = layers.pop() {
        let children = if point.is_empty() {
            let children = match layer {
                AnyLayer::Scalar(f) => f.children(0, 1),
                AnyLayer::Packed(l) => l.unpack().children(0, 1),
            };
            sender.send(ROOT, &children.message());
            children
        } else {
            let (children, next) = sumcheck(layer, &point, claim, &mut spare, sender);
            sender.send(LAYER, &children.message());
            point = next;
            children
        };
        let mu = sender.transcript().challenge();
        claim = children.at(mu);
        point.push(mu);
    }
    LeafClaim {
        point,
        numerator: claim[0],
        denominator: claim[1],
    }
}

/// The rounds of a layer: messages and challenges.
struct Rounds<'a, 's> {
    sender: &'a mut Sender<'s>,
    point: &'a [EF],
    claim: EF,
    /// Challenges so far, the highest variable's first.
    bound: Vec<EF>,
}

impl Rounds<'_, '_> {
    /// Variables that are not bound.
    fn left(&self) -> &[EF] {
        &self.point[..self.point.len() - self.bound.len()]
    }

    /// Sends a round polynomial of which `t(0)` and the quadratic coefficient are known, returns the challenge. The linear coefficient follows from the claim unless the coordinate is
    /// zero, which happens with probability `1/|EF|`; the proof is not accepted then.
    fn step(&mut self, [constant, quadratic]: [EF; 2]) -> EF {
        let r = self.left().last().copied().unwrap_or_default();
        let inverse = r.try_inverse().unwrap_or_default();
        let linear = (self.claim - constant) * inverse - quadratic;
        self.sender.send(ROUND, &[linear, quadratic]);
        let rho = self.sender.transcript().challenge();
        self.claim = constant + rho * (linear + rho * quadratic);
        self.bound.push(rho);
        rho
    }
}

/// The sumcheck of one layer: its values at the end, and where.
fn sumcheck(
    layer: AnyLayer<'_>,
    point: &[EF],
    [p, q]: [EF; 2],
    spare: &mut Spare,
    sender: &mut Sender<'_>,
) -> (Children, Vec<EF>) {
    let lambda = sender.transcript().challenge();
    let mut rounds = Rounds {
        sender,
        point,
        claim: p + lambda * q,
        bound: Vec::with_capacity(point.len() + 1),
    };
    let mut tables = match layer {
        AnyLayer::Scalar(f) => {
            let mut tables = f.into_tables();
            tables.mix(lambda);
            tables
        }
        AnyLayer::Packed(l) => packed_rounds(l, lambda, &mut rounds, spare),
    };
    while tables.len() > 1 {
        let (_, low) = rounds.left().split_last().unwrap_or((&EF::ZERO, &[]));
        let rho = rounds.step(tables.evaluate(&eq_table(low, EF::ONE)));
        tables.fold(rho);
    }
    let [p0, p1, q0, q1] = tables.0.map(|v| v[0]);
    let p1 = p1 - lambda * q1;
    let mut next = rounds.bound;
    next.reverse();
    (Children { p0, p1, q0, q1 }, next)
}

/// The rounds on whole packs.
fn packed_rounds(
    layer: Layer<'_>,
    lambda: EF,
    rounds: &mut Rounds<'_, '_>,
    spare: &mut Spare,
) -> Tables {
    let mut tables = layer.into_tables();
    let mut eq = Eq::new(&rounds.point[..rounds.point.len() - 1]);
    let mut rho = rounds.step(tables.evaluate(&eq, lambda));
    let mut mix = Some(lambda);
    while tables.len() > 2 {
        eq.shrink();
        rho = rounds.step(tables.fold_and_evaluate(&eq, rho, mix.take(), spare));
    }
    let mut tables = tables.unpack(spare);
    if mix.is_some() {
        tables.mix(lambda);
    }
    tables.fold(rho);
    tables
}
