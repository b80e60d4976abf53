//! Constrained answers: which tokens may come next.
//!
//! Masks follow from grammar, tokenizer and the tokens so far alone (the library's budgets count steps, not time), so whoever
//! has the grammar can recompute those of a receipt.

mod grammar;

use std::sync::Arc;

use llguidance::api::{GrammarInit, ParserLimits};
use llguidance::earley::SlicedBiasComputer;
use llguidance::{Matcher, ParserFactory};
use toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use crate::error::shorten;
use crate::{TextError, Tokenizer};
pub use grammar::Grammar;

/// Nodes that the library's prefix tree can hold.
const MAX_TREE_BYTES: usize = (1 << 22) - 1;

/// Makes constraints for one model; cheap to clone. Building it walks the vocabulary some times (about a second for
/// 150,000 tokens), so services build it once, when first needed.
#[derive(Clone)]
pub struct Constrainer {
    factory: Arc<ParserFactory>,
    vocabulary: u32,
    stops: Arc<[u32]>,
}

impl std::fmt::Debug for Constrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constrainer")
            .field("vocabulary", &self.vocabulary)
            .field("stops", &self.stops)
            .finish_non_exhaustive()
    }
}

impl Constrainer {
    /// `vocabulary` is the model's (at least the tokenizer's), `stops` the ids that end an answer.
    ///
    /// # Errors
    /// [`TextError::TokenId`] for a stop id outside, [`TextError::Limit`], [`TextError::Grammar`].
    pub fn new(tokenizer: &Tokenizer, vocabulary: u32, stops: &[u32]) -> Result<Self, TextError> {
        if vocabulary < tokenizer.vocabulary() {
            return Err(TextError::TokenId {
                id: tokenizer.vocabulary().saturating_sub(1),
                vocabulary,
            });
        }
        if let Some(&id) = stops.iter().find(|&&id| id >= vocabulary) {
            return Err(TextError::TokenId { id, vocabulary });
        }
        let Some(&first) = stops.first() else {
            return Err(TextError::grammar(
                "the model has no token that ends an answer",
            ));
        };
        let words = words(tokenizer, vocabulary, stops)?;
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary, first), &words).with_eos_tokens(stops);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &SlicedBiasComputer::json_slices(),
        )
        .map_err(TextError::grammar)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self {
            factory: Arc::new(factory),
            vocabulary,
            stops: stops.into(),
        })
    }

    /// A constraint at the start of an answer.
    ///
    /// # Errors
    /// [`TextError::Grammar`] when the grammar is malformed, uses something unsupported or is too costly;
    /// [`TextError::Unsatisfiable`] when nothing obeys it.
    pub fn constrain(&self, grammar: &Grammar) -> Result<Constraint, TextError> {
        let parser = self
            .factory
            .create_parser_from_init(GrammarInit::Serialized(grammar.compile()?), 0, 0)
            .map_err(|error| classify(&error.to_string()))?;
        let mut constraint = Constraint {
            matcher: Matcher::new(Ok(parser)),
            vocabulary: self.vocabulary,
            stops: self.stops.clone(),
            accepted: 0,
            ended: false,
        };
        // a grammar whose first step is too costly is refused now, not in the middle of an answer
        let mask = constraint.mask()?;
        let first = (0..self.vocabulary).find(|&id| {
            let bit = mask
                .get(id as usize / 8)
                .is_some_and(|byte| byte >> (id % 8) & 1 == 1);
            bit && !self.stops.contains(&id)
        });
        if let Some(id) = first {
            let mut probe = constraint.matcher.deep_clone();
            probe
                .consume_token(id)
                .map_err(|error| classify(&error.to_string()))?;
        }
        Ok(constraint)
    }
}

/// Bounds of work for a grammar and for a mask; in steps, so that they are equal on all machines.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 50_000,
        max_grammar_size: 60_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Bytes of each token as the prefix tree wants them; control tokens and stops start with FF, which no text has. Of two
