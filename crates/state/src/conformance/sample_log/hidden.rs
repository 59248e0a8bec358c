//! Hidden batches of the sample log: stored, ended once, asked about, forgotten.

use bytes::Bytes;
use duolog_record::entry::{
    Address, BatchMeta, Close, Closing, EntryBuilder, EntryView, Hidden, HiddenReason, NO_OFFSET, Payload,
};
use duolog_record::{BatchBuilder, BatchFilter};
use duolog_types::{Durability, LogIndex, Offset, Term, TimestampMs, TopicPartition};

use super::{ModelPartition, SampleLog};
use crate::command::{CheckBack, Command, HiddenCommand};
use crate::rows::{HiddenRow, HiddenState};

/// What was hidden in an entry that is being made.
pub(super) type Stored = Vec<(TopicPartition, u32, Hidden)>;

impl SampleLog {
    fn clock(&mut self) -> TimestampMs {
        TimestampMs((self.next_index * 10 + self.below(200)).cast_signed())
    }

    fn meta(&mut self, partition: TopicPartition, base_offset: Offset) -> BatchMeta {
        let durability = Durability::ALL[self.below(4) as usize];
        BatchMeta { partition, base_offset, durability, flags: 0, log_append_time: None }
    }

    pub(super) fn push_hidden(&mut self, builder: &mut EntryBuilder, stored: &mut Stored) {
        let partition = self.any_partition();
        let reason = if self.below(2) == 0 { HiddenReason::Half } else { HiddenReason::Delayed };
        let hidden = Hidden { reason, time: self.clock() };
        let mut batch = BatchBuilder::new();
        batch.push(hidden.time, None, Some(b"hidden")).expect("a small record fits");
        if self.partitions.contains_key(&partition) {
            stored.push((partition, builder.len() as u32, hidden));
        }
        let meta = self.meta(partition, NO_OFFSET);
        builder.push_hidden(meta, hidden, &batch.build().expect("it has a record"));
    }

    /// From now on what the entry has hidden can be ended.
    pub(super) fn remember(&mut self, body: &Bytes, stored: Stored) {
        let view = EntryView::parse(body.clone()).expect("what was built can be read");
        for (partition, number, hidden) in stored {
            let slot = view.slot(number).expect("it was pushed");
            let address = Address { index: LogIndex(self.next_index), slot: number };
            let row = HiddenRow::new(&slot, self.barrier.term, hidden, BatchFilter::of_batch(&view.batch(&slot)));
            self.hidden.insert((partition, address), row);
        }
    }

    /// A reference or a close of something that waits; now and then a close of something that does not.
    pub(super) fn push_end(&mut self, builder: &mut EntryBuilder) {
        let waiting = self.hidden.iter().filter(|(_, row)| row.state.waiting().is_some());
        let waiting: Vec<_> = waiting.map(|(key, row)| (*key, *row)).collect();
        let keep_until = self.clock();
        if waiting.is_empty() || self.below(10) == 0 {
            let close = Close { address: self.any_address(), closing: Closing::RolledBack, keep_until };
            if !self.hidden.iter().any(|((_, address), _)| *address == close.address) {
                let partition = self.any_partition();
                let meta = self.meta(partition, NO_OFFSET);
                builder.push_close(meta, close);
            }
            return;
        }
        let ((partition, address), row) = waiting[self.below(waiting.len() as u64) as usize];
        let closing = match (row.state.waiting(), self.below(4)) {
            (_, 0..=1) => None,
            (Some(HiddenReason::Delayed), _) => Some(Closing::Recalled),
            (_, 2) => Some(Closing::RolledBack),
            _ => Some(Closing::GivenUp),
        };
        match closing {
            None => self.push_reference(builder, partition, row.payload(address), row),
            Some(closing) => {
                let meta = self.meta(partition, NO_OFFSET);
                builder.push_close(meta, Close { address, closing, keep_until });
                let state = match closing {
                    Closing::Recalled => None,
                    Closing::RolledBack => Some(HiddenState::RolledBack { keep_until }),
                    Closing::GivenUp => Some(HiddenState::GivenUp { keep_until }),
                };
                match state {
                    Some(state) => self.hidden.insert((partition, address), HiddenRow { state, ..row }),
                    None => self.hidden.remove(&(partition, address)),
                };
            }
        }
    }

    fn push_reference(&mut self, builder: &mut EntryBuilder, tp: TopicPartition, payload: Payload, row: HiddenRow) {
        let offset = self.partitions.get(&tp).map_or(0, ModelPartition::log_end);
        let (meta, visible_at) = (self.meta(tp, Offset(offset)), self.clock());
        builder.push_reference(meta, payload, visible_at);
        let Term(term) = self.barrier.term;
        self.partitions.entry(tp).or_default().batches.push((offset, 1, visible_at.0, term));
        let reason = row.state.waiting().expect("only what waits becomes visible");
        let state = HiddenState::Visible { reason, offset: Offset(offset) };
        self.hidden.insert((tp, payload.address), HiddenRow { state, ..row });
    }

    /// In an entry before this one.
    fn any_address(&mut self) -> Address {
        Address { index: LogIndex(self.below(self.next_index)), slot: self.below(4) as u32 }
    }

    pub(super) fn hidden_command(&mut self) -> Command {
        if self.below(3) == 0 {
            let now = TimestampMs((self.next_index * 10).cast_signed());
            let is_over = |state: &HiddenState| match state {
                HiddenState::RolledBack { keep_until } | HiddenState::GivenUp { keep_until } => *keep_until <= now,
                HiddenState::Half { .. } | HiddenState::Delayed { .. } | HiddenState::Visible { .. } => false,
            };
            self.hidden.retain(|_, row| !is_over(&row.state));
            return Command::Hidden(HiddenCommand::Forget { now });
        }
        let keys: Vec<_> = self.hidden.keys().copied().collect();
        let is_question = self.below(2) == 0;
        let mut due = Vec::new();
        for (partition, address) in keys {
            let (checks, next) = (self.below(3) as u32, self.clock());
            due.push(CheckBack { partition, address, checks, next });
            let row = self.hidden.get_mut(&(partition, address)).expect("it was listed");
            if matches!(row.state, HiddenState::Half { checks: asked, .. } if asked == checks) {
                row.state = HiddenState::Half { check_at: next, checks: checks + u32::from(is_question) };
            }
        }
        Command::Hidden(if is_question { HiddenCommand::CheckBack { due } } else { HiddenCommand::Claim { due } })
    }
}
