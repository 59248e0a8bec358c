//! What a front end of single messages (RocketMQ) asks of the broker, beside [`BrokerApi`].
//!
//! A message is a record; a batch that this trait takes holds exactly one. How properties, keys and tags become key and headers
//! of the record is the front end's mapping; the broker reads only what a [`Filter`] and a FIFO delivery need.
//!
//! Everything a consumer was promised is replicated: what is invisible, for whom, until when, and how often it was tried. A
//! call about a partition that another node leads gives [`crate::BrokerError::NotLeader`]; the front end forwards the request.

use std::future::Future;

use bytes::Bytes;
pub use duolog_coordinator::pop::ConnectionId;
use duolog_record::Record;
use duolog_record::entry::Address;
use duolog_record::group::GroupId;
pub use duolog_record::{KEYS_HEADER, MESSAGE_ID_HEADER, TAG_HEADER};
pub use duolog_replication::Question;
pub use duolog_types::DeliveryId;
use duolog_types::{
    LogIndex, MessageType, NodeId, Offset, Term, TimestampMs, TimestampType, TopicId, TopicPartition, limits,
};
use tokio::sync::mpsc;

use crate::api::{AckLease, BrokerApi, ItemResult, TopicRef};

/// Name of the record header that says that the record's key is a message group, whose messages are delivered in order. In topics
/// of type FIFO every key is one.
pub const FIFO_HEADER: &str = "__FIFO";
/// Name of the record header that says when a front end took the message, in milliseconds since the epoch.
pub const STORE_TIME_HEADER: &str = "__STORE_TIME";
/// Name of the record header that says when the producer made the message, in milliseconds since the epoch, where the record's timestamp
/// says something else.
pub const BORN_TIME_HEADER: &str = "__BORN_TIME";

/// Name of the record header that says when a message is to be delivered, in milliseconds since the epoch.
pub const DELIVER_AT_HEADER: &str = "duolog.deliver-at";

/// What a single message needs to know of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicHead {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// Which messages it takes.
    pub message_type: MessageType,
    /// Whose time its records have.
    pub timestamp_type: TimestampType,
}

/// A message to store.
#[derive(Debug, Clone)]
pub struct SendMessage {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// A record batch of exactly one record.
    pub batch: Bytes,
    /// When consumers may see it.
    pub delivery: Delivery,
}

/// When consumers may see a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As soon as it is stored.
    Now,
    /// At this time, not before. Until then it can be recalled.
    At(TimestampMs),
    /// When its transaction is committed: a half message. A producer is asked for its fate from this time on.
    OnCommit {
        /// First check-back.
        check_at: TimestampMs,
    },
}

/// A stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Where it lies; of a message that is not visible yet, where it will.
    pub partition: TopicPartition,
    /// Its offset, when it is visible at once.
    pub offset: Option<Offset>,
    /// Names a message that is not visible yet.
    pub handle: Option<HiddenHandle>,
    /// See [`BrokerApi::confirm`].
    pub lease: Option<AckLease>,
}

/// Names a half or delayed message until it becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HiddenHandle {
    /// The partition that it is for.
    pub partition: TopicPartition,
    /// The entry that carries it.
    pub index: LogIndex,
    /// The term of that entry: where a loss is allowed, another message may lie at the same place later.
    pub term: Term,
    /// Its slot in the entry.
    pub slot: u32,
}

impl HiddenHandle {
    pub(crate) fn address(&self) -> Address {
        Address { index: self.index, slot: self.slot }
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The message becomes visible.
    Commit,
    /// It never does.
    Rollback,
}

/// Which messages a consumer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those with one of these tags.
    Tags(Vec<String>),
    /// Those that fulfil a condition over their properties (SQL92), parsed by the broker.
    Sql(String),
}

/// A consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// The group.
    pub group: GroupId,
    /// Names the consumer in its group: in broadcasting each has offsets of its own.
    pub client_id: String,
}

/// A request for messages.
#[derive(Debug, Clone)]
pub struct Receive {
    /// The consumer; its invisible messages are prolonged by [`MessageApi::renew`] when `auto_renew` is set.
    pub consumer: Consumer,
    /// The topic.
    pub topic: TopicRef,
    /// The partition; `None` means any that this node leads.
    pub partition: Option<i32>,
    /// Most messages.
    pub count_max: u32,
    /// What the consumer wants; all others count as consumed.
    pub filter: Filter,
    /// How long a delivered message is invisible to others.
    pub invisible_ms: u64,
    /// Whether the messages stay invisible as long as the consumer lives.
    pub auto_renew: bool,
    /// The consumer's connection over which the answer goes; `None` when it goes to another node first.
    pub connection: Option<ConnectionId>,
    /// A retry with the same id gets the messages of the lost answer again (FIFO consumers send one).
    pub attempt_id: Option<String>,
    /// Deliveries of a message before it becomes a dead letter.
    pub attempts_max: u32,
    /// Longest wait for a first message.
    pub wait_ms_max: u64,
}

/// A request of a consumer that keeps its own offsets.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub offset: Offset,
    /// Most messages.
    pub count_max: u32,
    /// What the consumer wants.
    pub filter: Filter,
    /// Longest wait for a first message.
    pub wait_ms_max: u64,
}

/// The answer to [`Pull`].
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Where they lie.
    pub partition: TopicPartition,
    /// The records, with their offsets.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next_offset: Offset,
}

