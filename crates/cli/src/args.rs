//! The command line as it is typed.

mod evidence;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

pub(crate) use self::evidence::{DefendArg, ProofArgs, ReceiptCommand, SpeechArgs, TierArg};
use crate::{
    exit::{Exit, Stop},
    talk::Settings,
};

/// Answers of AI models with evidence: serve, ask, verify, dispute.
#[derive(Debug, Parser)]
#[command(
    name = "assay",
    version,
    about,
    propagate_version = true,
    max_term_width = 110
)]
#[command(
    after_help = "First steps:\n  assay demo                            the whole story in one process, in a temporary folder\n  assay chat smollm2                    talk to a language model; every reply has a receipt\n  assay up                              a network that stays; prints URLs, accounts and a curl line\n  assay ask digits models/digits/samples/7.png\n\nExit codes: 0 success, 1 failed, 2 usage, 3 evidence is false, 4 not found, 5 payment, 75 temporary, 130 interrupted"
)]
pub(crate) struct Cli {
    /// Print the result as JSON on stdout, errors as JSON on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only the result, no progress and no remarks
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole way of an answer, and a cheater caught, in a temporary network
    Demo(DemoArgs),
    /// Run a whole network in this process: chain, operator, watcher, gateway
    Up(UpArgs),
    /// Talk to a language model; every reply has a receipt
    Chat(ChatArgs),
    /// Ask a language model once: the answer streams to stdout (a chat on a terminal without PROMPT)
    Run(RunArgs),
    /// Ask a model; prints the answer and keeps the receipt
    Ask(AskArgs),
    /// Prove that a model on this machine gives its answer; anyone can check the file without running the model
    Prove(ProveArgs),
    /// Have a receipt's answer proven
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Check a receipt (signature, commitments, registration, claim, replay) or a proof
    Verify(VerifyArgs),
    /// Show what runs: models served, their memory, requests in work and in line
    Ps(PsArgs),
    /// Fetch a model of the catalogue, verify and import it (as `assay model pull`)
    Pull {
        /// Name in the catalogue, as `assay model ls` lists them
        name: String,
    },
    /// Import, list, show, fetch and register models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Stake on a model's pool, claim its fees, unbond
    #[command(subcommand)]
    Stake(StakeCommand),
    /// Keys, balances, transfers, deposits for asking
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Run an operator: serves models, signs receipts, defends its claims
    Operator(OperatorArgs),
    /// Run a watcher: replays claims and challenges false ones
    Watcher(WatcherArgs),
    /// Run a gateway: the OpenAI-compatible HTTP API for buyers
    Gateway(GatewayArgs),
    /// Run the chain alone: blocks, state, JSON-RPC
    Node(NodeArgs),
    /// Print the completion script of a shell
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// Where the chain is and who signs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChainArgs {
    /// JSON-RPC of the chain
    #[arg(
        long,
        env = "ASSAY_RPC",
        default_value = "http://127.0.0.1:8545",
        value_name = "URL"
    )]
    pub(crate) rpc: String,
}

/// Which key signs.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyArgs {
    /// Account of the keystore, by name or address
    #[arg(long, env = "ASSAY_ACCOUNT", value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// One of the public development accounts, 0 to 9 (unsafe: everybody has their keys)
    #[arg(
        long,
        env = "ASSAY_DEV_ACCOUNT",
        value_name = "N",
        conflicts_with = "account"
    )]
    pub(crate) dev: Option<u32>,
    /// File with the keystore's passphrase (else ASSAY_PASSPHRASE, else asked on the terminal)
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Only the models that are on this machine; do not fetch the embedder and the language model (about 190 MB, once)
    #[arg(long, env = "ASSAY_OFFLINE")]
    pub(crate) offline: bool,
    /// Keep the temporary folder and print its path
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Folder of the network (default: $XDG_DATA_HOME/assay/network)
    #[arg(long, env = "ASSAY_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the gateway
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) gateway: std::net::SocketAddr,
    /// Address of the chain's JSON-RPC
    #[arg(long, default_value = "127.0.0.1:8545", value_name = "ADDR")]
    pub(crate) rpc: std::net::SocketAddr,
    /// A model to serve, fetched if it is not here; may be given again (default: digits, minilm-l6, smollm2)
    #[arg(long = "model", value_name = "NAME")]
    pub(crate) models: Vec<String>,
    /// Only models that are on this machine already
    #[arg(long, env = "ASSAY_OFFLINE")]
    pub(crate) offline: bool,
    /// Evaluate supply, escrow and module invariants at every block
    #[arg(long)]
    pub(crate) check_invariants: bool,
}

