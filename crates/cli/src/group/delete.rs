//! `duolog group delete`.

use clap::Args;
use serde_json::json;

use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::output::{Out, OutputFormat};
use crate::run::confirm;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog group delete billing
  duolog group delete billing reports --yes")]
pub struct DeleteCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Ids of the groups.
    #[arg(required = true)]
    groups: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub async fn run(command: DeleteCommand) -> anyhow::Result<()> {
    let client = command.connection.client()?;
    if !command.yes {
        let question = format!("deletes {} with all committed offsets, for good", command.groups.join(", "));
        confirm(&question, "delete")?;
    }
    let mut out = Out::default();
    for group in &command.groups {
        client.delete_group(group).await?;
        if command.output.output == OutputFormat::Table {
            out.line(&format!("deleted consumer group {group}"))?;
        }
    }
    match command.output.output {
        OutputFormat::Json => out.json(&json!({ "deleted": command.groups })),
        OutputFormat::Table => Ok(()),
    }
}
