//! What prover and verifier share: the transcript's beginning, the list of claims, the proof's bytes.

use std::collections::BTreeMap;

use p3_field::{Field, PrimeCharacteristicRing};

use crate::{
    error::VerifyError,
    field::{EF, embed},
    functional::{AxisId, Functional, Points},
    key::Key,
    listener::Value,
    lookup,
    plan::{
        Plan,
        expr::{Operand, View},
        stages::Stages,
    },
    relations::{Instance, Linear, public},
    statement::Statement,
    transcript::{Channel, Receiver, Sender, Transcript},
};

/// A proof with its statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What is proven.
    pub statement: Statement,
    /// The prover's messages in the order of the protocol.
    pub body: Vec<u8>,
}

impl Proof {
    /// Statement, then messages.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.statement.encode();
        out.extend_from_slice(&self.body);
        out
    }

    /// Splits the bytes; the messages are read when they are verified.
    ///
    /// # Errors
    /// As [`Statement::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, VerifyError> {
        let (statement, n) = Statement::decode(bytes)?;
        Ok(Self {
            statement,
            body: bytes[n..].to_vec(),
        })
    }
}

/// The transcript that has absorbed what both sides know: statement, key and the sizes of the plan's stages.
pub(crate) fn transcript(statement: &Statement, key: &Key, stages: &Stages) -> Transcript {
    let mut t = Transcript::new(b"assay proof v1");
    t.absorb("statement", &statement.encode());
    t.absorb("key", &key.id());
    for plan in &stages.plans {
        let sizes = [
            plan.columns.len(),
            plan.relations.len(),
            plan.tables.len(),
            plan.witness.log,
            plan.leaf_log,
            plan.table_log,
        ];
        let bytes: Vec<u8> = sizes
            .iter()
            .flat_map(|n| (*n as u64).to_le_bytes())
            .collect();
        t.absorb("plan", &bytes);
    }
    t
}

/// Label of the witness' root.
pub(crate) const WITNESS: &str = "witness root";
/// Label of the root of the witness' mask.
pub(crate) const MASK: &str = "mask root";

/// Sends a root.
pub(crate) fn send_root(sender: &mut Sender<'_>, label: &'static str, root: &[u8; 32]) {
    sender.transcript.absorb(label, root);
    sender.bytes.extend_from_slice(root);
}

/// Takes a root.
pub(crate) fn receive_root(
    receiver: &mut Receiver<'_>,
    label: &'static str,
) -> Result<[u8; 32], VerifyError> {
    let bytes = receiver.take(32)?;
    receiver.transcript.absorb(label, bytes);
    bytes.try_into().map_err(|_| VerifyError::Decode {
        offset: 0,
        why: "a root",
    })
}

/// `1, x, x², …`
pub(crate) fn powers(x: EF, n: usize) -> Vec<EF> {
    x.powers().take(n).collect()
}

/// A tensor of a commitment at one point: what the operands of products are made of.
pub(crate) struct Atom {
    pub(crate) weights: bool,
    pub(crate) tensor: usize,
    pub(crate) axes: Vec<AxisId>,
}

/// What is known of an operand, and factors of atoms.
type Parts = (EF, Vec<(EF, usize)>);

/// The atoms of all operands, each once, and how operands follow from them.
pub(crate) struct Atoms {
    pub(crate) list: Vec<Atom>,
    /// For each instance, operands a and b: what is known, and factors of atoms.
    operands: Vec<[Parts; 2]>,
}

impl Atom {
    pub(crate) fn functional(&self) -> Functional {
        let mut f = Functional::default();
        f.add(self.tensor, self.axes.clone(), EF::ONE);
        f
    }
}

