//! Functions of one real variable, as they are found spelled out in exported files: they become one lookup table.

use std::sync::Arc;

use crate::float;

/// Most operations in one function.
const MAX_SIZE: usize = 200;

/// Operations of one argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// max(0, x).
    Relu,
    /// x or slope · x.
    Leaky(f64),
    /// x or α(e^x − 1).
    Elu(f64),
    /// Logistic function.
    Sigmoid,
    /// min(1, max(0, αx + β)).
    HardSigmoid(f64, f64),
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// x Φ(x).
    Gelu,
    /// The tanh form of GELU.
    GeluTanh,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root of max(0, x).
    Sqrt,
    /// |x|.
    Abs,
    /// −x.
    Neg,
    /// 1 / x.
    Reciprocal,
    /// ln(1 + e^x).
    Softplus,
}

/// Operations of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// a to the power of b; b a small integer or ±½.
    Pow,
    /// Smaller of the two.
    Min,
    /// Larger of the two.
    Max,
}

#[derive(Debug)]
enum Term {
    X,
    Const(f64),
    Unary(Unary, Expr),
    Binary(Binary, Expr, Expr),
}

/// A function of one variable; cheap to clone, of bounded size.
#[derive(Clone, Debug)]
pub struct Expr {
    term: Arc<Term>,
    size: usize,
}

impl Expr {
    /// The variable.
    pub fn x() -> Self {
        Self {
            term: Arc::new(Term::X),
            size: 1,
        }
    }

    /// A constant.
    pub fn constant(value: f64) -> Self {
        Self {
            term: Arc::new(Term::Const(value)),
            size: 1,
        }
    }

    /// `f(self)`; `None` when the function has grown too large.
    pub fn unary(self, f: Unary) -> Option<Self> {
        let size = self.size + 1;
        (size <= MAX_SIZE).then(|| Self {
            term: Arc::new(Term::Unary(f, self)),
            size,
        })
    }

    /// `f(a, b)`; `None` when the function has grown too large.
    pub fn binary(f: Binary, a: Self, b: Self) -> Option<Self> {
        let size = a.size + b.size + 1;
        (size <= MAX_SIZE).then(|| Self {
            term: Arc::new(Term::Binary(f, a, b)),
            size,
        })
    }

    /// Value at `x`; may be NaN or infinite where the function is.
    pub fn at(&self, x: f64) -> f64 {
        match &*self.term {
            Term::X => x,
            Term::Const(c) => *c,
            Term::Unary(f, a) => unary(*f, a.at(x)),
            Term::Binary(f, a, b) => binary(*f, a.at(x), b.at(x)),
        }
    }

    /// `(a, b)` when the function is `a·x + b` by its form.
    pub fn affine(&self) -> Option<(f64, f64)> {
        match &*self.term {
            Term::X => Some((1.0, 0.0)),
            Term::Const(c) => Some((0.0, *c)),
            Term::Unary(Unary::Neg, a) => a.affine().map(|(a, b)| (-a, -b)),
            Term::Unary(..) => None,
            Term::Binary(f, a, b) => {
                let ((a1, b1), (a2, b2)) = (a.affine()?, b.affine()?);
                match f {
                    Binary::Add => Some((a1 + a2, b1 + b2)),
                    Binary::Sub => Some((a1 - a2, b1 - b2)),
                    Binary::Mul if a1 == 0.0 => Some((a2 * b1, b2 * b1)),
                    Binary::Mul if a2 == 0.0 => Some((a1 * b2, b1 * b2)),
                    Binary::Div if a2 == 0.0 && b2 != 0.0 => Some((a1 / b2, b1 / b2)),
                    _ => None,
                }
            }
        }
    }

    /// `(lo, hi)` when the function limits x to an interval.
    pub fn clamp(&self) -> Option<(f64, f64)> {
        match &*self.term {
            Term::X => Some((f64::NEG_INFINITY, f64::INFINITY)),
            Term::Unary(Unary::Relu, a) => a.clamp().map(|(lo, hi)| (lo.max(0.0), hi.max(0.0))),
            Term::Binary(f @ (Binary::Min | Binary::Max), a, b) => {
                let (inner, limit) = match (&*a.term, &*b.term) {
                    (_, Term::Const(c)) => (a, *c),
                    (Term::Const(c), _) => (b, *c),
                    _ => return None,
                };
                let (lo, hi) = inner.clamp()?;
                Some(if *f == Binary::Min {
                    (lo.min(limit), hi.min(limit))
                } else {
                    (lo.max(limit), hi.max(limit))
                })
            }
            _ => None,
        }
    }
}

fn unary(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Relu => x.max(0.0),
        Unary::Leaky(slope) => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Unary::Elu(alpha) => {
            if x < 0.0 {
                alpha * (float::exp(x) - 1.0)
            } else {
                x
            }
        }
        Unary::Sigmoid => float::sigmoid(x),
        Unary::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
        Unary::Tanh => float::tanh(x),
        Unary::Erf => float::erf(x),
        Unary::Gelu => float::gelu(x),
        Unary::GeluTanh => {
            0.5 * x * (1.0 + float::tanh(0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)))
        }
        Unary::Exp => float::exp(x),
        Unary::Log => float::ln(x),
        Unary::Sqrt => x.max(0.0).sqrt(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Reciprocal => 1.0 / x,
        Unary::Softplus => x.max(0.0) + float::ln(1.0 + float::exp(-x.abs())),
    }
}

fn binary(f: Binary, a: f64, b: f64) -> f64 {
    match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => power(a, b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
    }
}

fn power(a: f64, b: f64) -> f64 {
    if b == 0.5 {
        a.sqrt()
    } else if b == -0.5 {
        1.0 / a.sqrt()
    } else if b.fract() == 0.0 && b.abs() <= 16.0 {
        let whole = (0..b.abs() as u32).fold(1.0, |acc, _| acc * a);
        if b < 0.0 { 1.0 / whole } else { whole }
    } else {
        float::exp(b * float::ln(a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_and_clamp_are_recognised_by_form() {
        let x = Expr::x();
        let e = Expr::binary(
            Binary::Add,
            Expr::binary(Binary::Mul, x.clone(), Expr::constant(3.0)).unwrap(),
            Expr::constant(1.0),
        )
        .unwrap();
        assert_eq!(e.affine(), Some((3.0, 1.0)));
        let clip = Expr::binary(
            Binary::Min,
            x.clone().unary(Unary::Relu).unwrap(),
            Expr::constant(6.0),
        )
        .unwrap();
        assert_eq!(clip.clamp(), Some((0.0, 6.0)));
        assert!(clip.affine().is_none());
        assert_eq!(clip.at(9.0), 6.0);
    }

    #[test]
    fn self_multiplication_does_not_grow_without_limit() {
        let mut e = Expr::x();
        let mut steps = 0;
        while let Some(next) = Expr::binary(Binary::Mul, e.clone(), e.clone()) {
            e = next;
            steps += 1;
            assert!(steps < 20);
        }
    }
}
