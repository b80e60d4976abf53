//! Checks a witness over the integers, without any cryptography: every cell in its table, every relation at every index. What the protocol must agree with.

use std::collections::HashMap;

use assay_graph::Const;

use crate::{
    key::values,
    lookup,
    plan::{
        Plan,
        expr::{Operand, Read, Term, View},
    },
};

/// What a witness violates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A cell of this column is in no table.
    Cell(usize),
    /// This relation does not hold.
    Relation {
        label: &'static str,
        node: u32,
        at: Vec<usize>,
        sum: i128,
    },
}

struct Oracle<'a> {
    plan: &'a Plan,
    data: &'a [Vec<i32>],
    weights: HashMap<usize, Vec<i32>>,
}

impl Oracle<'_> {
    fn read(&self, read: &Read, labels: &[usize]) -> i128 {
        let (shape, data): (&[usize], &[i32]) = match read.operand {
            Operand::Column(id) => (&self.plan.columns[id].shape, &self.data[id]),
            Operand::Weight(id) => (&self.plan.weights[id].shape, &self.weights[&id]),
            Operand::Public(id) => (&self.plan.publics[id].shape, &self.plan.publics[id].data),
        };
        let mut at = 0;
        for (index, n) in read.indices.iter().zip(shape) {
            let i = index.affine.at(labels);
            let i = match &index.gather {
                None => usize::try_from(i).ok(),
                Some(list) => usize::try_from(i)
                    .ok()
                    .and_then(|i| list.get(i))
                    .map(|i| *i as usize),
            };
            match i.filter(|i| i < n) {
                Some(i) => at = at * n + i,
                None => return 0,
            }
        }
        data[at].into()
    }

    fn view(&self, view: &View, labels: &[usize]) -> i128 {
        view.terms
            .iter()
            .map(|(c, read)| i128::from(*c) * self.read(read, labels))
            .sum()
    }

    fn term(&self, term: &Term, labels: &[usize]) -> i128 {
        let factor = |scale: &Option<(usize, usize)>| {
            scale.map_or(1, |(l, s)| i128::from(self.plan.scales[s][labels[l]]))
        };
        match term {
            Term::Constant { value, scale } => i128::from(*value) * factor(scale),
            Term::Linear { view, scale } => self.view(view, labels) * factor(scale),
            Term::Product {
                coefficient,
                sums,
                a,
                b,
            } => {
                let mut all = labels.to_vec();
                let mut total = 0;
                for inner in indices(sums) {
                    all.truncate(labels.len());
                    all.extend(inner);
                    total += self.view(a, &all) * self.view(b, &all);
                }
                total * i128::from(*coefficient)
            }
        }
    }
}

/// All index tuples of a shape.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let n: usize = shape.iter().product();
    (0..n).map(move |mut i| {
        let mut out = vec![0; shape.len()];
        for (o, n) in out.iter_mut().zip(shape).rev() {
            *o = i % n;
            i /= n;
        }
        out
    })
}

/// The first violation.
pub(crate) fn check(plan: &Plan, consts: &[Const], data: &[Vec<i32>]) -> Result<(), Violation> {
    match violations(plan, consts, data).into_iter().next() {
        Some(v) => Err(v),
        None => Ok(()),
    }
}

/// All columns with a cell outside its table, then the first violation of each relation.
pub(crate) fn violations(plan: &Plan, consts: &[Const], data: &[Vec<i32>]) -> Vec<Violation> {
    let mut out: Vec<Violation> = lookup::strays(plan, data)
        .into_iter()
        .map(Violation::Cell)
        .collect();
    let weights = plan
        .weights
        .iter()
        .enumerate()
        .map(|(i, w)| (i, values(consts, w)))
        .collect();
    let oracle = Oracle {
        plan,
        data,
        weights,
    };
    for relation in &plan.relations {
        let broken = indices(&relation.axes).find_map(|labels| {
            let sum: i128 = relation.terms.iter().map(|t| oracle.term(t, &labels)).sum();
            (sum != 0).then_some((labels, sum))
        });
        out.extend(broken.map(|(at, sum)| Violation::Relation {
            label: relation.label,
            node: relation.node,
            at,
            sum,
        }));
    }
    out
}
