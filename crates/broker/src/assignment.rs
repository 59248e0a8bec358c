//! Manual assignments of replicas, as Kafka's tools send them.
//!
//! All partitions of a broker group have its voters as replicas, and its preferred leader. So an assignment chooses a broker group: one
//! that prefers the first node of the list, and has all the others. Its further voters have replicas as well.

use duolog_types::{BrokerGroupId, NodeId};

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;

/// A broker group and its voters, the preferred leader first.
pub(crate) type Voters = (BrokerGroupId, Vec<NodeId>);

/// The data groups with their voters.
///
/// # Errors
/// This node has no replica of one.
pub(crate) fn voters(broker: &Broker, groups: &[BrokerGroupId]) -> ItemResult<Vec<Voters>> {
    groups.iter().map(|group| Ok((*group, broker.runtime(*group)?.group().voters_by_preference()))).collect()
}

/// The broker groups for lists of replicas; `first_partition` is the first one's number.
///
/// # Errors
/// [`BrokerError::InvalidReplicaAssignment`] where a list is empty, names a node twice, or fits no broker group.
pub(crate) fn assigned(
    lists: &[Vec<i32>],
    first_partition: usize,
    groups: &[Voters],
) -> ItemResult<Vec<BrokerGroupId>> {
    let partitions = first_partition..;
    lists.iter().zip(partitions).map(|(list, partition)| choose(list, partition, groups)).collect()
}

/// The lists in the order of their partitions.
///
/// # Errors
/// [`BrokerError::InvalidReplicaAssignment`] unless each partition from 0 on has one.
pub(crate) fn in_order(mut assignments: Vec<(i32, Vec<i32>)>) -> ItemResult<Vec<Vec<i32>>> {
    assignments.sort_by_key(|(partition, _)| *partition);
    let numbers: Vec<i32> = assignments.iter().map(|(partition, _)| *partition).collect();
    if !numbers.iter().copied().eq(0..numbers.len() as i32) {
        return refused(format!(
            "expected a list of replicas for each partition from 0 on, found partitions {numbers:?}"
        ));
    }
    Ok(assignments.into_iter().map(|(_, list)| list).collect())
}

fn choose(list: &[i32], partition: usize, groups: &[Voters]) -> ItemResult<BrokerGroupId> {
    let Some(leader) = list.first() else {
        return refused(format!("the list of replicas of partition {partition} is empty"));
    };
    if list.iter().enumerate().any(|(at, node)| list[..at].contains(node)) {
        return refused(format!("the replicas {list:?} of partition {partition} name a node twice"));
    }
    let has = |voters: &[NodeId], node: i32| voters.iter().any(|voter| voter.0 == node as u64 && node >= 0);
    if let Some(unknown) = list.iter().find(|node| !groups.iter().any(|(_, voters)| has(voters, **node))) {
        return refused(format!("partition {partition}: node {unknown} has no replicas; {}", possible(groups)));
    }
    let fitting: Vec<BrokerGroupId> = groups
        .iter()
        .filter(|(_, voters)| voters.first().is_some_and(|first| has(&[*first], *leader)))
        .filter(|(_, voters)| list.iter().all(|node| has(voters, *node)))
        .map(|(group, _)| *group)
        .collect();
    match fitting.as_slice() {
        [] => {
            refused(format!("partition {partition}: no broker group has the replicas {list:?}; {}", possible(groups)))
        }
        // Several partitions of one assignment go round them.
        fitting => Ok(fitting[partition % fitting.len()]),
    }
}

/// What would have been accepted.
fn possible(groups: &[Voters]) -> String {
    let mut lists: Vec<String> = groups
        .iter()
        .map(|(_, voters)| voters.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(":"))
        .collect();
    lists.sort_unstable();
    lists.dedup();
    format!(
        "a partition has the replicas of its broker group, so expected the beginning of one of {}",
        lists.join(", ")
    )
}

fn refused<T>(sentence: String) -> ItemResult<T> {
    Err(BrokerError::InvalidReplicaAssignment(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<Voters> {
        let group = |id, voters: [u64; 3]| (BrokerGroupId(id), voters.map(NodeId).to_vec());
        vec![group(1, [1, 2, 0]), group(2, [2, 0, 1]), group(3, [0, 1, 2]), group(4, [1, 2, 0])]
    }

    fn chosen(lists: &[&[i32]]) -> Result<Vec<u32>, String> {
        let lists: Vec<Vec<i32>> = lists.iter().map(|list| list.to_vec()).collect();
        match assigned(&lists, 0, &groups()) {
            Ok(groups) => Ok(groups.into_iter().map(|group| group.0).collect()),
            Err(BrokerError::InvalidReplicaAssignment(sentence)) => Err(sentence),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_replica_is_the_preferred_leader() {
        assert_eq!(chosen(&[&[0, 1, 2], &[2, 1, 0], &[0], &[2, 0]]), Ok(vec![3, 2, 3, 2]));
    }

    #[test]
    fn partitions_go_round_the_broker_groups_that_fit() {
        assert_eq!(chosen(&[&[1], &[1], &[1]]), Ok(vec![1, 4, 1]));
    }

    #[test]
    fn what_no_broker_group_has_is_refused_and_said() {
        for (list, said) in [
            (&[][..], "is empty"),
            (&[0, 1, 0], "name a node twice"),
            (
                &[0, 7],
                "node 7 has no replicas; a partition has the replicas of its broker group, so expected the beginning of one of",
            ),
            (&[-1], "node -1 has no replicas"),
        ] {
            let sentence = chosen(&[list]).unwrap_err();
            assert!(sentence.contains(said), "{sentence}");
        }
        let two = [(BrokerGroupId(1), vec![NodeId(0), NodeId(1)]), (BrokerGroupId(2), vec![NodeId(2), NodeId(3)])];
        let Err(BrokerError::InvalidReplicaAssignment(said)) = assigned(&[vec![0, 2]], 0, &two) else {
            panic!("taken")
        };
        assert!(said.contains("no broker group has the replicas [0, 2]") && said.ends_with("0:1, 2:3"), "{said}");
    }

    #[test]
    fn each_partition_has_one_list() {
        assert_eq!(in_order(vec![(1, vec![2]), (0, vec![1])]), Ok(vec![vec![1], vec![2]]));
        for wrong in [vec![1], vec![0, 2], vec![0, 0], vec![-1, 0]] {
            let assignments = wrong.into_iter().map(|partition| (partition, vec![0])).collect();
            assert!(matches!(in_order(assignments), Err(BrokerError::InvalidReplicaAssignment(_))));
        }
    }
}
