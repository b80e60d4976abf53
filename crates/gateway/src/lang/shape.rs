//! Tokens to what a client reads: whole characters, up to a stop string, tool calls apart, probabilities beside them.

use assay_graph::Sampling;
use assay_graph::trace::{Family, Hash, Tree, leaf_hash};
use assay_text::{
    Constraint, Detokenizer, Grammar, StopMatcher, Tokenizer, ToolEvent, ToolFormat, ToolParser,
};

use super::answer::Flow;
use super::upstream::Token;
use super::{Language, output};
use crate::HttpError;

/// What an endpoint wants made of the tokens.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// How tool calls are written, if they are looked for.
    pub(crate) tools: Option<ToolFormat>,
    /// Whether more than one call may stand in an answer.
    pub(crate) parallel_calls: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            tools: None,
            parallel_calls: true,
        }
    }
}

/// A token and how likely it and its alternatives were, as natural logarithms.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probability {
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
    pub(crate) top: Vec<(Vec<u8>, f32)>,
}

/// A part of a tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallPart {
    /// Place of the call in the answer.
    pub(crate) index: u32,
    /// Id and function, in the first part of a call.
    pub(crate) head: Option<(String, String)>,
    /// More of the JSON text of the arguments.
    pub(crate) arguments: String,
}

/// A part of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Delta {
    pub(crate) text: String,
    pub(crate) calls: Vec<CallPart>,
    pub(crate) probabilities: Vec<Probability>,
}

impl Delta {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty() && self.probabilities.is_empty()
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        self.text.push_str(&more.text);
        self.calls.append(&mut more.calls);
        self.probabilities.append(&mut more.probabilities);
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model or a stop string ended it.
    Stop,
    /// It has as many tokens as it may have.
    Length,
    /// It calls tools.
    Calls,
}

/// State of one choice.
pub(crate) struct Shaper {
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    ends: Vec<u32>,
    stops: StopMatcher,
    tools: Option<ToolParser>,
    parallel_calls: bool,
    calls: u32,
    constraint: Option<Constraint>,
    masks: Vec<Hash>,
    probabilities: bool,
    /// Probabilities of tokens whose text is held back, with the place where it begins.
    waiting: Vec<(usize, Probability)>,
    /// Bytes of text seen and given out.
    seen: usize,
    released: usize,
    complete: bool,
}

impl Shaper {
    pub(crate) fn new(
        language: &Language,
        shape: &Shape,
        stops: &[String],
        grammar: Option<&Grammar>,
        logprobs: Option<u8>,
    ) -> Result<Self, HttpError> {
        let wrong_stop = |error| HttpError::invalid("stop", format!("{error}"));
        let constraint = grammar.map(|grammar| language.constrain(grammar));
        Ok(Self {
            tokenizer: language.tokenizer.clone(),
            detokenizer: Detokenizer::new(&language.tokenizer),
            ends: language.stop.clone(),
            stops: StopMatcher::new(stops.to_vec()).map_err(wrong_stop)?,
            tools: shape.tools.map(ToolParser::new),
            parallel_calls: shape.parallel_calls,
            calls: 0,
            constraint: constraint.transpose()?,
            masks: Vec::new(),
            probabilities: logprobs.is_some(),
            waiting: Vec::new(),
            seen: 0,
            released: 0,
            complete: false,
        })
    }

    /// The next token. An error says why it can't be there; another may be pushed in its place.
    pub(crate) fn push(&mut self, token: &Token) -> Result<(Delta, Flow), String> {
        let shown = !self.complete && !self.ends.contains(&token.id);
        // First what can be refused without a trace.
        let probability = match self.probabilities && shown {
            true => Some(self.probability(token)?),
            false => None,
        };
        self.constrain(token.id)?;
        if self.complete {
            return Ok((Delta::default(), Flow::Stop));
        }
        if !shown {
            return Ok((Delta::default(), Flow::Go));
        }
        let piece = self.detokenizer.push(token.id);
        if let Some(probability) = probability {
            self.waiting.push((self.seen, probability));
        }
        let delta = self.text(&piece)?;
        let flow = if self.complete { Flow::Stop } else { Flow::Go };
        Ok((delta, flow))
    }

