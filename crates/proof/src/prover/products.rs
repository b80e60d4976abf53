//! The sumcheck of all products (`einsum`) on the prover's side.
//!
//! A product is `Σ_x eq(x)·A(x)·B(x)` over a cube whose lowest variables are summed labels and whose highest ones are output labels; `eq` knows the latter only. Variables are bound from the lowest up,
//! so tables lie in reversed order: what is bound next is the highest bit of an index, and both halves lie side by side in vector registers.
//!
//! Products over equal cubes with the same `eq` make a group. A round's polynomial of a group is `s·l(X)·t(X)` with `l` the factor of `eq` that belongs to the variable (1 for a summed one), `s` that of the
//! variables before, and `t` a quadratic, of which two coefficients are computed and the third follows from the group's claim (Gruen, ePrint 2024/108).

use std::collections::BTreeMap;

use p3_field::{Field, PackedValue, PrimeCharacteristicRing};
use rayon::prelude::*;

use super::contract::Table;
use crate::{
    einsum::LABEL,
    field::{EF, F},
    mle::eq_table,
    packed::{
        self, Base, Extension, Lane, Matrix, Numerators, Pack, WIDTH, add, matrix, mul, sum_lanes,
        unpack,
    },
    transcript::{Channel, Sender},
};

/// Packs per task.
const GRAIN: usize = 1 << 8;

/// An operand while its variables are bound.
enum Values {
    Lanes(Vec<F>),
    Packs(Vec<Pack>),
    /// Less than two vector registers.
    Few(Vec<EF>),
}

impl From<Table> for Values {
    fn from(table: Table) -> Self {
        match table {
            Table::Base(v) if v.len() >= 2 * WIDTH => Self::Lanes(v),
            Table::Extension(v) if v.len() >= 2 * WIDTH => Self::Packs(packed::pack(&v)),
            mut table => Self::Few(std::mem::take(table.extension())),
        }
    }
}

impl Values {
    /// Base field elements beside extension elements become such, too.
    fn alike(a: Self, b: Self) -> [Self; 2] {
        let wide = |v: Vec<F>| {
            let lanes = Lane::pack_slice(&v).iter();
            let zero = Lane::ZERO;
            Self::Packs(lanes.map(|l| [*l, zero, zero, zero, zero]).collect())
        };
        match (a, b) {
            (Self::Lanes(a), b @ Self::Packs(_)) => [wide(a), b],
            (a @ Self::Packs(_), Self::Lanes(b)) => [a, wide(b)],
            (a, b) => [a, b],
        }
    }

    fn bind(&mut self, r: EF) {
        let by = matrix(&r);
        match self {
            Self::Lanes(v) => {
                let (low, high) = Lane::pack_slice(v).split_at(v.len() / WIDTH / 2);
                let pairs = low.par_iter().with_min_len(GRAIN).zip(high);
                *self = Self::Packs(pairs.map(|(a, b)| Base::fold(a, b, &by)).collect());
            }
            Self::Packs(v) => {
                let half = v.len() / 2;
                let (low, high) = v.split_at_mut(half);
                let pairs = low.par_iter_mut().with_min_len(GRAIN).zip(&*high);
                pairs.for_each(|(a, b)| *a = Extension::fold(a, b, &by));
                v.truncate(half);
            }
            Self::Few(v) => {
                let half = v.len() / 2;
                for i in 0..half {
                    v[i] = v[i] + (v[i + half] - v[i]) * r;
                }
                v.truncate(half);
            }
        }
        if let Self::Packs(v) = self
            && v.len() == 1
        {
            *self = Self::Few(unpack(v));
        }
    }

    fn first(&self) -> EF {
        match self {
            Self::Few(v) => v.first().copied().unwrap_or_default(),
            _ => EF::ZERO,
        }
    }
}

/// `eq` of the output variables that are left, but for the one that is bound next.
enum Eq {
    /// Packs; one that repeats where there are fewer values.
    Packs(Vec<Pack>),
    Few(Vec<EF>),
}

/// Products over equal cubes with the same `eq`.
struct Group {
    bits: usize,
    sum_bits: usize,
    /// Output coordinates, that of the lowest variable first.
    point: Vec<EF>,
    eq: Eq,
    /// `s`.
    scale: EF,
    /// What `t` adds up to, once it is known.
    claim: Option<EF>,
    /// Index, weight, operands.
    products: Vec<(usize, EF, [Values; 2])>,
}

impl Group {
    fn new(bits: usize, sum_bits: usize, point: Vec<EF>) -> Self {
        Self {
            bits,
            sum_bits,
            point,
            eq: Eq::Few(Vec::new()),
            scale: EF::ONE,
            claim: None,
            products: Vec::new(),
        }
    }

    /// The coordinate of the variable of a round, if it is an output's.
    fn coordinate(&self, round: usize) -> Option<EF> {
        let i = round.checked_sub(self.sum_bits)?;
        self.point.get(i).copied()
    }

