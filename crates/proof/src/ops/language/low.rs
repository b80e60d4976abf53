//! Low limbs: small integers congruent to a value modulo 2^8, with which relations between integers wider than the field are checked.

use std::sync::Arc;

use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{ColumnId, Operand, Read, Term, View},
        value::Value,
    },
};

/// Low limbs are modulo `2^BITS`.
pub(crate) const BITS: i64 = 8;
const BASE: i64 = 1 << BITS;
/// Longest table from which a low limb is read.
const MAX_TABLE: i64 = 1 << 18;

/// A view congruent to another modulo `2^BITS`.
#[derive(Clone, Debug)]
pub(crate) struct Low {
    pub(crate) view: View,
    /// Largest magnitude.
    pub(crate) most: i64,
}

pub(crate) fn centered(v: i64) -> i64 {
    (v + BASE / 2).rem_euclid(BASE) - BASE / 2
}

/// The low limb of a value; what it needs is committed once for each column.
pub(crate) fn low(b: &mut Builder, x: &Value) -> Result<Low, PlanError> {
    let mut out = Low {
        view: View::default(),
        most: 0,
    };
    for (c, read) in &x.view.terms {
        let c = centered(*c);
        if c == 0 {
            continue;
        }
        let Some((read, most)) = of_read(b, read, c)? else {
            return whole(b, x);
        };
        out.view.terms.push((c, read));
        out.most += c.abs() * most;
    }
    Ok(out)
}

/// Something congruent to `c` times what is read, and its largest magnitude; none where only the value as a whole has a known range.
fn of_read(b: &mut Builder, read: &Read, c: i64) -> Result<Option<(Read, i64)>, PlanError> {
    let with = |operand| Read {
        operand,
        indices: read.indices.clone(),
    };
    let id = match read.operand {
        Operand::Column(id) => id,
        Operand::Public(id) => {
            let tensor = b.public_of(id);
            let data = tensor.data.iter().map(|v| centered((*v).into()) as i32);
            let (shape, data) = (tensor.shape.clone(), data.collect());
            let id = b.public(&shape, Arc::new(data));
            return Ok(Some((with(Operand::Public(id)), BASE / 2)));
        }
        Operand::Weight(_) => return Ok(None),
    };
    if let Some(low) = b.low_of.get(&id) {
        return Ok(Some((with(Operand::Column(*low)), BASE / 2)));
    }
    let Some((lo, hi)) = b.bounds_of(id) else {
        return Ok(None);
    };
    let most = lo.abs().max(hi.abs());
    if most < BASE && c.abs() * most <= 2 * BASE {
        return Ok(Some((read.clone(), most)));
    }
    let low = match b.attach(id, (lo..=hi).map(|v| centered(v) as i32).collect()) {
        Some(low) => low,
        None => {
            let shape = b.column_of(id).shape.clone();
            copied(b, &shape, &View::column(id, shape.len()), (lo, hi))?
        }
    };
    b.low_of.insert(id, low);
    Ok(Some((with(Operand::Column(low)), BASE / 2)))
}

fn whole(b: &mut Builder, x: &Value) -> Result<Low, PlanError> {
    let axes = x.factors();
    let id = copied(b, &axes, &x.view, (x.lo, x.hi))?;
    Ok(Low {
        view: View::column(id, axes.len()),
        most: BASE / 2,
    })
}

/// Commits a view once more, with its low limbs as partner.
fn copied(
    b: &mut Builder,
    axes: &[usize],
    view: &View,
    (lo, hi): (i64, i64),
) -> Result<ColumnId, PlanError> {
    if hi - lo >= MAX_TABLE {
        return Err(b.unsupported("a value is too wide for a table of its low limbs"));
    }
    let values: Vec<i32> = (lo..=hi).map(|v| centered(v) as i32).collect();
    let ints = b.evaluate(view, axes);
    let keys = ints.as_ref().map(|v| v.iter().map(|v| *v as i32).collect());
    let images = ints.map(|v| v.iter().map(|v| centered(*v) as i32).collect());
    let table = b.table(Table::Function {
        values: Arc::new(values),
    });
    let tables = Tables::One(Choice { table, offset: -lo });
    let (key, low) = b.pair(axes, tables, keys, images);
    let terms = vec![Term::linear(View::column(key, axes.len()).minus(view))];
    b.relation("what a low limb belongs to", axes, terms);
    Ok(low)
}
