//! `duolog group list`.

use clap::Args;
use serde_json::json;

use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::output::{Out, OutputFormat, Table, or_dash};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog group list
  duolog group list --output json | jq -r '.[].group'")]
pub struct ListCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(command: ListCommand) -> anyhow::Result<()> {
    let (groups, silent) = command.connection.client()?.list_groups().await?;
    for error in silent {
        eprintln!("duolog: consumer groups that this node coordinates are missing: {error}");
    }
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        let json = groups
            .iter()
            .map(|group| json!({"group": group.group, "state": group.state, "protocol_type": group.protocol_type}));
        return out.json(&json.collect::<Vec<_>>());
    }
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL"]);
    for group in groups {
        let protocol = Some(group.protocol_type).filter(|protocol| !protocol.is_empty());
        table.row(vec![group.group, or_dash(group.state), or_dash(protocol)]);
    }
    out.table(&table)
}
