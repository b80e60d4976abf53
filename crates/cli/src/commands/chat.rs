//! `assay chat`: a conversation in which every reply has a receipt.

mod input;
pub(crate) mod partner;
pub(crate) mod reply;
mod slash;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_primitives::U256;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::{
    input::{Reader, Typed},
    partner::Partner,
    reply::{Reply, Show},
    slash::Slash,
};
use crate::{
    args::{ChatArgs, VerifyArgs},
    commands::verify,
    exit::Exit,
    network, paths, receipts,
    shell::Shell,
    talk::{Settings, Told},
    units::{self, USD, group, usd},
};

/// Widest text; longer lines are hard to read.
const WIDEST: usize = 100;

pub(crate) fn run(args: &ChatArgs, shell: &Shell) -> anyhow::Result<()> {
    let runtime = network::runtime()?;
    let partner = Partner::open(&args.model, &args.at, shell, &runtime)?;
    let mut chat = Chat {
        shell,
        runtime: &runtime,
        partner: &partner,
        settings: args.sampling.settings()?,
        system: args.system.clone().unwrap_or_default(),
        messages: Vec::new(),
        last: None,
        spent: Spent::default(),
        answering: Arc::new(AtomicBool::new(false)),
    };
    let done = chat.talk();
    partner.close(&runtime, shell);
    done
}

/// What a conversation came to.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    answers: u64,
    tokens: u64,
    fees: U256,
}

struct Chat<'a> {
    shell: &'a Shell,
    runtime: &'a Runtime,
    partner: &'a Partner,
    settings: Settings,
    system: String,
    messages: Vec<Value>,
    last: Option<(Told, Option<PathBuf>)>,
    spent: Spent,
    answering: Arc<AtomicBool>,
}

