//! `duolog durability`: per topic its mode, what an acknowledgement means, and what could be lost right now.
//!
//! - `report.rs`: what a node answers; `http.rs`: asking it;
//! - `view.rs`: the nodes' answers put together; `promise.rs`: the contract in words.

mod http;
mod promise;
pub mod report;
mod view;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::future::join_all;

use crate::arguments::{OutputArgs, addresses};
use crate::client::Address;
use crate::exit::Exit;
use crate::output::{Out, OutputFormat};
use crate::run;
use report::NodeReport;
use view::View;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// ANSI: cursor to the top left, erase the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows what each topic promises, and what could be lost right now.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog durability
  duolog durability payments orders --watch
  duolog durability --http 10.0.0.1:8090 --output json | jq '.topics[] | {topic, exposure}'

Exposure is what producers were told to be safe and would be lost: with the leader (no quorum has received it), or with the power
of all machines (no quorum has flushed it; an upper limit).")]
pub struct DurabilityCommand {
    /// Only these topics.
    topics: Vec<String>,
    /// HTTP addresses of one or more nodes: HOST:PORT[,HOST:PORT…]; the others are found through their configs.
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:8090")]
    http: String,
    /// Draw again each second, until Ctrl-C. JSON is one line each time.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl DurabilityCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// No node answers, or a topic is unknown.
    pub fn run(self) -> anyhow::Result<Exit> {
        run::block_on(async {
            tokio::select! {
                result = show(self) => result?,
                () = run::interrupted() => {}
            }
            Ok(Exit::Success)
        })
    }
}

async fn show(command: DurabilityCommand) -> anyhow::Result<()> {
    let http = addresses(&command.http).with_context(|| format!("--http {:?}", command.http))?;
    let mut out = Out::default();
    let clear = command.watch && std::io::stdout().is_terminal();
    let mut interval = tokio::time::interval(WATCH_INTERVAL);
    loop {
        interval.tick().await;
        let view = look(&http, &command.topics).await?;
        match (command.output.output, command.watch) {
            (OutputFormat::Json, true) => out.line(&serde_json::to_string(&view)?)?,
            (OutputFormat::Json, false) => out.json(&view)?,
            (OutputFormat::Table, _) => out.text(&format!("{}{view}", if clear { CLEAR } else { "" }))?,
        }
        if !command.watch {
            return Ok(());
        }
    }
}

/// Asks the given nodes, then those that they know.
async fn look(http: &[Address], topics: &[String]) -> anyhow::Result<View> {
    let mut reports: BTreeMap<u64, NodeReport> = BTreeMap::new();
    let mut silent = Vec::new();
    for answer in join_all(http.iter().map(ask)).await {
        match answer {
            Ok(report) => {
                reports.insert(report.node_id, report);
            }
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    let known: BTreeMap<u64, String> =
        reports.values().flat_map(|report| report.nodes.iter().map(|node| (node.node_id, node.http.clone()))).collect();
    let rest = known.into_iter().filter(|(node, _)| !reports.contains_key(node)).collect::<Vec<_>>();
    let answers = join_all(rest.iter().map(async |(node, address)| (*node, ask_text(address).await))).await;
    for (node, answer) in answers {
        match answer {
            Ok(report) => {
                reports.insert(report.node_id, report);
            }
            Err(error) => silent.push(format!("node {node}: {error:#}")),
        }
    }
    if reports.is_empty() {
        bail!("no node answers: {}", silent.join("; "));
    }
    View::new(reports.into_values().collect(), silent, topics)
}

async fn ask_text(address: &str) -> anyhow::Result<NodeReport> {
    ask(&address.parse()?).await
}

async fn ask(address: &Address) -> anyhow::Result<NodeReport> {
    let body = http::get(address, "/durability").await?;
    serde_json::from_str(&body).with_context(|| format!("the answer of {address} to GET /durability"))
}
