//! Who answers: a model behind a gateway that runs, or in a network brought up for the time of the conversation.

use std::{cell::Cell, path::PathBuf};

use alloy_primitives::B256;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    args::AtArgs,
    client::Client,
    commands::model,
    discover::{self, Place},
    exit::{Exit, Stop},
    local::{Local, LocalOptions},
    network::API_KEY,
    paths, receipts,
    shell::Shell,
    store::Store,
    talk::Talk,
    units::{self, USD},
};

/// A model that can be talked to.
pub(crate) struct Partner {
    place: Place,
    /// Its name there.
    model: String,
    /// What the gateway says about it.
    about: Value,
    client: Client,
    talk: Talk,
    local: Option<Local>,
    folder: Option<tempfile::TempDir>,
    /// The last receipt.
    last: Cell<Option<B256>>,
}

impl Partner {
    /// Finds the model at a gateway that runs; where none does, fetches it if it is not here and brings up a network in this process.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when nobody has the model; [`Exit::Unavailable`] when a named gateway does not answer or the model can't be fetched.
    pub(crate) fn open(
        model: &str,
        at: &AtArgs,
        shell: &Shell,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let place = match &at.gateway {
            Some(_) => Some(discover::gateway(at.gateway.as_deref())),
            None if at.ephemeral => None,
            None => discover::running(),
        };
        match place {
            Some(place) => Self::there(model, place, at),
            None => Self::here(model, at, shell, runtime),
        }
    }

    /// A gateway that runs.
    fn there(model: &str, place: Place, at: &AtArgs) -> anyhow::Result<Self> {
        let client = Client::new(&place.gateway, &at.api_key);
        let about = client.model(model).map_err(|e| {
            match e.downcast::<Stop>() {
                Ok(stop) if stop.exit == Exit::NotFound && at.gateway.is_none() => stop
                    .hint(format!("start it with `assay up --model {model}`, or use `--ephemeral` for a network of this chat's own"))
                    .into(),
                Ok(stop) => stop.into(),
                Err(e) => e,
            }
        })?;
        Self::new(place, about, client, at, None, None)
    }

    /// A network in this process.
    fn here(model: &str, at: &AtArgs, shell: &Shell, runtime: &Runtime) -> anyhow::Result<Self> {
        let model = Store::open_default()?.obtain(model, at.offline, shell)?;
        if !model::is_language(&model.manifest) {
            return Err(Stop::new(
                Exit::Failed,
                format!("`{}` is no language model", model.manifest.name),
            )
            .hint(format!(
                "`assay up`, then `assay ask {} INPUT`",
                model.manifest.name
            ))
            .into());
        }
        let (data, folder) = if at.ephemeral {
            let folder = tempfile::Builder::new().prefix("assay-chat-").tempdir()?;
            (folder.path().to_owned(), Some(folder))
        } else {
            (paths::data()?.join("network"), None)
        };
        let options = LocalOptions {
            data,
            gateway: ([127, 0, 0, 1], 0).into(),
            rpc: ([127, 0, 0, 1], 0).into(),
            check_invariants: false,
        };
        let spinner = shell.spinner(&format!("starting {} …", model.manifest.name));
        let started = runtime.block_on(Local::start(&options, std::slice::from_ref(&model), shell));
        spinner.finish_and_clear();
        let local = started?;
        let place = Place {
            gateway: local.gateway.trim_end_matches("/v1").to_owned(),
            rpc: Some(local.rpc.clone()),
        };
        let client = Client::new(&place.gateway, API_KEY);
        let about = client.model(&model.manifest.name)?;
        Self::new(place, about, client, at, Some(local), folder)
    }

    fn new(
        place: Place,
        about: Value,
        client: Client,
        at: &AtArgs,
        local: Option<Local>,
        folder: Option<tempfile::TempDir>,
    ) -> anyhow::Result<Self> {
        let text = |path: &str| about.pointer(path).and_then(Value::as_str);
        let (Some(name), kind) = (text("/id"), text("/assay/kind")) else {
            return Err(Stop::new(
                Exit::Failed,
                format!("gateway {} describes no model", place.gateway),
            )
            .into());
        };
        if let Some(kind) = kind.filter(|k| *k != model::LANGUAGE) {
            return Err(Stop::new(
                Exit::Failed,
                format!("`{name}` is no language model, its kind is `{kind}`"),
            )
            .hint(format!("`assay ask {name} INPUT`"))
            .into());
        }
        let key = match &local {
            Some(_) => API_KEY,
            None => &at.api_key,
        };
        Ok(Self {
            model: name.to_owned(),
            talk: Talk::new(&place.gateway, key),
            place,
            about,
            client,
            local,
            folder,
            last: Cell::new(None),
        })
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    pub(crate) const fn talk(&self) -> &Talk {
        &self.talk
    }

    /// The chain behind the gateway, where known.
    pub(crate) fn rpc(&self) -> Option<String> {
        self.place.rpc.clone()
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.about.pointer(path).and_then(Value::as_str)
    }

    /// One line at the begin of a conversation.
    pub(crate) fn banner(&self) -> String {
        let mut parts = vec![self.model.clone()];
        if let Some(context) = self
            .about
            .pointer("/assay/max_tokens")
            .and_then(Value::as_u64)
        {
            parts.push(format!("{} tokens of context", units::group(context)));
        }
        if let Some(price) = self
            .text("/assay/price")
            .and_then(|p| units::parse(p, USD).ok())
        {
            parts.push(format!("{} a reply", units::usd(price)));
        }
        parts.push(match &self.local {
            Some(_) if self.folder.is_some() => "a network of its own, forgotten afterwards".into(),
            Some(_) => "a network in this process".into(),
            None => format!("at {}", self.place.gateway),
        });
        parts.join(" · ")
    }

    /// What is known about the model.
    pub(crate) fn about(&self) -> String {
        let mut lines = vec![self.banner()];
        if let Some(id) = self.text("/assay/model_id") {
            lines.push(format!("  model id   {id}"));
            if let Ok(known) = Store::open_default().and_then(|s| s.manifest(id)) {
                lines.extend(model::language_lines(&known));
            }
        }
        lines.push(format!("  gateway    {}", self.place.gateway));
        if let Some(rpc) = &self.place.rpc {
            lines.push(format!("  chain      {rpc}"));
        }
        lines.join("\n")
    }

    /// Fetches the bundle of a receipt and keeps it among the user's; says so when that fails.
    pub(crate) fn receipt_or_note(&self, id: &str, shell: &Shell) -> Option<PathBuf> {
        if id.is_empty() {
            return None;
        }
        self.last.set(id.parse().ok());
        let kept = self
            .client
            .bundle(id)
            .and_then(|b| receipts::keep(&b, None));
        kept.map_err(|e| shell.note(format!("the receipt is not kept: {e:#}")))
            .ok()
    }

    /// Stops what was started for the conversation.
    pub(crate) fn close(self, runtime: &Runtime, shell: &Shell) {
        let Some(local) = self.local else {
            return;
        };
        if let Some(last) = self.last.get() {
            local.settle(last);
        }
        if let Err(e) = runtime.block_on(local.stop()) {
            shell.note(format!("the local network did not stop in order: {e:#}"));
        }
    }
}
