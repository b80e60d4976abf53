//! The prover.

use p3_field::{Field, PrimeCharacteristicRing};

use super::{
    Children, LAYER, LeafClaim, Leaves, ROOT, ROUND,
    layer::{Eq, Layer},
    memory::zeros,
    scalar::{Fractions, Tables},
};
use crate::{
    field::{DEGREE, EF, F},
    mle::eq_table,
    transcript::{Channel, Sender},
};

/// A layer, packed when it is large enough.
enum AnyLayer<'a> {
    Packed(Layer<'a>),
    Scalar(Fractions),
}

/// The claim so far, and its point.
#[derive(Default)]
struct State {
    point: Vec<EF>,
    claim: [EF; 2],
}

impl State {
    /// Sends a layer, the root first.
    fn step<'a>(&mut self, layer: AnyLayer<'a>, spare: &mut &'a mut [F], sender: &mut Sender<'_>) {
        let children = if self.point.is_empty() {
            let children = match layer {
                AnyLayer::Scalar(f) => f.children(0, 1),
                AnyLayer::Packed(l) => l.unpack().children(0, 1),
            };
            sender.send(ROOT, &children.message());
            children
        } else {
            let (children, next) = sumcheck(layer, &self.point, self.claim, spare, sender);
            sender.send(LAYER, &children.message());
            self.point = next;
            children
        };
        let mu = sender.transcript().challenge();
        self.claim = children.at(mu);
        self.point.push(mu);
    }

    /// Sends layers of which the last is the root.
    fn steps<'a>(&mut self, mut layers: Vec<AnyLayer<'a>>, sender: &mut Sender<'_>) {
        while let Some(layer) = layers.pop() {
            self.step(layer, &mut &mut [][..], sender);
        }
    }
}

/// A layer and all above it.
fn scalar(first: Fractions) -> Vec<AnyLayer<'static>> {
    let mut layers = vec![first];
    while let Some(last) = layers.last()
        && last.p.len() > 2
    {
        layers.push(last.add_pairs());
    }
    layers.into_iter().map(AnyLayer::Scalar).collect()
}

/// A layer and all above it, whose numerators and denominators lie in `rest`.
fn packed<'a>(first: Layer<'a>, mut rest: &'a mut [F]) -> Vec<AnyLayer<'a>> {
    let mut layers = vec![first];
    let top = loop {
        let last = &layers[layers.len() - 1];
        if last.size() <= Layer::MIN {
            break last.unpack().add_pairs();
        }
        let len = last.size() / 2 * DEGREE;
        let (p, after) = rest.split_at_mut(len);
        let (q, after) = after.split_at_mut(len);
        rest = after;
        let next = last.add_pairs(p, q);
        layers.push(next);
    };
    let packed = layers.into_iter().map(AnyLayer::Packed);
    packed.chain(scalar(top)).collect()
}

/// Sends the root and all layers and returns the claim about the leaves. See the module for the memory needed. The proof is accepted when the fractions add up to zero and no denominator
/// is zero.
///
/// # Panics
/// When the number of leaves is not a power of two that is at least 2.
pub(crate) fn prove(leaves: &impl Leaves, sender: &mut Sender<'_>) -> LeafClaim {
    let size = leaves.numerators().len();
    assert!(size.is_power_of_two() && size > 1);
    let mut state = State::default();
    if size < 4 * Layer::MIN {
        let first = Fractions {
            p: leaves.numerators().iter().map(|v| EF::from(*v)).collect(),
            q: (0..size).map(|i| leaves.denominator(i)).collect(),
        };
        state.steps(scalar(first), sender);
    } else {
        let mut space = zeros(DEGREE * size);
        let mut spare = zeros(DEGREE * size / 2);
        let (p, rest) = space.split_at_mut(DEGREE * size / 4);
        let (q, rest) = rest.split_at_mut(DEGREE * size / 4);
        let layers = packed(Layer::second(leaves, p, q), rest);
        state.steps(layers, sender);
        let (p, q) = space.split_at_mut(DEGREE * size / 2);
        let layer = AnyLayer::Packed(Layer::above(leaves, p, q));
        state.step(layer, &mut &mut [][..], sender);
        let layer = AnyLayer::Packed(Layer::leaves(leaves, &mut space));
        state.step(layer, &mut &mut spare[..], sender);
    }
    LeafClaim {
        point: state.point,
        numerator: state.claim[0],
        denominator: state.claim[1],
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
fn sumcheck<'a>(
    layer: AnyLayer<'a>,
    point: &[EF],
    [p, q]: [EF; 2],
    spare: &mut &'a mut [F],
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
fn packed_rounds<'a>(
    layer: Layer<'a>,
    lambda: EF,
    rounds: &mut Rounds<'_, '_>,
    spare: &mut &'a mut [F],
) -> Tables {
    let mut tables = layer.into_tables();
    let mut eq = Eq::new(&rounds.point[..rounds.point.len() - 1]);
    let mut rho = rounds.step(tables.evaluate(&eq, lambda));
    let mut mix = Some(lambda);
    while tables.len() > 2 {
        eq.shrink();
        rho = rounds.step(tables.fold_and_evaluate(&eq, rho, mix.take(), spare));
    }
    let mut tables = tables.unpack();
    if mix.is_some() {
        tables.mix(lambda);
    }
    tables.fold(rho);
    tables
}
