//! Keys of the tables about hidden batches.

use duolog_record::entry::Address;
use duolog_types::{LogIndex, Offset, TimestampMs, TopicPartition};

use super::{PARTITION_BYTES, SIGN_BIT, parse_partition, partition, with_number};
use crate::{StateError, TableId};

const ADDRESS_BYTES: usize = 12;
const HIDDEN_BYTES: usize = PARTITION_BYTES + ADDRESS_BYTES;
const TIMER_BYTES: usize = 1 + 8 + ADDRESS_BYTES;

/// What becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The delivery of a delayed message.
    Delivery,
    /// The question to the producer of a half message.
    CheckBack,
    /// The end of the time in which the state remembers a hidden batch that never became visible.
    Expiry,
}

impl TimerKind {
    fn tag(self) -> u8 {
        match self {
            Self::Delivery => b'd',
            Self::CheckBack => b'h',
            Self::Expiry => b'x',
        }
    }
}

/// Hidden messages: a hidden batch.
#[must_use]
pub fn hidden(tp: TopicPartition, address: Address) -> Vec<u8> {
    let mut key = partition(tp);
    put_address(&mut key, address);
    key
}

/// References: the offset at which a hidden batch became visible.
///
/// # Panics
/// When the offset is negative.
#[must_use]
pub fn reference(tp: TopicPartition, offset: Offset) -> Vec<u8> {
    with_number(tp, u64::try_from(offset.0).expect("offsets of rows are not negative"))
}

/// Timers: what becomes due at a time.
#[must_use]
pub fn timer(kind: TimerKind, time: TimestampMs, address: Address) -> Vec<u8> {
    let mut key = timers_from(kind, time);
    put_address(&mut key, address);
    key
}

/// The least key of the timers of a kind from a time on.
#[must_use]
pub fn timers_from(kind: TimerKind, time: TimestampMs) -> Vec<u8> {
    let mut key = Vec::with_capacity(TIMER_BYTES);
    key.push(kind.tag());
    key.extend_from_slice(&(time.0.cast_unsigned() ^ SIGN_BIT).to_be_bytes());
    key
}

/// A key above all timers of a kind.
#[must_use]
pub fn timers_end(kind: TimerKind) -> Vec<u8> {
    vec![kind.tag() + 1]
}

/// Partition and address of a key that [`hidden`] made.
///
/// # Errors
/// `BadKey`.
pub fn split_hidden(key: &[u8]) -> Result<(TopicPartition, Address), StateError> {
    let bad = || StateError::BadKey { table: TableId::HiddenMessages.name(), found: key.len(), expected: "32 bytes" };
    let key: &[u8; HIDDEN_BYTES] = key.try_into().map_err(|_| bad())?;
    let tp = parse_partition(&key[..PARTITION_BYTES]).ok_or_else(bad)?;
    Ok((tp, address(&key[PARTITION_BYTES..])))
}

/// Time and address of a key that [`timer`] made.
///
/// # Errors
/// `BadKey`.
pub fn split_timer(key: &[u8]) -> Result<(TimestampMs, Address), StateError> {
    let bad = |_| StateError::BadKey { table: TableId::Timers.name(), found: key.len(), expected: "21 bytes" };
    let key: &[u8; TIMER_BYTES] = key.try_into().map_err(bad)?;
    let time = u64::from_be_bytes(key[1..9].try_into().expect("eight bytes"));
    Ok((super::timestamp_of(time), address(&key[9..])))
}

fn put_address(key: &mut Vec<u8>, address: Address) {
    key.extend_from_slice(&address.index.0.to_be_bytes());
    key.extend_from_slice(&address.slot.to_be_bytes());
}

fn address(bytes: &[u8]) -> Address {
    Address {
        index: LogIndex(u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))),
        slot: u32::from_be_bytes(bytes[8..].try_into().expect("four bytes")),
    }
}

#[cfg(test)]
mod tests {
    use duolog_types::TopicId;

    use super::*;

    const TP: TopicPartition = TopicPartition { topic: TopicId([3; 16]), partition: 258 };

    fn at(index: u64, slot: u32) -> Address {
        Address { index: LogIndex(index), slot }
    }

    #[test]
    fn timers_sort_by_kind_time_and_address() {
        let delivery = |time, address| timer(TimerKind::Delivery, TimestampMs(time), address);
        let sorted = [
            timers_from(TimerKind::Delivery, TimestampMs(-5)),
            delivery(-5, at(9, 9)),
            delivery(7, at(255, 1)),
            delivery(7, at(256, 0)),
            timers_from(TimerKind::Delivery, TimestampMs(8)),
            timers_end(TimerKind::Delivery),
            timer(TimerKind::CheckBack, TimestampMs(0), at(0, 0)),
            timer(TimerKind::Expiry, TimestampMs(-9), at(0, 0)),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b), "{sorted:?}");
    }

    #[test]
    fn keys_split_into_what_they_were_made_of() {
        let key = hidden(TP, at(70_000, 3));
        assert_eq!(split_hidden(&key), Ok((TP, at(70_000, 3))));
        split_hidden(&key[1..]).unwrap_err();
        let key = timer(TimerKind::Expiry, TimestampMs(-2), at(5, 6));
        assert_eq!(split_timer(&key), Ok((TimestampMs(-2), at(5, 6))));
        split_timer(b"short").unwrap_err();
    }
}
