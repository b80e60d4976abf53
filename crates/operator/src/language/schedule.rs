//! One thread for each model: answers join and leave the batch at any step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use alloy_primitives::Address;
use tokio::sync::mpsc::UnboundedSender;

use super::logprobs::{LogProbs, log_probs};
use super::masks::MaskSource;
use super::queue::Queue;
use super::{Prompt, Speaker};
use crate::model::Execution;

/// How a model's passes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Answers under way at a time, at least 1; more wait. Nobody gets more than half of the places (at least 1) while
    /// another requester waits with less.
    pub batch: usize,
    /// Positions of all prompts together in one pass that no answer waits for.
    pub chunk_alone: usize,
    /// Positions of all prompts together in one pass that answers share: how long these wait for their next token.
    pub chunk_shared: usize,
}

impl Default for Pace {
    /// 8 answers; 256 and 64 positions.
    fn default() -> Self {
        Self {
            batch: 8,
            chunk_alone: 256,
            chunk_shared: 64,
        }
    }
}

/// One answer to be made. Dropping the receiver of its events cancels it.
pub struct Talk {
    /// Who asks; requesters take turns.
    pub requester: Address,
    /// What is asked.
    pub prompt: Prompt,
    /// Limits the tokens, for constrained answers.
    pub masks: Option<Box<dyn MaskSource>>,
    /// Probabilities with this many alternatives, if wanted.
    pub logprobs: Option<u8>,
    /// Once set the answer ends with its next token.
    pub stop: Arc<AtomicBool>,
    /// Who listens.
    pub events: UnboundedSender<TalkEvent>,
}

/// What becomes of an answer, in order; the last is `Done`, `Grammar` or `Failed`.
#[derive(Debug)]
pub enum TalkEvent {
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// Probabilities, if they were asked for.
        probs: Option<LogProbs>,
    },
    /// The answer is complete.
    Done {
        /// What the receipt names.
        execution: Box<Execution>,
        /// Masks of a constrained answer.
        masks: Vec<Vec<u8>>,
    },
    /// There will be no answer because the requester's grammar can't go on: nothing may follow, or it is too costly.
    Grammar(String),
    /// There will be no answer.
    Failed(String),
}

/// The thread's letter box; the thread ends with it.
pub(super) struct Scheduler(Sender<Talk>);

impl Scheduler {
    pub(super) fn start<S: Speaker>(speaker: Arc<S>, pace: Pace) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("operator-language".into())
            .spawn(move || {
                Desk {
                    speaker,
                    pace,
                    waiting: Queue::default(),
                    active: Vec::new(),
                }
                .work(&receiver);
            })?;
        Ok(Self(sender))
    }

    pub(super) fn add(&self, talk: Talk) -> Result<(), String> {
        self.0
            .send(talk)
            .map_err(|_| "its thread has ended".to_owned())
    }
}

/// An answer under way.
struct Active<T> {
    talk: Talk,
    speech: T,
    /// Positions of the prompt that are not computed yet; 0 from the first token on.
    unread: usize,
    said: Vec<u32>,
    masks: Vec<Vec<u8>>,
}

struct Desk<S: Speaker> {
    speaker: Arc<S>,
    pace: Pace,
    waiting: Queue,
    active: Vec<Active<S::Speech>>,
}

/// Why there is no answer.
enum Fault {
    Model(String),
    Grammar(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Model(reason)
    }
}

/// Runs `work`; a panic becomes an error of the one answer that it was about.
fn guarded<T, E: From<String>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(target: "assay::operator", "a language model panicked");
        Err("the model failed unexpectedly".to_owned().into())
    })
}

fn fail(talk: &Talk, fault: impl Into<Fault>) {
    let event = match fault.into() {
        Fault::Model(reason) => {
            tracing::warn!(target: "assay::operator", reason, "answer failed");
            TalkEvent::Failed(reason)
        }
        Fault::Grammar(reason) => {
            tracing::debug!(target: "assay::operator", reason, "a grammar can't go on");
            TalkEvent::Grammar(reason)
        }
    };
    // Whoever asked may have left.
    let _ = talk.events.send(event);
}

impl Pace {
    /// Which answers go along in a pass, given what is unread of their prompts (oldest first, 0 once they answer), and
    /// by how many positions each may advance. Answers always go along; prompts share one budget. The oldest takes what
    /// it needs, younger ones go along if all that they need is left.
    fn plan(&self, unread: &[usize]) -> (Vec<bool>, usize) {
        let budget = if unread.contains(&0) {
            self.chunk_shared.max(1)
        } else {
            self.chunk_alone.max(1)
        };
        let mut left = budget;
        let goes = unread.iter().map(|positions| {
            let fits = left == budget || *positions <= left;
            if fits {
                left -= left.min(*positions);
            }
            fits
        });
        (goes.collect(), budget)
    }
}

