//! The answer to Fetch, versions 4–18, written by hand so that record batches are never copied: what lies around them is
//! encoded, they themselves become pieces of the frame.
//!
//! ```text
//! throttle i32, (7: error i16, session id i32),
//! [ (–12: topic string | 13: topic id uuid),
//!   [ partition i32, error i16, high watermark i64, last stable offset i64, (5: log start offset i64),
//!     aborted transactions: null or [], (11: preferred read replica i32), records: length and pieces,
//!     (12: tagged: 0 diverging epoch {i32, i64}, 1 current leader {i32, i32}) ] (12: tagged: none) ]
//! (12: tagged: 16: 0 node endpoints [ id i32, host, port i32, rack ])
//! ```
//!
//! From version 12 on lengths are compact and structures end with tagged fields.

use std::collections::BTreeSet;
use std::mem;

use bytes::{BufMut, Bytes, BytesMut};
use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, Fetched, ItemResult, NodeView, TopicRef};
use duolog_types::NodeId;
use kafka_protocol::ResponseError;

use crate::context::Context;
use crate::errors::fetch_error;
use crate::head::Head;
use crate::response::{self, Answer, CloseReason, Pieces};
use crate::translate::{broker_id, current_leader, endpoints, optional_broker_id};

const READ_COMMITTED: i8 = 1;

/// The whole answer.
pub(super) struct FetchAnswer {
    pub(super) error_code: i16,
    pub(super) session_id: i32,
    pub(super) topics: Vec<TopicAnswer>,
}

/// A topic as the request named it.
pub(super) struct TopicAnswer {
    pub(super) topic: TopicRef,
    pub(super) partitions: Vec<PartitionAnswer>,
}

/// A partition and what the broker gave for it; `None` when it gave too few results, a defect.
pub(super) struct PartitionAnswer {
    pub(super) index: i32,
    pub(super) fetched: Option<ItemResult<Fetched>>,
}

impl FetchAnswer {
    pub(super) fn encode<B: BrokerApi>(
        self,
        context: &Context<B>,
        head: Head,
        isolation_level: i8,
    ) -> Result<Answer, CloseReason> {
        let flexible = head.version >= 12;
        let mut out =
            Output { buffer: response::begin(head, if flexible { 1 } else { 0 }), done: Vec::new(), flexible };
        let mut writer = Writer { context, version: head.version, isolation_level, leaders: BTreeSet::new() };
        writer.answer(&mut out, self);
        out.finish()
    }
}

/// Bytes so far: pieces that are done, and the buffer that is written to.
struct Output {
    buffer: BytesMut,
    done: Vec<Bytes>,
    flexible: bool,
}

impl Output {
    fn array(&mut self, count: usize) {
        self.length(count);
    }

    /// A length of four bytes, or a compact one: a varint of one more.
    fn length(&mut self, length: usize) {
        if self.flexible {
            self.uvarint(length + 1);
        } else {
            self.buffer.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.uvarint(text.len() + 1);
        } else {
            self.buffer.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.buffer.put_slice(text.as_bytes());
    }

    fn null_array(&mut self) {
        if self.flexible { self.buffer.put_u8(0) } else { self.buffer.put_i32(-1) }
    }

    fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn uvarint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Takes record pieces as they are.
    fn records(&mut self, pieces: Vec<Bytes>) {
        self.length(pieces.iter().map(Bytes::len).sum());
        if pieces.iter().any(|piece| !piece.is_empty()) {
            // The first piece is the one that takes the frame's length later, so nothing ever comes before it.
            self.done.push(self.buffer.split().freeze());
            self.done.extend(pieces);
        }
    }

    fn finish(mut self) -> Result<Answer, CloseReason> {
        self.done.push(self.buffer.freeze());
        let mut pieces = mem::take(&mut self.done).into_iter();
        let first = pieces.next().expect("the buffer was pushed");
        Ok(Answer::Frame(Pieces::framed(BytesMut::from(first), pieces)?))
    }
}

struct Writer<'a, B> {
    context: &'a Context<B>,
    version: i16,
    isolation_level: i8,
    leaders: BTreeSet<NodeId>,
}

