//! `duolog acl`: create, list, delete. The same rules that `kafka-acls` shows.

use anyhow::ensure;
use clap::{Args, Subcommand};
use duolog_types::{Acl, AclFilter, AclOperation, AclPatternFilter, AclPermission, AclResourceType, PatternType};

use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::exit::Exit;
use crate::output::{Out, OutputFormat, Table, count};
use crate::run::{block_on, confirm};

/// Commands about access control lists.
#[derive(Debug, Subcommand)]
pub enum AclCommand {
    /// Allows or denies something. Without a rule nothing is allowed, and a rule that denies counts for more than any other.
    Create(CreateCommand),
    /// Shows rules.
    List(ListCommand),
    /// Deletes rules.
    Delete(DeleteCommand),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog acl create --user billing --operation read --topic orders --group billing
  duolog acl create --user shop --operation write --topic orders- --prefixed
  duolog acl create --user reports --operation all --topic '*' --group reports
  duolog acl create --user reports --operation read --topic salaries --deny

RocketMQ's Pub is the operation write on the topic; Sub is read on the topic and on the group.")]
pub struct CreateCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The user; `*` means every user.
    #[arg(long)]
    user: String,
    /// What it is about: read, write, describe, create, delete, alter, … or all.
    #[arg(long, required = true, value_delimiter = ',')]
    operation: Vec<AclOperation>,
    /// Topics; `*` means all.
    #[arg(long)]
    topic: Vec<String>,
    /// Consumer groups; `*` means all.
    #[arg(long)]
    group: Vec<String>,
    /// The cluster.
    #[arg(long)]
    cluster: bool,
    /// Names are beginnings of names.
    #[arg(long)]
    prefixed: bool,
    /// Deny instead of allow.
    #[arg(long)]
    deny: bool,
    /// IP address of clients that it holds for; `*` means all.
    #[arg(long, default_value = "*")]
    host: String,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only rules that name this user.
    #[arg(long)]
    user: Option<String>,
    /// Only rules for this topic, by the name as it stands in the rule.
    #[arg(long, conflicts_with_all = ["group", "cluster"])]
    topic: Option<String>,
    /// Only rules for this consumer group.
    #[arg(long, conflicts_with = "cluster")]
    group: Option<String>,
    /// Only rules for the cluster.
    #[arg(long)]
    cluster: bool,
    /// Rules that are about the topic or group, those with `*` and with beginnings of its name included.
    #[arg(long)]
    matching: bool,
    /// Only rules for this operation.
    #[arg(long)]
    operation: Option<AclOperation>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog acl list
  duolog acl list --user billing
  duolog acl list --topic orders-eu --matching --output json")]
pub struct ListCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog acl delete --user billing --topic orders
  duolog acl delete --user billing --yes")]
pub struct DeleteCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl AclCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// It was not done; the error says what was wrong, what was expected and what to do.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Create(command) => block_on(create(command))?,
            Self::List(command) => block_on(list(command))?,
            Self::Delete(command) => block_on(delete(command))?,
        }
        Ok(Exit::Success)
    }
}

impl CreateCommand {
    /// A rule per operation and resource.
    fn acls(&self) -> anyhow::Result<Vec<Acl>> {
        let topics = self.topic.iter().map(|name| (AclResourceType::Topic, name.as_str()));
        let groups = self.group.iter().map(|name| (AclResourceType::Group, name.as_str()));
        let cluster = self.cluster.then_some((AclResourceType::Cluster, Acl::CLUSTER_NAME));
        let resources: Vec<_> = topics.chain(groups).chain(cluster).collect();
        ensure!(!resources.is_empty(), "expected --topic, --group or --cluster: what is the rule about?");
        let mut acls = Vec::new();
        for operation in &self.operation {
            for (resource_type, name) in &resources {
                let acl = Acl {
                    resource_type: *resource_type,
                    pattern: match self.prefixed && *resource_type != AclResourceType::Cluster {
                        true => PatternType::Prefixed,
                        false => PatternType::Literal,
                    },
                    name: (*name).to_owned(),
                    principal: Acl::principal_of(&self.user),
                    host: self.host.clone(),
                    operation: *operation,
                    permission: if self.deny { AclPermission::Deny } else { AclPermission::Allow },
                };
                acl.check()?;
                acls.push(acl);
            }
        }
        Ok(acls)
    }
}

