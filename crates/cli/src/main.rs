//! The `assay` binary: parses the command line, runs one command, maps its error to words and an exit code.
//!
//! A command is a file in [`commands`]; everything it needs from the rooms below it takes through their public interfaces.

mod account;
mod args;
mod client;
mod commands;
mod discover;
mod exit;
mod grammars;
mod keys;
mod local;
mod network;
mod paths;
mod proofs;
mod receipts;
mod registry;
mod replay;
mod shell;
mod speech;
mod store;
mod talk;
mod units;
mod usage;
mod wrap;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;

use crate::{
    args::{Cli, Command},
    exit::{Exit, Stop},
    shell::Shell,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let shell = Shell::new(cli.json, cli.quiet);
    log_to_stderr(matches!(
        cli.command,
        Command::Demo(_) | Command::Chat(_) | Command::Run(_)
    ));
    match run(cli.command, &shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = exit_of(&error);
            // nothing is left to say to a reader that went away or interrupted
            if exit != Exit::Interrupted || error.downcast_ref::<Stop>().is_some() {
                shell.error(&error);
            }
            ExitCode::from(exit as u8)
        }
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stop.exit;
    }
    if let Some(e) = error.downcast_ref::<std::io::Error>()
        && e.kind() == std::io::ErrorKind::BrokenPipe
    {
        return Exit::Interrupted;
    }
    match error.downcast_ref::<assay_wallet::ClientError>() {
        Some(e) if e.is_temporary() => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn run(command: Command, shell: &Shell) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => commands::demo::run(&args, shell),
        Command::Up(args) => commands::up::run(&args, shell),
        Command::Chat(args) => commands::chat::run(&args, shell),
        Command::Run(args) => commands::run::run(&args, shell),
        Command::Ps(args) => commands::ps::run(&args, shell),
        Command::Pull { name } => commands::model::pull(&name, shell),
        Command::Ask(args) => commands::ask::run(&args, shell),
        Command::Prove(args) => commands::prove::run(&args, shell),
        Command::Receipt(command) => commands::receipt::run(command, shell),
        Command::Verify(args) => commands::verify::run(&args, shell),
        Command::Model(command) => commands::model::run(command, shell),
        Command::Stake(command) => commands::stake::run(command, shell),
        Command::Wallet(command) => commands::wallet::run(command, shell),
        Command::Operator(args) => commands::operator::run(&args, shell),
        Command::Watcher(args) => commands::watcher::run(&args, shell),
        Command::Gateway(args) => commands::gateway::run(&args, shell),
        Command::Node(args) => commands::node::run(&args, shell),
        Command::Completions { shell: kind } => {
            commands::completions(kind);
            Ok(())
        }
    }
}

/// Logs of the services, as `RUST_LOG` asks; else warnings, and where a person watches something else (in the demonstration operators are *meant* to be challenged) errors alone.
fn log_to_stderr(quietly: bool) {
    let default = if quietly { "error" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
