//! One delivery in the making.

use duolog_state::command::PopUpdate;
use duolog_state::rows::{DeliveryRow, PendingMessage, PopCursorRow};
use duolog_types::{DeliveryId, Offset, TimestampMs};

use super::queue::{HELD, PopQueue};

/// How far a delivery looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Messages that wait behind others of their group, at most; then nothing new is offered until some are settled.
    pub held_max: usize,
    /// So many more that are due are looked at than are wanted, so that those come first that were sent first.
    pub ahead: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { held_max: 1_024, ahead: 1_024 }
    }
}

/// A delivery in the making: it begins with [`PopQueue::take`] and MUST end with [`PopQueue::deliver`]; in between the queue is asked
/// for nothing else.
#[derive(Debug)]
pub struct Taking {
    update: PopUpdate,
    now: TimestampMs,
    messages: Vec<PendingMessage>,
    exhausted: Vec<PendingMessage>,
    held: Vec<PendingMessage>,
    count_max: usize,
    attempts_max: u32,
}

/// What became of a record that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is delivered, or passed over, or held.
    Done,
    /// Nothing more is wanted; the record was not taken.
    Full,
}

/// A message that is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its offset.
    pub offset: Offset,
    /// How many times it was delivered, with this one.
    pub attempt: u32,
}

impl Taking {
    /// Whether there is room for more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many more it can take.
    #[must_use]
    pub fn room(&self) -> usize {
        self.count_max.saturating_sub(self.messages.len())
    }

    /// The messages so far, in the order in which they are delivered.
    pub fn taken(&self) -> impl Iterator<Item = Taken> + '_ {
        self.messages.iter().map(|message| Taken { offset: message.offset, attempt: message.attempts })
    }

    /// Messages that were delivered as often as is allowed: dead letters.
    pub fn exhausted(&self) -> impl Iterator<Item = Offset> + '_ {
        self.exhausted.iter().map(|message| message.offset)
    }

    fn is_taken(&self, offset: Offset) -> bool {
        self.messages.iter().any(|message| message.offset == offset)
    }
}

impl PopQueue {
    /// Begins a delivery of at most `count_max` messages with those that are due again. Those that were delivered
    /// `attempts_max` times are [`Taking::exhausted`].
    pub fn take(&mut self, now: TimestampMs, count_max: usize, attempts_max: u32) -> Taking {
        let mut taking = Taking {
            update: PopUpdate::new(self.group.clone(), self.partition),
            now,
            messages: Vec::new(),
            exhausted: Vec::new(),
            held: Vec::new(),
            count_max,
            attempts_max,
        };
        let until = (TimestampMs(now.0 + 1), HELD);
        let mut again: Vec<(Offset, DeliveryId)> = Vec::new();
        // What waits for an earlier message does not count: that one may be in a delivery that became due later.
        let mut free = 0;
        for (_, id) in self.due.range(..until) {
            for message in &self.deliveries[id].messages {
                again.push((message.offset, *id));
                free += usize::from(!self.orders.is_blocked(message.order, message.offset, |_| false));
            }
            if free >= count_max + self.bounds.ahead {
                break;
            }
        }
        again.sort_unstable();
        for (offset, id) in again {
            if !taking.has_room() {
                break;
            }
            self.take_again(&mut taking, id, offset);
        }
        taking
    }

    fn take_again(&mut self, taking: &mut Taking, id: DeliveryId, offset: Offset) {
        let row = &self.deliveries[&id];
        let Some(message) = row.messages.iter().find(|message| message.offset == offset).copied() else { return };
        // What is exhausted is taken, too, but it is not consumed yet: what follows in its message group waits for that.
        if self.orders.is_blocked(message.order, offset, |earlier| taking.is_taken(earlier)) {
            return;
        }
        self.remove(id, offset, &mut taking.update);
        if message.attempts >= taking.attempts_max {
            taking.exhausted.push(message);
        } else {
            taking.messages.push(PendingMessage { attempts: message.attempts + 1, ..message });
        }
        // It stays out until the delivery is made.
        self.orders.insert(message.order, offset);
    }

    /// Offers the record at or after the cursor that comes next: `order` is the hash of its message group, where that matters.
    pub fn offer(&mut self, taking: &mut Taking, offset: Offset, order: Option<u64>, is_wanted: bool) -> Offer {
        if !is_wanted {
            self.cursor = Offset(offset.0 + 1);
            return Offer::Done;
        }
        let message = PendingMessage { offset, attempts: 1, order };
        if self.orders.is_blocked(order, offset, |earlier| taking.is_taken(earlier)) {
            let held = self.deliveries.get(&HELD).map_or(0, |row| row.messages.len());
            if held + taking.held.len() >= self.bounds.held_max {
                return Offer::Full;
            }
            taking.held.push(PendingMessage { attempts: 0, ..message });
        } else if taking.has_room() {
            taking.messages.push(message);
        } else {
            return Offer::Full;
        }
        self.orders.insert(order, offset);
        self.cursor = Offset(offset.0 + 1);
        Offer::Done
    }

    /// Goes on at a later offset: nothing before it is wanted.
    pub fn pass_over(&mut self, to: Offset) {
        self.cursor = self.cursor.max(to);
    }

    /// Takes a message out of a delivery in the making: its record is gone. It counts as consumed.
    pub fn drop_taken(&mut self, taking: &mut Taking, offset: Offset) {
        for list in [&mut taking.messages, &mut taking.exhausted] {
            list.retain(|message| {
                if message.offset == offset {
                    self.orders.remove(message.order, offset);
                }
                message.offset != offset
            });
        }
    }

    /// Ends a delivery: from now on its messages are out until `due`. What is exhausted goes into `exhausted_id`, to be settled
    /// once it lies in the dead-letter topic. `None` when nothing changes.
    pub fn deliver(
        &mut self,
        taking: Taking,
        (id, due, keeper): (DeliveryId, TimestampMs, Option<String>),
        (exhausted_id, exhausted_due): (DeliveryId, TimestampMs),
    ) -> Option<PopUpdate> {
        let Taking { mut update, now, messages, exhausted, held, .. } = taking;
        if !messages.is_empty() {
            update.added.push((id, DeliveryRow { due, keeper, messages }));
        }
        if !exhausted.is_empty() {
            update.added.push((exhausted_id, DeliveryRow { due: exhausted_due, keeper: None, messages: exhausted }));
        }
        if !held.is_empty() {
            let mut row = self.deliveries.get(&HELD).cloned().unwrap_or(DeliveryRow {
                due: TimestampMs(0),
                keeper: None,
                messages: Vec::new(),
            });
            row.messages.extend(held);
            update.added.push((HELD, row));
        }
        for (id, row) in &update.added {
            self.insert(*id, row.clone());
        }
        if update.is_empty() {
            return None;
        }
        update.cursor = Some(PopCursorRow { offset: self.cursor, at: now });
        Some(update)
    }
}