impl FilterArgs {
    fn filter(&self) -> AclFilter {
        let resource = match (&self.topic, &self.group) {
            (Some(topic), _) => Some((AclResourceType::Topic, Some(topic.clone()))),
            (_, Some(group)) => Some((AclResourceType::Group, Some(group.clone()))),
            _ => self.cluster.then_some((AclResourceType::Cluster, None)),
        };
        let (resource_type, name) = resource.map_or((None, None), |(kind, name)| (Some(kind), name));
        AclFilter {
            resource_type,
            name,
            pattern: if self.matching { AclPatternFilter::Match } else { AclPatternFilter::Any },
            principal: self.user.as_deref().map(Acl::principal_of),
            host: None,
            operation: self.operation,
            permission: None,
        }
    }
}

async fn create(command: CreateCommand) -> anyhow::Result<()> {
    let acls = command.acls()?;
    command.connection.client()?.create_acls(&acls).await?;
    show(command.output, &acls, "created")
}

async fn list(command: ListCommand) -> anyhow::Result<()> {
    let acls = command.connection.client()?.acls(&command.filter.filter()).await?;
    show(command.output, &acls, "found")
}

async fn delete(command: DeleteCommand) -> anyhow::Result<()> {
    let filter = command.filter.filter();
    ensure!(
        filter != AclFilter::default(),
        "expected --user, --topic, --group, --cluster or --operation: which rules?"
    );
    let client = command.connection.client()?;
    if !command.yes {
        let found = client.acls(&filter).await?;
        let mut out = Out::default();
        out.table(&table(&found))?;
        out.flush()?;
        confirm(&format!("deletes {}", count(found.len() as u64, "rule")), "delete")?;
    }
    let deleted = client.delete_acls(&filter).await?;
    show(command.output, &deleted, "deleted")
}

fn show(output: OutputArgs, acls: &[Acl], what: &str) -> anyhow::Result<()> {
    let mut out = Out::default();
    if output.output == OutputFormat::Json {
        return out.json(&acls);
    }
    if !acls.is_empty() {
        out.table(&table(acls))?;
    }
    out.line(&format!("{what}: {}", count(acls.len() as u64, "rule")))
}

fn table(acls: &[Acl]) -> Table {
    let mut table = Table::new(&["PRINCIPAL", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "PATTERN", "HOST"]);
    for acl in acls {
        table.row(vec![
            acl.principal.clone(),
            acl.permission.to_string(),
            acl.operation.to_string(),
            acl.resource_type.to_string(),
            acl.name.clone(),
            acl.pattern.to_string(),
            acl.host.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: AclCommand,
    }

    fn parse(words: &str) -> AclCommand {
        Line::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{error}")).command
    }

    #[test]
    fn a_rule_is_made_for_each_operation_and_resource() {
        let words = "x create --user ann --operation read,write --topic a --topic b --group g --prefixed --deny";
        let AclCommand::Create(command) = parse(words) else { panic!() };
        let acls = command.acls().unwrap();
        assert_eq!(acls.len(), 6);
        assert!(acls.iter().all(|acl| acl.principal == "User:ann" && acl.permission == AclPermission::Deny));
        assert_eq!((acls[5].resource_type, acls[5].operation), (AclResourceType::Group, AclOperation::Write));
        let AclCommand::Create(nothing) = parse("x create --user ann --operation read") else { panic!() };
        assert!(nothing.acls().unwrap_err().to_string().contains("--topic"));
    }

    #[test]
    fn a_filter_is_what_was_given() {
        let AclCommand::List(command) = parse("x list --user ann --group g --matching") else { panic!() };
        let filter = command.filter.filter();
        assert_eq!((filter.principal.as_deref(), filter.name.as_deref()), (Some("User:ann"), Some("g")));
        assert_eq!((filter.resource_type, filter.pattern), (Some(AclResourceType::Group), AclPatternFilter::Match));
    }
}
