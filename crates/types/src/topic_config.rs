//! Topic configs: the keys that are known, by Kafka's names plus `duolog.*`, their defaults, and what follows from them.
//!
//! Invariant: a [`TopicConfig`] holds only keys and values that were checked, so everything derived from it is total.
//! Deliberately absent: who set a config and when; the catalog's log knows that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{ANY_INTEGER, ConfigError, ConfigKey, ConfigKeys, ConfigSource, ConfigValue, Kind, NOT_NEGATIVE};
use crate::{Durability, FlushMode, FlushWish, ReplicationMode};

/// Every topic config that is accepted, in the order in which it is described.
pub const TOPIC_CONFIG_KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "cleanup.policy",
        default: "delete",
        doc: "What happens to old records. Compaction comes later, so only delete is accepted.",
        expected: "delete",
        kind: Kind::ListOf(&["delete"]),
    },
    ConfigKey {
        name: "compression.type",
        default: "producer",
        doc: "Batches are kept as the producer compressed them.",
        expected: "producer",
        kind: Kind::OneOf(&["producer"]),
    },
    ConfigKey {
        name: "delete.retention.ms",
        default: "86400000",
        doc: "Accepted for compatibility; has a meaning only with compaction.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "duolog.flush",
        default: "sync",
        doc: "Whether an acknowledgement waits for the disk: sync or async.",
        expected: "sync or async",
        kind: Kind::OneOf(&["sync", "async"]),
    },
    ConfigKey {
        name: "duolog.replication",
        default: "sync",
        doc: "Whether an acknowledgement waits for a quorum: sync or async.",
        expected: "sync or async",
        kind: Kind::OneOf(&["sync", "async"]),
    },
    ConfigKey {
        name: "duolog.trace",
        default: "false",
        doc: "Whether each delivery, acknowledgement and dead letter of RocketMQ consumers is noted in the topic RMQ_SYS_TRACE_TOPIC.",
        expected: "true or false",
        kind: Kind::Boolean,
    },
    ConfigKey {
        name: "file.delete.delay.ms",
        default: "60000",
        doc: "Accepted for compatibility; segments are shared by all topics.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "flush.messages",
        default: "9223372036854775807",
        doc: "1 selects flush=sync; any other explicit value selects flush=async with a flush at every n-th record.",
        expected: "an integer of at least 1",
        kind: Kind::Integer { min: 1, max: i64::MAX },
    },
    ConfigKey {
        name: "flush.ms",
        default: "100",
        doc: "With flush=async, the longest time in milliseconds before a record is flushed; at most a quarter of raft.election_timeout_min_ms.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "index.interval.bytes",
        default: "4096",
        doc: "Accepted for compatibility; every batch is indexed.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "max.compaction.lag.ms",
        default: "9223372036854775807",
        doc: "Accepted for compatibility; has a meaning only with compaction.",
        expected: "an integer of at least 1",
        kind: Kind::Integer { min: 1, max: i64::MAX },
    },
    ConfigKey {
        name: "max.message.bytes",
        default: "1048588",
        doc: "Largest record batch in bytes.",
        expected: "an integer from 0 to 104857600",
        kind: Kind::Integer { min: 0, max: 100 << 20 },
    },
    ConfigKey {
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        doc: "How far in the future a record's timestamp may lie, in milliseconds.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "message.timestamp.before.max.ms",
        default: "9223372036854775807",
        doc: "How far in the past a record's timestamp may lie, in milliseconds.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "message.timestamp.type",
        default: "CreateTime",
        doc: "Whose clock stamps records: the producer's or the leader's.",
        expected: "CreateTime or LogAppendTime",
        kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
    },
    ConfigKey {
        name: "message.type",
        default: "NORMAL",
        doc: "What RocketMQ clients may send: NORMAL, FIFO, DELAY, TRANSACTION or PRIORITY messages, or MIXED for all but the last. Kafka clients send normal messages in any case.",
        expected: "NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY or MIXED",
        kind: Kind::OneOf(&["NORMAL", "FIFO", "DELAY", "TRANSACTION", "PRIORITY", "MIXED"]),
    },
    ConfigKey {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        doc: "Accepted for compatibility; has a meaning only with compaction.",
        expected: "a number from 0 to 1",
        kind: Kind::Ratio,
    },
    ConfigKey {
        name: "min.compaction.lag.ms",
        default: "0",
        doc: "Accepted for compatibility; has a meaning only with compaction.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "min.insync.replicas",
        default: "2",
        doc: "1 selects replication=async, 2 and more select replication=sync; reported as what the mode means.",
        expected: "an integer of at least 1",
        kind: Kind::Integer { min: 1, max: i32::MAX as i64 },
    },
    ConfigKey {
        name: "preallocate",
        default: "false",
        doc: "Accepted for compatibility; segments are always allocated ahead.",
        expected: "true or false",
        kind: Kind::Boolean,
    },
    ConfigKey {
        name: "retention.bytes",
        default: "-1",
        doc: "Bytes that are kept per partition; −1 means without limit.",
        expected: "an integer of at least -1",
        kind: ANY_INTEGER,
    },
    ConfigKey {
        name: "retention.ms",
        default: "604800000",
        doc: "Milliseconds that records are kept; −1 means for ever.",
        expected: "an integer of at least -1",
        kind: ANY_INTEGER,
    },
    ConfigKey {
        name: "segment.bytes",
        default: "1073741824",
        doc: "Accepted for compatibility; segments are shared by all topics.",
        expected: "an integer of at least 14",
        kind: Kind::Integer { min: 14, max: i64::MAX },
    },
    ConfigKey {
        name: "segment.index.bytes",
        default: "10485760",
        doc: "Accepted for compatibility; segments are shared by all topics.",
        expected: "an integer of at least 4",
        kind: Kind::Integer { min: 4, max: i64::MAX },
    },
    ConfigKey {
        name: "segment.jitter.ms",
        default: "0",
        doc: "Accepted for compatibility; segments are shared by all topics.",
        expected: "an integer of at least 0",
        kind: NOT_NEGATIVE,
    },
    ConfigKey {
        name: "segment.ms",
        default: "604800000",
        doc: "Accepted for compatibility; segments are shared by all topics.",
        expected: "an integer of at least 1",
        kind: Kind::Integer { min: 1, max: i64::MAX },
    },
    ConfigKey {
        name: "unclean.leader.election.enable",
        default: "false",
        doc: "Always false: a leader has everything that was committed.",
        expected: "false",
        kind: Kind::OneOf(&["false"]),
    },
];