impl Chat<'_> {
    fn talk(&mut self) -> anyhow::Result<()> {
        let history = paths::data().ok().map(|d| d.join("chat-history"));
        let mut reader = Reader::open(history)?;
        if reader.is_terminal() {
            self.shell.dim(self.partner.banner());
            self.shell
                .dim("every reply has a receipt · /help lists commands · Ctrl-D leaves\n");
        } else {
            self.interrupts_end_it();
        }
        let mut warned = false;
        loop {
            let typed = reader.next()?;
            match typed {
                Typed::End => break,
                Typed::Interrupted if warned => break,
                Typed::Interrupted => {
                    warned = true;
                    self.shell.dim("Ctrl-D or /bye leaves");
                    continue;
                }
                Typed::Text(text) if text.trim().is_empty() => {}
                Typed::Text(text) => match Slash::parse(&text) {
                    Some(Slash::Bye) => break,
                    Some(Slash::Retry) => self.retry(&mut reader)?,
                    Some(command) => self.command(command),
                    None => {
                        self.messages
                            .push(json!({ "role": "user", "content": text }));
                        self.turn(&mut reader)?;
                    }
                },
            }
            warned = false;
        }
        if reader.is_terminal() && self.spent.answers > 0 {
            self.shell.dim(self.spent_words());
        }
        Ok(())
    }

    /// While a pipe is read nothing else would notice Ctrl-C.
    fn interrupts_end_it(&self) {
        let answering = Arc::clone(&self.answering);
        self.runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if !answering.load(Ordering::SeqCst) {
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
    }

    /// Asks for the answer to the messages so far. What fails leaves the conversation as it was before the question.
    fn turn(&mut self, reader: &mut Reader) -> anyhow::Result<()> {
        let mut messages = self.messages.clone();
        if !self.system.is_empty() {
            messages.insert(0, json!({ "role": "system", "content": self.system }));
        }
        let body = self.settings.body(self.partner.model(), &messages);
        let show = match reader.width() {
            _ if self.shell.json => Show::Nothing,
            Some(width) => Show::Wrapped(width.min(WIDEST)),
            None => Show::Plain,
        };
        self.answering.store(true, Ordering::SeqCst);
        let heard = reply::listen(self.runtime, self.partner.talk(), &body, show, self.shell);
        self.answering.store(false, Ordering::SeqCst);
        match heard {
            Ok(Reply::Whole(told)) => self.keep(*told, show),
            Ok(Reply::Stopped(text)) => {
                if show != Show::Nothing {
                    println_out();
                }
                self.shell.dim("stopped: no receipt, nothing was charged\n");
                if text.is_empty() {
                    self.messages.pop();
                } else {
                    self.messages
                        .push(json!({ "role": "assistant", "content": text }));
                }
            }
            Err(error) => {
                self.messages.pop();
                if !reader.is_terminal() {
                    return Err(error);
                }
                self.shell.error(&error);
                if error.to_string().contains("context") {
                    self.shell.dim("/clear begins anew");
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, told: Told, show: Show) {
        self.messages
            .push(json!({ "role": "assistant", "content": told.text }));
        self.spent.answers += 1;
        self.spent.tokens += told.tokens;
        self.spent.fees += units::parse(&told.fee, USD).unwrap_or_default();
        if show == Show::Nothing {
            self.shell.result("", &told.json());
        } else {
            println_out();
            self.shell.dim(format!("{}\n", reply::figures(&told)));
        }
        let path = self.partner.receipt_or_note(&told.receipt, self.shell);
        self.last = Some((told, path));
    }

    fn retry(&mut self, reader: &mut Reader) -> anyhow::Result<()> {
        let is = |m: Option<&Value>, role: &str| {
            m.and_then(|m| m.get("role")).and_then(Value::as_str) == Some(role)
        };
        if is(self.messages.last(), "assistant") {
            self.messages.pop();
        }
        if is(self.messages.last(), "user") {
            return self.turn(reader);
        }
        self.shell.note("there is nothing to ask again");
        Ok(())
    }

    fn command(&mut self, command: Slash) {
        let words = match command {
            Slash::Help => slash::help(),
            Slash::Settings => slash::list(&self.settings, &self.system),
            Slash::Set(name, value) if name == "system" => {
                self.system = value.trim_matches('"').to_owned();
                if self.system.is_empty() {
                    "no system text".into()
                } else {
                    "system text set; it holds from the next message on".into()
                }
            }
            Slash::Set(name, value) => match slash::set(&mut self.settings, &name, &value) {
                Ok(()) if value.is_empty() => format!("{name} is the gateway's default again"),
                Ok(()) => format!("{name} is {value}"),
                Err(words) => words,
            },
            Slash::Show => {
                let settings = slash::list(&self.settings, &self.system);
                let about = self.partner.about();
                format!("{about}\n\nsettings\n{settings}\n\n{}", self.spent_words())
            }
            Slash::Clear => {
                self.messages.clear();
                "forgotten".into()
            }
            Slash::Receipt => match &self.last {
                Some((told, Some(path))) => format!("{}\n{}", told.receipt, path.display()),
                Some((told, None)) if !told.receipt.is_empty() => told.receipt.clone(),
                _ => "no receipt yet".into(),
            },
            Slash::Verify => return self.verify(),
            Slash::History => self.history(),
            Slash::Unknown(name) => format!("no command `{name}`; /help lists them"),
            Slash::Bye | Slash::Retry => return,
        };
        self.shell.note(words);
    }

    fn verify(&self) {
        let Some((_, Some(path))) = &self.last else {
            return self.shell.note("no receipt yet");
        };
        let args = VerifyArgs {
            receipt: path.display().to_string(),
            rpc: self.partner.rpc(),
            model: None,
            no_replay: false,
            input: None,
        };
        if let Err(e) = verify::run(&args, self.shell) {
            self.shell.error(&e);
        }
    }

    fn history(&self) -> String {
        let text = |m: &Value, name: &str| {
            m.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let turns: Vec<String> = self
            .messages
            .iter()
            .map(|m| match text(m, "role").as_str() {
                "user" => format!(">>> {}", text(m, "content")),
                _ => text(m, "content"),
            })
            .collect();
        if turns.is_empty() {
            return "nothing was said yet".into();
        }
        turns.join("\n")
    }

    fn spent_words(&self) -> String {
        let Spent {
            answers,
            tokens,
            fees,
        } = self.spent;
        let last = self
            .last
            .as_ref()
            .map(|(told, _)| format!(" · assay verify {}", receipts::short_prefix(&told.receipt)));
        let word = if answers == 1 { "answer" } else { "answers" };
        format!(
            "{answers} {word} · {} tokens · {}{}",
            group(tokens),
            usd(fees),
            last.unwrap_or_default()
        )
    }
}

/// Ends the answer's last line.
fn println_out() {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out).and_then(|()| out.flush());
}
