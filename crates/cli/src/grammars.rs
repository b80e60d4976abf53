//! Grammars of constrained answers for the operator: the same masks as the gateway's, made by the same library.

use assay_import::language::Language;
use assay_operator::{Grammars, MaskSource};
use assay_text::{Constrainer, Constraint, Grammar, TextError};

/// Masks over one model's vocabulary.
pub(crate) struct TextGrammars(Constrainer);

impl TextGrammars {
    /// # Errors
    /// When the tokenizer can't be used for constraints.
    pub(crate) fn new(language: &Language) -> Result<Self, TextError> {
        Ok(Self(Constrainer::new(
            &language.tokenizer,
            language.vocabulary,
            &language.stop,
        )?))
    }
}

impl Grammars for TextGrammars {
    fn source(&self, grammar: &[u8]) -> Result<Box<dyn MaskSource>, String> {
        let source = Grammar::from_bytes(grammar).and_then(|g| self.0.constrain(&g));
        source
            .map(|s| Box::new(Source(s)) as Box<dyn MaskSource>)
            .map_err(|e| e.to_string())
    }
}

struct Source(Constraint);

impl MaskSource for Source {
    fn mask(&mut self) -> Result<Vec<u8>, String> {
        self.0.mask().map_err(|e| e.to_string())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.0.accept(token).map_err(|e| e.to_string())
    }
}
