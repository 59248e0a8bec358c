//! Leaders as administrators see and move them: ElectLeaders, and the quorum of the system group.
//!
//! A broker group has one leader for all its partitions, so an election for one of them moves them all.

use std::collections::BTreeMap;

use duolog_types::{BrokerGroupId, LeaderEpoch, NodeId};
use tokio::time::Instant;

use crate::api::{Elected, Election, ItemResult, QuorumReplica, QuorumView, TopicRef};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::topics::deadline;

/// Elects leaders of partitions; results in order.
pub(crate) async fn elect(
    broker: &Broker,
    partitions: Vec<(TopicRef, i32)>,
    election: Election,
    timeout_ms: i32,
) -> Vec<ItemResult<Elected>> {
    let deadline = deadline(timeout_ms);
    let mut by_group: BTreeMap<BrokerGroupId, ItemResult<Elected>> = BTreeMap::new();
    let mut results = Vec::with_capacity(partitions.len());
    for (topic, number) in partitions {
        let group = match broker.locate(&topic, number) {
            Ok(place) => place.group,
            Err(error) => {
                results.push(Err(error));
                continue;
            }
        };
        // Once per broker group: the second partition must not find that nothing is to be done any more.
        let elected = match by_group.get(&group) {
            Some(elected) => elected.clone(),
            None => elect_group(broker, group, election, deadline).await,
        };
        by_group.insert(group, elected.clone());
        results.push(elected);
    }
    results
}

async fn elect_group(
    broker: &Broker,
    group: BrokerGroupId,
    election: Election,
    deadline: Instant,
) -> ItemResult<Elected> {
    let runtime = broker.runtime(group)?;
    let leader = runtime.leadership().leader;
    let preferred = runtime.group().voters_by_preference().first().copied();
    match (election, leader) {
        (Election::Unclean, Some(_)) => Ok(Elected::NotNeeded),
        // Raft elects by itself as soon as it may; electing one that lacks committed entries is not for a client to ask.
        (Election::Unclean, None) => Err(BrokerError::EligibleLeadersNotAvailable),
        (Election::Preferred, leader) if leader.is_some() && leader == preferred => Ok(Elected::NotNeeded),
        (Election::Preferred, _) => hand_over(broker, group, preferred, deadline).await,
    }
}

async fn hand_over(
    broker: &Broker,
    group: BrokerGroupId,
    preferred: Option<NodeId>,
    deadline: Instant,
) -> ItemResult<Elected> {
    let preferred = preferred
        .ok_or_else(|| BrokerError::PreferredLeaderNotAvailable(format!("broker group {group} has no voters yet")))?;
    let runtime = broker.runtime(group)?;
    broker
        .cluster_handle()
        .hand_to_preferred(group, deadline.into_std())
        .await
        .map_err(BrokerError::PreferredLeaderNotAvailable)?;
    let mut leadership = runtime.group().leadership();
    let leads = leadership.wait_for(|now| now.leader == Some(preferred));
    match tokio::time::timeout_at(deadline, leads).await {
        Ok(Ok(_)) => Ok(Elected::Done),
        Ok(Err(_)) | Err(_) => Err(BrokerError::PreferredLeaderNotAvailable(format!(
            "node {preferred} does not lead broker group {group} yet; it may"
        ))),
    }
}

/// The system group: each replica is asked for the end of its log.
pub(crate) async fn system_quorum(broker: &Broker) -> ItemResult<QuorumView> {
    let status = broker.cluster_handle().group_status(BrokerGroupId::SYSTEM).await;
    let status = status.ok_or(BrokerError::LeaderNotAvailable)?;
    let leader = NodeId(status.leader.ok_or(BrokerError::LeaderNotAvailable)?);
    let of_leader = status.replicas.iter().find(|replica| replica.node_id == leader.0 && replica.reachable);
    let of_leader = of_leader.ok_or(BrokerError::LeaderNotAvailable)?;
    Ok(QuorumView {
        leader,
        leader_epoch: LeaderEpoch(i32::try_from(status.term).unwrap_or(i32::MAX)),
        committed_next: of_leader.applied_next,
        replicas: status
            .replicas
            .iter()
            .map(|replica| QuorumReplica {
                node: NodeId(replica.node_id),
                is_voter: replica.voter,
                log_end_next: replica.reachable.then(|| replica.last_index.map_or(0, |last| last + 1)),
            })
            .collect(),
    })
}
