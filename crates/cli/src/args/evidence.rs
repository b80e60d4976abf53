//! Arguments about the evidence of answers: tiers, proofs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Evidence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TierArg {
    /// Anyone may replay and challenge it in its window
    Optimistic,
    /// The operator proves it on the chain, else the fee comes back
    Zk,
}

impl TierArg {
    /// As the gateway calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Optimistic => "optimistic",
            Self::Zk => "zk",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Have the answer of a receipt proven by its operator, wait for the proof, and keep it
    Prove {
        /// Receipt bundle (JSON file), the begin of a kept receipt's id (0x…), a whole id, or `last`
        receipt: String,
        /// Write the proof here (default: 0x….proof, named by the receipt)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Gateway that the answer came from (default: the one that runs here, else http://127.0.0.1:8080)
        #[arg(long, env = "ASSAY_GATEWAY", value_name = "URL")]
        gateway: Option<String>,
        /// API key of the buyer's account at the gateway
        #[arg(
            long,
            env = "ASSAY_API_KEY",
            hide_env_values = true,
            default_value = "",
            hide_default_value = true
        )]
        api_key: String,
    },
}

/// How a language model is asked for an answer that is proven.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Language models")]
pub(crate) struct SpeechArgs {
    /// Token ids of a prompt instead of --input
    #[arg(
        long,
        value_name = "ID,…",
        value_delimiter = ',',
        conflicts_with = "input"
    )]
    pub(crate) tokens: Vec<u32>,
    /// The text as it is, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Longest answer, tokens (default: 16)
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// 0 to 2; 0 always takes the likeliest token (default: 0)
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// Keep the likeliest tokens that together reach P
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Keep the K likeliest tokens
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// Keep tokens at least so likely as this part of the likeliest
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f64>,
    /// Divide what was said before; 1 does nothing
    #[arg(long, value_name = "R")]
    pub(crate) repeat_penalty: Option<f64>,
    /// The same seed and prompt give the same answer
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub(crate) seed: Option<i64>,
}

impl SpeechArgs {
    /// Nothing of it was typed.
    pub(crate) fn is_plain(&self) -> bool {
        let numbers = [
            self.temperature,
            self.top_p,
            self.min_p,
            self.repeat_penalty,
        ];
        self.tokens.is_empty()
            && !self.raw
            && self.max_tokens.is_none()
            && self.top_k.is_none()
            && self.seed.is_none()
            && numbers.iter().all(Option::is_none)
    }
}

/// How an operator proves answers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Proofs")]
pub(crate) struct ProofArgs {
    /// Make no proofs, sell no answers of tier zk
    #[arg(long)]
    pub(crate) no_proofs: bool,
    /// Proofs that may wait; more are refused
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) proof_queue: usize,
    /// Threads of a proof, 0 for half of the cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) proof_threads: usize,
    /// Memory for proving keys, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4_096)]
    pub(crate) proof_memory: u64,
    /// How challenged claims of provable models are defended
    #[arg(long, value_enum, default_value = "cheapest", value_name = "HOW")]
    pub(crate) defend_by: DefendArg,
}

/// How challenged claims are defended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DefendArg {
    /// By a proof where one is at hand or comes in time, else move by move
    Cheapest,
    /// By a proof wherever the model has a key on the chain
    Proof,
    /// Move by move
    Descent,
}
