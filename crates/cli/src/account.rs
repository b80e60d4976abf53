//! Whose key signs: a keystore account or a public development account.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use alloy_primitives::Address;
use assay_wallet::{DEV_WARNING, Key, Keystore, dev_key};

use crate::{
    args::KeyArgs,
    exit::{Exit, Stop, stop},
    paths,
    shell::Shell,
};

/// The key that the arguments name.
///
/// # Errors
/// When none is named, it does not exist or the passphrase is wrong.
pub(crate) fn key(args: &KeyArgs, shell: &Shell) -> anyhow::Result<Key> {
    if let Some(index) = args.dev {
        shell.note(format!("using development account {index}: {DEV_WARNING}"));
        return Ok(dev_key(index)?);
    }
    let Some(name) = &args.account else {
        let error = Stop::new(Exit::Failed, "no account was named");
        return Err(error
            .hint(
                "`--account NAME` for a key of `assay wallet ls`, or `--dev 0` on a local network",
            )
            .into());
    };
    let store = Keystore::open(paths::keystore()?)?;
    let name = resolve(&store, name)?;
    let passphrase = passphrase(
        args.passphrase_file.as_deref(),
        &format!("passphrase of `{name}`"),
    )?;
    Ok(store.unlock(&name, &passphrase)?)
}

/// The address that the arguments name; needs no passphrase.
///
/// # Errors
/// As [`key`].
pub(crate) fn address(args: &KeyArgs) -> anyhow::Result<Address> {
    if let Some(index) = args.dev {
        return Ok(dev_key(index)?.address());
    }
    let Some(name) = &args.account else {
        return stop(Exit::Failed, "no address, --account or --dev was given");
    };
    let store = Keystore::open(paths::keystore()?)?;
    let name = resolve(&store, name)?;
    match store.list()?.into_iter().find(|k| k.name == name) {
        Some(info) => Ok(info.address),
        None => stop(
            Exit::NotFound,
            format!("no account `{name}` in the keystore"),
        ),
    }
}

fn resolve(store: &Keystore, name: &str) -> anyhow::Result<String> {
    let known = store.list()?;
    let found = known
        .iter()
        .find(|k| k.name == name || k.address.to_string().eq_ignore_ascii_case(name));
    match found {
        Some(info) => Ok(info.name.clone()),
        None => {
            let names: Vec<&str> = known.iter().map(|k| k.name.as_str()).collect();
            let error = Stop::new(
                Exit::NotFound,
                format!("no account `{name}` in the keystore"),
            );
            Err(error
                .hint(format!(
                    "known: {}; `assay wallet new NAME` makes one",
                    names.join(", ")
                ))
                .into())
        }
    }
}

/// From the file, `ASSAY_PASSPHRASE`, or the terminal (not echoed where `stty` is there).
///
/// # Errors
/// When none of the three is available.
pub(crate) fn passphrase(file: Option<&Path>, prompt: &str) -> anyhow::Result<String> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Stop::new(
                Exit::Failed,
                format!("passphrase file `{}`: {e}", path.display()),
            )
        })?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Ok(text) = std::env::var("ASSAY_PASSPHRASE") {
        return Ok(text);
    }
    if !std::io::stdin().is_terminal() {
        let error = Stop::new(
            Exit::Failed,
            "a passphrase is needed and there is no terminal to ask on",
        );
        return Err(error
            .hint("`--passphrase-file FILE` or the variable ASSAY_PASSPHRASE")
            .into());
    }
    let echo = |on: bool| {
        let _ = std::process::Command::new("stty")
            .arg(if on { "echo" } else { "-echo" })
            .status();
    };
    let _ = write!(anstream::stderr().lock(), "{prompt}: ");
    echo(false);
    let mut text = String::new();
    let read = std::io::stdin().read_line(&mut text);
    echo(true);
    let _ = writeln!(anstream::stderr().lock());
    read?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