/// Collects the atoms once the sumcheck's point is known.
pub(crate) fn atoms(points: &mut Points<'_>, plan: &Plan, instances: &[Instance<'_>]) -> Atoms {
    let mut list: Vec<Atom> = Vec::new();
    let mut ids: BTreeMap<(bool, usize, Vec<AxisId>), usize> = BTreeMap::new();
    let mut operand = |points: &mut Points<'_>, instance: &Instance<'_>, view: &View| {
        let mut known = EF::ZERO;
        let mut parts = Vec::new();
        for (c, read) in &view.terms {
            let factor = instance.missing(points, view, read) * embed(*c);
            let (weights, tensor, shape) = match read.operand {
                Operand::Public(_) => {
                    known += factor * public(points, plan, read, &instance.places);
                    continue;
                }
                Operand::Column(id) => (false, id, &plan.columns[id].shape),
                Operand::Weight(id) => (true, id, &plan.weights[id].shape),
            };
            let axes = points.axes(read, shape, &instance.places);
            let next = list.len();
            let id = *ids.entry((weights, tensor, axes.clone())).or_insert(next);
            if id == next {
                list.push(Atom {
                    weights,
                    tensor,
                    axes,
                });
            }
            parts.push((factor, id));
        }
        (known, parts)
    };
    let operands = instances
        .iter()
        .map(|i| [operand(points, i, i.a), operand(points, i, i.b)])
        .collect();
    Atoms { list, operands }
}

impl Atoms {
    /// Adds a column of the witness that is claimed to have some value.
    pub(crate) fn push(&mut self, tensor: usize, axes: Vec<AxisId>) {
        self.list.push(Atom {
            weights: false,
            tensor,
            axes,
        });
    }

    /// Values of the atoms that follow from operands of one atom each, whose values are known.
    pub(crate) fn solve(&self, operands: &[[EF; 2]]) -> Vec<Option<EF>> {
        let mut out = vec![None; self.list.len()];
        let both = self
            .operands
            .iter()
            .flatten()
            .zip(operands.iter().flatten());
        for ((known, parts), value) in both {
            if let [(factor, id)] = parts[..]
                && let Some(inverse) = factor.try_inverse()
            {
                out[id] = Some((*value - *known) * inverse);
            }
        }
        out
    }

    /// Values of instance `i`'s operands.
    pub(crate) fn operands<V: Value>(&self, i: usize, values: &[V]) -> [V; 2] {
        self.operands[i]
            .each_ref()
            .map(|(known, parts)| V::sum(*known, parts.iter().map(|(f, id)| (*f, &values[*id]))))
    }
}

/// What a stage claims of the weights.
pub(crate) struct OfWeights<'a> {
    /// Its factor among those of all stages.
    pub(crate) factor: EF,
    pub(crate) functional: Functional,
    pub(crate) points: Points<'a>,
}

/// Factors by which `n` stages' claims on the weights are added up.
pub(crate) fn factors(n: usize, channel: &mut impl Channel) -> Vec<EF> {
    if n == 1 {
        return vec![EF::ONE];
    }
    powers(channel.transcript().challenge(), n)
}

/// All claims about each commitment as one.
pub(crate) struct Claims<V = EF> {
    pub(crate) witness: Functional,
    pub(crate) witness_value: V,
    /// Factors of the lookup argument's three claims.
    pub(crate) lookup_factors: [EF; 3],
    pub(crate) weights: Functional,
    pub(crate) weights_value: EF,
    /// The first power that no claim has.
    pub(crate) next: EF,
}

/// Adds the claims with powers of `gamma`. What is claimed of the weights is known.
pub(crate) fn claims<V: Value>(
    atoms: &Atoms,
    values: &[V],
    linear: &Linear,
    linear_values: &[V; 2],
    looked: &lookup::Claims<V>,
    gamma: EF,
) -> Claims<V> {
    let mut powers = gamma.powers();
    let mut next = || powers.next().unwrap_or_default();
    let first = next();
    let lookup_factors = [next(), next(), next()];
    let mut witness = Functional::default();
    let mut weights = Functional::default();
    witness.add_scaled(&linear.witness, first);
    weights.add_scaled(&linear.weights, first);
    let mut of_witness = vec![(first, &linear_values[0])];
    of_witness.extend(lookup_factors.into_iter().zip(&looked.values));
    let mut weights_value = first * linear_values[1].constant();
    for (atom, value) in atoms.list.iter().zip(values) {
        let p = next();
        let functional = if atom.weights {
            weights_value += p * value.constant();
            &mut weights
        } else {
            of_witness.push((p, value));
            &mut witness
        };
        functional.add(atom.tensor, atom.axes.clone(), p);
    }
    Claims {
        witness,
        witness_value: V::sum(EF::ZERO, of_witness),
        lookup_factors,
        weights,
        weights_value,
        next: next(),
    }
}
