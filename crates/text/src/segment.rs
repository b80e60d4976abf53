//! Text with its origin.

/// A piece of a prompt. Control and added tokens are matched inside `Trusted` pieces only, never inside `Content` and never
/// across a border; everything else is tokenised as if the pieces were one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Written by the model's template (or by us).
    Trusted(String),
    /// Came from a client or from the model; is text, whatever it looks like.
    Content(String),
}

impl Segment {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Trusted(text) | Self::Content(text) => text,
        }
    }
}

/// The prompt as one text, for people and logs of tests.
#[must_use]
pub fn plain_text(segments: &[Segment]) -> String {
    segments.iter().map(Segment::text).collect()
}
