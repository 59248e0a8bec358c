//! `duolog topic delete`.

use clap::Args;
use serde_json::json;

use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::output::{Out, OutputFormat};
use crate::run::confirm;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog topic delete payments
  duolog topic delete payments orders --yes")]
pub struct DeleteCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Names of the topics.
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub async fn run(command: DeleteCommand) -> anyhow::Result<()> {
    let client = command.connection.client()?;
    // All must exist before the first is deleted.
    for name in &command.names {
        client.topic(name).await?;
    }
    if !command.yes {
        let question = format!("deletes {} with all records, for good", command.names.join(", "));
        confirm(&question, "delete")?;
    }
    let mut out = Out::default();
    for name in &command.names {
        client.delete_topic(name).await?;
        if command.output.output == OutputFormat::Table {
            out.line(&format!("deleted topic {name}"))?;
        }
    }
    match command.output.output {
        OutputFormat::Json => out.json(&json!({ "deleted": command.names })),
        OutputFormat::Table => Ok(()),
    }
}
