//! `duolog transaction`: half messages that are stuck: list, describe, commit, rollback.

pub mod report;

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::arguments::{OutputArgs, addresses};
use crate::client::Address;
use crate::durability::report::NodeHttp;
use crate::exit::Exit;
use crate::http::{self, Answer, NodeAnswer, ask_all};
use crate::output::{Out, OutputFormat, Table, count};
use crate::run::{block_on, confirm};
use crate::time::format_ms;
use report::{State, TransactionDetails, TransactionReport, TransactionRow};

/// HTTP's "misdirected request": the node does not lead the partition.
const NOT_LEADER: u16 = 421;

/// Commands about half messages, whose transactions have not ended.
#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// Shows half messages that are not visible: open ones, given-up ones, and for a while what was rolled back.
    List(ListCommand),
    /// Shows a half message with its properties and body.
    Describe(DescribeCommand),
    /// Commits an open transaction: consumers get its message.
    Commit(EndCommand),
    /// Rolls an open transaction back: nobody ever gets its message.
    Rollback(EndCommand),
}

#[derive(Debug, Args)]
struct HttpArgs {
    /// HTTP addresses of one or more nodes: HOST:PORT[,HOST:PORT…]; the others are found through their configs.
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:8090")]
    http: String,
}

impl HttpArgs {
    fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        addresses(&self.http).with_context(|| format!("--http {:?}", self.http))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog transaction list
  duolog transaction list --topic orders --output json | jq '.[] | select(.state == \"open\" and .checks > 3) | .id'")]
pub struct ListCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Only those of this topic.
    #[arg(long)]
    topic: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog transaction describe SAcHBwcHBwcHBwcHBwcHBwcAAAAD...")]
pub struct DescribeCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Id of the transaction.
    id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog transaction commit SAcHBwcHBwcHBwcHBwcHBwcAAAAD...
  duolog transaction rollback SAcHBwcHBwcHBwcHBwcHBwcAAAAD... --yes

It is for good: a producer that ends it otherwise later is refused.")]
pub struct EndCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Ids of the transactions.
    #[arg(required = true)]
    ids: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl TransactionCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// No node answers, or a transaction is unknown or ended otherwise.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::List(command) => block_on(list(command))?,
            Self::Describe(command) => block_on(describe(command))?,
            Self::Commit(command) => block_on(end(command, "commit", "committed"))?,
            Self::Rollback(command) => block_on(end(command, "rollback", "rolled back"))?,
        }
        Ok(Exit::Success)
    }
}

impl NodeAnswer for TransactionReport {
    fn node_id(&self) -> u64 {
        self.node_id
    }

    fn nodes(&self) -> &[NodeHttp] {
        &self.nodes
    }
}

async fn list(command: ListCommand) -> anyhow::Result<()> {
    let path = match &command.topic {
        Some(topic) => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '%');
            ensure!(topic.chars().all(is_plain), "--topic {topic:?}: expected letters, digits, '.', '_', '-' and '%'");
            format!("/transactions?topic={}", topic.replace('%', "%25"))
        }
        None => "/transactions".to_owned(),
    };
    let (reports, silent) = ask_all::<TransactionReport>(&command.http.addresses()?, &path).await?;
    let rows: Vec<TransactionRow> = reports.into_values().flat_map(|report| report.transactions).collect();
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        out.json(&rows)?;
    } else {
        let mut table = Table::new(&["TOPIC", ">PARTITION", "STATE", ">CHECKS", "UNTIL", "BORN", "ID"]);
        rows.iter().for_each(|row| table.row(cells(row)));
        out.table(&table)?;
        out.line(&count(rows.len() as u64, "transaction"))?;
    }
    // What a silent node leads is missing, and a script must not take the rest for all.
    ensure!(silent.is_empty(), "not every node answers: {}", silent.join("; "));
    Ok(())
}

fn cells(row: &TransactionRow) -> Vec<String> {
    let (state, checks, until) = match row.state {
        State::Open { checks, next_check_ms } => ("open", checks.to_string(), next_check_ms),
        State::GivenUp { kept_until_ms } => ("given up", "-".to_owned(), kept_until_ms),
        State::RolledBack { kept_until_ms } => ("rolled back", "-".to_owned(), kept_until_ms),
    };
    let born = row.born_ms.map_or("-".to_owned(), format_ms);
    vec![row.topic.clone(), row.partition.to_string(), state.to_owned(), checks, format_ms(until), born, row.id.clone()]
}

