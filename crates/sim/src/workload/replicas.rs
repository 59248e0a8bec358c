//! Every replica can serve everything: each node leads every broker group once, and is read from the start to the end. What a replica
//! lacks shows only when it leads.

use std::collections::BTreeMap;
use std::time::Duration;

use duolog_chaos::history::Value;
use duolog_types::{BrokerGroupId, NodeId};
use tokio::time::{Instant, sleep};

use super::{Clients, RECOVERY};
use crate::cluster::Failure;
use crate::node::{BROKER_GROUPS, Standing};

/// Time for a change of leader.
const TRANSFER: Duration = Duration::from_millis(200);

/// What a partition holds, by topic and number.
type Contents = BTreeMap<(String, i32), Vec<(i64, Value)>>;

/// After everything else: nobody writes any more.
pub async fn read_from_each(clients: &Clients) {
    let mut reference: Option<(u32, Contents)> = None;
    let nodes = clients.cluster.nodes.iter();
    for node in nodes.filter(|node| node.standing() == Standing::Present).map(|node| node.id as usize) {
        let contents = match read_from(clients, node).await {
            Ok(contents) => contents,
            Err(text) => {
                clients.report(text);
                continue;
            }
        };
        let id = clients.cluster.nodes[node].id;
        let Some((first, expected)) = &reference else {
            reference = Some((id, contents));
            continue;
        };
        for ((topic, partition), found) in &contents {
            if expected[&(topic.clone(), *partition)] != *found {
                let text = format!("node {id} serves other records of {topic}-{partition} than node {first}");
                clients.report(text);
            }
        }
    }
}

/// Everything, as this node has it.
async fn read_from(clients: &Clients, node: usize) -> Result<Contents, String> {
    let cluster = &clients.cluster;
    let of_modes = cluster.topics.iter().map(|topic| (&topic.name, topic.partition_count));
    let of_messages = cluster.message_topics.iter().map(|topic| (&topic.name, topic.partition_count));
    let mut contents = Contents::new();
    for (topic, partitions) in of_modes.chain(of_messages) {
        for partition in 0..partitions {
            let records = read_partition(clients, node, topic, partition).await?;
            contents.insert((topic.clone(), partition), records);
        }
    }
    Ok(contents)
}

async fn read_partition(
    clients: &Clients,
    node: usize,
    topic: &str,
    partition: i32,
) -> Result<Vec<(i64, Value)>, String> {
    let (mut records, mut position) = (Vec::new(), 0);
    let end = Instant::now() + RECOVERY;
    let mut last = "it does not end".to_owned();
    while Instant::now() < end {
        match clients.cluster.read_topic(node, topic, partition, position).await {
            Ok(read) => {
                records.extend(read.values());
                position = records.last().map_or(read.log_start_offset, |(offset, _)| offset + 1);
                if position >= read.high_watermark {
                    return Ok(records);
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::Refused) {
                    lead_everything(clients, node);
                }
                last = format!("{failure:?}");
                sleep(TRANSFER).await;
            }
        }
    }
    let id = clients.cluster.nodes[node].id;
    Err(format!("node {id} cannot serve {topic}-{partition} from offset {position} on: {last}"))
}

/// Whoever leads hands over.
fn lead_everything(clients: &Clients, node: usize) {
    let nodes = &clients.cluster.nodes;
    let to = NodeId(u64::from(nodes[node].id));
    for group in (0..BROKER_GROUPS).map(BrokerGroupId) {
        nodes.iter().for_each(|leader| {
            leader.transfer(group, to);
        });
    }
}