/// tokens with the same bytes the first stays.
fn words(tokenizer: &Tokenizer, vocabulary: u32, stops: &[u32]) -> Result<Vec<Vec<u8>>, TextError> {
    const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let mut seen = std::collections::HashSet::new();
    let mut sum = 0;
    let words: Vec<Vec<u8>> = (0..vocabulary)
        .map(|id| {
            let bytes = tokenizer.token_bytes(id);
            if stops.contains(&id) || tokenizer.is_control(id) && !bytes.is_empty() {
                let mut word = vec![MARK];
                word.extend_from_slice(format!("<{id}>").as_bytes());
                sum += word.len();
                return word;
            }
            if bytes.is_empty() || bytes.first() == Some(&MARK) || !seen.insert(bytes) {
                return Vec::new();
            }
            sum += bytes.len();
            bytes.to_vec()
        })
        .collect();
    TextError::limit("size of the vocabulary in bytes", sum, MAX_TREE_BYTES)?;
    Ok(words)
}

fn classify(why: &str) -> TextError {
    let why = shorten(why.lines().next().unwrap_or_default());
    if why.to_ascii_lowercase().contains("unsatisfiable") {
        TextError::Unsatisfiable { why }
    } else {
        TextError::Grammar { why }
    }
}

/// The state of one constrained answer.
pub struct Constraint {
    matcher: Matcher,
    vocabulary: u32,
    stops: Arc<[u32]>,
    accepted: usize,
    ended: bool,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint")
            .field("accepted", &self.accepted)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Constraint {
    /// Which tokens may come next: `⌈vocabulary/8⌉` bytes, bit `v mod 8` of byte `v / 8`. At least one bit is set. When nothing
    /// but the end can follow, these are the stop tokens.
    ///
    /// # Errors
    /// [`TextError::Unsatisfiable`] when no token may come; [`TextError::Grammar`] when the step is too costly.
    pub fn mask(&mut self) -> Result<Vec<u8>, TextError> {
        let mut mask = vec![0; (self.vocabulary as usize).div_ceil(8)];
        if self.ended || self.matcher.is_stopped() && !self.matcher.is_error() {
            for &id in &*self.stops {
                set(&mut mask, id);
            }
            return Ok(mask);
        }
        let allowed: SimpleVob = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| classify(&error.to_string()))?;
        allowed.iter_set_entries(|id| set(&mut mask, u32::try_from(id).unwrap_or(u32::MAX)));
        if mask.iter().all(|&byte| byte == 0) {
            return Err(TextError::Unsatisfiable {
                why: format!("no token may follow the first {}", self.accepted),
            });
        }
        Ok(mask)
    }

    /// The chosen token. After a stop token the answer is over, and only stop tokens are accepted.
    ///
    /// # Errors
    /// [`TextError::Forbidden`] for a token that the mask forbids; the constraint can't be used after that.
    pub fn accept(&mut self, id: u32) -> Result<(), TextError> {
        let position = self.accepted;
        let forbidden = |why: String| TextError::Forbidden { id, position, why };
        if self.stops.contains(&id) {
            if !self.ended && !self.matcher.is_stopped() && !self.is_complete() {
                return Err(forbidden("the answer is not complete".to_owned()));
            }
            self.ended = true;
        } else if self.ended {
            return Err(forbidden("the answer is over".to_owned()));
        } else if id >= self.vocabulary {
            return Err(forbidden(format!(
                "the vocabulary has {} tokens",
                self.vocabulary
            )));
        } else {
            self.matcher.consume_token(id).map_err(|error| {
                forbidden(shorten(
                    error.to_string().lines().next().unwrap_or_default(),
                ))
            })?;
        }
        self.accepted += 1;
        Ok(())
    }

    /// Whether the answer is over, or nothing but its end can follow.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended || self.matcher.is_stopped()
    }

    /// Whether the answer obeys the grammar if it ends here.
    pub fn is_complete(&mut self) -> bool {
        self.ended || self.matcher.is_accepting().unwrap_or(false)
    }
}

fn set(mask: &mut [u8], id: u32) {
    if let Some(byte) = mask.get_mut(id as usize / 8) {
        *byte |= 1 << (id % 8);
    }
}
