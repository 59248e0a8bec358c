//! Limits that hold everywhere. What an operator may change is in the node's config instead.

/// Largest body of one Raft entry that the sequencer coalesces to, in bytes. One larger batch travels alone.
pub const ENTRY_BYTES_TARGET: usize = 1 << 20;
/// Bytes proposed and not yet committed, per broker group.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Largest Kafka request frame, in bytes (`socket.request.max.bytes`).
pub const KAFKA_FRAME_BYTES_MAX: usize = 100 << 20;
/// Most partitions that one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Batches that are remembered per producer and partition for deduplication (Kafka's window).
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;
/// Producer ids in one block of the catalog.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Coordinator slots that consumer groups hash to.
pub const COORDINATOR_SLOTS: u32 = 64;
/// Begins the name of a consumer group's dead-letter topic, as RocketMQ has it; the group's name follows.
pub const DEAD_LETTER_TOPIC_PREFIX: &str = "%DLQ%";
/// The topic that tells what became of messages, by RocketMQ's name.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Longest name of a topic (Kafka's limit).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Consumer groups with configs of their own in the catalog: every node keeps all of them in memory.
pub const GROUP_CONFIGS_MAX: usize = 10_000;
/// Longest delay of a message, in milliseconds (RocketMQ's `timerMaxDelaySec`): so long it keeps its entry in the log.
pub const DELAY_MS_MAX: i64 = 40 * 24 * 3_600_000;
/// Longest name of a user.
pub const USER_NAME_BYTES_MAX: usize = 128;
/// Shortest and longest secret of a user.
pub const SECRET_BYTES_MIN: usize = 6;
/// See [`SECRET_BYTES_MIN`].
pub const SECRET_BYTES_MAX: usize = 256;
/// Users and ACLs in the catalog: every node keeps all of them in memory.
pub const USERS_MAX: usize = 10_000;
/// See [`USERS_MAX`].
pub const ACLS_MAX: usize = 100_000;
/// ACLs in one command.
pub const ACLS_PER_COMMAND_MAX: usize = 1_000;
/// Longest name, principal or host of an ACL.
pub const ACL_TEXT_BYTES_MAX: usize = 249 + 5;
