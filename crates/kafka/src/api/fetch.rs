//! Fetch (1), versions 4–18: by name up to version 12, by topic id from 13 on.
//!
//! There are no fetch sessions (KIP-227): every answer has session id 0, which tells the client to send full requests.
//! Both isolation levels are alike as long as there are no transactions.

use duolog_broker::api::{BrokerApi, Fetch, FetchPartition};
use duolog_types::Offset;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;

use super::fetch_response::{FetchAnswer, PartitionAnswer, TopicAnswer};
use crate::context::Context;
use crate::head::Head;
use crate::response::{Answer, CloseReason};
use crate::shape::{INT8, INT32, INT64, Kind, Shape, UUID, field};
use crate::translate::{epoch_check, leader_epoch, topic_ref};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 12,
    fields: &[
        field(INT32).until(14),
        field(INT32),
        field(INT32),
        field(INT32),
        field(INT8),
        field(INT32).from(7),
        field(INT32).from(7),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String).until(12),
            field(UUID).from(13),
            field(Kind::Array(&Kind::Struct(&[
                field(INT32),
                field(INT32).from(9),
                field(INT64),
                field(INT32).from(12),
                field(INT64).from(5),
                field(INT32),
                field(UUID).from(17).tagged(0),
                field(INT64).from(18).tagged(1),
            ]))),
        ]))),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String).until(12),
            field(UUID).from(13),
            field(Kind::Array(&INT32)),
        ])))
        .from(7),
        field(Kind::String).from(11),
        field(Kind::String).from(12).tagged(0),
        field(Kind::Struct(&[field(INT32), field(INT64)])).from(15).tagged(1),
    ],
};

/// Longest long poll. A client that asks for more asks again sooner; one that is gone is noticed.
const WAIT_MS_MAX: i32 = 60_000;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    head: Head,
    request: FetchRequest,
) -> Result<Answer, CloseReason> {
    if continues_session(&request) {
        let (code, _) = context.refusal(ResponseError::FetchSessionIdNotFound, "");
        return FetchAnswer { error_code: code, topics: Vec::new() }.encode(&context, head, request.isolation_level);
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut partitions = Vec::new();
    for topic in request.topics {
        let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition).collect();
        partitions.extend(topic.partitions.into_iter().map(|partition| FetchPartition {
            topic: topic_ref(head.version >= 13, &topic.topic, topic.topic_id),
            partition: partition.partition,
            fetch_offset: Offset(partition.fetch_offset),
            bytes_max: partition.partition_max_bytes.max(0),
            epoch: epoch_check(partition.current_leader_epoch),
            last_fetched_epoch: leader_epoch(partition.last_fetched_epoch),
        }));
        topics.push((topic.topic, topic.topic_id, indexes));
    }
    let bytes_max = request.max_bytes.clamp(0, context.config.fetch_bytes_max);
    let fetch = Fetch {
        partitions,
        bytes_min: request.min_bytes.clamp(0, bytes_max),
        bytes_max,
        wait_ms_max: request.max_wait_ms.clamp(0, WAIT_MS_MAX),
    };
    let mut results = if topics.is_empty() { Vec::new() } else { context.broker.fetch(fetch).await }.into_iter();
    let topics = topics
        .into_iter()
        .map(|(name, id, indexes)| TopicAnswer {
            name,
            id,
            partitions: indexes.into_iter().map(|index| PartitionAnswer { index, fetched: results.next() }).collect(),
        })
        .collect();
    FetchAnswer { error_code: 0, topics }.encode(&context, head, request.isolation_level)
}

/// Whether the request goes on with a session, which there is none of. Epoch 0 asks for a new one and −1 ends one; both
/// are full requests whatever the session id.
fn continues_session(request: &FetchRequest) -> bool {
    request.session_epoch > 0
}
