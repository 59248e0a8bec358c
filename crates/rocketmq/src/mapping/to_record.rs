//! A message becomes a batch of one record.

use bytes::Bytes;
use duolog_record::{BatchBuilder, RecordHeader};
use duolog_types::TimestampMs;

use super::{
    BORN_HOST_HEADER, BORN_TIME_HEADER, DELIVER_AT_HEADER, ENCODING_HEADER, FIFO_HEADER, KEYS_HEADER, KIND_HEADER,
    MESSAGE_ID_HEADER, PRIORITY_HEADER, STORE_HOST_HEADER, STORE_TIME_HEADER, TAG_HEADER, TRACE_HEADER,
};
use crate::check::Kind;
use crate::errors::Refusal;
use crate::proto::{Code, Encoding, Message, SystemProperties};
use crate::time::from_timestamp;

/// Where and when a message is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) host: &'a str,
    pub(crate) now: TimestampMs,
    /// Whether the leader's clock will be the record's timestamp.
    pub(crate) is_log_append_time: bool,
}

/// The batch of a message of this kind, which was checked.
pub(crate) fn to_batch(message: &Message, kind: Kind, stamp: Stamp<'_>) -> Result<Bytes, Refusal> {
    let nothing = SystemProperties::default();
    let system = message.system_properties.as_ref().unwrap_or(&nothing);
    let born = system.born_timestamp.as_ref().map_or(stamp.now, from_timestamp);
    let key = system.message_group.as_ref().or(system.keys.first());
    let mut headers = headers_of(system, kind, stamp);
    if stamp.is_log_append_time {
        headers.push(RecordHeader::text(BORN_TIME_HEADER, born.0.to_string()));
    }
    headers.extend(message.user_properties.iter().map(|(name, value)| RecordHeader {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }));
    let mut builder = BatchBuilder::new();
    let built = builder.push_with_headers(born, key.map(String::as_bytes), Some(&message.body), &headers);
    let batch = built.map(|_| ()).and_then(|()| builder.build());
    batch.map(|batch| batch.into_bytes()).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
}

fn headers_of(system: &SystemProperties, kind: Kind, stamp: Stamp<'_>) -> Vec<RecordHeader> {
    let mut headers = vec![RecordHeader::text(MESSAGE_ID_HEADER, system.message_id.clone())];
    let mut put = |name: &'static str, value: Option<String>| {
        headers.extend(value.filter(|value| !value.is_empty()).map(|value| RecordHeader::text(name, value)));
    };
    put(TAG_HEADER, system.tag.clone());
    put(KEYS_HEADER, Some(system.keys.join(" ")));
    put(FIFO_HEADER, system.message_group.as_ref().map(|_| "1".to_owned()));
    put(KIND_HEADER, (kind != Kind::Normal).then(|| kind.as_str_name().to_owned()));
    put(DELIVER_AT_HEADER, system.delivery_timestamp.as_ref().map(|time| from_timestamp(time).0.to_string()));
    put(PRIORITY_HEADER, system.priority.map(|priority| priority.to_string()));
    put(BORN_HOST_HEADER, Some(system.born_host.clone()));
    put(STORE_HOST_HEADER, Some(stamp.host.to_owned()));
    put(STORE_TIME_HEADER, Some(stamp.now.0.to_string()));
    put(TRACE_HEADER, system.trace_context.clone());
    let encoding = system.body_encoding();
    put(ENCODING_HEADER, (encoding == Encoding::Gzip).then(|| encoding.as_str_name().to_owned()));
    headers
}
