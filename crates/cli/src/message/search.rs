//! Searching a topic: all partitions from a time on, up to their ends of now. Leaders say where something of the id or key may lie; the
//! rest is not read.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use duolog_record::{Record, RecordBatch};

use super::parts::{Message, Wanted};
use crate::client::{Asked, Client, FETCH_PARTITION_BYTES_MAX};
use crate::consume::{RECORDS_BYTES_MAX, Reader, Sink};

/// Read where something may lie, after others were passed over.
const CANDIDATE_BYTES: i32 = 16 << 10;

/// Where is searched.
pub(super) struct Range {
    /// Milliseconds since the epoch; `None` begins at the first record that is kept.
    pub(super) since_ms: Option<i64>,
    /// Records with a later timestamp are left out.
    pub(super) until_ms: Option<i64>,
}

/// What was found.
pub(super) struct Found {
    topic: String,
    wanted: Wanted,
    until_ms: Option<i64>,
    limit: usize,
    pub(super) messages: Vec<Message>,
    /// Records that were looked at.
    pub(super) searched: u64,
}

impl Sink for Found {
    fn is_done(&self) -> bool {
        self.messages.len() >= self.limit
    }

    fn take(&mut self, partition: i32, batch: &RecordBatch, from: i64) -> anyhow::Result<i64> {
        if !batch.view().is_control() {
            for record in batch.records(RECORDS_BYTES_MAX)? {
                let record = record?;
                if record.offset.0 >= from && !self.is_done() {
                    self.look_at(partition, &record);
                }
            }
        }
        Ok(from.max(batch.end_offset().0))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Found {
    fn look_at(&mut self, partition: i32, record: &Record) {
        self.searched += 1;
        let is_in_time = self.until_ms.is_none_or(|until| record.timestamp.0 <= until);
        if is_in_time && self.wanted.is(record) {
            self.messages.push(Message::of(&self.topic, partition, record));
        }
    }
}

/// At most `limit` messages of a topic.
pub(super) async fn search(
    client: &Client,
    topic: &str,
    wanted: Wanted,
    range: Range,
    limit: usize,
) -> anyhow::Result<Found> {
    let of = |found: BTreeMap<i32, Option<i64>>| -> BTreeMap<i32, i64> {
        found.into_iter().map(|(partition, offset)| (partition, offset.unwrap_or(i64::MAX))).collect()
    };
    let ends = of(client.offsets(topic, Asked::Latest).await?);
    let mut positions = of(client.offsets(topic, range.since_ms.map_or(Asked::Earliest, Asked::AtOrAfter)).await?);
    let is_before_end = |partition: &i32, next: i64| ends.get(partition).is_some_and(|end| next < *end);
    let name = wanted.filter();
    let mut found =
        Found { topic: topic.to_owned(), wanted, until_ms: range.until_ms, limit, messages: Vec::new(), searched: 0 };
    while !found.is_done() {
        let before = positions;
        positions = client.may_hold(topic, &before, name).await?;
        // Where nothing is passed over nothing is known, and much is read.
        let bytes_max = if positions == before { FETCH_PARTITION_BYTES_MAX } else { CANDIDATE_BYTES };
        positions.retain(|partition, next| is_before_end(partition, *next));
        if positions.is_empty() {
            break;
        }
        let mut reader = Reader::new(client, topic, positions).at_most(bytes_max);
        reader.poll(&mut found).await?;
        positions = reader.positions().clone();
    }
    Ok(found)
}

/// The record at an offset.
///
/// # Errors
/// There is none; what there is.
pub(super) async fn record_at(client: &Client, topic: &str, partition: i32, offset: i64) -> anyhow::Result<Record> {
    let (first, end) = (client.offsets(topic, Asked::Earliest).await?, client.offsets(topic, Asked::Latest).await?);
    check_place(topic, (partition, offset), &first, &end)?;
    let mut reader = Reader::new(client, topic, BTreeMap::from([(partition, offset)]));
    let mut one = One { offset, record: None };
    while one.record.is_none() && reader.positions().values().all(|next| *next <= offset) {
        reader.poll(&mut one).await?;
    }
    one.record.with_context(|| {
        format!("partition {partition} of topic {topic:?} has no record of a client at offset {offset}; look with: duolog consume")
    })
}

/// Whether an offset is kept, by the first offset of each partition and the one after its last.
fn check_place(
    topic: &str,
    (partition, offset): (i32, i64),
    first: &BTreeMap<i32, Option<i64>>,
    end: &BTreeMap<i32, Option<i64>>,
) -> anyhow::Result<()> {
    let of = |found: &BTreeMap<i32, Option<i64>>| found.get(&partition).copied().flatten().unwrap_or(0);
    ensure!(
        end.contains_key(&partition),
        "--partition {partition}: topic {topic:?} has partitions 0 to {}",
        end.len().saturating_sub(1)
    );
    let (first, end) = (of(first), of(end));
    ensure!(first < end, "--offset {offset}: partition {partition} of topic {topic:?} holds no records");
    ensure!(
        (first..end).contains(&offset),
        "--offset {offset}: partition {partition} of topic {topic:?} holds offsets {first} to {}",
        end - 1
    );
    Ok(())
}

struct One {
    offset: i64,
    record: Option<Record>,
}

impl Sink for One {
    fn is_done(&self) -> bool {
        self.record.is_some()
    }

    fn take(&mut self, _: i32, batch: &RecordBatch, from: i64) -> anyhow::Result<i64> {
        for record in batch.records(RECORDS_BYTES_MAX)? {
            let record = record?;
            if record.offset.0 == self.offset {
                self.record = Some(record);
            }
        }
        Ok(from.max(batch.end_offset().0))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_is_not_kept_is_refused_with_what_is() {
        let first = BTreeMap::from([(0, Some(5)), (1, Some(0))]);
        let end = BTreeMap::from([(0, Some(9)), (1, Some(0))]);
        let said = |place| check_place("t", place, &first, &end).map_err(|error| error.to_string());
        assert_eq!((said((0, 5)), said((0, 8))), (Ok(()), Ok(())));
        for (place, expected) in [
            ((2, 5), "--partition 2: topic \"t\" has partitions 0 to 1"),
            ((0, 4), "--offset 4: partition 0 of topic \"t\" holds offsets 5 to 8"),
            ((0, 9), "--offset 9: partition 0 of topic \"t\" holds offsets 5 to 8"),
            ((1, 0), "--offset 0: partition 1 of topic \"t\" holds no records"),
        ] {
            assert_eq!(said(place), Err(expected.to_owned()));
        }
    }
}
