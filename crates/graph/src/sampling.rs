//! The sampling statement: how a token is chosen from logits, in integers, as it is hashed into every receipt of a language model.

use crate::{
    error::GraphError,
    trace::{Family, Hash, Tree, derive, leaf_hash},
};

/// Longest canonical statement in bytes (it is opened whole in a dispute about a sampled token).
pub const MAX_STATEMENT: usize = 4096;
/// Most stop ids.
pub const MAX_STOPS: usize = 64;
/// Most biased tokens.
pub const MAX_BIASES: usize = 300;
/// 1 in the statement's 16.16 fixed point.
pub const ONE: u32 = 1 << 16;
/// Temperatures below this (0.01) would overflow; 0 is greedy.
pub const MIN_TEMPERATURE: u32 = 655;
/// Largest temperature, penalty and repetition factor: 100.
pub const MAX_FACTOR: u32 = 100 * ONE;
const VERSION: u8 = 1;

/// Public parameters of sampling. Numbers are 16.16 fixed point unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Most tokens of the answer, at least 1.
    pub max_out: u32,
    /// 0 (greedy) or 0.01 … 100.
    pub temperature: u32,
    /// Tokens kept by rank; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept, 1 … [`ONE`]; [`ONE`] keeps all.
    pub top_p: u32,
    /// Least probability kept, relative to the most likely token, 0 … [`ONE`].
    pub min_p: u32,
    /// Factor against tokens that occurred in prompt or answer, 0.01 … 100; [`ONE`] is off.
    pub repetition: u32,
    /// Subtracted from a logit for each occurrence in the answer, natural units, ±100.
    pub frequency: i32,
    /// Subtracted once from the logit of a token that occurred in the answer, natural units, ±100.
    pub presence: i32,
    /// Key of the random stream.
    pub seed: [u8; 32],
    /// Tokens that end the answer (they are part of it), ascending.
    pub stop: Vec<u32>,
    /// Added to logits, natural units, ±100; ascending by token.
    pub bias: Vec<(u32, i32)>,
    /// `BLAKE3("assay grammar v1", grammar)` when the answer is constrained to a grammar, zero when nothing is masked. The root of the masks themselves ([`mask_tree`]) stands in the receipt.
    pub mask_root: Hash,
}

/// The public part of a run besides its input: how tokens are sampled, and which were allowed where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Parameters.
    pub sampling: Sampling,
    /// Bitmaps of allowed tokens, one for each answered position; empty when nothing is masked.
    pub masks: Vec<Vec<u8>>,
}

impl Default for Sampling {
    /// Greedy, 128 tokens, nothing penalised, no stop ids.
    fn default() -> Self {
        Self {
            max_out: 128,
            temperature: 0,
            top_k: 0,
            top_p: ONE,
            min_p: 0,
            repetition: ONE,
            frequency: 0,
            presence: 0,
            seed: [0; 32],
            stop: Vec::new(),
            bias: Vec::new(),
            mask_root: [0; 32],
        }
    }
}

impl Sampling {
    /// Whether the most likely token is taken.
    pub const fn is_greedy(&self) -> bool {
        self.temperature == 0
    }

    /// Whether logits depend on earlier tokens.
    pub const fn has_penalties(&self) -> bool {
        self.repetition != ONE || self.frequency != 0 || self.presence != 0
    }

