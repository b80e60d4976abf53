//! A gateway in a thread that follows a script, one line for each request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::wait;

/// What is answered to one request.
#[derive(Clone, Debug)]
pub enum Script {
    /// Words, as chunks, and the end.
    Whole(Vec<String>),
    /// Words without an end.
    Endless(String),
    /// Words, then the connection ends.
    Breaks(String),
    /// Words, then an error event.
    Fails(String, String),
    /// An error before anything.
    Refuse(u16, Value),
}

impl Script {
    pub fn words(text: &str) -> Self {
        let parts: Vec<char> = text.chars().collect();
        Self::Whole(parts.chunks(3).map(|c| c.iter().collect()).collect())
    }

    pub fn endless(word: &str) -> Self {
        Self::Endless(word.into())
    }

    pub fn breaks(text: &str) -> Self {
        Self::Breaks(text.into())
    }

    pub fn error_after(text: &str, message: &str) -> Self {
        Self::Fails(text.into(), message.into())
    }

    pub fn refuse(status: u16, code: &str, message: &str) -> Self {
        Self::Refuse(
            status,
            json!({ "error": { "message": message, "code": code } }),
        )
    }
}

#[derive(Default)]
struct Seen {
    scripts: Mutex<std::collections::VecDeque<Script>>,
    requests: Mutex<Vec<Value>>,
    said: AtomicUsize,
    left: AtomicUsize,
}

pub struct Gateway {
    pub url: String,
    seen: Arc<Seen>,
}

impl Gateway {
    /// Offers the model `toy`.
    pub fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        seen.scripts.lock().unwrap().extend(scripts);
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &seen)));
            }
        });
        Self { url, seen }
    }

    /// Bodies of the chat requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until so many words of endless answers are out.
    pub fn has_said(&self, words: usize) {
        wait("the gateway talks", || {
            self.seen.said.load(Ordering::SeqCst) >= words
        });
    }

    /// Waits until a client has closed its connection in the middle of an answer.
    pub fn was_left(&self) {
        wait("the client goes", || {
            self.seen.left.load(Ordering::SeqCst) > 0
        });
    }
}

fn serve(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0usize;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default();
    match path {
        "/health" => whole(
            &mut stream,
            200,
            &json!({ "chain_id": "1", "operators": 1, "block": 7, "waiting": 0 }),
        ),
        "/v1/models/toy" => whole(&mut stream, 200, &model()),
        "/v1/models" => whole(&mut stream, 200, &json!({ "data": [model()] })),
        "/v1/chat/completions" => {
            let request = serde_json::from_slice(&body).unwrap();
            seen.requests.lock().unwrap().push(request);
            let script = seen.scripts.lock().unwrap().pop_front();
            talk(
                &mut stream,
                script.unwrap_or_else(|| Script::refuse(503, "no_operator", "no script")),
                seen,
            )
        }
        path if path.starts_with("/v1/models/") => whole(
            &mut stream,
            404,
            &json!({ "error": { "message": "no model of that name; near names: toy" } }),
        ),
        _ => whole(
            &mut stream,
            404,
            &json!({ "error": { "message": "no such receipt" } }),
        ),
    }
}

fn model() -> Value {
    json!({ "id": "toy", "assay": { "kind": "language", "model_id": format!("0x{}", "ab".repeat(32)), "price": "0.01", "max_tokens": 2048 } })
}

fn whole(stream: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

fn word(text: &str) -> String {
    let event = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }], "usage": null });
    format!("data: {event}\n\n")
}

fn talk(stream: &mut TcpStream, script: Script, seen: &Seen) -> std::io::Result<()> {
    if let Script::Refuse(status, body) = &script {
        return whole(stream, *status, body);
    }
    stream.set_nodelay(true)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )?;
    chunk(stream, ": ping\n\n")?;
    match script {
        Script::Whole(words) => {
            let count = words.len();
            for text in words {
                // An event may come in two pieces.
                let event = word(&text);
                let middle = (event.len() / 2..)
                    .find(|i| event.is_char_boundary(*i))
                    .unwrap();
                chunk(stream, &event[..middle])?;
                chunk(stream, &event[middle..])?;
            }
            let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            let usage = json!({
                "choices": [],
                "usage": { "prompt_tokens": 5, "completion_tokens": count.max(3), "total_tokens": 8 },
                "assay": { "receipts": [format!("0x{}", "cd".repeat(32))], "model_id": format!("0x{}", "ab".repeat(32)), "fee": "0.01", "seed": 4242 },
            });
            chunk(
                stream,
                &format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n"),
            )?;
            chunk(stream, "")
        }
        Script::Endless(text) => loop {
            if chunk(stream, &word(&text)).is_err() {
                seen.left.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            seen.said.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
        },
        Script::Breaks(text) => chunk(stream, &word(&text)),
        Script::Fails(text, message) => {
            chunk(stream, &word(&text))?;
            let event = json!({ "error": { "message": message, "type": "api_error" } });
            chunk(stream, &format!("data: {event}\n\n"))?;
            chunk(stream, "")
        }
        Script::Refuse(..) => Ok(()),
    }
}
