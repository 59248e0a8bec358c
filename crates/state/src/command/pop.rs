//! Deliveries of single messages.

use duolog_record::group::GroupId;
use duolog_types::{DeliveryId, Offset, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::rows::{DeliveryRow, PopCursorRow};

/// A change of what one consumer group has taken of one partition. The leader has decided everything: its machine is the only one
/// that proposes such changes in its term, and begins with what is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopUpdate {
    /// The group.
    pub group: GroupId,
    /// The partition.
    pub partition: TopicPartition,
    /// Moves the cursor, or says that the group is alive.
    pub cursor: Option<PopCursorRow>,
    /// Messages that leave their deliveries: acknowledged, or taken into a new delivery. A delivery without messages goes.
    pub removed: Vec<(DeliveryId, Vec<Offset>)>,
    /// Deliveries that are moved in time.
    pub extended: Vec<(DeliveryId, TimestampMs)>,
    /// New deliveries; one with the id of an old one replaces it.
    pub added: Vec<(DeliveryId, DeliveryRow)>,
    /// Everything of the group in this partition goes, and nothing else counts.
    pub forget: bool,
}

impl PopUpdate {
    /// Nothing yet.
    #[must_use]
    pub fn new(group: GroupId, partition: TopicPartition) -> Self {
        Self {
            group,
            partition,
            cursor: None,
            removed: Vec::new(),
            extended: Vec::new(),
            added: Vec::new(),
            forget: false,
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.forget
            && self.cursor.is_none()
            && self.removed.is_empty()
            && self.extended.is_empty()
            && self.added.is_empty()
    }
}
