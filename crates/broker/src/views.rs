//! Metadata as front ends show it.

use std::collections::BTreeMap;

use duolog_types::{BrokerGroupId, LeaderEpoch, NodeId};

use crate::api::{ClusterView, NodeView, PartitionView, TopicView};
use crate::broker::Broker;
use crate::catalog::Topic;

/// The cluster as this node sees it. A node that does not answer is listed too: when a broker disappears from metadata,
/// librdkafka takes what it had sent there for "certainly not kept" and ends its idempotent producer.
pub(crate) fn cluster(broker: &Broker) -> ClusterView {
    let identity = broker.cluster_handle().identity().get();
    let system = broker.system();
    let members = system.group().members();
    let mut nodes: Vec<NodeView> = members
        .into_iter()
        .map(|view| NodeView {
            id: view.node_id,
            host: view.member.host,
            kafka_port: view.member.kafka_port,
            rocketmq_port: view.member.rocketmq_port,
            http_port: view.member.http_port,
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    ClusterView { cluster_id: identity.cluster_id.unwrap_or_default(), nodes, controller: system.leadership().leader }
}

/// A topic with its partitions' leaders.
pub(crate) fn topic(broker: &Broker, topic: &Topic) -> TopicView {
    // A few broker groups hold the partitions, of which there may be a thousand.
    let mut hosts: BTreeMap<BrokerGroupId, PartitionView> = BTreeMap::new();
    let partitions = topic.row.partitions.iter().zip(0_u32..).map(|(group, partition)| {
        let host = hosts.entry(*group).or_insert_with(|| hosted_by(broker, *group));
        PartitionView { partition, ..host.clone() }
    });
    let partitions = partitions.collect();
    TopicView { name: topic.row.name.clone(), id: topic.id, partitions, config: topic.row.config.clone() }
}

/// Any partition that a broker group holds, with number 0.
fn hosted_by(broker: &Broker, group: BrokerGroupId) -> PartitionView {
    let unknown = PartitionView {
        partition: 0,
        broker_group: group,
        leader: None,
        leader_epoch: LeaderEpoch(-1),
        replicas: Vec::new(),
        in_sync_replicas: Vec::new(),
    };
    let Ok(runtime) = broker.runtime(group) else { return unknown };
    let leadership = runtime.leadership();
    // Clients take the first replica for the one that should lead.
    let voters: Vec<NodeId> = runtime.group().voters_by_preference();
    PartitionView {
        leader: leadership.leader,
        leader_epoch: leadership.term.leader_epoch(),
        in_sync_replicas: voters.iter().copied().filter(|id| broker.is_alive(*id)).collect(),
        replicas: voters,
        ..unknown
    }
}
