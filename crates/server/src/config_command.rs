//! `duolog config`: doc and check.

use std::path::PathBuf;

use clap::Subcommand;
use duolog_cli::{Exit, Out, OutputFormat, Table};
use serde_json::json;

use crate::config::{self, Loaded};

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Prints the documentation of every key, in Markdown.
    #[command(after_help = "Examples:
  duolog config doc
  duolog config doc | grep flush")]
    Doc,
    /// Checks a config file, and shows what the environment sets over it.
    #[command(after_help = "Examples:
  duolog config check node.toml
  DUOLOG_NODE_ID=2 duolog config check node.toml --output json")]
    Check {
        /// The file.
        file: PathBuf,
        /// A table for people, or JSON for scripts.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        output: OutputFormat,
    },
}

impl ConfigCommand {
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut out = Out::default();
        match self {
            Self::Doc => out.text(&config::markdown())?,
            Self::Check { file, output } => {
                let loaded = Loaded::read(&file)?;
                for warning in &loaded.warnings {
                    eprintln!("duolog: {warning}");
                }
                let file = file.display().to_string();
                match output {
                    OutputFormat::Json => out.json(&as_json(&file, &loaded))?,
                    OutputFormat::Table => {
                        out.line(&format!("{file}: ok"))?;
                        if !loaded.environment.is_empty() {
                            out.line("")?;
                            out.table(&as_table(&loaded))?;
                        }
                    }
                }
            }
        }
        Ok(Exit::Success)
    }
}

fn as_json(file: &str, loaded: &Loaded) -> serde_json::Value {
    let environment = loaded.environment.iter();
    let environment = environment
        .map(|from| json!({"key": from.key, "value": from.value, "variable": from.variable}))
        .collect::<Vec<_>>();
    json!({"file": file, "ok": true, "environment": environment, "warnings": loaded.warnings})
}

fn as_table(loaded: &Loaded) -> Table {
    let mut table = Table::new(&["KEY", "VALUE", "FROM THE ENVIRONMENT"]);
    for from in &loaded.environment {
        table.row(vec![from.key.clone(), from.value.clone(), from.variable.clone()]);
    }
    table
}