/// Where a language model answers.
#[derive(Clone, Debug, Args)]
pub(crate) struct AtArgs {
    /// Gateway to ask (default: the one that runs here; where none does, a network in this process)
    #[arg(long, env = "ASSAY_GATEWAY", value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// API key of the buyer's account at the gateway
    #[arg(
        long,
        env = "ASSAY_API_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) api_key: String,
    /// A network of its own in this process, forgotten afterwards
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) ephemeral: bool,
    /// Do not fetch the model
    #[arg(long, env = "ASSAY_OFFLINE")]
    pub(crate) offline: bool,
}

/// How an answer is sampled; the gateway's defaults where none are shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// 0 to 2; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub(crate) temperature: f64,
    /// Keep the likeliest tokens that together reach P
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub(crate) top_p: f64,
    /// Keep the K likeliest tokens, 0 keeps all
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
    /// Longest answer, tokens
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// End the answer before this text; may be given again
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// `json`, or a file with a JSON schema: the answer is held to it token by token
    #[arg(long, value_name = "json|FILE")]
    pub(crate) format: Option<String>,
}

impl SamplingArgs {
    /// As the request takes it.
    ///
    /// # Errors
    /// When the schema's file can't be read.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let format = match self.format.as_deref() {
            None => None,
            Some("json") => Some(json!({ "type": "json_object" })),
            Some(file) => {
                let text = std::fs::read(file)
                    .map_err(|e| Stop::new(Exit::NotFound, format!("schema `{file}`: {e}")))?;
                let schema: Value = serde_json::from_slice(&text)
                    .map_err(|e| Stop::new(Exit::Failed, format!("schema `{file}`: {e}")))?;
                Some(
                    json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } }),
                )
            }
        };
        Ok(Settings {
            temperature: Some(self.temperature),
            top_p: Some(self.top_p),
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            max_tokens: self.max_tokens,
            seed: self.seed,
            stop: self.stop.clone(),
            format,
        })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal: arrow keys and Ctrl-R find earlier lines, Tab completes commands, \"\"\" begins and ends\na text of several lines, Ctrl-C stops an answer (nothing is charged), Ctrl-D leaves, /help lists commands.\nThrough a pipe every line is a message, and only the answers go to stdout."
)]
pub(crate) struct ChatArgs {
    /// Model name or id
    pub(crate) model: String,
    /// What the model is told to be
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) at: AtArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  assay run smollm2 \"Why is the sky blue?\"\n  git diff | assay run smollm2 --system \"Summarise this change in one sentence.\" --temperature 0\n  assay run smollm2 --json --seed 7 \"A name for a cat\"     answer, usage, receipt and seed as JSON"
)]
pub(crate) struct RunArgs {
    /// Model name or id
    pub(crate) model: String,
    /// The prompt, or `-` for standard input
    pub(crate) prompt: Option<String>,
    /// What the model is told to be
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) at: AtArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Gateway to ask (default: the one that runs here)
    #[arg(long, env = "ASSAY_GATEWAY", value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// API key of an account at the gateway
    #[arg(
        long,
        env = "ASSAY_API_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) api_key: String,
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Model name or id
    pub(crate) model: String,
    /// Text, a JSON tensor, a path to a PNG or JSON file, or `-` for standard input
    pub(crate) input: String,
    /// Evidence of the answer
    #[arg(long, value_enum, default_value = "optimistic")]
    pub(crate) tier: TierArg,
    /// Of language models: longest answer, tokens
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Of language models: 0 to 2; 0 always takes the likeliest token (default: the gateway's)
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// Write the receipt bundle here (default: a file named by the receipt in the data folder)
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Gateway to ask (default: the one that runs here, else http://127.0.0.1:8080)
    #[arg(long, env = "ASSAY_GATEWAY", value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// API key of the buyer's account at the gateway
    #[arg(
        long,
        env = "ASSAY_API_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) api_key: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  assay prove digits --input models/digits/samples/7.png\n  assay verify digits.proof\n  assay prove smollm2 --input \"Name a colour.\" --max-tokens 8\n\nSeveral inputs give one proof of several runs. With --direct the weights are not committed to: the proof is made\nfaster, and only those who hold the model can check it. With --hide the proof tells nothing about the inputs.\nLanguage models answer first, and the answer is proven."
)]
pub(crate) struct ProveArgs {
    /// Model name or id
    pub(crate) model: String,
    /// Text, a JSON tensor, a path to a PNG or JSON file, or `-` for standard input; may be given again
    #[arg(long, value_name = "INPUT", required_unless_present = "tokens", num_args = 1..)]
    pub(crate) input: Vec<String>,
    /// Write the proof here (default: MODEL.proof)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// For verifiers that hold the weights
    #[arg(long)]
    pub(crate) direct: bool,
    /// Hide the inputs: the proof shows the outputs and tells nothing else about the runs
    #[arg(long, conflicts_with = "direct")]
    pub(crate) hide: bool,
    /// Bytes that the proof is bound to, at most 256
    #[arg(long, value_name = "HEX")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) speech: SpeechArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Receipt bundle (JSON file), proof file, `-` for standard input, the begin of a kept receipt's id (0x…), or `last`
    pub(crate) receipt: String,
    /// Also ask this chain: is the key the operator's, what became of the claim
    #[arg(long, env = "ASSAY_RPC", value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// Also run the model again from this folder (default: the local model store)
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Do not run the model again; of a proof: do not make its key again
    #[arg(long, conflicts_with = "model")]
    pub(crate) no_replay: bool,
    /// Of a proof: whether this is the input it speaks of (as `assay prove --input` takes it)
    #[arg(long, value_name = "INPUT")]
    pub(crate) input: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Turn a float model into an integer graph: ONNX, GGUF, or a folder with config.json and safetensors
    Import {
        /// ONNX or GGUF file, or model folder
        file: PathBuf,
        /// Name in the local store
        #[arg(long)]
        name: String,
        /// JSON file of sample inputs of an ONNX model; without it scales are chosen from random inputs in [0, 1]
        #[arg(long, value_name = "FILE")]
        calibrate: Option<PathBuf>,
    },
    /// List models of the local store and of the catalogue
    #[command(visible_alias = "list")]
    Ls,
    /// Show one model: identity, shapes, bounds, accuracy report
    Show {
        /// Name or model id
        model: String,
    },
    /// Fetch a model of the catalogue, verify and import it
    Pull {
        /// Name in the catalogue
        name: String,
    },
    /// Delete a model from this machine: an imported one, or what was fetched and made of a catalogue entry
    Rm {
        /// Name
        model: String,
    },
    /// Register a local model on the chain
    Register {
        /// Name in the local store
        model: String,
        /// Price of one call in usd
        #[arg(long, default_value = "0.01")]
        price: String,
        /// Do not set the model's proof key (of a language model it takes minutes and gigabytes to make)
        #[arg(long)]
        no_proof_key: bool,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Put the proof key of a registered model on the chain, or go on with an upload that was interrupted
    Key {
        /// Name in the local store
        model: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StakeCommand {
    /// Stake native coin on a model
    Add {
        /// Model name or id
        model: String,
        /// Amount in ASSAY
        amount: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Show a pool and one account's part of it
    Show {
        /// Model name or id
        model: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Take the fees earned so far
    Claim {
        /// Model name or id
        model: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Begin to take stake out; it stays slashable until the unbonding time is over
    Unbond {
        /// Model name or id
        model: String,
        /// Shares, or `all`
        shares: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Take out what has matured
    Withdraw {
        /// Model name or id
        model: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new account in the encrypted keystore
    New {
        /// Name of the account
        name: String,
        /// File with the passphrase (else ASSAY_PASSPHRASE, else asked on the terminal)
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// List accounts of the keystore and the development accounts
    #[command(visible_alias = "list")]
    Ls,
    /// Balances of an account: coin, usd, escrow
    Balance {
        /// Address, or an account as with --account / --dev
        address: Option<alloy_primitives::Address>,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Send native coin or usd
    Send {
        /// Recipient
        to: alloy_primitives::Address,
        /// Amount
        amount: String,
        /// Send usd instead of ASSAY
        #[arg(long)]
        usd: bool,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Move usd into escrow, from where calls are paid
    Deposit {
        /// Amount in usd
        amount: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Move usd out of escrow
    Withdraw {
        /// Amount in usd
        amount: String,
        #[command(flatten)]
        chain: ChainArgs,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Folder of jobs and the receipt log (default: $XDG_DATA_HOME/assay/operator)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:8546", value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
    /// URL that others reach it by (default: http://LISTEN)
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Models to serve, by name in the local store (default: all registered ones)
    #[arg(long = "serve", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Stake to bond at the first start, in ASSAY
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) bond: Option<String>,
    /// Threads of one request
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) proofs: ProofArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WatcherArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Folder of the watcher's state (default: $XDG_DATA_HOME/assay/watcher)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Share of claims to replay, in parts per million
    #[arg(long, default_value_t = 1_000_000, value_name = "PPM")]
    pub(crate) audit_ppm: u32,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Folder of the gateway's state (default: $XDG_DATA_HOME/assay/gateway)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: std::net::SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Folder of the chain (default: $XDG_DATA_HOME/assay/node)
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the JSON-RPC
    #[arg(long, default_value = "127.0.0.1:8545", value_name = "ADDR")]
    pub(crate) rpc: std::net::SocketAddr,
    /// Evaluate supply, escrow and module invariants at every block
    #[arg(long)]
    pub(crate) check_invariants: bool,
    /// Development genesis: prefunded public accounts, short windows, movable clock
    #[arg(long)]
    pub(crate) dev: bool,
}
