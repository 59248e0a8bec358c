//! The states of all replicas: equal at the same applied index, or something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::client::Address;
use crate::durability::report::NodeReport;
use crate::http::{ask_all, get_within};
use crate::output::{Out, Table, list};

/// Under load replicas are seldom at the same index when they are asked.
const LOOKS: usize = 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A node reads its whole state for an answer: about a second for a million rows.
const HASH_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Serialize)]
pub(super) struct ReplicasReport {
    pub(super) are_equal: bool,
    /// Nodes that were compared.
    nodes: BTreeSet<u64>,
    /// Why others were not.
    silent: Vec<String>,
    groups: Vec<GroupReport>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct GroupReport {
    broker_group: u32,
    /// The applied log index at which most nodes were compared; `None` when no two were ever at the same one.
    applied_index: Option<u64>,
    /// The hash of each node there.
    hashes: BTreeMap<u64, String>,
    are_equal: bool,
}

#[derive(Debug, Deserialize)]
struct StateHashes {
    groups: BTreeMap<u32, StateHash>,
}

#[derive(Debug, Deserialize)]
struct StateHash {
    /// A log index.
    applied: Option<u64>,
    hash: String,
}

/// Hashes by broker group, applied index and node.
type Seen = BTreeMap<u32, BTreeMap<u64, BTreeMap<u64, String>>>;

/// # Errors
/// No node answers, or those that do know no members.
pub(super) async fn compare(http: &[Address]) -> anyhow::Result<ReplicasReport> {
    let (answers, mut silent) = ask_all::<NodeReport>(http, "/durability").await?;
    let known: BTreeMap<u64, String> =
        answers.values().flat_map(|node| node.nodes.iter().map(|known| (known.node_id, known.http.clone()))).collect();
    let mut nodes = Vec::new();
    for (node, address) in known.into_iter().filter(|(node, _)| answers.contains_key(node)) {
        nodes.push((node, address.parse::<Address>().with_context(|| format!("node {node}: {address:?}"))?));
    }
    ensure!(
        !nodes.is_empty(),
        "node {} answers, but knows no member whose HTTP port is known (http_port in [[nodes]]): is it in a cluster yet? `duolog cluster \
         status` says so",
        list(answers.keys())
    );
    let mut seen = Seen::new();
    for _ in 0..LOOKS {
        let looks = nodes.iter().map(async |(node, address)| (*node, look(address).await));
        for (node, hashes) in join_all(looks).await {
            match hashes {
                Ok(hashes) => note(&mut seen, node, hashes),
                Err(error) => silent.push(format!("node {node}: {error:#}")),
            }
        }
        let groups = judge(&seen);
        if !silent.is_empty() || groups.iter().all(|group| !group.are_equal || group.hashes.len() == nodes.len()) {
            break;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let groups = judge(&seen);
    let are_equal =
        silent.is_empty() && groups.iter().all(|group| group.are_equal && group.hashes.len() == nodes.len());
    Ok(ReplicasReport { are_equal, nodes: nodes.into_iter().map(|(node, _)| node).collect(), silent, groups })
}

async fn look(address: &Address) -> anyhow::Result<StateHashes> {
    let text = get_within(address, "/debug/state-hash", HASH_LIMIT).await?;
    serde_json::from_str(&text).with_context(|| format!("the answer of {address}"))
}

fn note(seen: &mut Seen, node: u64, hashes: StateHashes) {
    for (group, StateHash { applied, hash }) in hashes.groups {
        seen.entry(group).or_default().entry(applied.unwrap_or(0)).or_default().insert(node, hash);
    }
}

/// Per group the index at which replicas differ, or else that at which most were seen.
fn judge(seen: &Seen) -> Vec<GroupReport> {
    let report = |(group, by_index): (&u32, &BTreeMap<u64, BTreeMap<u64, String>>)| {
        let differ = |hashes: &BTreeMap<u64, String>| hashes.values().collect::<BTreeSet<_>>().len() > 1;
        let different = by_index.iter().find(|(_, hashes)| differ(hashes));
        let most = by_index.iter().max_by_key(|(index, hashes)| (hashes.len(), **index));
        let chosen = different.or(most).filter(|(_, hashes)| hashes.len() > 1 || by_index.len() == 1);
        GroupReport {
            broker_group: *group,
            applied_index: chosen.map(|(index, _)| *index),
            hashes: chosen.map(|(_, hashes)| hashes.clone()).unwrap_or_default(),
            are_equal: different.is_none(),
        }
    };
    seen.iter().map(report).collect()
}

/// # Errors
/// Nobody reads.
pub(super) fn show(out: &mut Out, report: &ReplicasReport) -> anyhow::Result<()> {
    let mut table = Table::new(&["GROUP", ">APPLIED", "NODES", "STATE HASH", "VERDICT"]);
    for group in &report.groups {
        let nodes: Vec<String> = group.hashes.keys().map(ToString::to_string).collect();
        let hashes: BTreeSet<&String> = group.hashes.values().collect();
        let verdict = match (group.are_equal, group.hashes.len() == report.nodes.len()) {
            (false, _) => "DIFFERENT",
            (true, true) => "equal",
            (true, false) => "not all at the same index: try again with less load",
        };
        table.row(vec![
            group.broker_group.to_string(),
            group.applied_index.map_or_else(|| "-".to_owned(), |index| index.to_string()),
            nodes.join(","),
            hashes.into_iter().cloned().collect::<Vec<_>>().join(" "),
            verdict.to_owned(),
        ]);
    }
    out.table(&table)?;
    report.silent.iter().try_for_each(|line| out.line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(of: &[(u64, u64, &str)]) -> Vec<GroupReport> {
        let mut seen = Seen::new();
        for (node, index, hash) in of {
            let hash = StateHash { applied: Some(*index), hash: (*hash).to_owned() };
            note(&mut seen, *node, StateHashes { groups: [(0, hash)].into() });
        }
        judge(&seen)
    }

    #[test]
    fn replicas_are_compared_at_the_same_index_only() {
        let equal = &seen(&[(0, 5, "a"), (1, 5, "a"), (2, 6, "b"), (2, 5, "a")])[0];
        assert!(equal.are_equal && equal.applied_index == Some(5) && equal.hashes.len() == 3, "{equal:?}");
        let different = &seen(&[(0, 5, "a"), (1, 5, "x"), (0, 6, "b"), (1, 6, "b"), (2, 6, "b")])[0];
        assert!(!different.are_equal && different.applied_index == Some(5), "{different:?}");
        let apart = &seen(&[(0, 5, "a"), (1, 6, "b"), (2, 7, "c")])[0];
        assert!(apart.are_equal && apart.applied_index.is_none() && apart.hashes.is_empty(), "{apart:?}");
        let alone = &seen(&[(0, 5, "a")])[0];
        assert!(alone.are_equal && alone.hashes.len() == 1, "{alone:?}");
    }
}