impl<B: BrokerApi> Writer<'_, B> {
    fn answer(&mut self, out: &mut Output, answer: FetchAnswer) {
        out.buffer.put_i32(0);
        if self.version >= 7 {
            out.buffer.put_i16(answer.error_code);
            out.buffer.put_i32(answer.session_id);
        }
        out.array(answer.topics.len());
        for topic in answer.topics {
            self.topic(out, topic);
        }
        let nodes = if self.version >= 16 { endpoints(&self.context.broker, &self.leaders) } else { Vec::new() };
        if nodes.is_empty() {
            out.no_tagged_fields();
        } else {
            tagged_fields(out, vec![(0, endpoint_bytes(&nodes))]);
        }
    }

    fn topic(&mut self, out: &mut Output, topic: TopicAnswer) {
        match &topic.topic {
            TopicRef::Id(id) => out.buffer.put_slice(&id.0),
            TopicRef::Name(name) => out.string(name),
        }
        out.array(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(out, partition);
        }
        out.no_tagged_fields();
    }

    fn partition(&mut self, out: &mut Output, partition: PartitionAnswer) {
        out.buffer.put_i32(partition.index);
        match partition.fetched {
            Some(Ok(fetched)) => self.fetched(out, fetched),
            Some(Err(error)) => {
                let code = self.context.refusal(fetch_error(&error), error.to_string()).0;
                self.failed(out, code, &self.leader(&error));
            }
            None => {
                let code = self.context.refusal(ResponseError::UnknownServerError, "").0;
                self.failed(out, code, &None);
            }
        }
    }

    fn fetched(&mut self, out: &mut Output, fetched: Fetched) {
        self.offsets(out, 0, [fetched.high_watermark.0, fetched.last_stable_offset.0, fetched.log_start_offset.0]);
        out.records(fetched.records);
        let diverging = fetched.diverging.filter(|_| self.version >= 12);
        tagged_fields(
            out,
            diverging.map(|end| (0, pair(end.epoch.0, &end.end_offset.0.to_be_bytes()))).into_iter().collect(),
        );
    }

    fn failed(&mut self, out: &mut Output, code: i16, leader: &Option<(Option<NodeId>, i32)>) {
        self.offsets(out, code, [-1, -1, -1]);
        out.records(Vec::new());
        let leader = leader.map(|(leader, epoch)| {
            self.leaders.extend(leader);
            (1, pair(optional_broker_id(leader).0, &epoch.to_be_bytes()))
        });
        tagged_fields(out, leader.into_iter().collect());
    }

    fn offsets(&self, out: &mut Output, code: i16, [high_watermark, last_stable, log_start]: [i64; 3]) {
        out.buffer.put_i16(code);
        out.buffer.put_i64(high_watermark);
        out.buffer.put_i64(last_stable);
        if self.version >= 5 {
            out.buffer.put_i64(log_start);
        }
        // Kafka gives null to readers of uncommitted records, a list to the others.
        if self.isolation_level == READ_COMMITTED {
            out.array(0)
        } else {
            out.null_array()
        }
        if self.version >= 11 {
            out.buffer.put_i32(-1);
        }
    }

    fn leader(&self, error: &BrokerError) -> Option<(Option<NodeId>, i32)> {
        current_leader(self.context.broker.node_id(), error).filter(|_| self.version >= 12)
    }
}

/// Nothing at all before the flexible versions.
fn tagged_fields(out: &mut Output, fields: Vec<(usize, Bytes)>) {
    if !out.flexible {
        return;
    }
    out.uvarint(fields.len());
    for (tag, bytes) in fields {
        out.uvarint(tag);
        out.uvarint(bytes.len());
        out.buffer.put_slice(&bytes);
    }
}

/// A structure of an i32, another number, and no tagged fields.
fn pair(first: i32, second: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(13);
    bytes.put_i32(first);
    bytes.put_slice(second);
    bytes.put_u8(0);
    bytes.freeze()
}

fn endpoint_bytes(nodes: &[NodeView]) -> Bytes {
    let mut out = Output { buffer: BytesMut::new(), done: Vec::new(), flexible: true };
    out.array(nodes.len());
    for node in nodes {
        out.buffer.put_i32(broker_id(node.id).0);
        out.string(&node.host);
        out.buffer.put_i32(i32::from(node.kafka_port));
        out.buffer.put_u8(0);
        out.no_tagged_fields();
    }
    out.buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_pieces_are_not_copied() {
        let pieces: Vec<Bytes> = [b"a header", b"the body"].into_iter().map(|b| Bytes::copy_from_slice(b)).collect();
        let mut out = Output { buffer: BytesMut::from(&[0; 8][..]), done: Vec::new(), flexible: true };
        out.records(pieces.clone());
        assert_eq!(out.done[0].last(), Some(&17), "the compact length of 16 bytes");
        for (taken, given) in out.done[1..].iter().zip(&pieces) {
            assert_eq!(taken.as_ptr(), given.as_ptr());
        }
    }
}
