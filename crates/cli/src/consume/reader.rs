//! Fetching a topic's partitions from their leaders, round after round.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use duolog_record::RecordBatch;
use futures_util::future::join_all;
use kafka_protocol::ResponseError;

use crate::client::{Asked, Client, ClientError, FETCH_PARTITION_BYTES_MAX, FetchFrom, FetchedPartition};

/// How long a leader waits for records. With several leaders a record that is there waits as long for the others.
const WAIT: Duration = Duration::from_millis(250);
const BACKOFF: Duration = Duration::from_millis(100);

/// What records are read for.
pub(crate) trait Sink {
    /// Whether it wants no more.
    fn is_done(&self) -> bool;

    /// Takes the records of a batch from an offset on; gives the next offset.
    fn take(&mut self, partition: i32, batch: &RecordBatch, from: i64) -> anyhow::Result<i64>;

    /// A round is over.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Reads from positions onwards.
pub(crate) struct Reader<'a> {
    client: &'a Client,
    topic: &'a str,
    /// The next offset to hand over, by partition.
    positions: BTreeMap<i32, i64>,
    /// Of a partition in one fetch.
    bytes_max: i32,
    /// By partition; empty when they must be looked up.
    leaders: BTreeMap<i32, i32>,
    /// Since when nothing was read because of errors.
    failing_since: Option<Instant>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(client: &'a Client, topic: &'a str, positions: BTreeMap<i32, i64>) -> Self {
        let bytes_max = FETCH_PARTITION_BYTES_MAX;
        Self { client, topic, positions, bytes_max, leaders: BTreeMap::new(), failing_since: None }
    }

    /// Fetches so many bytes of a partition at most, for whoever wants little of what follows.
    pub(crate) fn at_most(mut self, bytes_max: i32) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The next offset of each partition: everything before it was taken and flushed.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// One fetch from every leader; hands over and flushes what came. Leaders that move are looked up again.
    ///
    /// # Errors
    /// The topic is gone, output fails, or there was no good answer for the client's time-out.
    pub(crate) async fn poll(&mut self, sink: &mut impl Sink) -> anyhow::Result<()> {
        if self.positions.is_empty() {
            tokio::time::sleep(WAIT).await;
            return sink.flush();
        }
        if let Err(error) = self.round(sink).await {
            let passes = error.downcast_ref::<ClientError>().is_some_and(ClientError::is_retriable);
            let since = *self.failing_since.get_or_insert_with(Instant::now);
            if !passes || since.elapsed() > self.client.timeout() {
                return Err(error);
            }
            self.leaders.clear();
            tokio::time::sleep(BACKOFF).await;
        } else {
            self.failing_since = None;
        }
        Ok(())
    }

    async fn round(&mut self, sink: &mut impl Sink) -> anyhow::Result<()> {
        if self.leaders.is_empty() {
            self.leaders = self.client.leaders(self.topic).await?;
        }
        let mut by_leader: BTreeMap<i32, Vec<FetchFrom>> = BTreeMap::new();
        let mut result = Ok(());
        for (partition, offset) in &self.positions {
            match self.leaders.get(partition) {
                Some(leader) => {
                    let from = FetchFrom { partition: *partition, offset: *offset, bytes_max: self.bytes_max };
                    by_leader.entry(*leader).or_default().push(from);
                }
                None => {
                    let what = format!("partition {partition} of topic {:?}", self.topic);
                    result = Err(ClientError::NoLeader { what });
                }
            }
        }
        let fetches = by_leader.iter().map(|(leader, from)| self.client.fetch(*leader, self.topic, from, WAIT));
        let mut taken = self.positions.clone();
        for fetched in join_all(fetches).await {
            match fetched {
                Ok(partitions) => {
                    for partition in partitions {
                        if let Err(error) = self.take(partition, &mut taken, sink).await? {
                            result = Err(error);
                        }
                    }
                }
                Err(error) => result = Err(error),
            }
        }
        sink.flush()?;
        self.positions = taken;
        Ok(result?)
    }

    /// Hands over what came of a partition. The inner error is the partition's own.
    async fn take(
        &self,
        fetched: FetchedPartition,
        positions: &mut BTreeMap<i32, i64>,
        sink: &mut impl Sink,
    ) -> anyhow::Result<Result<(), ClientError>> {
        let Some(position) = positions.get_mut(&fetched.partition) else { return Ok(Ok(())) };
        match fetched.batches {
            Ok(batches) => {
                for batch in batches {
                    if sink.is_done() {
                        break;
                    }
                    *position = sink.take(fetched.partition, &batch, *position)?;
                }
                Ok(Ok(()))
            }
            Err(error) if error.code() == Some(ResponseError::OffsetOutOfRange) => {
                *position = self.back_in_range(fetched.partition, *position).await?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// What was to be read next is not there: retention took it, or a loss that the topic's durability allows.
    async fn back_in_range(&self, partition: i32, position: i64) -> anyhow::Result<i64> {
        let of = |found: BTreeMap<i32, Option<i64>>| found.get(&partition).copied().flatten().unwrap_or(0);
        let earliest = of(self.client.offsets(self.topic, Asked::Earliest).await?);
        let latest = of(self.client.offsets(self.topic, Asked::Latest).await?);
        let back = position.clamp(earliest, latest.max(earliest));
        if back != position {
            eprintln!(
                "duolog: partition {partition} of topic {:?} has no offset {position} any more; going on at {back}",
                self.topic
            );
        }
        Ok(back)
    }
}
