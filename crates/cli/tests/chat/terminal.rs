//! `assay chat` on a terminal: a pseudo-terminal that Python, which every test machine has, opens and types into.

use std::process::Command;

use crate::gateway::{Gateway, Script};
use crate::support::Home;

/// Types into a pseudo-terminal: each line of the plan is a text to wait for, a tab, and the keys to press then (Python's
/// escapes). Prints what was shown.
const DRIVER: &str = r#"
import os, pty, select, sys, time
plan = [line.split("\t") for line in sys.argv[1].split("\n") if line]
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[2], sys.argv[2:])
import fcntl, struct, termios
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
shown, seen, deadline = b"", 0, time.time() + 60
while True:
    while plan and plan[0][0].encode() in shown[seen:]:
        seen = shown.index(plan[0][0].encode(), seen) + len(plan[0][0].encode())
        keys = plan.pop(0)[1].encode().decode("unicode_escape").encode("latin-1")
        time.sleep(0.05)
        os.write(fd, keys)
    if time.time() > deadline:
        print("no end; waits for", plan, file=sys.stderr)
        os.kill(pid, 9)
        break
    if fd in select.select([fd], [], [], 0.1)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
        # a terminal answers when it is asked where its cursor is
        if b"\x1b[6n" in data:
            os.write(fd, b"\x1b[1;1R")
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status) if not plan else 99)
"#;

/// What the terminal showed, without escape sequences.
fn session(home: &Home, plan: &[(&str, &str)], args: &[&str]) -> String {
    let plan: Vec<String> = plan
        .iter()
        .map(|(wait, keys)| format!("{wait}\t{keys}"))
        .collect();
    let own = home.command(args);
    let mut command = Command::new("python3");
    command
        .args(["-c", DRIVER, &plan.join("\n")])
        .arg(own.get_program())
        .args(own.get_args());
    command
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.current_dir(home.path("")).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{shown}");
    bare(&shown)
}

/// Text without escape sequences.
fn bare(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        for c in chars.by_ref() {
            if c.is_ascii_alphabetic() {
                break;
            }
        }
    }
    out.replace("\r\n", "\n").replace('\r', "\n")
}

#[test]
fn a_person_chats() {
    let home = Home::new();
    let long = "These are so many words that they do not fit into a single line of sixty columns.";
    let gateway = Gateway::start(vec![
        Script::words(long),
        Script::endless("on and "),
        Script::words("Still here."),
        Script::words("As before."),
        Script::words("Pasted."),
    ]);
    let shown = session(
        &home,
        &[
            (">>> ", "hello\\r"),
            (" usd", "go on for ever\\r"),
            ("on and on and", "\\x03"),
            ("nothing was charged", "are you there?\\r"),
            // Arrow up: the last line again, from the editor's history.
            (" usd", "\\x1b[A\\r"),
            // Two lines from the clipboard are one message.
            (" usd", "\\x1b[200~first\\nsecond\\x1b[201~\\r"),
            (" usd", "\"\"\"open\\r"),
            ("open", "\\x03"),
            ("leaves", "\\x04"),
        ],
        &["chat", "toy", "--gateway", &gateway.url],
    );
    assert!(shown.contains("toy · 2,048 tokens of context"), "{shown}");
    assert!(
        shown.contains("do not fit into a single\nline of"),
        "{shown}"
    );
    assert!(shown.contains("stopped: no receipt"), "{shown}");
    assert!(
        shown.contains("tokens/s") && shown.contains("receipt 0xcdcdcd"),
        "{shown}"
    );
    assert!(shown.contains("4 answers"), "{shown}");
    gateway.was_left();
    let last = |i: usize| {
        let asked = gateway.requests();
        let messages = asked[i]["messages"].as_array().unwrap().clone();
        messages.last().unwrap()["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(gateway.requests().len(), 5);
    assert_eq!(last(2), "are you there?");
    assert_eq!(last(3), "are you there?");
    assert_eq!(last(4), "first\nsecond");
    let history = std::fs::read_to_string(home.path("data/assay/chat-history")).unwrap();
    assert!(history.contains("hello"), "{history}");
}
