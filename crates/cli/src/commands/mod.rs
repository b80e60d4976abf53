//! One file for each command.

pub(crate) mod ask;
pub(crate) mod chat;
pub(crate) mod demo;
pub(crate) mod gateway;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod operator;
pub(crate) mod prove;
pub(crate) mod ps;
pub(crate) mod receipt;
pub(crate) mod run;
pub(crate) mod stake;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod wallet;
pub(crate) mod watcher;

use clap::CommandFactory;

/// Prints a completion script to stdout.
pub(crate) fn completions(shell: clap_complete::Shell) {
    let mut command = crate::args::Cli::command();
    clap_complete::generate(shell, &mut command, "assay", &mut std::io::stdout());
}
