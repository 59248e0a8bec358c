//! `duolog durability`: per topic its mode, what an acknowledgement means, and what could be lost right now.
//!
//! - `report.rs`: what a node answers;
//! - `view.rs`: the nodes' answers put together; `promise.rs`: the contract in words.

mod promise;
pub mod report;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::arguments::{OutputArgs, addresses};
use crate::client::Address;
use crate::exit::Exit;
use crate::http::{NodeAnswer, ask_all};
use crate::output::{Out, OutputFormat};
use crate::run;
use report::{NodeHttp, NodeReport};
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

async fn look(http: &[Address], topics: &[String]) -> anyhow::Result<View> {
    let (reports, silent) = ask_all::<NodeReport>(http, "/durability").await?;
    View::new(reports.into_values().collect(), silent, topics)
}

impl NodeAnswer for NodeReport {
    fn node_id(&self) -> u64 {
        self.node_id
    }

    fn nodes(&self) -> &[NodeHttp] {
        &self.nodes
    }
}
