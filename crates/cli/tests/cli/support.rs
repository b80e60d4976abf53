//! The binary as a person starts it: in a home of its own, watched by deadlines, ended by its own process id.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that is HOME and all that follows from it.
pub struct Home(tempfile::TempDir, Option<PathBuf>);

/// What a command left.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit code has to be `code`.
    pub fn exits(self, code: i32) -> Self {
        let Self {
            status,
            stdout,
            stderr,
        } = &self;
        assert_eq!(
            status.code(),
            Some(code),
            "stdout: {stdout}\nstderr: {stderr}"
        );
        self
    }

    /// The one JSON document on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// The one JSON document on stderr of a failed command with `--json`.
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let document: Value =
            serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", self.stderr));
        document["error"].clone()
    }
}

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), None)
    }

    /// With a cache of models that outlives the test.
    pub fn with_cache(cache: &Path) -> Self {
        Self(tempfile::tempdir().unwrap(), Some(cache.to_owned()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ASSAY_") || text.starts_with("XDG_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command
            .args(args)
            .env("HOME", self.0.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(cache) = &self.1 {
            command.env("ASSAY_CACHE_DIR", cache);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        let mut child = Ended(self.command(args).spawn().unwrap());
        let stdout = collect(child.0.stdout.take().unwrap());
        let stderr = collect(child.0.stderr.take().unwrap());
        let status = child.wait(args);
        Done {
            status,
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }

    /// Starts a service and waits for its line of readiness, one JSON document on stdout.
    pub fn serve(&self, args: &[&str]) -> Service {
        let mut child = Ended(self.command(args).spawn().unwrap());
        let (sender, lines) = channel();
        let stdout = child.0.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let hear = Arc::clone(&said);
        let stderr = child.0.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = hear.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        let first = lines.recv_timeout(PATIENCE);
        let first = first.unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said.lock().unwrap()));
        let ready: Value =
            serde_json::from_str(&first).unwrap_or_else(|e| panic!("{args:?}: {e}: {first}"));
        assert_eq!(ready["ready"], true, "{ready}");
        Service {
            child,
            ready,
            lines,
            said,
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Ended {
    fn wait(&mut self, what: &[&str]) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{what:?} does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service that is ready.
pub struct Service {
    child: Ended,
    /// What it said on stdout when it was ready.
    pub ready: Value,
    lines: Receiver<String>,
    said: Arc<Mutex<String>>,
}

impl Service {
    /// A text of the readiness line.
    pub fn at(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    /// Ctrl-C; it has to end with exit code 0, and to have said nothing more on stdout.
    pub fn interrupt(mut self) {
        let id = self.child.0.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
        let status = self.child.wait(&["after SIGINT"]);
        assert_eq!(status.code(), Some(0), "{}", self.said.lock().unwrap());
        assert_eq!(self.lines.iter().count(), 0);
    }

    /// Power failure.
    pub fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.wait(&["after SIGKILL"]);
    }

    /// Waits until stderr holds `words`.
    pub fn says(&self, words: &str) {
        let said = || self.said.lock().unwrap().clone();
        wait(&format!("`{words}` in: {}", said()), || {
            said().contains(words)
        });
    }
}

pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A loopback port on which nobody listens.
pub fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Status of a fact in a report of `verify --json`.
pub fn fact<'a>(report: &'a Value, name: &str) -> &'a str {
    let facts = report["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == name).unwrap();
    fact["status"].as_str().unwrap()
}
