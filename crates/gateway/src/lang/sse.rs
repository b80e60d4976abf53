//! Server-sent events to a client: comments while nothing comes, no limit on how slowly it reads but one on how long it
//! may not read at all, and the end of the work when it goes away.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::run::{ChoiceEvent, Run};
use crate::HttpError;
use crate::http::{Place, add_headers};
use crate::server::Shared;

/// Writes that wait for the client in the connection's own queue.
const IN_FLIGHT: usize = 4;
/// Bytes of events above which no more are written until the client reads.
const MAX_QUEUED: usize = 1 << 20;
/// Tokens that wait for a client that reads too slowly; above, its stream ends.
const MAX_BACKLOG: usize = 50_000;

/// Turns what happens to choices into events of one endpoint.
pub(crate) trait Render: Send + 'static {
    /// Events at the very begin.
    fn begin(&mut self, out: &mut Frames);
    /// Events for something that happened to choice `index`.
    fn event(&mut self, index: u32, event: ChoiceEvent, out: &mut Frames);
    /// Events after the last choice has ended.
    fn end(&mut self, out: &mut Frames);
    /// The event for an error after the first byte.
    fn error(&mut self, error: &HttpError, out: &mut Frames) {
        out.data(&error.body());
    }
}

/// Events that were not sent yet.
#[derive(Default)]
pub(crate) struct Frames {
    queue: VecDeque<String>,
    bytes: usize,
}

impl Frames {
    fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.queue.push_back(text);
    }

    /// `data: …`
    pub(crate) fn data(&mut self, value: &serde_json::Value) {
        self.push(format!("data: {value}\n\n"));
    }

    /// `event: …` and `data: …`
    pub(crate) fn event(&mut self, name: &str, value: &serde_json::Value) {
        self.push(format!("event: {name}\ndata: {value}\n\n"));
    }

    /// `data: [DONE]`
    pub(crate) fn done(&mut self) {
        self.push("data: [DONE]\n\n".into());
    }

    fn ping(&mut self) {
        self.push(": ping\n\n".into());
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.bytes = 0;
        self.queue.clear();
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Everything that waits, in one write.
    fn take(&mut self) -> Bytes {
        self.bytes = 0;
        let parts: Vec<String> = self.queue.drain(..).collect();
        Bytes::from(parts.concat())
    }
}

struct Channel(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Answers with a stream. Waits for the first sign of life, so that early refusals have a status of their own.
pub(crate) async fn respond(
    shared: Arc<Shared>,
    place: Place,
    mut run: Run,
    mut render: impl Render,
    headers: Vec<(&'static str, String)>,
) -> Result<Response, HttpError> {
    let mut frames = Frames::default();
    let first = tokio::time::timeout(shared.config.ping, run.next()).await;
    render.begin(&mut frames);
    match first {
        Ok(Some((index, event))) => render.event(index, event?, &mut frames),
        Ok(None) => return Err(HttpError::Internal("the answer has no end".into())),
        // It takes long: comments keep the connection alive.
        Err(_) => frames.ping(),
    }
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(drive(shared, place, run, render, frames, sender));
    let mut response = Body::new(Channel(receiver)).into_response();
    let fixed = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    add_headers(&mut response, headers);
    Ok(response)
}

/// Runs until everything is sent, the client is gone, or it reads nothing for too long. Dropping `run` cancels.
async fn drive(
    shared: Arc<Shared>,
    place: Place,
    mut run: Run,
    mut render: impl Render,
    mut frames: Frames,
    sender: mpsc::Sender<Bytes>,
) {
    // Given back when the work is done, not when the last byte is read.
    let mut place = Some(place);
    let mut sent = Instant::now();
    while place.is_some() || !frames.is_empty() {
        if run.backlog() > MAX_BACKLOG {
            tracing::info!(target: "assay::gateway", "client reads too slowly, stream ended");
            break;
        }
        tokio::select! {
            biased;
            () = sender.closed() => {
                shared.metrics.cancelled.inc();
                break;
            }
            permit = sender.reserve(), if !frames.is_empty() => {
                let Ok(permit) = permit else { break };
                permit.send(frames.take());
                sent = Instant::now();
            }
            event = run.next(), if place.is_some() && frames.bytes <= MAX_QUEUED => match event {
                Some((index, Ok(event))) => render.event(index, event, &mut frames),
                Some((_, Err(error))) => {
                    render.error(&error, &mut frames);
                    run.cancel();
                    place = None;
                }
                None => {
                    render.end(&mut frames);
                    place = None;
                }
            },
            () = sleep_until(sent + shared.config.ping), if frames.is_empty() => frames.ping(),
            () = sleep_until(sent + shared.config.stall), if !frames.is_empty() => {
                tracing::info!(target: "assay::gateway", "client does not read, stream ended");
                break;
            }
        }
    }
}
