//! Openings as bytes: fixed-width fields in the order of the protocol. All counts follow from the parameters, save how many digests the Merkle proof of a tree has (`u16`).
//!
//! A leaf of a line (see [`super::trees`]) is sent as what it comes from, and has a Merkle proof in each of the two trees.
//!
//! Each value has one encoding. A leaf that was opened before (queries are drawn independently) is sent once: a bit per query says "seen before", and its position follows.

use std::collections::HashMap;

use p3_field::PrimeCharacteristicRing;
use p3_multilinear_util::poly::Poly;
use p3_sumcheck::{OpeningBatch, SumcheckData};
use p3_whir::pcs::proof::{PcsProof, QueryOpenings, SharedProofOpening, WhirProof, WhirRoundProof};

use super::{
    trees::{COMPONENTS, Oracle, Paths, Pruned, SOURCES, on_line},
    whir::Proof,
};
use crate::{
    error::VerifyError,
    field::{EF, EF_BYTES, F, decode, encode},
    params::Row,
};

/// Bytes of a base field element.
const F_BYTES: usize = 4;
const DIGEST: usize = 32;

type Openings = QueryOpenings<F, EF, Paths>;

/// Base field cells in a leaf of the first oracle.
fn first_leaf(row: &Row<'_>, line: bool) -> usize {
    let width = 1 << row.folds[0];
    if line {
        width / COMPONENTS * SOURCES
    } else {
        width
    }
}

/// Most bytes that an opening can have; `line`: whether the first oracle is one.
pub(crate) fn cap(row: &Row<'_>, line: bool) -> usize {
    let sumcheck =
        |rounds: usize, pow: u8| rounds * (2 * EF_BYTES + usize::from(pow > 0) * F_BYTES);
    let mut bytes = (EF_BYTES << row.last()) + sumcheck(row.last(), row.fold_pow[row.oracles()]);
    for i in 0..row.oracles() {
        let (leaf, trees) = match i {
            0 => (F_BYTES * first_leaf(row, line), 1 + usize::from(line)),
            _ => (EF_BYTES << row.folds[i], 1),
        };
        let (opened, leaves) = (row.opened(i), row.leaves(i));
        let digests: usize = (0..leaves).map(|level| opened.min(1 << level)).sum();
        bytes += usize::from(i > 0) * DIGEST + usize::from(row.query_pow[i] > 0) * F_BYTES;
        bytes += sumcheck(usize::from(row.folds[i]), row.fold_pow[i]);
        bytes += opened.div_ceil(8) + opened * leaf + trees * (2 + digests * DIGEST);
    }
    bytes
}

/// The bytes of an opening. `None` if it does not have the shape of the row.
pub(crate) fn write(row: &Row<'_>, proof: &Proof) -> Option<Vec<u8>> {
    let whir = &proof.whir;
    let mut out = Vec::new();
    write_sumcheck(&whir.initial_sumcheck, &mut out);
    let pow = |oracle: usize, witness: &F, out: &mut Vec<u8>| {
        if row.query_pow[oracle] > 0 {
            write_base(witness, out);
        }
    };
    for (i, round) in whir.rounds.iter().enumerate() {
        out.extend_from_slice(round.commitment.as_ref()?.roots().first()?);
        pow(i, &round.pow_witness, &mut out);
        write_openings(&round.openings, &mut out)?;
        write_sumcheck(&round.sumcheck, &mut out);
    }
    for v in whir.final_poly.as_ref()?.as_slice() {
        encode(v, &mut out);
    }
    pow(whir.rounds.len(), &whir.final_pow_witness, &mut out);
    write_openings(&whir.final_openings, &mut out)?;
    if let Some(sumcheck) = &whir.final_sumcheck {
        write_sumcheck(sumcheck, &mut out);
    }
    Some(out)
}

fn write_base(v: &F, out: &mut Vec<u8>) {
    use p3_field::PrimeField32;
    out.extend_from_slice(&v.as_canonical_u32().to_le_bytes());
}

