//! Consuming as a member of a consumer group of the classic protocol, with the range strategy.
//!
//! ```text
//! join ─▶ sync ─▶ positions ─▶ poll, print, heartbeat, commit ─┬─ done or interrupted ─▶ commit, leave
//!  ▲                                                           │
//!  └──────────── commit ◀── the group rebalances ◀─────────────┘
//! ```
//! Only what was printed and flushed is committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::printer::Printer;
use super::reader::{Reader, Sink};
use super::{assignor, known, protocol};
use crate::client::{Asked, Client, ClientError, Joined, MemberState, OffsetToCommit};
use crate::run;

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
const BACKOFF: Duration = Duration::from_millis(100);

struct Member<'a> {
    client: &'a Client,
    topic: &'a str,
    group: &'a str,
    from_beginning: bool,
    state: MemberState,
    /// Printed and flushed: the next offset by partition, of this generation.
    printed: BTreeMap<i32, i64>,
    /// What is committed, as far as this member knows.
    committed: BTreeMap<i32, i64>,
}

/// How a generation ended for this member.
enum Ended {
    Done,
    Rebalance,
}

/// Consumes until the printer is done or the user interrupts; then commits and leaves, also after an error.
pub(super) async fn consume(
    client: &Client,
    topic: &str,
    group: &str,
    from_beginning: bool,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    // An unknown topic is an error; a group would wait for it for ever.
    client.topic(topic).await?;
    let state = MemberState { member_id: String::new(), generation: -1 };
    let (printed, committed) = (BTreeMap::new(), BTreeMap::new());
    let mut member = Member { client, topic, group, from_beginning, state, printed, committed };
    let result = tokio::select! {
        result = member.run(printer) => result,
        () = run::interrupted() => Ok(()),
    };
    let left = member.leave().await;
    result.and(left)
}

impl Member<'_> {
    async fn run(&mut self, printer: &mut Printer) -> anyhow::Result<()> {
        let mut failing_since = None;
        while !printer.is_done() {
            match self.generation(printer).await {
                Ok(Ended::Done) => break,
                Ok(Ended::Rebalance) => failing_since = None,
                Err(error) => {
                    let passes = error.downcast_ref::<ClientError>().is_some_and(|error| self.may_join_again(error));
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if !passes || since.elapsed() > self.client.timeout() {
                        return Err(error);
                    }
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
        Ok(())
    }

    /// Whether joining again can help. A member id that the coordinator has forgotten is given up.
    fn may_join_again(&mut self, error: &ClientError) -> bool {
        match error.code() {
            Some(ResponseError::UnknownMemberId) => {
                self.state = MemberState { member_id: String::new(), generation: -1 };
                true
            }
            Some(ResponseError::RebalanceInProgress | ResponseError::IllegalGeneration) => true,
            _ => error.is_retriable(),
        }
    }

    /// One generation, from its beginning to its end.
    async fn generation(&mut self, printer: &mut Printer) -> anyhow::Result<Ended> {
        (self.printed, self.committed) = (BTreeMap::new(), BTreeMap::new());
        let subscription = protocol::subscription(&[self.topic]);
        let joined =
            self.client.join(self.group, &mut self.state, &subscription, SESSION_TIMEOUT, REBALANCE_TIMEOUT).await?;
        let assignments = if joined.leads { self.assign(&joined).await? } else { Vec::new() };
        let assignment = self.client.sync(self.group, &self.state, &assignments, REBALANCE_TIMEOUT).await?;
        let partitions = protocol::assigned_partitions(assignment)?.remove(self.topic).unwrap_or_default();
        let committed = self.client.committed(self.group).await?;
        let positions = self.positions(&partitions, &committed).await?;
        self.printed.clone_from(&positions);
        // Where nothing is committed yet the first commit says where this member began.
        self.committed =
            committed.into_iter().filter(|((topic, _), _)| topic == self.topic).map(|((_, p), o)| (p, o)).collect();
        let mut reader = Reader::new(self.client, self.topic, positions);
        let (mut last_heartbeat, mut last_commit) = (Instant::now(), Instant::now());
        while !printer.is_done() {
            reader.poll(printer).await?;
            self.printed.clone_from(reader.positions());
            if last_commit.elapsed() >= COMMIT_INTERVAL {
                self.commit().await?;
                last_commit = Instant::now();
            }
            if last_heartbeat.elapsed() >= HEARTBEAT_INTERVAL {
                last_heartbeat = Instant::now();
                match self.client.heartbeat(self.group, &self.state).await {
                    Err(error) if error.code() == Some(ResponseError::RebalanceInProgress) => {
                        self.commit().await?;
                        return Ok(Ended::Rebalance);
                    }
                    other => other?,
                }
            }
        }
        Ok(Ended::Done)
    }

    /// The leader's work: everybody's share.
    async fn assign(&self, joined: &Joined) -> anyhow::Result<Vec<(String, Bytes)>> {
        let mut subscriptions = BTreeMap::new();
        for (member, metadata) in &joined.members {
            // A subscription that is not understood gets nothing, so that the others can go on.
            subscriptions.insert(member.clone(), protocol::subscribed_topics(metadata.clone()).unwrap_or_default());
        }
        let mut counts = BTreeMap::new();
        for topic in self.client.all_topics().await? {
            counts.insert(topic.name, topic.partitions.len());
        }
        let assigned = assignor::range(&subscriptions, &counts);
        Ok(assigned.into_iter().map(|(member, topics)| (member, protocol::assignment(&topics))).collect())
    }

    async fn positions(
        &self,
        partitions: &[i32],
        committed: &BTreeMap<(String, i32), i64>,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let asked = if self.from_beginning { Asked::Earliest } else { Asked::Latest };
        let start = known(self.client.offsets(self.topic, asked).await?);
        let position = |partition: &i32| {
            let of_group = committed.get(&(self.topic.to_owned(), *partition)).copied();
            (*partition, of_group.or_else(|| start.get(partition).copied()).unwrap_or(0))
        };
        Ok(partitions.iter().map(position).collect())
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        let is_new = |(partition, offset): &(&i32, &i64)| self.committed.get(partition) != Some(offset);
        let offsets: Vec<OffsetToCommit> = self
            .printed
            .iter()
            .filter(is_new)
            .map(|(partition, offset)| OffsetToCommit {
                topic: self.topic.to_owned(),
                partition: *partition,
                offset: *offset,
            })
            .collect();
        if !offsets.is_empty() {
            self.client.commit(self.group, Some(&self.state), &offsets).await?;
            self.committed.clone_from(&self.printed);
        }
        Ok(())
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        if self.state.member_id.is_empty() {
            return Ok(());
        }
        let committed = self.commit().await;
        // The session would end by itself.
        let _ = self.client.leave(self.group, &self.state).await;
        match committed {
            // The group went on without this member: whoever has the partitions now prints the records again.
            Err(error) if error.code().is_some() => {
                eprintln!("duolog: the last offsets were not committed: {error}");
                Ok(())
            }
            other => Ok(other?),
        }
    }
}