    /// Checks a token against the grammar and remembers the mask that it was sampled under.
    fn constrain(&mut self, id: u32) -> Result<(), String> {
        let Some(constraint) = &mut self.constraint else {
            return Ok(());
        };
        let mask = constraint.mask().map_err(|error| error.to_string())?;
        let allowed = mask
            .get(id as usize / 8)
            .is_some_and(|byte| (byte >> (id % 8)) & 1 == 1);
        if !allowed {
            return Err(format!(
                "token {id} at position {} is forbidden by the grammar",
                self.masks.len()
            ));
        }
        constraint.accept(id).map_err(|error| error.to_string())?;
        self.masks.push(leaf_hash(Family::Mask, &mask));
        Ok(())
    }

    /// Root of the masks of the first `tokens` tokens.
    pub(crate) fn mask_root(&self, tokens: usize) -> Option<Hash> {
        self.constraint.as_ref()?;
        let leaves = self.masks.get(..tokens).unwrap_or(&self.masks).to_vec();
        Some(Tree::new(Family::Mask, leaves).root())
    }

    fn probability(&self, token: &Token) -> Result<Probability, String> {
        let logprob = token
            .logprob
            .filter(|logprob| logprob.is_finite())
            .ok_or("a token without a probability")?;
        let alternative =
            |(id, logprob): &(u32, f32)| (self.tokenizer.token_bytes(*id).to_vec(), *logprob);
        Ok(Probability {
            bytes: self.tokenizer.token_bytes(token.id).to_vec(),
            logprob,
            top: token.top.iter().map(alternative).collect(),
        })
    }

    fn text(&mut self, piece: &str) -> Result<Delta, String> {
        self.seen += piece.len();
        let step = self.stops.push(piece);
        self.complete |= step.stopped.is_some();
        self.release(&step.text)
    }

    /// Text that no stop string takes back.
    fn release(&mut self, text: &str) -> Result<Delta, String> {
        self.released += text.len();
        let mut delta = Delta {
            probabilities: self.due(),
            ..Delta::default()
        };
        match &mut self.tools {
            None => delta.text.push_str(text),
            Some(parser) => {
                let events = parser.push(text);
                self.sort(events, &mut delta)?;
            }
        }
        Ok(delta)
    }

    fn due(&mut self) -> Vec<Probability> {
        let released = self.released;
        let count = self
            .waiting
            .iter()
            .take_while(|(start, _)| *start < released)
            .count();
        self.waiting.drain(..count).map(|(_, one)| one).collect()
    }

    fn sort(&mut self, events: Vec<ToolEvent>, delta: &mut Delta) -> Result<(), String> {
        for event in events {
            match event {
                // What follows the only call that may be is not part of the answer.
                _ if self.calls > 0 && !self.parallel_calls => {}
                ToolEvent::Text(text) => delta.text.push_str(&text),
                ToolEvent::Call { name, arguments } => {
                    let id = output::name("call_").map_err(|error| error.to_string())?;
                    let index = self.calls;
                    self.calls += 1;
                    self.complete |= !self.parallel_calls;
                    delta.calls.push(CallPart {
                        index,
                        head: Some((id, name)),
                        arguments: String::new(),
                    });
                    delta.calls.push(CallPart {
                        index,
                        head: None,
                        arguments,
                    });
                }
            }
        }
        Ok(())
    }

    /// The end: what was held back, and why it ended.
    pub(crate) fn finish(
        mut self,
        tokens: &[u32],
        sampling: &Sampling,
    ) -> Result<(Delta, Finish), String> {
        let mut delta = Delta::default();
        if !self.complete {
            let last = std::mem::replace(&mut self.detokenizer, Detokenizer::new(&self.tokenizer));
            delta.append(self.text(&last.finish())?);
        }
        if !self.complete {
            let held = std::mem::take(&mut self.stops).finish();
            delta.append(self.release(&held)?);
            let rest = self.waiting.drain(..).map(|(_, one)| one);
            delta.probabilities.extend(rest);
        }
        if let Some(parser) = self.tools.take() {
            let events = parser.finish();
            self.sort(events, &mut delta)?;
        }
        let ended = tokens.last().is_some_and(|id| sampling.stop.contains(id));
        let finish = if self.calls > 0 {
            Finish::Calls
        } else if self.complete || ended {
            Finish::Stop
        } else {
            Finish::Length
        };
        Ok((delta, finish))
    }
}
