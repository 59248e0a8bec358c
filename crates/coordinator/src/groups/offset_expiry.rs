//! Which committed offsets have outlived their time: `offsets.retention.minutes`, and topics that were deleted.
//!
//! | group | its offsets live until |
//! |---|---|
//! | never had members | the retention after their commit |
//! | Empty | the retention after it became empty, or after their commit if that was later |
//! | Stable, of consumers | for topics that nobody subscribes to: the retention after their commit |
//! | everything else | for ever |
//!
//! As Kafka's `ClassicGroup.offsetExpirationCondition`, but for "if that was later": an administrator may commit offsets of
//! a group that has been empty for long, and wants to find them again. The offset of a deleted topic goes at once.
//! An Empty group of which no offset is left goes too.

use duolog_types::{TimestampMs, TopicPartition};

use super::event::Expired;
use super::group::{Group, Phase};
use super::subscription::Subscription;

/// A committed offset as the applied state has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// Its topic's name; `None` when the topic was deleted.
    pub topic: Option<String>,
    /// When it was committed, by the leader's clock of then.
    pub commit_timestamp: TimestampMs,
}

/// The time of a look, and how long offsets are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryRule {
    /// The leader's wall clock.
    pub now: TimestampMs,
    /// Since when the group has had no members; `None` when the state does not know.
    pub empty_since: Option<TimestampMs>,
    /// How long offsets are kept.
    pub retention_ms: i64,
}

impl ExpiryRule {
    fn is_over(&self, since: TimestampMs) -> bool {
        self.now.0.saturating_sub(since.0) >= self.retention_ms
    }
}

impl Group {
    /// What is to go; `None` when nothing is.
    pub fn expired_offsets(&self, offsets: &[StoredOffset], rule: &ExpiryRule) -> Option<Expired> {
        let subscription = self.subscription();
        let is_expired = |offset: &&StoredOffset| match &offset.topic {
            None => true,
            Some(topic) => self.is_expired(topic, offset.commit_timestamp, &subscription, rule),
        };
        let expired: Vec<_> = offsets.iter().filter(is_expired).map(|o| (o.partition, o.commit_timestamp)).collect();
        let is_unused = self.phase == Phase::Empty && self.pending_members.is_empty();
        let removes_group = is_unused && expired.len() == offsets.len();
        (removes_group || !expired.is_empty()).then(|| Expired {
            group: self.id.clone(),
            offsets: expired,
            removes_group,
        })
    }

    fn is_expired(&self, topic: &str, committed: TimestampMs, subscription: &Subscription, rule: &ExpiryRule) -> bool {
        match (&self.protocol_type, self.phase) {
            (None, Phase::Empty) => rule.is_over(committed),
            (Some(_), Phase::Empty) => rule.is_over(rule.empty_since.map_or(committed, |since| since.max(committed))),
            (Some(_), Phase::Stable) => {
                self.is_of_consumers() && !subscription.includes(topic) && rule.is_over(committed)
            }
            (_, Phase::PreparingRebalance | Phase::CompletingRebalance | Phase::Dead) | (None, Phase::Stable) => false,
        }
    }
}
