//! One thread for each model: answers join and leave the batch at any step.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use tokio::sync::mpsc::UnboundedSender;

use super::logprobs::{LogProbs, log_probs};
use super::masks::MaskSource;
use super::{Prompt, Speaker};
use crate::model::Execution;

/// How a model's passes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Answers under way at a time, at least 1; more wait.
    pub batch: usize,
    /// Positions of a prompt in one pass when it has the pass for itself.
    pub chunk_alone: usize,
    /// Positions of each prompt in one pass that others share: how long they wait for their next token.
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

/// What becomes of an answer, in order; the last is `Done` or `Failed`.
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
                    waiting: VecDeque::new(),
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
    said: Vec<u32>,
    masks: Vec<Vec<u8>>,
}

struct Desk<S: Speaker> {
    speaker: Arc<S>,
    pace: Pace,
    waiting: VecDeque<Talk>,
    active: Vec<Active<S::Speech>>,
}

/// Runs `work`; a panic becomes an error of the one answer that it was about.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(target: "assay::operator", "a language model panicked");
        Err("the model failed unexpectedly".to_owned())
    })
}

fn fail(talk: &Talk, reason: String) {
    tracing::warn!(target: "assay::operator", reason, "answer failed");
    // Whoever asked may have left.
    let _ = talk.events.send(TalkEvent::Failed(reason));
}

impl<S: Speaker> Desk<S> {
    fn work(mut self, letters: &Receiver<Talk>) {
        loop {
            if self.waiting.is_empty() && self.active.is_empty() {
                match letters.recv() {
                    Ok(talk) => self.waiting.push_back(talk),
                    Err(_) => return,
                }
            }
            loop {
                match letters.try_recv() {
                    Ok(talk) => self.waiting.push_back(talk),
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
        self.waiting.retain(|talk| !talk.events.is_closed());
        self.active.retain(|one| !one.talk.events.is_closed());
        while self.active.len() < self.pace.batch.max(1) {
            let Some(talk) = self.waiting.pop_front() else {
                return;
            };
            match guarded(|| self.speaker.start(&talk.prompt)) {
                Ok(speech) => self.active.push(Active {
                    talk,
                    speech,
                    said: Vec::new(),
                    masks: Vec::new(),
                }),
                Err(reason) => fail(&talk, reason),
            }
        }
    }

    /// One pass over all answers under way. If it fails, each goes on alone, so that only those fail that must.
    fn pass(&mut self) {
        let chunk = if self.active.len() > 1 {
            self.pace.chunk_shared.max(1)
        } else {
            self.pace.chunk_alone.max(1)
        };
        let speaker = Arc::clone(&self.speaker);
        let mut batch: Vec<&mut S::Speech> =
            self.active.iter_mut().map(|one| &mut one.speech).collect();
        let Err(reason) = guarded(|| speaker.step(&mut batch, chunk)) else {
            return;
        };
        tracing::warn!(target: "assay::operator", reason, answers = batch.len(), "a pass failed");
        if let [_] = batch.as_slice() {
            self.active
                .drain(..)
                .for_each(|one| fail(&one.talk, reason.clone()));
            return;
        }
        for mut one in std::mem::take(&mut self.active) {
            match guarded(|| again(speaker.as_ref(), &mut one, chunk)) {
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
                Err(reason) => fail(&one.talk, reason),
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
fn next<S: Speaker>(speaker: &S, one: &mut Active<S::Speech>) -> Result<bool, String> {
    if speaker.pending(&one.speech) > 0 {
        return Ok(false);
    }
    let mask = match &mut one.talk.masks {
        None => None,
        Some(source) => {
            let mask = source.mask()?;
            if mask.iter().all(|byte| *byte == 0) {
                return Err("the grammar allows no token here".to_owned());
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
        source.accept(id)?;
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
