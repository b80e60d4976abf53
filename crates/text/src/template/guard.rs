//! Keeps content of messages from being read as control tokens.
//!
//! Templates trim, split and join what they are given, so the place of the content in the output can't be known beforehand.
//! Instead the characters of content that could start an added token are replaced by *stand-ins* (private-use
//! characters that occur nowhere else) before rendering, and found again afterwards. Whatever the template does, no added
//! token can start inside content then, not even one joined from two messages.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Segment, TextError};

/// Private-use planes 15 and 16.
const STAND_INS: [std::ops::RangeInclusive<char>; 2] =
    ['\u{F0000}'..='\u{FFFFD}', '\u{100000}'..='\u{10FFFD}'];

/// How characters are exchanged for one rendering.
#[derive(Debug, Default)]
pub(super) struct Guard {
    stand_in: BTreeMap<char, char>,
    original: BTreeMap<char, char>,
    /// First two characters of control tokens (second: none for tokens of one character).
    pairs: BTreeSet<(char, Option<char>)>,
}

impl Guard {
    /// For texts that use the private-use characters `taken`.
    pub(super) fn new<'t>(
        added: impl Iterator<Item = (&'t str, bool)>,
        taken: &BTreeSet<char>,
    ) -> Result<Self, TextError> {
        let mut guard = Self::default();
        let mut free = STAND_INS
            .into_iter()
            .flatten()
            .filter(|c| !taken.contains(c));
        for (token, control) in added {
            let mut characters = token.chars();
            let Some(first) = characters.next() else {
                continue;
            };
            if control {
                guard.pairs.insert((first, characters.next()));
            }
            if guard.stand_in.contains_key(&first) {
                continue;
            }
            let Some(stand_in) = free.next() else {
                return Err(TextError::Limit {
                    what: "number of private-use characters in the conversation",
                    have: taken.len() as u64,
                    limit: 1 << 16,
                });
            };
            guard.stand_in.insert(first, stand_in);
            guard.original.insert(stand_in, first);
        }
        Ok(guard)
    }

    /// Every possible start of an added token is replaced.
    pub(super) fn strict(&self, text: &str) -> String {
        text.chars()
            .map(|c| self.stand_in.get(&c).copied().unwrap_or(c))
            .collect()
    }

    /// Only what could start a control token is replaced: for the model's own words, whose marks (`<think>`, `<tool_call>`)
    /// are to be read as it wrote them.
    pub(super) fn lenient(&self, text: &str) -> String {
        let mut after = text.chars();
        text.chars()
            .map(|c| {
                after.next();
                let next = after.clone().next();
                let control = self.pairs.contains(&(c, None))
                    || next.is_none_or(|next| self.pairs.contains(&(c, Some(next))));
                match self.stand_in.get(&c) {
                    Some(stand_in) if control => *stand_in,
                    _ => c,
                }
            })
            .collect()
    }

    /// Cuts a rendered text at the stand-ins.
    pub(super) fn split(&self, rendered: &str) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for c in rendered.chars() {
            match (self.original.get(&c), segments.last_mut()) {
                (Some(original), Some(Segment::Content(text))) => text.push(*original),
                (Some(original), _) => segments.push(Segment::Content(original.to_string())),
                (None, Some(Segment::Trusted(text))) => text.push(c),
                (None, _) => segments.push(Segment::Trusted(c.to_string())),
            }
        }
        segments
    }
}

/// Private-use characters of a text.
pub(super) fn private_use(text: &str, found: &mut BTreeSet<char>) {
    found.extend(text.chars().filter(|c| *c >= '\u{F0000}'));
}
