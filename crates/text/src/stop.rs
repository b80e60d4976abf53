//! Stop strings over a stream of text.

use crate::TextError;

/// Most stop strings (the OpenAI interface allows 4).
const MAX_STOPS: usize = 16;
/// Longest stop string, bytes.
const MAX_STOP_BYTES: usize = 1024;

/// What a piece of text gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopStep {
    /// Text that is certain not to belong to a stop string; may be empty.
    pub text: String,
    /// Which stop string ended the answer, by its place in the list. Nothing follows it.
    pub stopped: Option<usize>,
}

/// Ends a stream at the first stop string and never gives out a part of one.
///
/// The result does not depend on how the text is cut: the stop string that is complete first wins, of two that end
/// at one place the longer one.
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: Option<usize>,
}

impl StopMatcher {
    /// For the given strings; none is allowed and holds nothing back.
    ///
    /// # Errors
    /// [`TextError::Limit`] for more than 16 strings or one longer than 1024 bytes; [`TextError::Grammar`] for an empty one.
    pub fn new(stops: Vec<String>) -> Result<Self, TextError> {
        TextError::limit("number of stop strings", stops.len(), MAX_STOPS)?;
        for (index, stop) in stops.iter().enumerate() {
            TextError::limit(
                "length of a stop string in bytes",
                stop.len(),
                MAX_STOP_BYTES,
            )?;
            if stop.is_empty() {
                return Err(TextError::grammar(format_args!(
                    "stop string {index} is empty"
                )));
            }
        }
        Ok(Self {
            stops,
            ..Self::default()
        })
    }

    /// More text. After a stop, everything is swallowed.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.stopped.is_some() {
            return StopStep {
                text: String::new(),
                stopped: self.stopped,
            };
        }
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(index, stop)| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start, index))
            })
            .min();
        if let Some((_, start, index)) = first {
            self.stopped = Some(index);
            self.held.truncate(start);
            return StopStep {
                text: std::mem::take(&mut self.held),
                stopped: self.stopped,
            };
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| partial_suffix(&self.held, stop))
            .max()
            .unwrap_or(0);
        let certain = self.held.len() - keep;
        StopStep {
            text: self.held.drain(..certain).collect(),
            stopped: None,
        }
    }

    /// The end of the stream: what was held back; empty after a stop.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }
}

/// Length in bytes of the longest end of `text` that is a proper start of `mark`.
pub(crate) fn partial_suffix(text: &str, mark: &str) -> usize {
    mark.char_indices()
        .rev()
        .map(|(length, _)| length)
        .find(|&length| {
            mark.get(..length)
                .is_some_and(|start| text.ends_with(start))
        })
        .unwrap_or(0)
}
