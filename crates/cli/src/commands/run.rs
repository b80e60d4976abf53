//! `assay run`: one answer for scripts; stdout is the answer and nothing else.

use std::io::{IsTerminal, Read as _, Write as _};

use serde_json::json;

use crate::{
    args::{ChatArgs, RunArgs},
    commands::chat::{
        self,
        partner::Partner,
        reply::{self, Reply, Show},
    },
    exit::{Exit, Stop, stop},
    network,
    shell::Shell,
};

/// Longest prompt that is read from a pipe, bytes.
const MAX_PROMPT: u64 = 4 << 20;

pub(crate) fn run(args: &RunArgs, shell: &Shell) -> anyhow::Result<()> {
    let piped = !std::io::stdin().is_terminal();
    let prompt = match (&args.prompt, piped) {
        (None, false) => {
            return chat::run(
                &ChatArgs {
                    model: args.model.clone(),
                    system: args.system.clone(),
                    sampling: args.sampling.clone(),
                    at: args.at.clone(),
                },
                shell,
            );
        }
        (Some(text), _) if text != "-" => text.clone(),
        (typed, _) => {
            let mut text = String::new();
            let read = std::io::stdin()
                .lock()
                .take(MAX_PROMPT)
                .read_to_string(&mut text);
            read.map_err(|e| Stop::new(Exit::Failed, format!("the prompt on stdin: {e}")))?;
            if typed.is_none() && text.trim().is_empty() {
                return Err(
                    Stop::new(Exit::Failed, "no prompt, neither as argument nor on stdin")
                        .hint("`assay run MODEL \"PROMPT\"`, or `… | assay run MODEL`")
                        .into(),
                );
            }
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    messages.push(json!({ "role": "user", "content": prompt }));
    let settings = args.sampling.settings()?;
    let runtime = network::runtime()?;
    let partner = Partner::open(&args.model, &args.at, shell, &runtime)?;
    let show = if shell.json {
        Show::Nothing
    } else {
        Show::Plain
    };
    let body = settings.body(partner.model(), &messages);
    let heard = reply::listen(&runtime, partner.talk(), &body, show, shell);
    let done = heard.and_then(|reply| match reply {
        Reply::Stopped(_) => stop(
            Exit::Interrupted,
            "interrupted: no receipt, nothing was charged",
        ),
        Reply::Whole(told) => {
            let path = partner.receipt_or_note(&told.receipt, shell);
            if shell.json {
                let mut document = told.json();
                document["receipt_file"] = json!(path);
                shell.result("", &document);
            } else {
                let mut out = std::io::stdout().lock();
                writeln!(out).and_then(|()| out.flush())?;
                drop(out);
                if std::io::stderr().is_terminal() {
                    shell.dim(reply::figures(&told));
                }
            }
            Ok(())
        }
    });
    partner.close(&runtime, shell);
    done
}
