//! How far groups have come, as committed offsets: so every tool for Kafka's groups shows the lag of RocketMQ's, and can set them to
//! another offset.
//!
//! ```text
//!              every few seconds
//! queue ── first message that is not settled ──▶ coordinator: committed offset, marked as ours
//!   ▲                                                 │
//!   └──────── seek ◀── committed by somebody else ◀───┘
//! ```
//!
//! While Kafka's consumers are members of the group, the committed offsets are theirs: nothing is published, nothing sought.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duolog_record::group::{CommittedOffset, GroupId, OffsetCommit};
use duolog_state::command::{Command, GroupCommand, PopUpdate};
use duolog_state::reader;
use duolog_types::{FlushWish, Offset, TimestampMs, TopicPartition};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::queues::{Queue, QueueHandle};
use super::settle::{Led, led};
use super::start::committed;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::consumers;
use crate::produce::now;
use crate::runtime::{GroupRuntime, storage};

const TIMEOUT: Duration = Duration::from_secs(4);
/// A group that is used says so at least this often, so that it is not forgotten.
const ALIVE_MS: i64 = 3_600_000;
/// Between two looks for consumers of broadcasting groups that are gone for good.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);
/// The metadata of what is committed here.
const MARK: &str = "duolog.pop";
/// A commit may be news although its time is that much before the group was here last: the clock of who coordinates the group is another
/// one, and a leader that was lost may have gone on for a while without having seen the commit.
const GRACE_MS: i64 = 10_000;

/// Whether somebody else has committed an offset since the group was here last. What was published here after it would have taken its
/// place.
pub(super) fn is_foreign(committed: &CommittedOffset, seen: TimestampMs) -> bool {
    committed.metadata != MARK && committed.commit_timestamp.0 > seen.0.saturating_sub(GRACE_MS)
}

/// Whether Kafka's consumers are members of a group.
pub(super) fn has_members(broker: &Broker, group: &GroupId) -> ItemResult<bool> {
    let coordinator = broker.runtime(broker.coordinating_group(&group.0)?)?;
    let stored = reader::stored_group(&*coordinator.tables(), group).map_err(storage)?;
    Ok(stored.is_some_and(|stored| !stored.metadata.members.is_empty()))
}

/// What a queue has told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// The progress that was published last, if any was.
    offset: Option<Offset>,
    /// When the group was here last before this queue was loaded. Not the time of loading: what this node's replica of the coordinating
    /// broker group learns later may have been committed before.
    since: TimestampMs,
    /// The commit of somebody else that the queue went to last.
    followed: Option<(Offset, TimestampMs)>,
    /// When the queue said last that it is alive.
    alive: TimestampMs,
}

impl Told {
    /// Of a queue that was just loaded; `followed` is the commit that it begins at, if it does.
    pub(super) fn nothing(since: TimestampMs, followed: Option<&CommittedOffset>) -> Self {
        Self { offset: None, since, followed: followed.map(place_and_time), alive: now() }
    }

    fn is_news(&self, committed: &CommittedOffset) -> bool {
        is_foreign(committed, self.since) && self.followed != Some(place_and_time(committed))
    }
}

fn place_and_time(committed: &CommittedOffset) -> (Offset, TimestampMs) {
    (committed.offset, committed.commit_timestamp)
}

