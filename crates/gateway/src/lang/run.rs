//! The choices of one call, side by side: each is an answer of its own, with a seed and a receipt of its own.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::answer::{Flow, Order, Sold, Taker};
use super::shape::{Delta, Finish, Shaper};
use super::upstream::Token;
use crate::HttpError;
use crate::server::Shared;

/// A choice before it is answered.
pub(crate) struct Choice {
    pub(crate) order: Order,
    pub(crate) shaper: Shaper,
}

/// What happened to a choice.
#[derive(Debug)]
pub(crate) enum ChoiceEvent {
    /// An operator has taken it.
    Admitted,
    /// It goes on.
    Delta(Delta),
    /// It is complete and its receipt checked.
    End(Box<End>),
}

/// The end of a choice.
#[derive(Debug)]
pub(crate) struct End {
    /// What was held back until now.
    pub(crate) rest: Delta,
    pub(crate) finish: Finish,
    pub(crate) sold: Sold,
}

type Event = (u32, Result<ChoiceEvent, HttpError>);

/// Choices under way. Dropping it cancels them.
pub(crate) struct Run {
    events: UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
    open: usize,
}

struct Forward {
    index: u32,
    shaper: Shaper,
    sender: UnboundedSender<Event>,
}

impl Forward {
    fn send(&self, event: ChoiceEvent) {
        // Nobody listens any more only when this task is about to be aborted.
        let _ = self.sender.send((self.index, Ok(event)));
    }
}

impl Taker for Forward {
    fn admitted(&mut self) {
        self.send(ChoiceEvent::Admitted);
    }

    fn token(&mut self, token: &Token) -> Result<Flow, String> {
        let (delta, flow) = self.shaper.push(token)?;
        if !delta.is_empty() {
            self.send(ChoiceEvent::Delta(delta));
        }
        Ok(flow)
    }

    fn mask_root(&self, tokens: usize) -> Option<[u8; 32]> {
        self.shaper.mask_root(tokens)
    }
}

impl Run {
    /// Starts all choices.
    pub(crate) fn start(shared: &Arc<Shared>, choices: Vec<Choice>) -> Self {
        let (sender, events) = unbounded_channel();
        let mut tasks = JoinSet::new();
        let open = choices.len();
        for (index, choice) in (0u32..).zip(choices) {
            let forward = Forward {
                index,
                shaper: choice.shaper,
                sender: sender.clone(),
            };
            tasks.spawn(one(Arc::clone(shared), choice.order, forward));
        }
        Self {
            events,
            tasks,
            open,
        }
    }

    /// What happens next; `None` after the last end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.open == 0 {
            return None;
        }
        let event = self.events.recv().await;
        match &event {
            Some((_, Ok(ChoiceEvent::End(_)))) => self.open -= 1,
            Some(_) => {}
            // Every task ended, one of them without a word.
            None => {
                self.open = 0;
                let error = HttpError::Internal("an answer ended unexpectedly".into());
                return Some((0, Err(error)));
            }
        }
        event
    }

    /// Events that nobody asked for yet.
    pub(crate) fn backlog(&self) -> usize {
        self.events.len()
    }

    /// Ends everything.
    pub(crate) fn cancel(&mut self) {
        self.tasks.abort_all();
        self.events.close();
    }
}

async fn one(shared: Arc<Shared>, order: Order, mut forward: Forward) {
    let sold = shared.sell(&order, &mut forward).await;
    let Forward {
        index,
        shaper,
        sender,
    } = forward;
    let end = sold.and_then(|sold| {
        let (rest, finish) = shaper
            .finish(&sold.tokens, &order.sampling)
            .map_err(HttpError::BadReceipt)?;
        shared.metrics.tokens.inc_by(sold.tokens.len() as u64);
        Ok(ChoiceEvent::End(Box::new(End { rest, finish, sold })))
    });
    let _ = sender.send((index, end));
}

/// A choice as a whole.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) delta: Delta,
    pub(crate) end: Option<(Finish, Sold)>,
}

/// Waits for all choices. The first failure cancels the others.
pub(crate) async fn collect(mut run: Run, choices: usize) -> Result<Vec<Whole>, HttpError> {
    let mut wholes: Vec<Whole> = (0..choices).map(|_| Whole::default()).collect();
    while let Some((index, event)) = run.next().await {
        let Some(whole) = wholes.get_mut(index as usize) else {
            continue;
        };
        match event? {
            ChoiceEvent::Admitted => {}
            ChoiceEvent::Delta(delta) => whole.delta.append(delta),
            ChoiceEvent::End(end) => {
                whole.delta.append(end.rest);
                whole.end = Some((end.finish, end.sold));
            }
        }
    }
    Ok(wholes)
}
