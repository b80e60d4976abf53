//! `assay node`: the chain alone.

use assay_node::Node;
use assay_wallet::ChainClient;
use serde_json::json;

use crate::{
    args::NodeArgs,
    exit::{Exit, stop},
    network::{self, ChainOptions},
    paths,
    shell::Shell,
};

pub(crate) fn run(args: &NodeArgs, shell: &Shell) -> anyhow::Result<()> {
    if !args.dev {
        return stop(
            Exit::Failed,
            "only the development genesis exists so far: start with `--dev`",
        );
    }
    let data = args
        .data
        .clone()
        .map_or_else(|| paths::data().map(|d| d.join("node")), Ok)?;
    let runtime = network::runtime()?;
    runtime.block_on(async {
        let options = ChainOptions {
            data: Some(data.clone()),
            rpc: args.rpc,
            check_invariants: args.check_invariants,
        };
        let node = Node::open(network::chain_config(options)?).await?;
        let client = ChainClient::new(node.rpc_url());
        let chain_id = tokio::task::block_in_place(|| client.chain_id())?;
        shell.result(
            format!(
                "chain {} at {}\n  data in {}",
                chain_id,
                node.rpc_url(),
                data.display()
            ),
            &json!({ "ready": true, "rpc": node.rpc_url(), "chain_id": chain_id, "data": data }),
        );
        shell.note("Ctrl-C stops it");
        network::until_interrupted().await;
        node.shutdown().await?;
        Ok(())
    })
}
