//! Output items of a response: messages and function calls, and the events that tell of them.

use serde_json::{Value, json};

use super::output::{self, name};
use super::shape::{Delta, Finish};

type Event = (&'static str, Value);

enum Open {
    Message {
        id: String,
        text: String,
        logprobs: Vec<Value>,
    },
    Call {
        id: String,
        call_id: String,
        name: String,
        arguments: String,
    },
}

/// Items so far; at most the last one is open.
pub(crate) struct Items {
    done: Vec<Value>,
    open: Option<Open>,
    logprobs: bool,
}

impl Finish {
    /// `status` of a response.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::Length => "incomplete",
            Self::Stop | Self::Calls => "completed",
        }
    }
}

/// Names within one response need not be secret: without randomness they are numbered.
fn id(prefix: &str, number: usize) -> String {
    name(prefix).unwrap_or_else(|_| format!("{prefix}{number}"))
}

fn part(text: &str, logprobs: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

impl Items {
    pub(crate) const fn new(logprobs: bool) -> Self {
        Self {
            done: Vec::new(),
            open: None,
            logprobs,
        }
    }

    /// Items that are complete.
    pub(crate) fn done(&self) -> &[Value] {
        &self.done
    }

    /// More of the answer.
    pub(crate) fn push(&mut self, delta: &Delta) -> Vec<Event> {
        let mut events = Vec::new();
        if !delta.text.is_empty() || !delta.probabilities.is_empty() {
            self.text(delta, &mut events);
        }
        for part in &delta.calls {
            if let Some((call_id, name)) = &part.head {
                self.close("completed", &mut events);
                self.open_call(call_id, name, &mut events);
            }
            self.arguments(&part.arguments, &mut events);
        }
        events
    }

    /// The end; an answer without any item gets an empty message.
    pub(crate) fn finish(&mut self, status: &'static str) -> Vec<Event> {
        let mut events = Vec::new();
        if self.done.is_empty() && self.open.is_none() {
            self.open_message(&mut events);
        }
        self.close(status, &mut events);
        events
    }

    fn open_message(&mut self, events: &mut Vec<Event>) {
        let id = id("msg_", self.done.len());
        let index = self.done.len();
        let item = json!({"id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": []});
        events.push((
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        ));
        events.push((
            "response.content_part.added",
            json!({"item_id": id, "output_index": index, "content_index": 0, "part": part("", &[])}),
        ));
        self.open = Some(Open::Message {
            id,
            text: String::new(),
            logprobs: Vec::new(),
        });
    }

    fn text(&mut self, delta: &Delta, events: &mut Vec<Event>) {
        if !matches!(self.open, Some(Open::Message { .. })) {
            self.close("completed", events);
            self.open_message(events);
        }
        let index = self.done.len();
        if let Some(Open::Message { id, text, logprobs }) = &mut self.open {
            text.push_str(&delta.text);
            let new: Vec<Value> = if self.logprobs {
                delta
                    .probabilities
                    .iter()
                    .map(output::probability)
                    .collect()
            } else {
                Vec::new()
            };
            logprobs.extend(new.iter().cloned());
            events.push((
                "response.output_text.delta",
                json!({"item_id": id, "output_index": index, "content_index": 0, "delta": delta.text, "logprobs": new}),
            ));
        }
    }

    fn open_call(&mut self, call_id: &str, name: &str, events: &mut Vec<Event>) {
        let index = self.done.len();
        let id = id("fc_", index);
        let item = json!({"id": id, "type": "function_call", "status": "in_progress", "call_id": call_id, "name": name, "arguments": ""});
        events.push((
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
        ));
        self.open = Some(Open::Call {
            id,
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
        });
    }

    fn arguments(&mut self, more: &str, events: &mut Vec<Event>) {
        let index = self.done.len();
        if let Some(Open::Call { id, arguments, .. }) = &mut self.open
            && !more.is_empty()
        {
            arguments.push_str(more);
            events.push((
                "response.function_call_arguments.delta",
                json!({"item_id": id, "output_index": index, "delta": more}),
            ));
        }
    }

    fn close(&mut self, status: &'static str, events: &mut Vec<Event>) {
        let index = self.done.len();
        let item = match self.open.take() {
            None => return,
            Some(Open::Message { id, text, logprobs }) => {
                events.push((
                    "response.output_text.done",
                    json!({"item_id": id, "output_index": index, "content_index": 0, "text": text, "logprobs": logprobs}),
                ));
                let part = part(&text, &logprobs);
                events.push((
                    "response.content_part.done",
                    json!({"item_id": id, "output_index": index, "content_index": 0, "part": part}),
                ));
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part]})
            }
            Some(Open::Call {
                id,
                call_id,
                name,
                arguments,
            }) => {
                events.push((
                    "response.function_call_arguments.done",
                    json!({"item_id": id, "output_index": index, "name": name, "arguments": arguments}),
                ));
                json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments})
            }
        };
        events.push((
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
        ));
        self.done.push(item);
    }
}
