//! Products of hidden numbers: `x·y = z` for all that the verifier noted, by one sumcheck whose messages are masked.
//!
//! The values z are sent, masked like everything else; what must not be zero gets an inverse, and their product is 1. One more row is random: its x and y are pads that nothing else uses,
//! so that the columns' values `x(ρ)` and `y(ρ)` at the sumcheck's point are uniform and can be said openly. What is left is affine.

use p3_field::{Field, PrimeCharacteristicRing};

use super::{
    expr::Expr,
    listen::{Record, Veiled},
};
use crate::{
    einsum,
    error::VerifyError,
    field::EF,
    listener::{Listener, Value},
    mle::{eq_points, eq_table, log2_ceil},
    transcript::{Channel, Sender},
    verifier::Check,
};

/// Label of the messages.
pub(crate) const LABEL: &str = "hidden products";

/// Proves the products that were noted. `said` is what the sender's numbers are.
pub(crate) fn prove(record: &Record, sender: &mut Sender<'_>) {
    let mut rows = [Vec::new(), Vec::new(), Vec::new()];
    let mut inverses = Vec::with_capacity(record.nonzero.len());
    {
        let said = sender.numbers();
        let [x, y, z] = &mut rows;
        for [a, b] in &record.products {
            // factors may read products before them
            let [a, b] = [a, b].map(|v| v.value(Record::number_of(said, z)));
            x.push(a);
            y.push(b);
            z.push(a * b);
        }
        for v in &record.nonzero {
            let v = v.value(Record::number_of(said, z));
            x.push(v);
            inverses.push(v.try_inverse().unwrap_or_default());
        }
    }
    let [x, y] = [sender.fresh(), sender.fresh()];
    let mut said = rows[2].clone();
    said.extend(&inverses);
    said.push(x * y);
    sender.send(LABEL, &said);
    rows[1].extend(&inverses);
    rows[2].extend(inverses.iter().map(|_| EF::ONE));
    for (column, last) in rows.iter_mut().zip([x, y, x * y]) {
        column.push(last);
        column.resize(column.len().next_power_of_two(), EF::ZERO);
    }
    let [x, y, z] = rows;
    let tau = sender.transcript().challenges(log2_ceil(x.len()));
    let e = eq_table(&tau, EF::ONE);
    let minus = vec![-EF::ONE; z.len()];
    let mut tables = [
        einsum::Tables {
            e: e.clone(),
            a: x,
            b: y,
        },
        einsum::Tables { e, a: z, b: minus },
    ];
    einsum::prove(LABEL, EF::ZERO, &mut tables, sender);
    sender.send_open(LABEL, &[tables[0].a[0], tables[0].b[0]]);
}

/// Reads the proof, and notes what must be zero for it to hold.
///
/// # Errors
/// [`VerifyError::Decode`].
pub(crate) fn verify(veiled: &mut Veiled<'_>) -> Result<(), VerifyError> {
    let record = &mut veiled.record;
    let products = record.products.len();
    let [x, y] = [record.fresh(), record.fresh()];
    record.values = Some(record.heard.len());
    let mut rows = [
        record.products.iter().map(|p| p[0].clone()).collect(),
        record
            .products
            .iter()
            .map(|p| p[1].clone())
            .collect::<Vec<_>>(),
        Vec::new(),
    ];
    rows[0].append(&mut record.nonzero.clone());
    let inverses = record.nonzero.len();
    let mut said = veiled.hear(LABEL, products + inverses + 1)?;
    let last = said.pop();
    rows[1].extend(said.drain(products..));
    rows[2] = said;
    rows[2].extend((0..inverses).map(|_| Expr::from(EF::ONE)));
    for (column, last) in rows.iter_mut().zip([Some(x), Some(y), last]) {
        column.extend(last);
    }
    let bits = log2_ceil(rows[0].len());
    let tau = veiled.transcript().challenges(bits);
    let (point, claim) = einsum::verify(LABEL, EF::ZERO.into(), bits, veiled)?;
    let open = veiled.receiver.receive(LABEL, 2)?;
    let [x, y] = open[..] else {
        return Err(VerifyError::Sumcheck { label: LABEL });
    };
    let eq = eq_table(&point, EF::ONE);
    let at = |column: &[Expr], factor: EF, constant: EF| {
        Expr::sum(
            constant,
            eq.iter().zip(column).map(|(e, v)| (*e * factor, v)),
        )
    };
    let weight = eq_points(&tau, &point);
    let z = at(&rows[2], weight, -(weight * x * y));
    let record = &mut veiled.record;
    record.vanishes(Check::HiddenFactors, at(&rows[0], EF::ONE, -x));
    record.vanishes(Check::HiddenFactors, at(&rows[1], EF::ONE, -y));
    record.vanishes(
        Check::HiddenProducts,
        Expr::sum(EF::ZERO, [(EF::ONE, &z), (EF::ONE, &claim)]),
    );
    Ok(())
}
