//! OffsetFetch (9), versions 1–9: committed offsets of one group, from version 8 on of several (KIP-709). Null topics ask
//! for all of a group (2). There are no transactions, so that every offset is stable (KIP-447).

use duolog_broker::api::{BrokerApi, GroupOffset, ItemResult, TopicRef};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};

use crate::bounds::{AnswerRoom, a_few_at_a_time, each_once, each_partition_once};
use crate::context::Context;
use crate::head::Caller;
use crate::shape::{BOOL, INT32, Kind, Shape, field};
use crate::translate::{string, topic_name};

/// A topic's name and its partitions.
const TOPIC: Kind = Kind::Struct(&[field(Kind::String), field(Kind::Array(&INT32))]);

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 6,
    fields: &[
        field(Kind::String).until(7),
        field(Kind::Array(&TOPIC)).until(7),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::String).from(9),
            field(INT32).from(9),
            field(Kind::Array(&TOPIC)),
        ])))
        .from(8),
        field(BOOL).from(7),
    ],
};

/// Topics with the partitions that are asked for.
type Wanted = Vec<(TopicName, Vec<i32>)>;
/// Topics with what is committed for their partitions.
type Committed = Vec<(TopicName, Vec<OffsetFetchResponsePartitions>)>;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    caller: Caller,
    mut request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version < 8 {
        let wanted = request.topics.map(|t| t.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        return single(version, committed(&context, &caller, &request.group_id, wanted).await);
    }
    each_once(&mut request.groups, |group| group.group_id.clone());
    let room = AnswerRoom::default();
    let groups = a_few_at_a_time(request.groups, |group| of_group(&context, version, &caller, &room, group)).await;
    OffsetFetchResponse::default().with_groups(groups)
}

/// One of several groups.
async fn of_group<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    caller: &Caller,
    room: &AnswerRoom,
    group: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    if let Some((code, _)) = room.refusal(context) {
        return answer.with_error_code(code);
    }
    let wanted = group.topics.map(|t| t.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let (code, topics) = committed(context, caller, &group.group_id, wanted).await;
    let topics = if code == 0 { topics } else { Vec::new() };
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions));
    let answer = answer.with_topics(topics.collect()).with_error_code(code);
    room.count(version, &answer);
    answer
}

/// Up to version 7; version 1 has an error only per partition.
fn single(version: i16, (code, topics): (i16, Committed)) -> OffsetFetchResponse {
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    let topics = if code == 0 || version < 2 { topics.collect() } else { Vec::new() };
    OffsetFetchResponse::default().with_topics(topics).with_error_code(code)
}

/// The group's error, and the offsets; with an error every partition that was asked for carries it.
async fn committed<B: BrokerApi>(
    context: &Context<B>,
    caller: &Caller,
    group: &GroupId,
    mut wanted: Option<Wanted>,
) -> (i16, Committed) {
    if let Some(topics) = &mut wanted {
        each_partition_once(topics.iter_mut().map(|(name, partitions)| (&*name, partitions)), |index| *index);
    }
    let partitions = wanted.as_ref().map(|topics| {
        let named = |name: &TopicName, partition: &i32| (TopicRef::Name(name.to_string()), *partition);
        topics.iter().flat_map(|(name, partitions)| partitions.iter().map(move |p| named(name, p))).collect()
    });
    let found: ItemResult<Vec<GroupOffset>> =
        context.broker.fetch_offsets(context.member_group(group, caller), partitions).await;
    match (found, wanted) {
        (Ok(found), Some(wanted)) => {
            // One answer per partition, in the order of the request.
            let mut found = found.into_iter();
            let answer = |(name, partitions): (TopicName, Vec<i32>)| {
                (name, found.by_ref().take(partitions.len()).map(answered).collect())
            };
            (0, wanted.into_iter().map(answer).collect())
        }
        (Ok(found), None) => (0, by_topic(found)),
        (Err(error), wanted) => {
            let (code, _) = context.failure(&error);
            let failed = |partition: i32| none(partition).with_error_code(code);
            let topics = wanted.unwrap_or_default().into_iter();
            (code, topics.map(|(name, partitions)| (name, partitions.into_iter().map(failed).collect())).collect())
        }
    }
}

/// Offsets come ordered by topic.
fn by_topic(found: Vec<GroupOffset>) -> Committed {
    let mut topics: Committed = Vec::new();
    for offset in found {
        // All offsets of a group are told by name.
        let TopicRef::Name(name) = &offset.topic else { continue };
        if topics.last().is_none_or(|(last, _)| **last != **name) {
            topics.push((topic_name(name.clone()), Vec::new()));
        }
        if let Some((_, partitions)) = topics.last_mut() {
            partitions.push(answered(offset));
        }
    }
    topics
}

fn answered(offset: GroupOffset) -> OffsetFetchResponsePartitions {
    let answer = none(offset.partition);
    match offset.committed {
        Some(committed) => answer
            .with_committed_offset(committed.offset.0)
            .with_committed_leader_epoch(committed.leader_epoch.map_or(-1, |epoch| epoch.0))
            .with_metadata(Some(string(committed.metadata))),
        None => answer,
    }
}

/// Nothing is committed.
fn none(partition: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default().with_partition_index(partition).with_committed_offset(-1)
}
