//! What a run asks the cluster meanwhile: who leads, high watermarks (as a client and from the nodes' metrics), state hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Deserialize;

use crate::client;
use crate::cluster::Node;
use crate::history::{Event, Place, WatermarkSource};
use crate::http;
use crate::workload::{Shared, Stop};

const EVERY: Duration = Duration::from_millis(500);
const PAGE_LIMIT: Duration = Duration::from_millis(500);
/// A node reads its whole state for it: an hour leaves millions of rows.
const STATE_HASH_LIMIT: Duration = Duration::from_secs(60);

/// The metric that carries a partition's high watermark, labelled `topic` and `partition`.
const HIGH_WATERMARK_METRIC: &str = "duolog_partition_high_watermark{";

/// Entries of its log that a node has found damaged, and those that it has put back; labelled `broker_group`.
const DAMAGED_METRIC: &str = "duolog_broker_group_damaged_entries_total";
const REPAIRED_METRIC: &str = "duolog_broker_group_repaired_entries_total";

/// The last known leader of each partition.
#[derive(Default)]
pub struct Leaders(Mutex<BTreeMap<Place, u32>>);

impl Leaders {
    pub fn of(&self, place: Place) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied()
    }

    pub fn led_by(&self, node: u32) -> Vec<Place> {
        let leaders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leaders.iter().filter(|(_, leader)| **leader == node).map(|(place, _)| *place).collect()
    }

    fn set(&self, place: Place, node: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, node);
    }
}

/// Follows the leaders through metadata until told to stop.
pub fn follow_leaders(shared: &Shared, leaders: &Leaders, stop: &Stop) -> Result<()> {
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    repeat(stop, || {
        let Ok(metadata) = consumer.fetch_metadata(None, client::ASK_LIMIT) else { return };
        for (topic, of_topic) in (0u16..).zip(&shared.topics) {
            let found = metadata.topics().iter().find(|found| found.name() == of_topic.name);
            for partition in found.into_iter().flat_map(|found| found.partitions()) {
                if let Ok(node) = u32::try_from(partition.leader()) {
                    leaders.set(Place { topic, partition: partition.id() }, node);
                }
            }
        }
    });
    Ok(())
}

/// Asks each partition's leader for its high watermark (ListOffsets) until told to stop.
pub fn follow_watermarks(shared: &Shared, stop: &Stop) -> Result<()> {
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    repeat(stop, || {
        for place in shared.places().take_while(|_| !stop.is_wanted()) {
            let asked_ms = shared.recorder.now_ms();
            let answer = consumer.fetch_watermarks(shared.name(place.topic), place.partition, PAGE_LIMIT);
            if let Ok((_, offset)) = answer {
                let (time_ms, source) = (shared.recorder.now_ms(), WatermarkSource::Leader);
                shared.recorder.record(Event::HighWatermark { asked_ms, time_ms, source, place, offset });
            }
        }
    });
    Ok(())
}

/// Reads one node's metrics page once. A node that does not answer, or has no such metric yet, records nothing.
pub fn read_metrics(shared: &Shared, node: &Node) {
    let asked_ms = shared.recorder.now_ms();
    let Ok(page) = http::get(node.ports.http, "/metrics", PAGE_LIMIT) else { return };
    let time_ms = shared.recorder.now_ms();
    let source = WatermarkSource::Node { node: node.id, incarnation: node.incarnation };
    for (name, partition, offset) in high_watermarks(&page.body) {
        if let Some(topic) = shared.topics.iter().position(|topic| topic.name == name) {
            let place = Place { topic: topic as u16, partition };
            shared.recorder.record(Event::HighWatermark { asked_ms, time_ms, source, place, offset });
        }
    }
}

/// What the scrubber of a node has done since the node's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scrubbed {
    pub damaged: u64,
    pub repaired: u64,
}

/// Of all broker groups together; nothing where the node does not answer.
pub fn scrubbed(node: &Node) -> Scrubbed {
    let Ok(page) = http::get(node.ports.http, "/metrics", PAGE_LIMIT) else { return Scrubbed::default() };
    let total = |metric: &str| {
        let lines = page.body.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.split_once('}'));
        lines.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
    };
    Scrubbed { damaged: total(DAMAGED_METRIC), repaired: total(REPAIRED_METRIC) }
}

/// (topic, partition, high watermark) of each line of the metric.
fn high_watermarks(page: &str) -> impl Iterator<Item = (&str, i32, i64)> {
    page.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(HIGH_WATERMARK_METRIC)?.split_once('}')?;
        let label = |name: &str| {
            let pair = labels.split(',').filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name);
            pair.map(|(_, value)| value.trim_matches('"'))
        };
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        Some((label("topic")?, label("partition")?.parse().ok()?, value as i64))
    })
}

/// `GET /debug/state-hash`.
#[derive(Deserialize)]
struct StateHashes {
    groups: BTreeMap<u32, StateHash>,
}

#[derive(Deserialize)]
struct StateHash {
    applied: u64,
    hash: String,
}

/// Asks all nodes for their state hashes until every broker group has applied the same index everywhere, or `limit` is
/// over, and records the last answers. Err: a node cannot tell (says why); then replicas are not compared.
pub fn compare_replicas(shared: &Shared, nodes: &[Node], limit: Duration) -> Result<(), String> {
    let end = Instant::now() + limit;
    loop {
        let mut answers = Vec::new();
        for node in nodes {
            let page = http::get(node.ports.http, "/debug/state-hash", STATE_HASH_LIMIT)
                .map_err(|error| format!("node {} does not tell its state hash: {error}", node.id))?;
            if page.status != 200 {
                return Err(format!("node {} answers {} to GET /debug/state-hash", node.id, page.status));
            }
            let hashes: StateHashes = serde_json::from_str(&page.body)
                .map_err(|error| format!("node {}: /debug/state-hash is not understood: {error}", node.id))?;
            answers.push((node.id, hashes));
        }
        if is_level(&answers) || Instant::now() >= end {
            for (node, hashes) in answers {
                for (broker_group, StateHash { applied: applied_index, hash }) in hashes.groups {
                    shared.recorder.record(Event::StateHash { node, broker_group, applied_index, hash });
                }
            }
            return Ok(());
        }
        sleep(EVERY);
    }
}

fn is_level(answers: &[(u32, StateHashes)]) -> bool {
    let mut applied: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for (_, hashes) in answers {
        for (broker_group, state) in &hashes.groups {
            applied.entry(*broker_group).or_default().insert(state.applied);
        }
    }
    applied.values().all(|indexes| indexes.len() == 1)
}

fn repeat(stop: &Stop, mut step: impl FnMut()) {
    while !stop.is_wanted() {
        step();
        sleep(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::high_watermarks;

    #[test]
    fn the_metric_is_read_in_any_label_order_and_other_lines_are_not() {
        let page = "# TYPE duolog_partition_high_watermark gauge\n\
            duolog_partition_high_watermark{topic=\"a\",partition=\"3\"} 17\n\
            duolog_partition_high_watermark{partition=\"0\",topic=\"b\"} 1.2e1 1700000000\n\
            duolog_partition_log_end_offset{topic=\"a\",partition=\"3\"} 18\n\
            duolog_partition_high_watermark{topic=\"a\"} 17\n";
        assert_eq!(high_watermarks(page).collect::<Vec<_>>(), [("a", 3, 17), ("b", 0, 12)]);
    }
}
