//! What one consumer group has taken of one partition.

use std::collections::{BTreeMap, BTreeSet};

use duolog_record::group::GroupId;
use duolog_state::command::PopUpdate;
use duolog_state::reader::PopState;
use duolog_state::rows::{DeliveryRow, PendingMessage, PopCursorRow};
use duolog_types::{DeliveryId, Offset, TimestampMs, TopicPartition};

use super::order::Orders;
use super::take::Bounds;

/// The delivery that holds what waits for an earlier message of its group. It is always due.
pub(super) const HELD: DeliveryId = DeliveryId(0);

/// A consumer group in a partition. See the module.
///
/// Invariants: `due`, `lowest`, `orders` and `keepers` say what `deliveries` say; a message is in at most one delivery; all lie below the
/// cursor.
#[derive(Debug)]
pub struct PopQueue {
    pub(super) group: GroupId,
    pub(super) partition: TopicPartition,
    pub(super) cursor: Offset,
    pub(super) deliveries: BTreeMap<DeliveryId, DeliveryRow>,
    pub(super) due: BTreeSet<(TimestampMs, DeliveryId)>,
    /// The first message of each delivery, by offset.
    lowest: BTreeSet<(Offset, DeliveryId)>,
    pub(super) orders: Orders,
    /// Deliveries of consumers that prolong them by signs of life.
    keepers: BTreeMap<String, BTreeMap<DeliveryId, Answer>>,
    pub(super) bounds: Bounds,
}

/// A connection of a consumer, by a number that no other one of this process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// What is known of the answer with a delivery. Only what has surely come is prolonged: as long as its consumer lives nobody else would
/// ever get the messages of one that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It may be lost with an earlier leader, or with the node that has sent the request on.
    Unsure,
    /// It went over this connection. Nothing behind it would come if it were lost.
    Over(ConnectionId),
    /// It has come; with the time of the first sign of life that prolonged it.
    Came(Option<TimestampMs>),
}

/// How a sign of life prolongs deliveries.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// The leader's clock.
    pub now: TimestampMs,
    /// Those are prolonged that would be due before this time,
    pub before: TimestampMs,
    /// and become due at this one.
    pub due: TimestampMs,
    /// Nothing is prolonged for longer than this, from the first sign of life on.
    pub ms_max: i64,
}

impl PopQueue {
    /// Goes on where the applied state stands; `start` is the cursor of a group that has taken nothing yet.
    #[must_use]
    pub fn load(group: GroupId, partition: TopicPartition, start: Offset, state: PopState) -> Self {
        let mut queue = Self {
            group,
            partition,
            cursor: state.cursor.map_or(start, |row| row.offset),
            deliveries: BTreeMap::new(),
            due: BTreeSet::new(),
            lowest: BTreeSet::new(),
            orders: Orders::default(),
            keepers: BTreeMap::new(),
            bounds: Bounds::default(),
        };
        for (id, row) in state.deliveries {
            queue.insert(id, row);
        }
        queue
    }

    /// The same with other bounds than the broker's, which a test would never reach.
    #[must_use]
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        &self.group
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// The first offset that nobody was offered yet.
    #[must_use]
    pub fn cursor(&self) -> Offset {
        self.cursor
    }

    /// Every offset below is settled or was passed over.
    #[must_use]
    pub fn progress(&self) -> Offset {
        self.lowest.first().map_or(self.cursor, |(offset, _)| *offset)
    }

    /// Goes on at another offset; what is out counts as consumed.
    pub fn seek(&mut self, offset: Offset, now: TimestampMs) -> PopUpdate {
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        let out = self.deliveries.iter().map(|(id, row)| (*id, row.messages.iter().map(|m| m.offset).collect()));
        update.removed = out.collect();
        update.cursor = Some(PopCursorRow { offset, at: now });
        let empty = Self::load(self.group.clone(), self.partition, offset, PopState::default());
        *self = empty.with_bounds(self.bounds);
        update
    }

    /// Says that the group is alive, though nothing moves.
    #[must_use]
    pub fn touch(&self, now: TimestampMs) -> PopUpdate {
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        update.cursor = Some(PopCursorRow { offset: self.cursor, at: now });
        update
    }