/// Runs as long as the node does.
pub(crate) async fn publish(broker: Broker, runtime: Arc<GroupRuntime>) {
    let mut tick = interval(Duration::from_millis(broker.settings().consumer_offset_interval_ms.max(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut expiry = Instant::now() + EXPIRY_INTERVAL;
    loop {
        tick.tick().await;
        let Some(term) = *runtime.subscribe_serving().borrow() else { continue };
        let mut commits: BTreeMap<GroupId, Vec<Published>> = BTreeMap::new();
        for handle in runtime.pop().all(term) {
            let mut queue = handle.lock().await;
            let (group, partition) = (queue.pop.group().clone(), queue.pop.partition());
            match look(&broker, &runtime, &mut queue) {
                Ok(Some(offset)) => {
                    drop(queue);
                    commits.entry(group).or_default().push(Published { partition, offset, handle });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(consumer_group = %group, %partition, %error, "cannot publish how far a group is");
                }
            }
        }
        for (group, published) in commits {
            commit(&broker, group, published).await;
        }
        if Instant::now() >= expiry {
            expiry = Instant::now() + EXPIRY_INTERVAL;
            if let Err(error) = forget_idle(&broker, &runtime).await {
                tracing::error!(broker_group = %runtime.id(), %error, "cannot look for consumers that are gone");
            }
        }
    }
}

struct Published {
    partition: TopicPartition,
    offset: Offset,
    handle: QueueHandle,
}

/// Seeks where somebody else has committed an offset; gives the progress when it is news.
fn look(broker: &Broker, runtime: &GroupRuntime, queue: &mut Queue) -> ItemResult<Option<Offset>> {
    let (group, partition) = (queue.pop.group().clone(), queue.pop.partition());
    if has_members(broker, &group)? {
        return Ok(None);
    }
    if let Some(sought) = committed(broker, &group, partition)?.filter(|found| queue.told.is_news(found)) {
        tracing::info!(consumer_group = %group, %partition, offset = %sought.offset, "a group is set to another offset");
        let update = queue.pop.seek(sought.offset, now());
        queue.told = Told::nothing(queue.told.since, Some(&sought));
        submit(runtime, queue, update);
        return Ok(Some(sought.offset));
    }
    if queue.is_used && now().0 - queue.told.alive.0 >= ALIVE_MS {
        queue.is_used = false;
        queue.told.alive = now();
        let update = queue.pop.touch(now());
        submit(runtime, queue, update);
    }
    let progress = queue.pop.progress();
    Ok((queue.told.offset != Some(progress)).then_some(progress))
}

/// Nobody waits: when it fails, the queue is loaded anew, and looked at again.
fn submit(runtime: &GroupRuntime, queue: &Queue, update: PopUpdate) {
    drop(runtime.pop().submit(queue, update));
    runtime.wakeups().wake(&[queue.pop.partition()]);
}

async fn commit(broker: &Broker, group: GroupId, published: Vec<Published>) {
    let commit_timestamp = now();
    let offset = |at: &Published| {
        let committed =
            CommittedOffset { offset: at.offset, leader_epoch: None, metadata: MARK.to_owned(), commit_timestamp };
        (at.partition, committed)
    };
    let offsets = published.iter().map(offset).collect();
    let command = Command::Groups(GroupCommand::CommitOffsets(OffsetCommit { group: group.clone(), offsets }));
    let Ok(coordinator) = broker.coordinating_group(&group.0) else { return };
    match broker.propose(coordinator, &command, FlushWish::Now, Instant::now() + TIMEOUT).await {
        Ok(_) => {
            for at in published {
                at.handle.lock().await.told.offset = Some(at.offset);
            }
        }
        Err(error) => {
            tracing::debug!(consumer_group = %group, %error, "how far a group is could not be published; again later");
        }
    }
}

/// Forgets the consumers of broadcasting groups that nobody has heard of for as long as committed offsets are kept.
async fn forget_idle(broker: &Broker, runtime: &GroupRuntime) -> ItemResult<()> {
    let before = now().0.saturating_sub(i64::try_from(broker.settings().offsets_retention_ms).unwrap_or(i64::MAX));
    let catalog = broker.catalog();
    let tables = runtime.tables();
    let mut idle = Vec::new();
    for (topic, partitions) in catalog.hosted_by(runtime.id()) {
        for partition in partitions.into_iter().map(|partition| TopicPartition { topic: topic.id, partition }) {
            for group in reader::pop_groups(&*tables, partition).map_err(storage)? {
                let cursor = reader::pop_cursor(&*tables, partition, &group).map_err(storage)?;
                let is_idle = cursor.is_none_or(|cursor| cursor.at.0 < before);
                if is_idle && consumers::broadcasting(&catalog, &group).is_some() {
                    idle.push((group, partition));
                }
            }
        }
    }
    for (group, partition) in idle {
        tracing::info!(consumer_group = %group, %partition, "a consumer of a broadcasting group is forgotten");
        let Led { runtime, handle } = led(broker, &group, partition).await?;
        runtime.pop().forget(&mut *handle.lock().await).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64, at: i64, metadata: &str) -> CommittedOffset {
        CommittedOffset {
            offset: Offset(offset),
            leader_epoch: None,
            metadata: metadata.to_owned(),
            commit_timestamp: TimestampMs(at),
        }
    }

    #[test]
    fn a_commit_of_somebody_else_is_news_once() {
        let last_here = 1_000_000;
        let told = Told::nothing(TimestampMs(last_here), None);
        for (at, metadata, is_news) in [
            // This node learns of it long after it has loaded the queue.
            (last_here + 1, "", true),
            (last_here + 3_600_000, "a tool's", true),
            // By another clock, or behind the back of the leader before.
            (last_here - GRACE_MS + 1, "", true),
            (last_here - GRACE_MS, "", false),
            (last_here + 1, MARK, false),
        ] {
            assert_eq!(told.is_news(&committed(7, at, metadata)), is_news, "{at} {metadata:?}");
        }
        let sought = committed(7, last_here + 1, "");
        let told = Told::nothing(told.since, Some(&sought));
        assert!(!told.is_news(&sought), "it was followed");
        assert!(told.is_news(&committed(7, last_here + 2, "")), "the same offset once more");
    }
}