    /// Brings `eq` to where round `round` needs it.
    fn prepare(&mut self, round: usize) {
        let left = &self.point[(round + 1)
            .saturating_sub(self.sum_bits)
            .min(self.point.len())..];
        // the highest variable is the lowest bit of a reversed index
        let reversed: Vec<EF> = left.iter().rev().copied().collect();
        let low = WIDTH.trailing_zeros() as usize;
        self.eq = if self.bits - round <= low {
            Eq::Few(eq_table(&reversed, EF::ONE))
        } else if reversed.len() < low {
            let few = eq_table(&reversed, EF::ONE);
            let all: Vec<EF> = few.iter().cycle().take(WIDTH).copied().collect();
            Eq::Packs(packed::pack(&all))
        } else {
            match std::mem::replace(&mut self.eq, Eq::Few(Vec::new())) {
                // a variable less
                Eq::Packs(mut v) if v.len() * WIDTH == 2 << reversed.len() => {
                    let half = v.len() / 2;
                    let (a, b) = v.split_at_mut(half);
                    a.iter_mut().zip(b).for_each(|(a, b)| *a = add(a, b));
                    v.truncate(half);
                    Eq::Packs(v)
                }
                Eq::Packs(v) if v.len() * WIDTH == 1 << reversed.len() => Eq::Packs(v),
                _ => Eq::Packs(packed::eq_packs(&reversed, EF::ONE)),
            }
        };
    }

    /// `t(0)`, `t(1)` and the leading coefficient.
    fn quadratic(&self, coordinate: Option<EF>) -> [EF; 3] {
        let all = self.claim.is_none();
        let each = self.products.par_iter();
        let sums = each.map(|(_, weight, [a, b])| sums(a, b, &self.eq, all).map(|v| v * *weight));
        let [zero, one, two] = sums.reduce(|| [EF::ZERO; 3], add3);
        let one = match (self.claim, coordinate) {
            (None, _) => one,
            (Some(claim), None) => claim - zero,
            // a coordinate of 0 has probability 1/|EF|; the proof is not accepted then
            (Some(claim), Some(r)) => {
                (claim - (EF::ONE - r) * zero) * r.try_inverse().unwrap_or_default()
            }
        };
        [zero, one, two]
    }

    /// Binds the variable of a round.
    fn bind(&mut self, r: EF, [zero, one, two]: [EF; 3], coordinate: Option<EF>) {
        self.claim = Some(zero + r * (one - zero - two) + r * r * two);
        if let Some(c) = coordinate {
            self.scale *= c * r + (EF::ONE - c) * (EF::ONE - r);
        }
        self.products
            .par_iter_mut()
            .for_each(|(_, _, v)| v.iter_mut().for_each(|v| v.bind(r)));
    }

    /// What is left of the products when all variables are bound.
    fn value(&self) -> EF {
        let each = self.products.iter();
        let sum: EF = each.map(|(_, w, [a, b])| *w * a.first() * b.first()).sum();
        sum * self.scale
    }
}

fn add3(a: [EF; 3], b: [EF; 3]) -> [EF; 3] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// `Σ eq·a·b` with the highest bit of the index 0, then 1 (if `all`), then of the differences.
fn sums(a: &Values, b: &Values, eq: &Eq, all: bool) -> [EF; 3] {
    match (a, b, eq) {
        (Values::Lanes(a), Values::Lanes(b), Eq::Packs(eq)) => {
            let (a, b) = (Lane::pack_slice(a), Lane::pack_slice(b));
            halves::<Base>(a, b, eq, all)
        }
        (Values::Packs(a), Values::Packs(b), Eq::Packs(eq)) => halves::<Extension>(a, b, eq, all),
        (Values::Few(a), Values::Few(b), Eq::Few(eq)) => {
            let half = a.len() / 2;
            let each = (0..half).map(|i| {
                let e = eq[i % eq.len()];
                let (a0, a1, b0, b1) = (a[i], a[i + half], b[i], b[i + half]);
                [a0 * b0, a1 * b1, (a1 - a0) * (b1 - b0)].map(|v| v * e)
            });
            each.fold([EF::ZERO; 3], add3)
        }
        _ => [EF::ZERO; 3],
    }
}

/// What is multiplied in the packed sums.
trait Multiply: Numerators {
    fn product(a: &Self::N, b: &Self::N) -> Self::N;
    fn both(a: &Self::N, b: &Self::N) -> Self::N;
    fn times(a: &Self::N, e: &Pack) -> Pack;
    const ZERO: Self::N;
}

impl Multiply for Base {
    #[inline(always)]
    fn product(a: &Lane, b: &Lane) -> Lane {
        *a * *b
    }

    #[inline(always)]
    fn both(a: &Lane, b: &Lane) -> Lane {
        *a + *b
    }

    #[inline(always)]
    fn times(a: &Lane, e: &Pack) -> Pack {
        e.map(|c| c * *a)
    }

    const ZERO: Lane = Lane::ZERO;
}

impl Multiply for Extension {
    #[inline(always)]
    fn product(a: &Pack, b: &Pack) -> Pack {
        mul(a, &Matrix::new(b))
    }

