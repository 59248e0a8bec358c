//! ListOffsets (2), versions 1–10. Both isolation levels are alike as long as there are no transactions.
//!
//! A tagged field of our own asks for what may hold a name: [`NameSearch`].

use std::collections::BTreeSet;

use duolog_broker::api::{BrokerApi, FoundOffset, NameSearch, OffsetQuery, TopicRef};
use duolog_types::{Offset, TimestampMs};
use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use crate::context::Context;
use crate::shape::{INT8, INT32, INT64, Kind, Shape, field};
use crate::translate::epoch_check;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 6,
    fields: &[
        field(INT32),
        field(INT8).from(2),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32).from(4), field(INT64)]))),
        ]))),
        field(INT32).from(10),
    ],
};

/// What a timestamp of a request means.
enum Asked {
    Query(OffsetQuery),
    /// The end of what lies in tiered storage: there is none, so the answer is offset −1, as Kafka's without it.
    Tiered,
    Unsupported,
}

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let repeated = repeated(&request.topics);
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.name;
        let partitions = topic.partitions.into_iter().map(|asked| {
            let is_repeated = repeated.contains(&(name.clone(), asked.partition_index));
            partition(&context, version, TopicRef::Name(name.to_string()), asked, is_repeated)
        });
        let partitions = join_all(partitions);
        async move { ListOffsetsTopicResponse::default().with_name(name).with_partitions(partitions.await) }
    });
    ListOffsetsResponse::default().with_topics(join_all(topics).await)
}

/// Partitions that are named more than once. As in Kafka they are not looked at: nobody could tell the answers apart.
fn repeated(topics: &[ListOffsetsTopic]) -> BTreeSet<(TopicName, i32)> {
    let mut seen = BTreeSet::new();
    let named =
        topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.clone(), p.partition_index)));
    named.filter(|partition| !seen.insert(partition.clone())).collect()
}

async fn partition<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    topic: TopicRef,
    asked: ListOffsetsPartition,
    is_repeated: bool,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    if is_repeated {
        let (code, _) = context.refusal(ResponseError::InvalidRequest, "");
        return none(answer).with_error_code(code);
    }
    let search = asked.unknown_tagged_fields.get(&NameSearch::FIELD).and_then(|field| NameSearch::decode(field));
    let found = match search
        .map_or_else(|| query(version, asked.timestamp), |search| Asked::Query(OffsetQuery::MayHold(search)))
    {
        Asked::Query(query) => {
            let epoch = epoch_check(asked.current_leader_epoch);
            context.broker.list_offset(topic, asked.partition_index, query, epoch).await
        }
        Asked::Tiered => Ok(FoundOffset { offset: Offset(-1), timestamp: TimestampMs(-1), leader_epoch: None }),
        Asked::Unsupported => {
            let (code, _) = context.refusal(ResponseError::UnsupportedVersion, "");
            return none(answer).with_error_code(code);
        }
    };
    match found {
        Ok(found) => answer
            .with_timestamp(found.timestamp.0)
            .with_offset(found.offset.0)
            .with_leader_epoch(known_since(version, found.leader_epoch.map_or(-1, |epoch| epoch.0))),
        Err(error) => none(answer).with_error_code(context.failure(&error).0),
    }
}

fn none(answer: ListOffsetsPartitionResponse) -> ListOffsetsPartitionResponse {
    answer.with_timestamp(-1).with_offset(-1).with_leader_epoch(-1)
}

/// Leader epochs exist from version 4 on; before, the encoder takes only the default.
fn known_since(version: i16, leader_epoch: i32) -> i32 {
    if version >= 4 { leader_epoch } else { -1 }
}

/// KIP-734 (−3), KIP-405 (−4), KIP-1005 (−5): each from the version that brought it.
fn query(version: i16, timestamp: i64) -> Asked {
    match timestamp {
        -1 => Asked::Query(OffsetQuery::Latest),
        -2 => Asked::Query(OffsetQuery::Earliest),
        -3 if version >= 7 => Asked::Query(OffsetQuery::MaxTimestamp),
        // Everything is local, so the earliest local offset is the earliest.
        -4 if version >= 8 => Asked::Query(OffsetQuery::Earliest),
        -5 if version >= 9 => Asked::Tiered,
        ..=-1 => Asked::Unsupported,
        _ => Asked::Query(OffsetQuery::AtOrAfter(TimestampMs(timestamp))),
    }
}
