//! Metadata as front ends show it.

use duolog_types::NodeId;

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
        .map(|view| NodeView { id: view.node_id, host: view.member.host, kafka_port: view.member.kafka_port })
        .collect();
    nodes.sort_by_key(|node| node.id);
    ClusterView { cluster_id: identity.cluster_id.unwrap_or_default(), nodes, controller: system.leadership().leader }
}

/// A topic with its partitions' leaders.
pub(crate) fn topic(broker: &Broker, topic: &Topic) -> TopicView {
    let partitions = topic
        .row
        .partitions
        .iter()
        .zip(0_u32..)
        .map(|(group, partition)| match broker.runtime(*group) {
            Ok(runtime) => {
                let leadership = runtime.leadership();
                // Clients take the first replica for the one that should lead.
                let voters: Vec<NodeId> = runtime.group().voters_by_preference();
                PartitionView {
                    partition,
                    broker_group: *group,
                    leader: leadership.leader,
                    leader_epoch: leadership.term.leader_epoch(),
                    in_sync_replicas: voters.iter().copied().filter(|id| broker.is_alive(*id)).collect(),
                    replicas: voters,
                }
            }
            Err(_) => PartitionView {
                partition,
                broker_group: *group,
                leader: None,
                leader_epoch: duolog_types::LeaderEpoch(-1),
                replicas: Vec::new(),
                in_sync_replicas: Vec::new(),
            },
        })
        .collect();
    TopicView { name: topic.row.name.clone(), id: topic.id, partitions, config: topic.row.config.clone() }
}
