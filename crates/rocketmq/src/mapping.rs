//! Messages and records: what a RocketMQ producer sends, any consumer gets, and the other way round. `docs/rocketmq.md` has the
//! table.
//!
//! - The key is the message group, else the first of the message's keys, else null. The value is the body.
//! - Everything else that the protocol says of a message is in headers of our own names (`OWN_HEADERS`); user properties are headers of
//!   their own name.
//! - A record that a Kafka client wrote has none of these headers: `to_message` makes a message of it all the same.

mod to_message;
mod to_record;

use duolog_broker::message_api::{
    BORN_TIME_HEADER, DELIVER_AT_HEADER, FIFO_HEADER, KEYS_HEADER, MESSAGE_ID_HEADER, STORE_TIME_HEADER, TAG_HEADER,
};

pub(crate) use to_message::{Place, to_message};
pub(crate) use to_record::{Stamp, to_batch};

/// The kind of message, when it is not NORMAL: the protocol's name.
const KIND_HEADER: &str = "__TYPE";
/// The host of the producer, as it says.
const BORN_HOST_HEADER: &str = "__BORN_HOST";
/// The front end that took it.
const STORE_HOST_HEADER: &str = "__STORE_HOST";
const TRACE_HEADER: &str = "__TRACE_CONTEXT";
/// The body's encoding, when it is not IDENTITY: the protocol's name.
const ENCODING_HEADER: &str = "__ENCODING";
/// The priority of a message that has one; the partition says it, too.
const PRIORITY_HEADER: &str = "__PRIORITY";

/// All of them.
const OWN_HEADERS: [&str; 13] = [
    TAG_HEADER,
    KEYS_HEADER,
    MESSAGE_ID_HEADER,
    FIFO_HEADER,
    KIND_HEADER,
    BORN_HOST_HEADER,
    BORN_TIME_HEADER,
    STORE_HOST_HEADER,
    STORE_TIME_HEADER,
    TRACE_HEADER,
    ENCODING_HEADER,
    PRIORITY_HEADER,
    DELIVER_AT_HEADER,
];
/// More of them may come.
const OWN_PREFIX: &str = "duolog.";

/// Whether a header is not a user property.
pub(crate) fn is_reserved(name: &str) -> bool {
    OWN_HEADERS.contains(&name) || name.starts_with(OWN_PREFIX)
}

#[cfg(test)]
mod tests;
