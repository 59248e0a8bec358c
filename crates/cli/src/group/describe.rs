//! `duolog group describe`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;

use super::DEAD;
use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::client::{Asked, Client, ConfigOrigin, GroupMember, Resource, TopicInfo};
use crate::consume::assigned_partitions;
use crate::output::{Out, OutputFormat, Table, count, or_dash};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog group describe billing
  duolog group describe billing --output json | jq '[.offsets[].lag] | add'")]
pub struct DescribeCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Id of the group.
    group: String,
}

#[derive(Debug, Serialize)]
struct Description {
    group: String,
    state: String,
    strategy: String,
    /// What was set; everything else is at its default.
    configs: BTreeMap<String, String>,
    members: Vec<MemberRow>,
    offsets: Vec<OffsetRow>,
}

#[derive(Debug, Serialize)]
struct MemberRow {
    member_id: String,
    client_id: String,
    host: String,
    partitions: BTreeMap<String, Vec<i32>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct OffsetRow {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    high_watermark: Option<i64>,
    /// Records that are not consumed yet; none when nothing is committed.
    lag: Option<i64>,
    member_id: Option<String>,
}

pub async fn run(command: DescribeCommand) -> anyhow::Result<()> {
    let description = describe(&command.connection.client()?, &command.group).await?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&description);
    }
    let strategy = Some(&description.strategy).filter(|strategy| !strategy.is_empty());
    out.line(&format!(
        "consumer group {}, state {}, strategy {}, {}",
        description.group,
        description.state,
        or_dash(strategy),
        count(description.members.len() as u64, "member")
    ))?;
    if !description.configs.is_empty() {
        let configs: Vec<String> = description.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        out.line(&format!("configs {}", configs.join(", ")))?;
    }
    out.line("")?;
    out.table(&offsets_table(&description.offsets))?;
    if description.members.is_empty() {
        return Ok(());
    }
    let mut members = Table::new(&["MEMBER", "CLIENT", "HOST", ">PARTITIONS"]);
    for member in &description.members {
        let partitions = member.partitions.values().map(Vec::len).sum::<usize>();
        members.row(vec![
            member.member_id.clone(),
            member.client_id.clone(),
            member.host.clone(),
            partitions.to_string(),
        ]);
    }
    out.line("")?;
    out.table(&members)
}

fn offsets_table(rows: &[OffsetRow]) -> Table {
    let mut table = Table::new(&["TOPIC", ">PARTITION", ">COMMITTED", ">HIGH WATERMARK", ">LAG", "MEMBER"]);
    for row in rows {
        table.row(vec![
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed),
            or_dash(row.high_watermark),
            or_dash(row.lag),
            or_dash(row.member_id.as_ref()),
        ]);
    }
    table
}

async fn describe(client: &Client, group: &str) -> anyhow::Result<Description> {
    let described = client.describe_group(group).await?;
    let committed = client.committed(group).await?;
    let configs = explicit_configs(client, group).await?;
    ensure!(
        described.state != DEAD || !committed.is_empty() || !configs.is_empty(),
        "consumer group {group:?}: there is none; `duolog group list` shows all groups"
    );
    let members: Vec<MemberRow> = described.members.iter().map(member_row).collect();
    let assigned = |member: &MemberRow| {
        let partitions = member.partitions.iter().flat_map(|(topic, list)| list.iter().map(|p| (topic.clone(), *p)));
        partitions.map(|key| (key, member.member_id.clone())).collect::<Vec<_>>()
    };
    let owners: BTreeMap<(String, i32), String> = members.iter().flat_map(assigned).collect();
    let keys: BTreeSet<(String, i32)> = committed.keys().chain(owners.keys()).cloned().collect();
    let ends = high_watermarks(client, &keys).await?;
    Ok(Description {
        group: group.to_owned(),
        state: described.state,
        strategy: described.strategy,
        configs,
        members,
        offsets: keys.into_iter().map(|key| offset_row(key, &committed, &ends, &owners)).collect(),
    })
}

async fn explicit_configs(client: &Client, group: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let all = client.configs(Resource::Group, &[group], None).await?.remove(group).unwrap_or_default();
    let explicit = all.into_iter().filter(|config| config.origin == ConfigOrigin::Explicit);
    Ok(explicit.map(|config| (config.name, config.value)).collect())
}

fn offset_row(
    key: (String, i32),
    committed: &BTreeMap<(String, i32), i64>,
    ends: &BTreeMap<(String, i32), i64>,
    owners: &BTreeMap<(String, i32), String>,
) -> OffsetRow {
    let (committed, high_watermark) = (committed.get(&key).copied(), ends.get(&key).copied());
    OffsetRow {
        lag: committed.zip(high_watermark).map(|(committed, end)| (end - committed).max(0)),
        committed,
        high_watermark,
        member_id: owners.get(&key).cloned(),
        topic: key.0,
        partition: key.1,
    }
}

/// The ends of the partitions' logs; of a topic that is gone, or a partition without leader, there is none.
async fn high_watermarks(
    client: &Client,
    keys: &BTreeSet<(String, i32)>,
) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
    let wanted: BTreeSet<&String> = keys.iter().map(|(topic, _)| topic).collect();
    let topics: Vec<TopicInfo> =
        client.all_topics().await?.into_iter().filter(|topic| wanted.contains(&topic.name)).collect();
    let found = client.try_offsets(&topics, Asked::Latest).await;
    Ok(found.into_iter().filter_map(|(key, offset)| Some((key, offset.ok()??))).collect())
}

fn member_row(member: &GroupMember) -> MemberRow {
    MemberRow {
        member_id: member.member_id.clone(),
        client_id: member.client_id.clone(),
        host: member.client_host.clone(),
        // Of a group that is no consumer's the bytes mean something else.
        partitions: assigned_partitions(member.assignment.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_lies_between_and_never_negative() {
        let key = || ("t".to_owned(), 0);
        let row = |committed: Option<i64>, end: Option<i64>| {
            let map = |value: Option<i64>| value.map(|value| (key(), value)).into_iter().collect();
            offset_row(key(), &map(committed), &map(end), &BTreeMap::new()).lag
        };
        assert_eq!(row(Some(3), Some(10)), Some(7));
        assert_eq!(row(Some(12), Some(10)), Some(0));
        assert_eq!((row(None, Some(10)), row(Some(1), None)), (None, None));
    }
}