fn write_sumcheck(data: &SumcheckData<F, EF>, out: &mut Vec<u8>) {
    for v in data.polynomial_evaluations.iter().flatten() {
        encode(v, out);
    }
    for v in &data.pow_witnesses {
        write_base(v, out);
    }
}

fn write_openings(openings: &Openings, out: &mut Vec<u8>) -> Option<()> {
    let (rows, proof): (Vec<Vec<u8>>, _) = match openings {
        QueryOpenings::Base(o) => {
            let leaves = match &o.proof {
                Paths::Tree(_) => &o.rows,
                Paths::Line { leaves, .. } => leaves,
            };
            let rows = leaves.iter().map(|row| bytes_of(row, write_base));
            (rows.collect(), &o.proof)
        }
        QueryOpenings::Extension(o) => (
            o.rows.iter().map(|row| bytes_of(row, encode)).collect(),
            &o.proof,
        ),
    };
    let mut bits = vec![0; rows.len().div_ceil(8)];
    let mut body = Vec::new();
    let mut seen = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        if let Some(first) = seen.get(row) {
            bits[i / 8] |= 1 << (i % 8);
            body.extend_from_slice(&u16::try_from(*first).ok()?.to_le_bytes());
        } else {
            seen.insert(row, i);
            body.extend_from_slice(row);
        }
    }
    out.append(&mut bits);
    out.append(&mut body);
    for paths in proof.parts() {
        let digests = u16::try_from(paths.sibling_hashes.len()).ok()?;
        out.extend_from_slice(&digests.to_le_bytes());
        out.extend_from_slice(paths.sibling_hashes.as_flattened());
    }
    Some(())
}

fn bytes_of<T>(row: &[T], write: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    for v in row {
        write(v, &mut out);
    }
    out
}