impl<S: Speaker> Desk<S> {
    fn work(mut self, letters: &Receiver<Talk>) {
        loop {
            if self.waiting.is_empty() && self.active.is_empty() {
                match letters.recv() {
                    Ok(talk) => self.waiting.push(talk),
                    Err(_) => return,
                }
            }
            loop {
                match letters.try_recv() {
                    Ok(talk) => self.waiting.push(talk),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.admit();
            if self.active.is_empty() {
                continue;
            }
            self.pass();
            self.choose();
        }
    }

    /// Lets go of those whose listener left, and fills their places.
    fn admit(&mut self) {
        self.waiting.tidy();
        self.active.retain(|one| !one.talk.events.is_closed());
        let batch = self.pace.batch.max(1);
        while self.active.len() < batch {
            let active = &self.active;
            let held = |who: &Address| active.iter().filter(|a| a.talk.requester == *who).count();
            let Some(talk) = self.waiting.pop((batch / 2).max(1), held) else {
                return;
            };
            let begun = guarded(|| {
                let speech = self.speaker.start(&talk.prompt)?;
                Ok::<_, String>((self.speaker.pending(&speech), speech))
            });
            match begun {
                Ok((unread, speech)) => self.active.push(Active {
                    talk,
                    speech,
                    unread,
                    said: Vec::new(),
                    masks: Vec::new(),
                }),
                Err(reason) => fail(&talk, reason),
            }
        }
    }

    /// One pass over the answers under way. If it fails, each that went along goes on alone, so that only those fail
    /// that must.
    fn pass(&mut self) {
        let unread: Vec<usize> = self.active.iter().map(|one| one.unread).collect();
        let (goes, chunk) = self.pace.plan(&unread);
        let speaker = Arc::clone(&self.speaker);
        let along = self.active.iter_mut().zip(&goes).filter(|(_, goes)| **goes);
        let mut batch: Vec<&mut S::Speech> = along.map(|(one, _)| &mut one.speech).collect();
        let answers = batch.len();
        let Err(reason) = guarded(|| speaker.step(&mut batch, chunk)) else {
            return;
        };
        tracing::warn!(target: "assay::operator", reason, answers, "a pass failed");
        for (mut one, goes) in std::mem::take(&mut self.active).into_iter().zip(goes) {
            let result = match (goes, answers) {
                (false, _) => Ok(()),
                (true, 1) => Err(reason.clone()),
                (true, _) => guarded(|| again(speaker.as_ref(), &mut one, chunk)),
            };
            match result {
                Ok(()) => self.active.push(one),
                Err(reason) => fail(&one.talk, reason),
            }
        }
    }

    /// Next tokens of all answers whose logits are there.
    fn choose(&mut self) {
        for mut one in std::mem::take(&mut self.active) {
            match guarded(|| next(self.speaker.as_ref(), &mut one)) {
                Ok(false) => self.active.push(one),
                Ok(true) => self.end(one),
                Err(fault) => fail(&one.talk, fault),
            }
        }
    }

    fn end(&self, one: Active<S::Speech>) {
        let Active {
            talk,
            speech,
            masks,
            ..
        } = one;
        match guarded(|| self.speaker.finish(speech, &talk.prompt, &masks)) {
            Ok(execution) => {
                // Whoever asked may have left.
                let _ = talk.events.send(TalkEvent::Done {
                    execution: Box::new(execution),
                    masks,
                });
            }
            Err(reason) => fail(&talk, reason),
        }
    }
}

/// Begins an answer anew, alone, up to where it was and one pass further. The same tokens come out: nothing in them
/// depends on who shared a pass.
fn again<S: Speaker>(speaker: &S, one: &mut Active<S::Speech>, chunk: usize) -> Result<(), String> {
    let mut speech = speaker.start(&one.talk.prompt)?;
    for (index, said) in one.said.iter().enumerate() {
        while speaker.pending(&speech) > 0 {
            speaker.step(&mut [&mut speech], chunk)?;
        }
        let mask = one.masks.get(index).map(Vec::as_slice);
        let token = speaker.sample(&mut speech, mask)?;
        if token != *said {
            return Err(format!("token {index} was {said}, is {token} now"));
        }
    }
    if speaker.pending(&speech) > 0 {
        speaker.step(&mut [&mut speech], chunk)?;
    }
    one.speech = speech;
    Ok(())
}

/// Chooses the next token if the logits are there. Whether the answer is complete.
fn next<S: Speaker>(speaker: &S, one: &mut Active<S::Speech>) -> Result<bool, Fault> {
    one.unread = speaker.pending(&one.speech);
    if one.unread > 0 {
        return Ok(false);
    }
    let mask = match &mut one.talk.masks {
        None => None,
        Some(source) => {
            let mask = source.mask().map_err(Fault::Grammar)?;
            if mask.iter().all(|byte| *byte == 0) {
                return Err("the grammar allows no token here".to_owned().into());
            }
            Some(mask)
        }
    };
    let logits = one
        .talk
        .logprobs
        .map(|top| (top, speaker.logits(&one.speech).to_vec()));
    let id = speaker.sample(&mut one.speech, mask.as_deref())?;
    if let Some(source) = &mut one.talk.masks {
        // The mask allowed it, so it is too costly for the grammar to go on by it.
        source.accept(id).map_err(Fault::Grammar)?;
    }
    one.masks.extend(mask);
    one.said.push(id);
    let probs = logits.and_then(|(top, logits)| log_probs(&logits, id, top));
    // Whoever asked may have left; the next look at the batch lets go of it.
    let _ = one.talk.events.send(TalkEvent::Token { id, probs });
    let sampling = &one.talk.prompt.sampling;
    Ok(sampling.stop.binary_search(&id).is_ok()
        || one.said.len() >= sampling.max_out as usize
        || one.talk.stop.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
