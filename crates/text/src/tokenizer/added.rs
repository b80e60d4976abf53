//! Tokens that are matched as a whole in trusted text.

use serde::{Deserialize, Serialize};

/// An entry of `added_tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// Finds added tokens: leftmost, longest first.
#[derive(Debug)]
pub(super) struct Matcher {
    automaton: aho_corasick::AhoCorasick,
    tokens: Vec<Added>,
}

impl Matcher {
    pub(super) fn new(tokens: Vec<Added>) -> Result<Self, crate::TextError> {
        if let Some(token) = tokens.iter().find(|token| token.single_word) {
            return Err(crate::TextError::Unsupported {
                part: "added token with single_word",
                have: token.content.clone(),
                accepted: "tokens matched anywhere",
            });
        }
        let tokens: Vec<Added> = tokens
            .into_iter()
            .filter(|token| !token.content.is_empty())
            .collect();
        let automaton = aho_corasick::AhoCorasick::builder()
            .match_kind(aho_corasick::MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| token.content.as_bytes()))
            .map_err(crate::TextError::tokenizer)?;
        Ok(Self { automaton, tokens })
    }

    pub(super) fn tokens(&self) -> &[Added] {
        &self.tokens
    }

    /// Matches in order, with the text before each.
    pub(super) fn find<'m, 't>(
        &'m self,
        text: &'t str,
    ) -> impl Iterator<Item = (usize, usize, &'m Added)> + use<'m, 't> {
        self.automaton.find_iter(text).filter_map(|found| {
            Some((
                found.start(),
                found.end(),
                self.tokens.get(found.pattern().as_usize())?,
            ))
        })
    }
}
