//! The order of messages of one message group.

use std::collections::{BTreeMap, BTreeSet};

use duolog_types::Offset;

/// Hash of a message group, FNV-1a with 64 bits. It is stored, so it never changes. Two groups with one hash wait for each other.
#[must_use]
pub fn order_of(message_group: &[u8]) -> u64 {
    message_group
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// What is out per message group.
#[derive(Debug, Default)]
pub(super) struct Orders(BTreeMap<u64, BTreeSet<Offset>>);

impl Orders {
    pub(super) fn insert(&mut self, order: Option<u64>, offset: Offset) {
        if let Some(order) = order {
            self.0.entry(order).or_default().insert(offset);
        }
    }

    pub(super) fn remove(&mut self, order: Option<u64>, offset: Offset) {
        if let Some(order) = order
            && let Some(out) = self.0.get_mut(&order)
        {
            out.remove(&offset);
            if out.is_empty() {
                self.0.remove(&order);
            }
        }
    }

    /// Whether something of the message group before this offset is out, apart from what `is_taken` says is being taken.
    pub(super) fn is_blocked(&self, order: Option<u64>, offset: Offset, is_taken: impl Fn(Offset) -> bool) -> bool {
        let out = order.and_then(|order| self.0.get(&order));
        out.is_some_and(|out| out.range(..offset).any(|earlier| !is_taken(*earlier)))
    }
}