const KEYS: ConfigKeys = ConfigKeys { what: "topic", keys: TOPIC_CONFIG_KEYS };

/// Whose clock stamps a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The leader's, at the moment of sequencing.
    LogAppendTime,
}

/// What RocketMQ clients may send to a topic (`message.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Visible as soon as they are stored.
    Normal,
    /// With a message group, delivered in order.
    Fifo,
    /// Visible at a time of the producer's choice.
    Delay,
    /// Half messages.
    Transaction,
    /// With a priority, which is their partition: the higher ones are delivered first.
    Priority,
    /// All of them but for those with a priority.
    Mixed,
}

/// The explicit configs of a topic, all checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicConfig {
    explicit: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Checks and takes explicit configs.
    ///
    /// # Errors
    /// An unknown key, a value that the key does not take, or two configs that select different durabilities.
    pub fn new<I, K, V>(configs: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let mut explicit = BTreeMap::new();
        for (key, value) in configs {
            let (key, value) = (key.into(), value.into());
            KEYS.check(&key, &value)?;
            explicit.insert(key, value.trim().to_owned());
        }
        let config = Self { explicit };
        config.check_contradiction()?;
        Ok(config)
    }

    /// This config with some keys set (`Some`) or back at their default (`None`), as IncrementalAlterConfigs does.
    ///
    /// # Errors
    /// As [`TopicConfig::new`]; a key to delete must be known too.
    pub fn altered<'a, I>(&self, changes: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (&'a str, Option<&'a str>)>,
    {
        let mut explicit = self.explicit.clone();
        for (key, value) in changes {
            KEYS.find(key)?;
            match value {
                Some(value) => explicit.insert(key.to_owned(), value.to_owned()),
                None => explicit.remove(key),
            };
        }
        Self::new(explicit)
    }

    /// The configs that were set.
    pub fn explicit(&self) -> impl Iterator<Item = (&str, &str)> {
        self.explicit.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Every config with its effective value.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigValue> {
        TOPIC_CONFIG_KEYS
            .iter()
            .map(|key| {
                let (value, source) = match self.explicit.get(key.name) {
                    Some(value) => (value.clone(), ConfigSource::Explicit),
                    None => (self.default_of(key), ConfigSource::Default),
                };
                ConfigValue { key, value, source }
            })
            .collect()
    }

    /// The durability that the configs select; neither set means `sync/sync`.
    #[must_use]
    pub fn durability(&self) -> Durability {
        Durability {
            replication: self.duolog_replication().or_else(|| self.kafka_replication()).unwrap_or_default(),
            flush: self.duolog_flush().or_else(|| self.kafka_flush()).unwrap_or_default(),
        }
    }

    /// How a batch of this topic wants to be flushed. `flush.messages` is the sequencer's business.
    #[must_use]
    pub fn flush_wish(&self) -> FlushWish {
        match self.durability().flush {
            FlushMode::Sync => FlushWish::Now,
            FlushMode::Async => FlushWish::WithinMs(u32::try_from(self.integer("flush.ms")).unwrap_or(u32::MAX)),
        }
    }

    /// With asynchronous flush: flush at the latest when this many records of a partition are not flushed.
    #[must_use]
    pub fn flush_messages(&self) -> Option<i64> {
        match self.durability().flush {
            FlushMode::Sync => None,
            FlushMode::Async => self.explicit.get("flush.messages").and_then(|v| v.parse().ok()).filter(|n| *n > 1),
        }
    }

    /// Largest record batch, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        usize::try_from(self.integer("max.message.bytes")).expect("checked to lie in 0..=100 MiB")
    }

    /// Milliseconds that records are kept; `None` means for ever.
    #[must_use]
    pub fn retention_ms(&self) -> Option<i64> {
        Some(self.integer("retention.ms")).filter(|ms| *ms >= 0)
    }

    /// Bytes that are kept per partition; `None` means without limit.
    #[must_use]
    pub fn retention_bytes(&self) -> Option<i64> {
        Some(self.integer("retention.bytes")).filter(|bytes| *bytes >= 0)
    }

    /// Whose clock stamps records.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        match self.explicit.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }

    /// What RocketMQ clients may send.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        match self.explicit.get("message.type").map(String::as_str) {
            Some("FIFO") => MessageType::Fifo,
            Some("DELAY") => MessageType::Delay,
            Some("TRANSACTION") => MessageType::Transaction,
            Some("PRIORITY") => MessageType::Priority,
            Some("MIXED") => MessageType::Mixed,
            _ => MessageType::Normal,
        }
    }

    /// Whether what becomes of its messages is noted.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.explicit.get("duolog.trace").is_some_and(|value| value == "true")
    }

    /// Milliseconds that a record's own timestamp may lie in the past and in the future of the leader's clock.
    #[must_use]
    pub fn timestamp_window_ms(&self) -> (i64, i64) {
        (self.integer("message.timestamp.before.max.ms"), self.integer("message.timestamp.after.max.ms"))
    }

    fn integer(&self, key: &'static str) -> i64 {
        let value = self.explicit.get(key).map_or_else(|| KEYS.find(key).expect("a known key").default, String::as_str);
        value.parse().expect("explicit values were checked and defaults are integers")
    }

    fn default_of(&self, key: &ConfigKey) -> String {
        let mode = self.durability();
        match key.name {
            "duolog.replication" => mode.replication.to_string(),
            "duolog.flush" => mode.flush.to_string(),
            "min.insync.replicas" => match mode.replication {
                ReplicationMode::Sync => "2".to_owned(),
                ReplicationMode::Async => "1".to_owned(),
            },
            "flush.messages" => match mode.flush {
                FlushMode::Sync => "1".to_owned(),
                FlushMode::Async => key.default.to_owned(),
            },
            _ => key.default.to_owned(),
        }
    }

    fn duolog_replication(&self) -> Option<ReplicationMode> {
        self.explicit.get("duolog.replication").map(|v| match v.as_str() {
            "async" => ReplicationMode::Async,
            _ => ReplicationMode::Sync,
        })
    }

    fn duolog_flush(&self) -> Option<FlushMode> {
        self.explicit.get("duolog.flush").map(|v| match v.as_str() {
            "async" => FlushMode::Async,
            _ => FlushMode::Sync,
        })
    }

    fn kafka_replication(&self) -> Option<ReplicationMode> {
        self.explicit.get("min.insync.replicas").map(|v| match v.as_str() {
            "1" => ReplicationMode::Async,
            _ => ReplicationMode::Sync,
        })
    }

    fn kafka_flush(&self) -> Option<FlushMode> {
        self.explicit.get("flush.messages").map(|v| match v.as_str() {
            "1" => FlushMode::Sync,
            _ => FlushMode::Async,
        })
    }

    fn check_contradiction(&self) -> Result<(), ConfigError> {
        let shown = |key: &str| format!("{key}={}", self.explicit.get(key).map_or("", String::as_str));
        if let (Some(ours), Some(kafkas)) = (self.duolog_replication(), self.kafka_replication())
            && ours != kafkas
        {
            return Err(ConfigError::Contradiction {
                first: shown("duolog.replication"),
                first_mode: format!("replication {ours}"),
                second: shown("min.insync.replicas"),
                second_mode: format!("replication {kafkas}"),
            });
        }
        if let (Some(ours), Some(kafkas)) = (self.duolog_flush(), self.kafka_flush())
            && ours != kafkas
        {
            return Err(ConfigError::Contradiction {
                first: shown("duolog.flush"),
                first_mode: format!("flush {ours}"),
                second: shown("flush.messages"),
                second_mode: format!("flush {kafkas}"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "topic_config_tests.rs"]
mod tests;
