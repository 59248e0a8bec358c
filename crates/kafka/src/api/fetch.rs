//! Fetch (1), versions 4–18: by name up to version 12, by topic id from 13 on.
//!
//! Sessions (KIP-227) are in `fetch_sessions`. Both isolation levels are alike as long as there are no transactions.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use duolog_broker::Admission;
use duolog_broker::api::{BrokerApi, Fetch, FetchPartition, Fetched, ItemResult, TopicRef};
use duolog_types::Offset;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;

use super::fetch_response::{FetchAnswer, PartitionAnswer, TopicAnswer};
use crate::context::Context;
use crate::fetch_sessions::{NO_SESSION, SessionRequest, Turn};
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
    share: Option<Admission>,
) -> Result<Answer, CloseReason> {
    let isolation_level = request.isolation_level;
    let bytes_left = i32::try_from(context.unwritten.answer_bytes_max()).unwrap_or(i32::MAX);
    let bytes_max = request.max_bytes.clamp(0, context.config.fetch_bytes_max.min(bytes_left));
    let (bytes_min, wait_ms_max) = (request.min_bytes.clamp(0, bytes_max), request.max_wait_ms.clamp(0, WAIT_MS_MAX));
    let refuse = |error: ResponseError| {
        let (error_code, _) = context.refusal(error, "");
        let answer = FetchAnswer { error_code, session_id: NO_SESSION, topics: Vec::new() };
        answer.encode(&context, head, isolation_level)
    };
    let begun = context.sessions.begin(session_request(head.version, request), Instant::now());
    // What is left is no part of the frame, and small: each partition once. Whoever waits for records takes no room from others.
    drop(share);
    let Turn { partitions, kind } = match begun {
        Ok(turn) => turn,
        Err(error) => return refuse(error),
    };
    let fetch = Fetch { partitions: partitions.clone(), bytes_min, bytes_max, wait_ms_max };
    let fetched = if partitions.is_empty() { Vec::new() } else { context.broker.fetch(fetch).await };
    let mut results: Vec<Option<ItemResult<Fetched>>> = fetched.into_iter().map(Some).collect();
    results.resize_with(partitions.len(), || None);
    let told = match context.sessions.end(kind, &partitions, &results, Instant::now()) {
        Ok(told) => told,
        Err(error) => return refuse(error),
    };
    let answered = partitions.into_iter().zip(results).zip(told.partitions).filter(|(_, is_told)| *is_told);
    let topics = by_topic(answered.map(|(answer, _)| answer));
    FetchAnswer { error_code: 0, session_id: told.session_id, topics }.encode(&context, head, isolation_level)
}

/// Of a partition that the request names again the first one counts: otherwise one that waits could hold as many as fit a frame.
fn session_request(version: i16, request: FetchRequest) -> SessionRequest {
    let by_id = version >= 13;
    let mut partitions = Vec::new();
    let mut seen: HashMap<TopicRef, HashSet<i32>> = HashMap::new();
    for topic in request.topics {
        let name = topic_ref(by_id, &topic.topic, topic.topic_id);
        let seen = seen.entry(name.clone()).or_default();
        let named_first = topic.partitions.into_iter().filter(|partition| seen.insert(partition.partition));
        partitions.extend(named_first.map(|partition| FetchPartition {
            topic: name.clone(),
            partition: partition.partition,
            fetch_offset: Offset(partition.fetch_offset),
            bytes_max: partition.partition_max_bytes.max(0),
            epoch: epoch_check(partition.current_leader_epoch),
            last_fetched_epoch: leader_epoch(partition.last_fetched_epoch),
        }));
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let name = topic_ref(by_id, &topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| (name.clone(), *partition))
    });
    SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        uses_topic_ids: by_id,
        forgotten: forgotten.collect(),
        partitions,
    }
}

/// Neighbours of one topic go together; a topic may come again.
fn by_topic(answers: impl Iterator<Item = (FetchPartition, Option<ItemResult<Fetched>>)>) -> Vec<TopicAnswer> {
    let mut topics: Vec<TopicAnswer> = Vec::new();
    for (partition, fetched) in answers {
        let answer = PartitionAnswer { index: partition.partition, fetched };
        match topics.last_mut() {
            Some(last) if last.topic == partition.topic => last.partitions.push(answer),
            _ => topics.push(TopicAnswer { topic: partition.topic, partitions: vec![answer] }),
        }
    }
    topics
}