async fn describe(command: DescribeCommand) -> anyhow::Result<()> {
    let body =
        at_leader(&command.http.addresses()?, "GET", &format!("/transactions/{}", checked(&command.id)?)).await?;
    let details: TransactionDetails = serde_json::from_str(&body).context("the node's answer")?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&details);
    }
    let row = &details.transaction;
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let mut line = |what: &str, value: String| table.row(vec![what.to_owned(), value]);
    let [.., state, checks, until, born, id] = <[String; 7]>::try_from(cells(row)).expect("a cell per column");
    line("id", id);
    line("topic", format!("{}, partition {}", row.topic, row.partition));
    line("state", format!("{state}, {checks} checks, until {until}"));
    line("message id", row.message_id.clone());
    line("born", format!("{born} at {:?}", details.born_host));
    line("tag", details.tag.unwrap_or_default());
    line("keys", details.keys.join(" "));
    for (name, value) in &details.properties {
        line(&format!("property {name}"), format!("{value:?}"));
    }
    line("body", format!("{} bytes", details.body_bytes));
    out.table(&table)?;
    details.body.map_or(Ok(()), |body| out.line(&body))
}

async fn end(command: EndCommand, verb: &str, done: &str) -> anyhow::Result<()> {
    let http = command.http.addresses()?;
    let ids = command.ids.iter().map(|id| checked(id)).collect::<anyhow::Result<Vec<&str>>>()?;
    if !command.yes {
        confirm(&format!("ends {} for good", count(ids.len() as u64, "transaction")), verb)?;
    }
    let mut out = Out::default();
    for id in &ids {
        at_leader(&http, "POST", &format!("/transactions/{id}/{verb}")).await?;
        if command.output.output == OutputFormat::Table {
            out.line(&format!("{done}: {id}"))?;
        }
    }
    match command.output.output {
        OutputFormat::Json => out.json(&json!({ "ended": ids, "as": verb })),
        OutputFormat::Table => Ok(()),
    }
}

/// An id is base64 for addresses.
fn checked(id: &str) -> anyhow::Result<&str> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    ensure!(
        !id.is_empty() && id.chars().all(is_legal),
        "{id:?} is no id of a transaction: `duolog transaction list` shows them"
    );
    Ok(id)
}

/// The body of the answer of the one node that leads the transaction's partition.
async fn at_leader(http: &[Address], method: &str, path: &str) -> anyhow::Result<String> {
    let (reports, silent) = ask_all::<TransactionReport>(http, "/transactions?limit=0").await?;
    let known = reports.values().flat_map(|report| report.nodes.iter().map(|node| node.http.clone()));
    let addresses: BTreeSet<String> = http.iter().map(ToString::to_string).chain(known).collect();
    let mut others = silent;
    for address in addresses {
        match http::call(&address.parse()?, method, path).await {
            Ok(Answer { status: 200, body }) => return Ok(body),
            Ok(Answer { status: NOT_LEADER, .. }) => {}
            Ok(Answer { status, body }) => bail!("{} (status {status} of {address})", body.trim()),
            Err(error) => others.push(format!("{error:#}")),
        }
    }
    bail!("no node that answers leads the transaction's partition: {}", others.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_reaches_into_the_path() {
        assert_eq!(checked("SAb_-9").unwrap(), "SAb_-9");
        for bad in ["", "a/b", "a b", "..", "ä", "a?x"] {
            assert!(checked(bad).unwrap_err().to_string().contains("is no id"), "{bad}");
        }
    }

    #[test]
    fn a_row_is_one_line_of_json_with_its_state() {
        let row = TransactionRow {
            id: "SA".to_owned(),
            topic: "t".to_owned(),
            partition: 2,
            message_id: "01".to_owned(),
            born_ms: Some(0),
            state: State::Open { checks: 3, next_check_ms: 1_000 },
        };
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((json["state"].as_str(), json["checks"].as_u64()), (Some("open"), Some(3)));
        assert_eq!(serde_json::from_value::<TransactionRow>(json).unwrap(), row);
        assert_eq!(cells(&row)[2..5], ["open", "3", "1970-01-01T00:00:01.000Z"]);
    }
}