    #[inline(always)]
    fn both(a: &Pack, b: &Pack) -> Pack {
        add(a, b)
    }

    #[inline(always)]
    fn times(a: &Pack, e: &Pack) -> Pack {
        mul(a, &Matrix::new(e))
    }

    const ZERO: Pack = [Lane::ZERO; 5];
}

fn halves<K: Multiply>(a: &[K::N], b: &[K::N], eq: &[Pack], all: bool) -> [EF; 3] {
    let half = a.len() / 2;
    // whatever eq lacks is summed
    let rounds = half / eq.len();
    let ((a0, a1), (b0, b1)) = (a.split_at(half), b.split_at(half));
    let one = |i: usize| {
        let mut sums = [K::ZERO; 3];
        for k in 0..rounds {
            let at = k * eq.len() + i;
            let (a0, a1, b0, b1) = (&a0[at], &a1[at], &b0[at], &b1[at]);
            sums[0] = K::both(&sums[0], &K::product(a0, b0));
            if all {
                sums[1] = K::both(&sums[1], &K::product(a1, b1));
            }
            sums[2] = K::both(&sums[2], &K::product(&K::sub(a1, a0), &K::sub(b1, b0)));
        }
        sums.map(|s| K::times(&s, &eq[i]))
    };
    let zero = [[Lane::ZERO; 5]; 3];
    let plus = |a: [Pack; 3], b: [Pack; 3]| [0, 1, 2].map(|i| add(&a[i], &b[i]));
    let total = if half <= GRAIN {
        (0..eq.len()).map(one).fold(zero, plus)
    } else {
        let each = (0..eq.len()).into_par_iter();
        each.with_min_len((GRAIN / rounds).max(1))
            .map(one)
            .reduce(|| zero, plus)
    };
    total.map(|p| sum_lanes(&p))
}

/// A product: coordinates of its output labels, how many variables are summed, a weight, operands.
pub(super) struct Product {
    pub(super) point: Vec<EF>,
    pub(super) sum_bits: usize,
    pub(super) weight: EF,
    pub(super) a: Table,
    pub(super) b: Table,
}

/// Proves what the products add up to. Returns the point, lowest variable first, and the products' operands there.
pub(super) fn prove(products: Vec<Product>, sender: &mut Sender<'_>) -> (Vec<EF>, Vec<[EF; 2]>) {
    let mut out = vec![[EF::ZERO; 2]; products.len()];
    let mut groups: Vec<Group> = Vec::new();
    let mut ids: BTreeMap<(usize, Vec<u32>), usize> = BTreeMap::new();
    for (i, product) in products.into_iter().enumerate() {
        let Product {
            point,
            sum_bits,
            weight,
            a,
            b,
        } = product;
        let key = point.iter().flat_map(packed::coefficients);
        let key = key.map(|c| p3_field::PrimeField32::as_canonical_u32(&c));
        let id = *ids.entry((sum_bits, key.collect())).or_insert(groups.len());
        if id == groups.len() {
            groups.push(Group::new(sum_bits + point.len(), sum_bits, point));
        }
        let values = Values::alike(a.into(), b.into());
        groups[id].products.push((i, weight, values));
    }
    let rounds = groups.iter().map(|g| g.bits).max().unwrap_or(0);
    let mut point = Vec::with_capacity(rounds);
    // of products without variables: what is left of them
    let mut rest = EF::ZERO;
    for round in 0..rounds {
        rest += groups
            .iter()
            .filter(|g| g.bits == round)
            .map(Group::value)
            .sum::<EF>();
        let mut live: Vec<&mut Group> = groups.iter_mut().filter(|g| g.bits > round).collect();
        let quadratic = |g: &mut &mut Group| {
            g.prepare(round);
            g.quadratic(g.coordinate(round))
        };
        let quadratics: Vec<[EF; 3]> = live.par_iter_mut().map(quadratic).collect();
        let mut sum = [rest, -rest, -rest.double()];
        for (g, [zero, one, two]) in live.iter().zip(&quadratics) {
            let two = two.double();
            let t = [
                *zero,
                one.double() - *zero + two,
                one.double() + *one - zero.double() + two.double() + two,
            ];
            let l = g.coordinate(round).map_or([EF::ONE; 3], |r| {
                let triple = r.double() + r;
                [EF::ONE - r, triple - EF::ONE, triple + r.double() - EF::TWO]
            });
            for ((s, t), l) in sum.iter_mut().zip(t).zip(l) {
                *s += g.scale * l * t;
            }
        }
        sender.send(LABEL, &sum);
        let r = sender.transcript().challenge();
        rest *= EF::ONE - r;
        live.par_iter_mut().zip(quadratics).for_each(|(g, t)| {
            let coordinate = g.coordinate(round);
            g.bind(r, t, coordinate);
        });
        point.push(r);
    }
    for (i, _, values) in groups.iter().flat_map(|g| &g.products) {
        out[*i] = values.each_ref().map(Values::first);
    }
    (point, out)
}
