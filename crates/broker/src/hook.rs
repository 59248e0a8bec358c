//! The append hook: judges a leader's own entries in the moment in which they are appended, by the same rule as apply and
//! by nothing but the log. What counts here is what `appended` and `received` acks may rest on.

use std::sync::Arc;

use bytes::Bytes;
use duolog_record::entry::{EntryView, Slot, SlotKind};
use duolog_replication::EntryTap;
use duolog_state::command::{Command, PartitionCommand};
use duolog_state::run::{LogEnds, RunBarrier, Verdict};
use duolog_state::{EntryKind, StateError, TableReader, reader};
use duolog_types::{AckPoint, LogIndex, Offset, Term, TopicPartition};

use crate::leader_log::{LeaderLog, TailBatch, TailReference};
use crate::runtime::{GroupRuntime, Waiter};
use crate::sequencer_task::SequencerEvent;

/// The hook of one broker group.
pub(crate) struct Hook(pub(crate) Arc<GroupRuntime>);

/// The log ends that the judge compares with: the leader's own, else the applied ones.
struct Ends<'a> {
    log: &'a LeaderLog<Waiter>,
    tables: Arc<dyn TableReader>,
}

impl LogEnds for Ends<'_> {
    fn log_end(&mut self, partition: TopicPartition) -> Result<Option<Offset>, StateError> {
        if self.log.is_deleted(partition.topic) {
            return Ok(None);
        }
        match self.log.ends(partition) {
            Some((_, end)) => Ok(Some(end)),
            None => reader::log_end(&*self.tables, partition),
        }
    }

    fn advance(&mut self, _: TopicPartition, _: Offset) {
        // `LeaderLog::appended` moves them.
    }
}

impl EntryTap for Hook {
    fn entry_appended(&self, term: Term, index: LogIndex, kind: EntryKind, body: &Bytes) {
        match kind {
            EntryKind::RunBarrier => {
                // A damaged barrier opens nothing; apply stops the replica.
                if let Ok(barrier) = RunBarrier::decode(body) {
                    self.0.judge().lock().barrier(term, barrier);
                }
            }
            EntryKind::Batches => self.batches(term, index, body),
            EntryKind::Command => self.command(term, body),
            EntryKind::Blank | EntryKind::Membership => {}
        }
    }

    fn truncated_after(&self, _: Option<LogIndex>) {
        // Only a follower's log is truncated, and its judge starts again with the next barrier.
    }

    /// By the batches' modes: an entry that is flushed now for one batch may carry another that is answered earlier.
    fn is_answered_unflushed(&self, kind: EntryKind, body: &Bytes) -> bool {
        kind == EntryKind::Batches
            && EntryView::parse(body.clone())
                .map_or(true, |view| view.slots().any(|slot| slot.durability.ack_point() != AckPoint::Committed))
    }
}

impl Hook {
    fn batches(&self, term: Term, index: LogIndex, body: &Bytes) {
        let mut leader = self.0.leader().lock();
        let Some(log) = leader.as_mut().filter(|log| log.term() == term) else { return };
        let Ok(view) = EntryView::parse(body.clone()) else { return };
        let header = view.header();
        let tables = self.0.tables();
        let mut judge = self.0.judge().lock();
        let verdict = judge.batches(term, header, view.slots(), &mut Ends { log, tables: tables.clone() });
        drop(judge);
        let event = match verdict {
            Ok(Verdict::Counts { void_slots }) => {
                let now_ms = self.0.now_ms();
                let batches = view
                    .slots()
                    .zip(0_u32..)
                    .filter(|(_, number)| void_slots.binary_search(number).is_err())
                    .filter_map(|(slot, _)| Some((slot.partition, tail_batch(index, &slot, now_ms)?, Vec::new())));
                // The judge has found every end that is asked for here.
                let applied_end = |partition| reader::log_end(&*tables, partition).ok().flatten().unwrap_or_default();
                log.appended(index, batches, applied_end);
                SequencerEvent::Appended(header, index)
            }
            Ok(Verdict::Refused(refusal)) => {
                tracing::warn!(broker_group = %self.0.id(), log_index = %index, ?refusal, "an entry does not count");
                SequencerEvent::DoesNotCount(header)
            }
            Err(error) => {
                tracing::error!(broker_group = %self.0.id(), log_index = %index, %error, "cannot judge an entry");
                SequencerEvent::DoesNotCount(header)
            }
        };
        drop(leader);
        // The task ends with the node.
        let _ = self.0.sequencer().events.send(event);
    }

    /// A deleted topic's batches that follow in the log are void.
    fn command(&self, term: Term, body: &Bytes) {
        let mut leader = self.0.leader().lock();
        let Some(log) = leader.as_mut().filter(|log| log.term() == term) else { return };
        if let Ok(Command::Partitions(PartitionCommand::DeleteTopic { topic_id, .. })) = Command::decode(body) {
            log.delete_topic(topic_id);
        }
    }
}

/// What the slot adds to its partition; a hidden batch and a close add nothing.
fn tail_batch(index: LogIndex, slot: &Slot, now_ms: u64) -> Option<TailBatch> {
    let (reference, start, end) = match slot.kind {
        SlotKind::Batch => (None, slot.start, slot.end),
        SlotKind::Reference(payload) => {
            let reference = TailReference { index: payload.address.index, at: slot.max_timestamp };
            (Some(reference), payload.start, payload.start + payload.size_bytes)
        }
        SlotKind::Hidden(_) | SlotKind::Close(_) => return None,
    };
    Some(TailBatch {
        base_offset: slot.base_offset,
        end_offset: slot.end_offset(),
        index,
        reference,
        start,
        end,
        durability: slot.durability,
        appended_ms: now_ms,
    })
}