/// An opening of exactly the shape of the row. The claimed value is not sent: the verifier knows it. `line`: `ρ`, if the first oracle is a line.
///
/// # Errors
/// [`VerifyError::Decode`]: missing or additional bytes, a number not below the modulus, a leaf sent twice.
pub(crate) fn read(
    row: &Row<'_>,
    line: Option<EF>,
    value: EF,
    bytes: &[u8],
) -> Result<Proof, VerifyError> {
    let mut r = Reader { bytes, at: 0 };
    let initial_sumcheck = r.sumcheck(row.folds[0], row.fold_pow[0])?;
    let mut rounds = Vec::with_capacity(row.oracles() - 1);
    for i in 1..row.oracles() {
        rounds.push(WhirRoundProof {
            commitment: Some(Oracle::Tree(r.array()?)),
            ood_answers: Vec::new(),
            pow_witness: r.pow(row.query_pow[i - 1])?,
            openings: r.openings(row, i - 1, line)?,
            sumcheck: r.sumcheck(row.folds[i], row.fold_pow[i])?,
        });
    }
    let last = row.oracles() - 1;
    let whir = WhirProof {
        initial_ood_answers: Vec::new(),
        initial_sumcheck,
        rounds,
        final_poly: Some(Poly::new(r.elements(1 << row.last())?)),
        final_pow_witness: r.pow(row.query_pow[last])?,
        final_openings: r.openings(row, last, line)?,
        final_sumcheck: match row.last() as u8 {
            0 => None,
            n => Some(r.sumcheck(n, row.fold_pow[last + 1])?),
        },
    };
    match bytes.len() - r.at {
        0 => Ok(PcsProof {
            whir,
            evals: vec![OpeningBatch::new(vec![value], Vec::new())],
        }),
        _ => Err(r.error("the opening is longer than its parts")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, why: &'static str) -> VerifyError {
        VerifyError::Decode {
            offset: self.at,
            why,
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], VerifyError> {
        let part = self.bytes.get(self.at..).and_then(|rest| rest.get(..n));
        let part = part.ok_or_else(|| self.error("the opening ends too early"))?;
        self.at += n;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], VerifyError> {
        let part = self.take(N)?;
        part.try_into().map_err(|_| self.error("a length"))
    }

    fn base(&mut self) -> Result<F, VerifyError> {
        let v = u32::from_le_bytes(self.array()?);
        if i64::from(v) < crate::field::MODULUS {
            Ok(F::from_u32(v))
        } else {
            Err(self.error("a field element is not canonical"))
        }
    }

    fn elements(&mut self, n: usize) -> Result<Vec<EF>, VerifyError> {
        let part = self.take(n * EF_BYTES)?;
        let values = part
            .chunks_exact(EF_BYTES)
            .map(decode)
            .collect::<Option<_>>();
        values.ok_or_else(|| self.error("a field element is not canonical"))
    }

    fn pow(&mut self, bits: u8) -> Result<F, VerifyError> {
        if bits == 0 { Ok(F::ZERO) } else { self.base() }
    }

    fn sumcheck(&mut self, rounds: u8, pow: u8) -> Result<SumcheckData<F, EF>, VerifyError> {
        let values = self.elements(2 * usize::from(rounds))?;
        let witnesses = if pow > 0 { rounds } else { 0 };
        Ok(SumcheckData {
            polynomial_evaluations: values.as_chunks::<2>().0.to_vec(),
            pow_witnesses: (0..witnesses)
                .map(|_| self.base())
                .collect::<Result<_, _>>()?,
        })
    }

    fn openings(
        &mut self,
        row: &Row<'_>,
        oracle: usize,
        line: Option<EF>,
    ) -> Result<Openings, VerifyError> {
        let opened = row.opened(oracle);
        if oracle > 0 {
            let rows = self.leaves(opened, |r| r.elements(1 << row.folds[oracle]))?;
            let proof = Paths::Tree(self.paths()?);
            return Ok(QueryOpenings::Extension(SharedProofOpening { rows, proof }));
        }
        let width = first_leaf(row, line.is_some());
        let leaves = self.leaves(opened, |r| (0..width).map(|_| r.base()).collect())?;
        Ok(QueryOpenings::Base(match line {
            None => SharedProofOpening {
                rows: leaves,
                proof: Paths::Tree(self.paths()?),
            },
            Some(rho) => SharedProofOpening {
                rows: leaves.iter().map(|leaf| on_line(leaf, rho)).collect(),
                proof: Paths::Line {
                    leaves,
                    paths: [self.paths()?, self.paths()?],
                },
            },
        }))
    }

    fn leaves<T: Clone>(
        &mut self,
        opened: usize,
        leaf: impl Fn(&mut Self) -> Result<Vec<T>, VerifyError>,
    ) -> Result<Vec<Vec<T>>, VerifyError> {
        let bits = self.take(opened.div_ceil(8))?;
        if !opened.is_multiple_of(8) && bits.last().is_some_and(|b| b >> (opened % 8) > 0) {
            return Err(self.error("a bit without a query"));
        }
        let mut rows: Vec<Vec<T>> = Vec::with_capacity(opened);
        let mut seen = HashMap::new();
        for i in 0..opened {
            if bits[i / 8] >> (i % 8) & 1 == 1 {
                let first = usize::from(u16::from_le_bytes(self.array()?));
                let fresh = first < i && bits[first / 8] >> (first % 8) & 1 == 0;
                if !fresh {
                    return Err(self.error("a leaf that was not sent before"));
                }
                rows.push(rows[first].clone());
            } else {
                let start = self.at;
                rows.push(leaf(self)?);
                if seen.insert(&self.bytes[start..self.at], i).is_some() {
                    return Err(self.error("a leaf is sent twice"));
                }
            }
        }
        Ok(rows)
    }

    fn paths(&mut self) -> Result<Pruned, VerifyError> {
        let digests = usize::from(u16::from_le_bytes(self.array()?));
        let digests = self.take(digests * DIGEST)?;
        Ok(Pruned {
            sibling_hashes: digests.as_chunks().0.to_vec(),
        })
    }
}
