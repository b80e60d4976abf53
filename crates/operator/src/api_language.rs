//! `POST /v1/run` to a language model: tokens as they come, or the whole answer at its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::admit::{Admission, Admitted, Question, Spoken};
use crate::api::{Failure, RunResponse, Waiting, failure, run_error};
use crate::error::RunError;
use crate::issue::Answer;
use crate::language::{LogProbs, Talk, TalkEvent, tokens_of};
use crate::model::Execution;
use crate::operator::Shared;
use crate::{ApiError, Refusal};

/// A comment is sent when nothing was for so long.
const PING: Duration = Duration::from_secs(10);

/// `event: start`.
#[derive(Serialize)]
struct Start {
    /// Name of the job for `POST /v1/run/{job}/stop`: hash of the request.
    job: B256,
}

/// `event: token`.
#[derive(Serialize)]
struct Token {
    id: u32,
    logprob: Option<f32>,
    top: Vec<(u32, f32)>,
}

impl Token {
    fn new(id: u32, probs: Option<LogProbs>) -> Self {
        let (logprob, top) = match probs {
            Some(probs) => (Some(probs.chosen), probs.top),
            None => (None, Vec::new()),
        };
        Self { id, logprob, top }
    }
}

/// Ends an answer with its next token; its receipt is issued for what was answered.
pub(crate) async fn stop(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Response {
    let found = job
        .parse::<B256>()
        .is_ok_and(|job| shared.in_flight.stop(job));
    if found {
        return StatusCode::NO_CONTENT.into_response();
    }
    let error = ApiError {
        message: "no such answer is under way".to_owned(),
        code: "unknown_job".to_owned(),
        expected: None,
    };
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

/// An answer under way. Dropping it cancels the answer: no receipt, no fee, and its place in the line was never taken.
struct Conversation {
    shared: Arc<Shared>,
    admitted: Arc<Admitted>,
    events: UnboundedReceiver<TalkEvent>,
    stopping: watch::Receiver<bool>,
    _waiting: Waiting,
}

/// One step of a conversation.
enum Step {
    Token(u32, Option<LogProbs>),
    Done(Box<Answer>),
    Failed(Failure),
}

impl Conversation {
    /// Hands the answer to the model's thread.
    fn begin(
        shared: Arc<Shared>,
        admitted: Arc<Admitted>,
        spoken: Box<Spoken>,
        waiting: Waiting,
    ) -> Result<Self, RunError> {
        let question = &admitted.question;
        let unknown = || Refusal::UnknownModel(question.model_id);
        let model = shared.models.get(&question.model_id).ok_or_else(unknown)?;
        let language = model.language().ok_or_else(unknown)?;
        let (sender, events) = unbounded_channel();
        let talk = Talk {
            requester: admitted.requester,
            prompt: spoken.prompt,
            masks: spoken.masks,
            logprobs: question.logprobs,
            stop: admitted.reservation.stop(),
            events: sender,
        };
        language.speak(talk)?;
        Ok(Self {
            stopping: shared.stopping.subscribe(),
            shared,
            admitted,
            events,
            _waiting: waiting,
        })
    }

    async fn next(&mut self) -> Step {
        let event = tokio::select! {
            event = self.events.recv() => event,
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
        };
        match event {
            Some(TalkEvent::Token { id, probs }) => Step::Token(id, probs),
            Some(TalkEvent::Grammar(reason)) => Step::Failed(Failure::Grammar(reason)),
            Some(TalkEvent::Failed(reason)) => Step::Failed(Failure::Failed(reason)),
            Some(TalkEvent::Done { execution, masks }) => self.issue(*execution, masks).await,
            None => Step::Failed(Failure::Stopping),
        }
    }

    async fn issue(&mut self, execution: Execution, masks: Vec<Vec<u8>>) -> Step {
        let shared = Arc::clone(&self.shared);
        let admitted = Arc::clone(&self.admitted);
        let issued =
            tokio::task::spawn_blocking(move || shared.issue(&admitted, execution, &masks)).await;
        match issued {
            Ok(Ok(answer)) => Step::Done(Box::new(answer)),
            Ok(Err(error)) => {
                tracing::error!(target: "assay::operator", %error, "no receipt for an answer");
                Step::Failed(Failure::Failed(error.to_string()))
            }
            Err(error) => {
                tracing::error!(target: "assay::operator", %error, "job panicked");
                Step::Failed(Failure::Panicked)
            }
        }
    }
}

/// Admits a question to a language model and answers it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    question: Question,
    stream: bool,
    waiting: Waiting,
) -> Response {
    let worker = Arc::clone(&shared);
    let job = question.request.struct_hash();
    let admission = tokio::task::spawn_blocking(move || worker.admit(question)).await;
    let (admitted, spoken) = match admission {
        Ok(Ok(Admission::New(admitted, Some(spoken)))) => (Arc::from(admitted), spoken),
        Ok(Ok(Admission::New(..))) => return failure(Failure::Panicked),
        Ok(Ok(Admission::Known(answer))) if stream => return known(job, *answer),
        Ok(Ok(Admission::Known(answer))) => {
            return Json(RunResponse::from(*answer)).into_response();
        }
        Ok(Err(error)) => return run_error(error),
        Err(error) => {
            tracing::error!(target: "assay::operator", %error, "admission panicked");
            return failure(Failure::Panicked);
        }
    };
    let mut conversation = match Conversation::begin(shared, admitted, spoken, waiting) {
        Ok(conversation) => conversation,
        Err(error) => return run_error(error),
    };
    if stream {
        return events(job, conversation);
    }
    loop {
        match conversation.next().await {
            Step::Token(..) => {}
            Step::Done(answer) => return Json(RunResponse::from(*answer)).into_response(),
            Step::Failed(reason) => return failure(reason),
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Result<Event, Infallible> {
    let event = Event::default().event(name);
    Ok(event.json_data(data).unwrap_or_else(|error| {
        // Nothing here has a form that JSON lacks.
        tracing::error!(target: "assay::operator", %error, "event has no JSON");
        Event::default().comment("an event was lost")
    }))
}

fn done(answer: Answer) -> Result<Event, Infallible> {
    event("done", &RunResponse::from(answer))
}

/// The events of an answer that was given before.
fn known(job: B256, answer: Answer) -> Response {
    let tokens = tokens_of(&answer.output).unwrap_or_default();
    let mut events = vec![event("start", &Start { job })];
    events.extend(
        tokens
            .into_iter()
            .map(|id| event("token", &Token::new(id, None))),
    );
    events.push(done(answer));
    Sse::new(stream::iter(events)).into_response()
}

/// Where a stream of events stands.
enum Stage {
    Start(Conversation),
    Tokens(Conversation),
    Over,
}

fn events(job: B256, conversation: Conversation) -> Response {
    let stream = stream::unfold(Stage::Start(conversation), move |stage| async move {
        match stage {
            Stage::Start(conversation) => {
                Some((event("start", &Start { job }), Stage::Tokens(conversation)))
            }
            Stage::Tokens(mut conversation) => Some(match conversation.next().await {
                Step::Token(id, probs) => (
                    event("token", &Token::new(id, probs)),
                    Stage::Tokens(conversation),
                ),
                Step::Done(answer) => (done(*answer), Stage::Over),
                Step::Failed(reason) => (event("error", &reason.parts().1), Stage::Over),
            }),
            Stage::Over => None,
        }
    });
    let ping = KeepAlive::new().interval(PING).text("ping");
    Sse::new(stream).keep_alive(ping).into_response()
}