/// A message that was delivered.
#[derive(Debug, Clone)]
pub struct DeliveredMessage {
    /// Where it lies.
    pub partition: TopicPartition,
    /// The record, with its offset.
    pub record: Record,
    /// How many times it was delivered, from 1.
    pub attempt: u32,
    /// For acknowledging it and the like.
    pub receipt: Receipt,
}

/// Proves that a message was delivered. It names one delivery and is worth nothing once another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The partition.
    pub partition: TopicPartition,
    /// The message.
    pub offset: Offset,
    /// The delivery.
    pub delivery: DeliveryId,
}

/// A half message whose producer has to be asked.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Names it.
    pub handle: HiddenHandle,
    /// The topic's name.
    pub topic: String,
    /// The message.
    pub record: Record,
    /// How often it was asked before.
    pub checks: u32,
}

/// The broker as a front end of single messages sees it.
pub trait MessageApi: BrokerApi {
    /// A topic without the state of its partitions: it costs the same for one and for a thousand, unlike [`BrokerApi::topic`].
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownTopicId`.
    fn topic_head(&self, topic: &TopicRef) -> ItemResult<TopicHead>;

    /// The node that leads a partition, as far as this node knows.
    ///
    /// # Errors
    /// `UnknownTopicId` or `UnknownPartition`.
    fn leader(&self, partition: TopicPartition) -> ItemResult<Option<NodeId>>;

    /// One of the topic's partitions that this node leads; they take turns. `None` when it leads none.
    fn own_partition(&self, topic: TopicId, turn: u32) -> Option<u32>;

    /// Stores messages; each is answered at its topic's ack point. Results in order.
    fn send_messages(
        &self,
        messages: Vec<SendMessage>,
        timeout_ms: i32,
    ) -> impl Future<Output = Vec<ItemResult<Sent>>> + Send;

    /// Delivers messages and makes them invisible to the other consumers of the group. Empty when none came in time.
    ///
    /// # Errors
    /// `InvalidRequest` for a filter that cannot be parsed.
    fn receive(&self, request: Receive) -> impl Future<Output = ItemResult<Vec<DeliveredMessage>>> + Send;

    /// Reads a partition; nothing is remembered. Empty when nothing came in time.
    ///
    /// # Errors
    /// `OffsetOutOfRange`; `InvalidRequest` for a filter that cannot be parsed.
    fn pull(&self, request: Pull) -> impl Future<Output = ItemResult<Pulled>> + Send;

    /// Messages that are consumed. Results in order.
    ///
    /// # Errors
    /// `InvalidReceipt`.
    fn acknowledge(
        &self,
        consumer: Consumer,
        receipts: Vec<Receipt>,
    ) -> impl Future<Output = Vec<ItemResult<()>>> + Send;

    /// A delivered message becomes visible this long from now. Gives the receipt that is good from then on.
    ///
    /// # Errors
    /// `InvalidReceipt`.
    fn change_invisible(
        &self,
        consumer: Consumer,
        receipt: Receipt,
        invisible_ms: u64,
    ) -> impl Future<Output = ItemResult<Receipt>> + Send;

    /// Puts a delivered message into the group's dead-letter topic; it counts as consumed.
    ///
    /// # Errors
    /// `InvalidReceipt`.
    fn dead_letter(&self, consumer: Consumer, receipt: Receipt) -> impl Future<Output = ItemResult<()>> + Send;

    /// A consumer has said over this connection that it is alive: what was delivered to it with `auto_renew`, by partitions that this node
    /// leads, stays invisible, if the answer went over the same connection or one of its messages is settled. Any other answer may be lost.
    fn renew(&self, client_id: &str, connection: ConnectionId) -> impl Future<Output = ()> + Send;

    /// Ends a transaction. Idempotent.
    ///
    /// # Errors
    /// `InvalidReceipt` when there is no such half message, or when it ended the other way.
    fn end_transaction(
        &self,
        handle: HiddenHandle,
        resolution: Resolution,
    ) -> impl Future<Output = ItemResult<()>> + Send;

    /// Half messages of partitions that this node leads whose producers have to be asked now. What is given is not given again for ten
    /// seconds, and when it was [asked](MessageApi::asked) about, for half a minute; until it has ended.
    fn orphans(&self) -> impl Future<Output = Vec<Orphan>> + Send;

    /// Producers got questions about these half messages, which had been asked about so often before. What was asked about too often is
    /// rolled back.
    fn asked(&self, orphans: Vec<(HiddenHandle, u32)>) -> impl Future<Output = ()> + Send;

    /// The other nodes to which a client is connected that publishes to a topic.
    fn nodes_with_publishers(&self, topic: &str) -> impl Future<Output = Vec<NodeId>> + Send;

    /// Asks one of the clients of another node that publish to a topic, in the front ends' words. Whether one was asked.
    fn ask_at(&self, node: NodeId, topic: &str, question: Bytes) -> impl Future<Output = bool> + Send;

    /// Where the questions of other nodes come out from now on.
    fn questions(&self) -> mpsc::Receiver<Question>;

    /// Takes back a delayed message.
    ///
    /// # Errors
    /// `InvalidReceipt` when it is visible already, or was recalled.
    fn recall(&self, handle: HiddenHandle) -> impl Future<Output = ItemResult<()>> + Send;
}

/// The topic to which a consumer group's dead letters go.
#[must_use]
pub fn dead_letter_topic(group: &GroupId) -> String {
    format!("{}{}", limits::DEAD_LETTER_TOPIC_PREFIX, group.0)
}
