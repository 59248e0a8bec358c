//! What RocketMQ's clients say of a message, in a record's headers. The table is in `docs/rocketmq.md`.

use std::collections::BTreeMap;

use duolog_record::{KEYS_HEADER as KEYS, MESSAGE_ID_HEADER as MESSAGE_ID, NameFilter, Record, TAG_HEADER as TAG};
use serde::Serialize;

/// There when the key is a message group.
pub(super) const FIFO: &str = "__FIFO";
const BORN_HOST: &str = "__BORN_HOST";
const BORN_TIME: &str = "__BORN_TIME";
const STORE_HOST: &str = "__STORE_HOST";
const STORE_TIME: &str = "__STORE_TIME";
/// Beginnings of the names that are no user properties.
const OWN: [&str; 6] = [MESSAGE_ID, KEYS, TAG, "__", "duolog.", "DLQ_ORIGIN_"];

/// A message that lies somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since the epoch.
    pub(super) timestamp_ms: i64,
    /// None when a Kafka client wrote it.
    pub(super) message_id: Option<String>,
    pub(super) key: Option<String>,
    pub(super) keys: Vec<String>,
    pub(super) tag: Option<String>,
    pub(super) born_host: Option<String>,
    pub(super) born_ms: Option<i64>,
    /// The node that took it, and when.
    pub(super) store_host: Option<String>,
    pub(super) store_ms: Option<i64>,
    pub(super) properties: BTreeMap<String, String>,
    pub(super) body_bytes: usize,
    /// When it is text.
    pub(super) body: Option<String>,
}

impl Message {
    pub(super) fn of(topic: &str, partition: i32, record: &Record) -> Self {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let header = |name: &str| header(record, name);
        let time = |name: &str| header(name).and_then(|time| time.parse().ok());
        let keys = header(KEYS).unwrap_or_default();
        let is_own = |name: &str| OWN.iter().any(|own| name.starts_with(own));
        let properties = record.headers.iter().filter_map(|header| {
            let name = text(&header.key).filter(|name| !is_own(name))?;
            Some((name, header.value.as_deref().and_then(text).unwrap_or_default()))
        });
        Self {
            topic: topic.to_owned(),
            partition,
            offset: record.offset.0,
            timestamp_ms: record.timestamp.0,
            message_id: header(MESSAGE_ID),
            key: record.key.as_deref().and_then(text),
            keys: keys.split(' ').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
            tag: header(TAG),
            born_host: header(BORN_HOST),
            born_ms: time(BORN_TIME),
            store_host: header(STORE_HOST),
            store_ms: time(STORE_TIME),
            properties: properties.collect(),
            body_bytes: record.value.as_ref().map_or(0, |value| value.len()),
            body: record.value.as_deref().and_then(text),
        }
    }
}

/// The last header of a name, as text.
pub(super) fn header(record: &Record, name: &str) -> Option<String> {
    let header = record.headers.iter().rev().find(|header| header.key == name.as_bytes())?;
    std::str::from_utf8(header.value.as_deref()?).ok().map(str::to_owned)
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A message id.
    Id(String),
    /// One of the message's keys, its message group, or a Kafka record's key.
    Key(String),
}

impl Wanted {
    /// Where it may lie.
    pub(super) fn filter(&self) -> NameFilter {
        let (Self::Id(name) | Self::Key(name)) = self;
        NameFilter::of_name(name.as_bytes())
    }

    pub(super) fn is(&self, record: &Record) -> bool {
        match self {
            Self::Id(id) => header(record, MESSAGE_ID).as_ref() == Some(id),
            Self::Key(key) => {
                let keys = header(record, KEYS).unwrap_or_default();
                record.key.as_deref() == Some(key.as_bytes()) || keys.split(' ').any(|one| one == key)
            }
        }
    }
}

/// When the message of an id was made, in milliseconds: RocketMQ's clients write seconds since 2021 into it.
pub(super) fn made_ms(id: &str) -> Option<i64> {
    /// The first of January 2021, UTC.
    const ORIGIN_MS: i64 = 1_609_459_200_000;
    // "01", the address of the machine, the process, then the time: 2 + 12 + 4 digits before it.
    let digits = id.strip_prefix("01").filter(|_| id.len() == 34)?.get(16..24)?;
    let seconds = i64::from(u32::from_str_radix(digits, 16).ok()?);
    Some(ORIGIN_MS + seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duolog_record::RecordHeader;
    use duolog_types::{Offset, TimestampMs};

    use super::*;

    fn record(key: Option<&'static str>, headers: &[(&'static str, &'static str)]) -> Record {
        let header = |(key, value): &(&'static str, &'static str)| RecordHeader {
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        };
        Record {
            offset: Offset(7),
            timestamp: TimestampMs(1),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(b"body")),
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn messages_are_found_by_id_and_by_any_key() {
        let sent = record(Some("k1"), &[("UNIQ_KEY", "01A"), ("KEYS", "k1 k2"), ("colour", "red"), ("__TYPE", "FIFO")]);
        for (wanted, expected) in [
            (Wanted::Id("01A".to_owned()), true),
            (Wanted::Id("01".to_owned()), false),
            (Wanted::Key("k2".to_owned()), true),
            (Wanted::Key("k".to_owned()), false),
        ] {
            assert_eq!(wanted.is(&sent), expected, "{wanted:?}");
        }
        assert!(Wanted::Key("plain".to_owned()).is(&record(Some("plain"), &[])));
        let message = Message::of("t", 3, &sent);
        assert_eq!(message.properties, BTreeMap::from([("colour".to_owned(), "red".to_owned())]));
        assert_eq!((message.body.as_deref(), message.keys.len(), message.offset), (Some("body"), 2, 7));
    }

    #[test]
    fn an_id_says_when_it_was_made() {
        let id = format!("01{}{}{:08X}{}", "A1B2C3D4E5F6", "0007", 186_000_000, "00000001");
        assert_eq!(made_ms(&id), Some(1_609_459_200_000 + 186_000_000_000));
        for other in ["", "01", "ffffffffffffffffffffffffffffffffff", "01zz"] {
            assert_eq!(made_ms(other), None, "{other}");
        }
    }
}
