//! One request on its way: tokens, cache, trace, and the logits of the next token.

use std::sync::Arc;

use assay_graph::{
    Extent, Sampling,
    sampling::mask_tree,
    trace::{Family, Hash, Tree, leaf_hash},
};

use super::{
    Shared,
    cache::Cache,
    sampler::Seen,
    trace::{self, Trace},
};
use crate::EngineError;

/// A request that a [`Decoder`](super::Decoder) works on.
///
/// Its bits depend on prompt, statement, masks and salt alone, not on what else the decoder does meanwhile.
pub struct Sequence {
    pub(super) shared: Arc<Shared>,
    pub(super) sampling: Sampling,
    salt: Hash,
    pub(super) tokens: Vec<u32>,
    pub(super) asked: usize,
    /// Positions whose rows are computed.
    pub(super) computed: usize,
    /// First position whose logits are wanted.
    pub(super) wanted: usize,
    pub(super) caches: Vec<Cache>,
    pub(super) trace: Trace,
    pub(super) logits: Vec<i16>,
    pub(super) ready: bool,
    pub(super) seen: Seen,
    /// Sampled tokens.
    pub(super) answer: Vec<u32>,
    masks: Vec<Hash>,
}

/// A finished answer and what its receipt commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Sampled tokens.
    pub tokens: Vec<u32>,
    /// The statement, with the root of the masks that were used.
    pub sampling: Sampling,
    /// Leaf 0 of the tree.
    pub input_commit: Hash,
    /// Last leaf of the tree.
    pub output_commit: Hash,
    /// Root of the committed tree.
    pub trace_root: Hash,
    /// Leaves of the committed tree.
    pub leaves: u64,
    /// Positions and answered positions of the run.
    pub extent: Extent,
    /// The committed tree.
    pub tree: Tree,
}

impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequence")
            .field("asked", &self.asked)
            .field("answered", &self.answer.len())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Sequence {
    pub(super) fn new(
        shared: Arc<Shared>,
        tokens: Vec<u32>,
        asked: usize,
        sampling: &Sampling,
        salt: &Hash,
    ) -> Result<Self, EngineError> {
        sampling
            .check()
            .map_err(|e| EngineError::Statement(e.to_string()))?;
        let max_seq = shared.max_seq;
        if asked == 0 || tokens.len() > max_seq as usize {
            return Err(EngineError::Positions {
                positions: tokens.len(),
                max_seq,
            });
        }
        let vocabulary = shared.model.vocabulary;
        if let Some((index, token)) = tokens
            .iter()
            .enumerate()
            .find(|(_, t)| **t >= shared.tokens)
        {
            return Err(EngineError::Token {
                index,
                token: *token,
                vocabulary: shared.tokens,
            });
        }
        let mut seen = Seen::new();
        for token in tokens.iter().take(asked) {
            seen.entry(*token).or_default().any = true;
        }
        let sampling = Sampling {
            mask_root: [0; 32],
            ..sampling.clone()
        };
        Ok(Self {
            sampling,
            salt: *salt,
            wanted: asked - 1,
            tokens,
            asked,
            computed: 0,
            caches: vec![Cache::default(); shared.model.attentions.len()],
            trace: Trace::new(shared.block, shared.model.checkpoints),
            logits: vec![0; vocabulary as usize],
            ready: false,
            seen,
            answer: Vec::new(),
            masks: Vec::new(),
            shared,
        })
    }

    /// Positions that are not computed yet: of the prompt, or the one token that was sampled last.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether the logits of the next token are there.
    pub const fn ready(&self) -> bool {
        self.ready
    }

    /// Logits of the next token, in units of `2^−scale` octaves; meaningful when [`ready`](Self::ready).
    pub fn logits(&self) -> &[i16] {
        &self.logits
    }

    /// Tokens of the prompt.
    pub fn prompt(&self) -> &[u32] {
        self.tokens.get(..self.asked).unwrap_or(&[])
    }

    /// Tokens sampled so far.
    pub fn answer(&self) -> &[u32] {
        &self.answer
    }

    /// The statement as it was given (no root of masks).
    pub const fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Whether the answer has ended: a stop id, the longest answer, or the model's last position.
    pub fn is_over(&self) -> bool {
        let stopped = self
            .answer
            .last()
            .is_some_and(|t| self.sampling.stop.binary_search(t).is_ok());
        stopped
            || self.answer.len() >= self.sampling.max_out as usize
            || self.tokens.len() > self.shared.max_seq as usize
    }

    /// Bytes of cache, logits and trace.
    pub fn memory(&self) -> usize {
        let caches: usize = self.caches.iter().map(Cache::bytes).sum();
        caches + 2 * self.logits.len() + self.trace.bytes()
    }

    /// Chooses the next token by the statement; it is pending then.
    ///
    /// `mask`: bitmap of the allowed tokens, `⌈vocabulary/8⌉` bytes; given for every token of an answer or for none.
    ///
    /// # Errors
    /// [`EngineError::Order`] when there are no logits or the answer has ended; [`EngineError::Masks`] for a mask of another length, or for one that comes late or is missing.
    pub fn sample(&mut self, mask: Option<&[u8]>) -> Result<u32, EngineError> {
        if !self.ready {
            return Err(EngineError::Order("sample before its logits are computed"));
        }
        if self.is_over() {
            return Err(EngineError::Order("go on: the answer has ended"));
        }
        self.check_mask(mask)?;
        let logits = std::mem::take(&mut self.logits);
        let token = self.choose(&logits, mask);
        self.logits = logits;
        self.ready = false;
        self.tokens.push(token);
        self.wanted = self.tokens.len() - 1;
        Ok(token)
    }

    fn check_mask(&self, mask: Option<&[u8]>) -> Result<(), EngineError> {
        let want = (self.shared.model.vocabulary as usize).div_ceil(8);
        let have = mask.map_or(0, <[u8]>::len);
        let due = if self.answer.is_empty() {
            mask.is_some()
        } else {
            !self.masks.is_empty()
        };
        if mask.is_some() != due || (due && have != want) {
            return Err(EngineError::Masks {
                want: if due { want } else { 0 },
                have,
            });
        }
        Ok(())
    }

    /// Samples the next token of the answer from a row of logits, and remembers it.
    fn choose(&mut self, logits: &[i16], mask: Option<&[u8]>) -> u32 {
        if let Some(mask) = mask {
            self.masks.push(leaf_hash(Family::Mask, mask));
        }
        let j = self.answer.len() as u32;
        let model = &self.shared.model;
        let token =
            model
                .sampler
                .token(self.shared.isa, logits, &self.seen, j, &self.sampling, mask);
        self.answer.push(token);
        self.note(token);
        token
    }

    fn note(&mut self, token: u32) {
        let seen = self.seen.entry(token).or_default();
        seen.any = true;
        seen.answered += 1;
    }

    /// As [`choose`](Self::choose) while an answer is replayed: the history goes on with the claimed token.
    pub(super) fn recompute(
        &mut self,
        logits: &[i16],
        mask: Option<&[u8]>,
    ) -> Result<(), EngineError> {
        self.check_mask(mask)?;
        let token = self.choose(logits, mask);
        if let Some(claimed) = self.tokens.get(self.asked + self.answer.len() - 1).copied()
            && claimed != token
        {
            if let Some(seen) = self.seen.get_mut(&token) {
                seen.answered -= 1;
                seen.any = seen.answered > 0
                    || self.tokens[..self.asked + self.answer.len() - 1].contains(&token);
            }
            self.note(claimed);
        }
        Ok(())
    }

    /// Commits to the answer: the tree over the checkpoints of all positions, and the root of the masks.
    ///
    /// # Errors
    /// [`EngineError::Order`] unless the last thing that happened was that a token was sampled.
    pub fn finish(self) -> Result<Generated, EngineError> {
        let positions = self.asked + self.answer.len();
        let extent = trace::extent(self.asked, self.answer.len());
        let (Some(extent), true) = (extent, self.computed + 1 == positions) else {
            return Err(EngineError::Order(
                "finish before a token is sampled from the last position",
            ));
        };
        let mut sampling = self.sampling;
        if !self.masks.is_empty() {
            sampling.mask_root = Tree::new(Family::Mask, self.masks).root();
        }
        let mut trace = self.trace;
        let tokens: Vec<u8> = self.answer.iter().flat_map(|t| t.to_le_bytes()).collect();
        trace.add(self.shared.model.checkpoints - 1, &tokens);
        let prompt = self.tokens.get(..self.asked).unwrap_or(&[]);
        let committed = trace.finish(&self.salt, prompt, &self.answer);
        Ok(Generated {
            sampling,
            input_commit: committed.input,
            output_commit: committed.output,
            trace_root: committed.tree.root(),
            leaves: committed.tree.leaves(),
            extent,
            tree: committed.tree,
            tokens: self.answer,
        })
    }
}

/// Root over masks as a receipt has it; zero for none.
pub fn mask_root(masks: &[Vec<u8>]) -> Hash {
    if masks.is_empty() {
        [0; 32]
    } else {
        mask_tree(masks.iter().map(Vec::as_slice)).root()
    }
}
