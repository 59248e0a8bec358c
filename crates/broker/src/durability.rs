//! What each topic promises, and what this node, as leader of some of its partitions, has acknowledged and could still lose.

use duolog_types::{Durability, FlushWish, TopicPartition};

use crate::broker::Broker;
use crate::catalog::Topic;
use crate::leader_log::Exposure;

/// A topic's durability as one node sees it. Add up the nodes for the whole topic; for ages take the greatest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDurability {
    /// The topic's name.
    pub topic: String,
    /// Its mode, for records from now on.
    pub durability: Durability,
    /// How long a record may wait for its flush, in milliseconds; `None` with synchronous flush.
    pub flush_ms: Option<u32>,
    /// Voters of its broker groups; the smallest number where they differ.
    pub replicas: usize,
    /// Its partitions.
    pub partitions: usize,
    /// What this node adds.
    pub led: LedExposure,
}

/// The exposure of those partitions of a topic that this node leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedExposure {
    /// How many there are.
    pub partitions: usize,
    /// What would be lost with this node: acknowledged, and not received by a quorum.
    pub leader_loss: Exposure,
    /// What would be lost with the power of all machines: acknowledged, and not flushed by a quorum.
    pub power_loss: Exposure,
}

impl Broker {
    /// Every topic, by name.
    #[must_use]
    pub fn topic_durability(&self) -> Vec<TopicDurability> {
        let catalog = self.catalog();
        catalog.topics().map(|topic| self.durability_of(topic)).collect()
    }

    fn durability_of(&self, topic: &Topic) -> TopicDurability {
        let config = &topic.row.config;
        let voters = |group: &duolog_types::BrokerGroupId| {
            let runtime = self.runtime(*group).ok()?;
            Some(runtime.group().members().iter().filter(|view| view.voter).count())
        };
        TopicDurability {
            topic: topic.row.name.clone(),
            durability: config.durability(),
            flush_ms: match config.flush_wish() {
                FlushWish::Now => None,
                FlushWish::WithinMs(ms) => Some(ms),
            },
            replicas: topic.row.partitions.iter().filter_map(voters).min().unwrap_or(0),
            partitions: topic.row.partitions.len(),
            led: self.led_exposure(topic),
        }
    }

    /// The exposure of what this node leads of a topic.
    pub(crate) fn led_exposure(&self, topic: &Topic) -> LedExposure {
        let mut led = LedExposure::default();
        for (group, number) in topic.row.partitions.iter().zip(0_u32..) {
            let Ok(runtime) = self.runtime(*group) else { continue };
            let partition = TopicPartition { topic: topic.id, partition: number };
            if !matches!(runtime.ends(partition), Ok(Some(_))) {
                continue;
            }
            led.partitions += 1;
            if let Some(log) = runtime.leader().lock().as_ref() {
                let exposure = log.exposure(partition, runtime.now_ms());
                led.leader_loss.merge(exposure.leader_loss);
                led.power_loss.merge(exposure.power_loss);
            }
        }
        led
    }
}