    /// Messages that are delivered, or held, and not settled.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.deliveries.values().map(|row| row.messages.len()).sum()
    }

    /// Everything that is out or held.
    #[must_use]
    pub fn deliveries(&self) -> &BTreeMap<DeliveryId, DeliveryRow> {
        &self.deliveries
    }

    /// When the next delivery becomes due after `now`.
    #[must_use]
    pub fn next_due(&self, now: TimestampMs) -> Option<TimestampMs> {
        let after = (TimestampMs(now.0 + 1), HELD);
        self.due.range(after..).next().map(|(due, _)| *due)
    }

    /// Whether a receipt is good: the message is out in this delivery.
    #[must_use]
    pub fn is_out(&self, id: DeliveryId, offset: Offset) -> bool {
        self.pending_message(id, offset).is_some()
    }

    /// How many times a message of a delivery was delivered.
    #[must_use]
    pub fn attempts(&self, id: DeliveryId, offset: Offset) -> Option<u32> {
        self.pending_message(id, offset).map(|message| message.attempts)
    }

    /// The messages of a delivery, as far as they are not settled.
    #[must_use]
    pub fn delivery(&self, id: DeliveryId) -> &[PendingMessage] {
        self.deliveries.get(&id).map_or(&[], |row| &row.messages)
    }

    /// Settles messages: which of the receipts were good, in order, and the change.
    pub fn settle(&mut self, receipts: &[(DeliveryId, Offset)]) -> (Vec<bool>, PopUpdate) {
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        let mut settle = |(id, offset): &(DeliveryId, Offset)| {
            let is_good = self.is_out(*id, *offset) && self.remove(*id, *offset, &mut update).is_some();
            if is_good {
                self.keep_from_now_on(*id);
            }
            is_good
        };
        let good = receipts.iter().map(&mut settle).collect();
        (good, update)
    }

    /// The consumer has the messages of a delivery.
    fn keep_from_now_on(&mut self, id: DeliveryId) {
        if let Some(keeper) = self.deliveries.get(&id).and_then(|row| row.keeper.clone()) {
            let answer = self.keepers.entry(keeper).or_default().entry(id).or_insert(Answer::Unsure);
            if !matches!(answer, Answer::Came(_)) {
                *answer = Answer::Came(None);
            }
        }
    }

    /// The answer with a delivery goes over a connection of its consumer.
    pub fn answered_over(&mut self, id: DeliveryId, connection: ConnectionId) {
        if let Some(keeper) = self.deliveries.get(&id).and_then(|row| row.keeper.clone()) {
            self.keepers.entry(keeper).or_default().insert(id, Answer::Over(connection));
        }
    }

    /// Gives one message of a delivery a delivery of its own that is due at another time. `None` for a bad receipt.
    pub fn move_message(
        &mut self,
        (id, offset): (DeliveryId, Offset),
        new: DeliveryId,
        due: TimestampMs,
    ) -> Option<PopUpdate> {
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        let message = self.is_out(id, offset).then(|| self.remove(id, offset, &mut update)).flatten()?;
        let row = DeliveryRow { due, keeper: None, messages: vec![message] };
        self.insert(new, row.clone());
        update.added.push((new, row));
        Some(update)
    }

    /// The answer with a delivery is given once more: under another id, so that the old one's receipts are worth nothing, and due as if it
    /// were new.
    pub fn answer_again(&mut self, old: DeliveryId, new: DeliveryId, due: TimestampMs) -> PopUpdate {
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        let Some(row) = self.deliveries.get(&old).cloned().filter(|_| old != HELD) else { return update };
        for message in &row.messages {
            self.remove(old, message.offset, &mut update);
        }
        let row = DeliveryRow { due, ..row };
        self.insert(new, row.clone());
        update.added.push((new, row));
        update
    }

    /// A consumer gives a sign of life over a connection: its deliveries that would be due soon, and have surely come, are due later. One that
    /// it has kept for very long is left alone: it may have forgotten it.
    pub fn keep(&mut self, keeper: &str, connection: ConnectionId, renewal: Renewal) -> PopUpdate {
        let Renewal { now, before, due, ms_max } = renewal;
        let mut update = PopUpdate::new(self.group.clone(), self.partition);
        for (id, answer) in self.keepers.get_mut(keeper).into_iter().flatten() {
            let row = self.deliveries.get_mut(id).expect("keepers name deliveries");
            if row.due >= before {
                continue;
            }
            let since = match answer {
                Answer::Came(since) => since.unwrap_or(now),
                Answer::Over(over) if *over == connection => now,
                Answer::Over(_) | Answer::Unsure => continue,
            };
            *answer = Answer::Came(Some(since));
            if now.0.saturating_sub(since.0) < ms_max {
                self.due.remove(&(row.due, *id));
                row.due = due;
                self.due.insert((due, *id));
                update.extended.push((*id, due));
            }
        }
        update
    }

    pub(super) fn insert(&mut self, id: DeliveryId, row: DeliveryRow) {
        self.due.insert((row.due, id));
        // What is held grows: the row takes the place of a shorter one.
        if let Some(known) = self.deliveries.get(&id).and_then(lowest) {
            self.lowest.remove(&(known, id));
        }
        self.lowest.extend(lowest(&row).map(|offset| (offset, id)));
        for message in &row.messages {
            self.orders.insert(message.order, message.offset);
        }
        if let Some(keeper) = &row.keeper {
            self.keepers.entry(keeper.clone()).or_default().insert(id, Answer::Unsure);
        }
        self.deliveries.insert(id, row);
    }

    /// Takes a message out of its delivery and says so in the change.
    pub(super) fn remove(&mut self, id: DeliveryId, offset: Offset, update: &mut PopUpdate) -> Option<PendingMessage> {
        let row = self.deliveries.get_mut(&id)?;
        let at = row.messages.iter().position(|message| message.offset == offset)?;
        let before = lowest(row);
        let message = row.messages.remove(at);
        if before == Some(offset) {
            self.lowest.remove(&(offset, id));
            self.lowest.extend(lowest(row).map(|next| (next, id)));
        }
        self.orders.remove(message.order, offset);
        if row.messages.is_empty() {
            self.due.remove(&(row.due, id));
            if let Some(keeper) = &row.keeper
                && let Some(kept) = self.keepers.get_mut(keeper)
            {
                kept.remove(&id);
                if kept.is_empty() {
                    self.keepers.remove(keeper);
                }
            }
            self.deliveries.remove(&id);
        }
        match update.removed.iter_mut().find(|(known, _)| *known == id) {
            Some((_, offsets)) => offsets.push(offset),
            None => update.removed.push((id, vec![offset])),
        }
        Some(message)
    }

    fn pending_message(&self, id: DeliveryId, offset: Offset) -> Option<&PendingMessage> {
        // What is held was not delivered: nobody has a receipt.
        let row = self.deliveries.get(&id).filter(|_| id != HELD)?;
        row.messages.iter().find(|message| message.offset == offset)
    }
}

/// The first of a delivery's messages.
fn lowest(row: &DeliveryRow) -> Option<Offset> {
    row.messages.iter().map(|message| message.offset).min()
}