    /// Whether tokens are masked.
    pub fn is_masked(&self) -> bool {
        self.mask_root != [0; 32]
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// [`GraphError::Sampling`] with the name of the parameter.
    pub fn check(&self) -> Result<(), GraphError> {
        let within = |v: i32| v.unsigned_abs() <= MAX_FACTOR;
        for (what, ok) in [
            ("max_out", self.max_out > 0),
            (
                "temperature",
                self.temperature == 0 || (MIN_TEMPERATURE..=MAX_FACTOR).contains(&self.temperature),
            ),
            ("top_p", (1..=ONE).contains(&self.top_p)),
            ("min_p", self.min_p <= ONE),
            (
                "repetition",
                (MIN_TEMPERATURE..=MAX_FACTOR).contains(&self.repetition),
            ),
            ("frequency", within(self.frequency)),
            ("presence", within(self.presence)),
            (
                "stop",
                self.stop.len() <= MAX_STOPS && self.stop.is_sorted_by(|a, b| a < b),
            ),
            (
                "bias",
                self.bias.len() <= MAX_BIASES
                    && self.bias.is_sorted_by(|a, b| a.0 < b.0)
                    && self.bias.iter().all(|(_, b)| within(*b)),
            ),
        ] {
            if !ok {
                return Err(GraphError::Sampling(what));
            }
        }
        Ok(())
    }

    /// Canonical bytes, little endian, fixed order.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for v in [
            self.max_out,
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition,
        ] {
            out.extend(v.to_le_bytes());
        }
        out.extend(self.frequency.to_le_bytes());
        out.extend(self.presence.to_le_bytes());
        out.extend(self.seed);
        out.extend(self.mask_root);
        out.extend((self.stop.len() as u16).to_le_bytes());
        out.extend((self.bias.len() as u16).to_le_bytes());
        for id in &self.stop {
            out.extend(id.to_le_bytes());
        }
        for (id, bias) in &self.bias {
            out.extend(id.to_le_bytes());
            out.extend(bias.to_le_bytes());
        }
        out
    }

    /// Reads canonical bytes: exact length, all ranges checked.
    ///
    /// # Errors
    /// [`GraphError::Decode`], [`GraphError::Sampling`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GraphError> {
        let fail = GraphError::Decode {
            at: 0,
            why: "not a sampling statement",
        };
        let Some((head, tail)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(fail);
        };
        let word = |at: usize| -> [u8; 4] {
            head.get(at..at + 4)
                .and_then(|b| b.first_chunk().copied())
                .unwrap_or_default()
        };
        let half = |at: usize| -> usize {
            head.get(at..at + 2)
                .and_then(|b| b.first_chunk().copied())
                .map_or(0, |b| usize::from(u16::from_le_bytes(b)))
        };
        let hash = |at: usize| -> Hash {
            head.get(at..at + 32)
                .and_then(|b| b.first_chunk().copied())
                .unwrap_or_default()
        };
        let (stops, biases) = (half(97), half(99));
        if head.first() != Some(&VERSION)
            || bytes.len() > MAX_STATEMENT
            || tail.len() != 4 * stops + 8 * biases
        {
            return Err(fail);
        }
        let (stop, bias) = tail.split_at(4 * stops);
        let pair = |b: &[u8; 8]| {
            let [a, b, c, d, e, f, g, h] = *b;
            (
                u32::from_le_bytes([a, b, c, d]),
                i32::from_le_bytes([e, f, g, h]),
            )
        };
        let out = Self {
            max_out: u32::from_le_bytes(word(1)),
            temperature: u32::from_le_bytes(word(5)),
            top_k: u32::from_le_bytes(word(9)),
            top_p: u32::from_le_bytes(word(13)),
            min_p: u32::from_le_bytes(word(17)),
            repetition: u32::from_le_bytes(word(21)),
            frequency: i32::from_le_bytes(word(25)),
            presence: i32::from_le_bytes(word(29)),
            seed: hash(33),
            mask_root: hash(65),
            stop: stop
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| u32::from_le_bytes(*b))
                .collect(),
            bias: bias.as_chunks::<8>().0.iter().map(pair).collect(),
        };
        out.check()?;
        Ok(out)
    }

    /// What the receipt's `samplingHash` is.
    pub fn hash(&self) -> Hash {
        derive("assay sampling v1", &[&self.encode()])
    }

    /// The 64 random bits of answered position `j`: first bytes of BLAKE3 in its own context over seed and position.
    pub fn random(&self, j: u32) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] =
            derive("assay sample v1", &[&self.seed, &j.to_le_bytes()]);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Bytes before the lists.
const HEAD: usize = 101;

/// Tree over the masks of the answered positions; its root stands in the receipt (`extHash`).
pub fn mask_tree<'a>(masks: impl IntoIterator<Item = &'a [u8]>) -> Tree {
    let leaves = masks
        .into_iter()
        .map(|m| leaf_hash(Family::Mask, m))
        .collect();
    Tree::new(Family::Mask, leaves)
}
