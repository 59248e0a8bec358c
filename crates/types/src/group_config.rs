//! Configs of consumer groups: how RocketMQ clients of a group get its messages.
//!
//! Invariant: a [`GroupConfig`] holds only keys and values that were checked, so everything derived from it is total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, ConfigKey, ConfigKeys, ConfigSource, ConfigValue, Kind};
use crate::{Rooms, TimestampMs};

/// Every config of a consumer group that is accepted, in the order in which it is described.
pub const GROUP_CONFIG_KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "assignment.rooms",
        default: "",
        doc: "With assignment.strategy=machine-room, the machine rooms and what lies in each: addresses, networks and host names of nodes and consumers.",
        expected: "rooms as east=10.1.0.0/16,node-1.example; west=10.2.0.0/16",
        kind: Kind::Rooms,
    },
    ConfigKey {
        name: "assignment.strategy",
        default: "shared",
        doc: "Which queues RocketMQ's push consumers ask: shared lets all ask for any message of a node; the others give each queue to one consumer.",
        expected: "shared, averaging, averaging-by-circle, consistent-hashing, sticky or machine-room",
        kind: Kind::OneOf(&[
            "shared",
            "averaging",
            "averaging-by-circle",
            "consistent-hashing",
            "sticky",
            "machine-room",
        ]),
    },
    ConfigKey {
        name: "consumption.mode",
        default: "clustering",
        doc: "Whether the consumers share the messages (clustering) or each gets all of them (broadcasting).",
        expected: "clustering or broadcasting",
        kind: Kind::OneOf(&["clustering", "broadcasting"]),
    },
    ConfigKey {
        name: "consumption.order",
        default: "topic",
        doc: "Whether messages of a message group are delivered one after the other: topic does so in topics of type FIFO, fifo for every message with a group or key, concurrent never.",
        expected: "topic, fifo or concurrent",
        kind: Kind::OneOf(&["topic", "fifo", "concurrent"]),
    },
    ConfigKey {
        name: "consumption.start",
        default: "first",
        doc: "Where a group begins in a partition of which it has consumed nothing: at the first record that is kept, at the end, or at a time in milliseconds since the epoch.",
        expected: "first, last or milliseconds since the epoch",
        kind: Kind::OneOfOrInteger(&["first", "last"]),
    },
    ConfigKey {
        name: "retry.customized.next.ms",
        default: "1000,5000,10000,30000,60000,120000,180000,240000,300000,360000,420000,480000,540000,600000,1200000,1800000,3600000,7200000",
        doc: "With retry.policy=customized, when a message whose consumption failed is delivered again, per attempt.",
        expected: "at most 32 numbers of milliseconds with commas between them",
        kind: Kind::Integers,
    },
    ConfigKey {
        name: "retry.exponential.initial.ms",
        default: "5000",
        doc: "With retry.policy=exponential, the first delay.",
        expected: "an integer from 1 to 43200000",
        kind: RETRY_MS,
    },
    ConfigKey {
        name: "retry.exponential.max.ms",
        default: "7200000",
        doc: "With retry.policy=exponential, the longest delay.",
        expected: "an integer from 1 to 43200000",
        kind: RETRY_MS,
    },
    ConfigKey {
        name: "retry.exponential.multiplier",
        default: "2",
        doc: "With retry.policy=exponential, by how much each delay is longer than the one before.",
        expected: "a number from 1 to 100",
        kind: Kind::Factor,
    },
    ConfigKey {
        name: "retry.max.times",
        default: "16",
        doc: "How often a message is delivered again before it becomes a dead letter.",
        expected: "an integer from 0 to 10000",
        kind: Kind::Integer { min: 0, max: 10_000 },
    },
    ConfigKey {
        name: "retry.policy",
        default: "customized",
        doc: "How the delays between deliveries of a message grow.",
        expected: "customized or exponential",
        kind: Kind::OneOf(&["customized", "exponential"]),
    },
];

const RETRY_MS: Kind = Kind::Integer { min: 1, max: 12 * 3_600 * 1_000 };

const KEYS: ConfigKeys = ConfigKeys { what: "group", keys: GROUP_CONFIG_KEYS };

/// Whether consumers share messages (`consumption.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumptionMode {
    /// Each message goes to one of them.
    Clustering,
    /// Each message goes to all of them.
    Broadcasting,
}

/// In which order messages of one message group are delivered (`consumption.order`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumptionOrder {
    /// As the topic's type says.
    Topic,
    /// One after the other.
    Fifo,
    /// In any order.
    Concurrent,
}

/// Where a group begins (`consumption.start`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumptionStart {
    /// At the first record that is kept.
    First,
    /// At the end.
    Last,
    /// At the first record with this timestamp or a later one.
    At(TimestampMs),
}

/// Which queues a push consumer asks (`assignment.strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentStrategy {
    /// All consumers ask every node for any message.
    Shared,
    /// Neighbouring queues, as many for each.
    Averaging,
    /// Queues in turn.
    AveragingByCircle,
    /// By a ring of hashes.
    ConsistentHashing,
    /// As many for each, and as few as possible move.
    Sticky,
    /// Queues of each machine room's nodes by averaging among the consumers there; where there are none, among all.
    MachineRoom,
}

/// How delays between deliveries grow (`retry.policy`).
#[derive(Debug, Clone, PartialEq)]
pub enum RetryPolicy {
    /// These, in milliseconds; the last one counts for all further attempts.
    Customized(Vec<u64>),
    /// Each longer than the one before.
    Exponential {
        /// The first, in milliseconds.
        initial_ms: u64,
        /// The longest, in milliseconds.
        max_ms: u64,
        /// By how much.
        multiplier: f32,
    },
}

/// The explicit configs of a consumer group, all checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupConfig {
    explicit: BTreeMap<String, String>,
}

impl GroupConfig {
    /// Checks and takes explicit configs.
    ///
    /// # Errors
    /// An unknown key, or a value that the key does not take.
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
        Ok(Self { explicit })
    }

    /// This config with some keys set (`Some`) or back at their default (`None`).
    ///
    /// # Errors
    /// As [`GroupConfig::new`]; a key to delete must be known too.
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

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.explicit.is_empty()
    }

    /// Every config with its effective value.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigValue> {
        GROUP_CONFIG_KEYS
            .iter()
            .map(|key| match self.explicit.get(key.name) {
                Some(value) => ConfigValue { key, value: value.clone(), source: ConfigSource::Explicit },
                None => ConfigValue { key, value: key.default.to_owned(), source: ConfigSource::Default },
            })
            .collect()
    }

    /// Whether consumers share messages.
    #[must_use]
    pub fn mode(&self) -> ConsumptionMode {
        match self.value("consumption.mode") {
            "broadcasting" => ConsumptionMode::Broadcasting,
            _ => ConsumptionMode::Clustering,
        }
    }

    /// In which order messages of one message group are delivered.
    #[must_use]
    pub fn order(&self) -> ConsumptionOrder {
        match self.value("consumption.order") {
            "fifo" => ConsumptionOrder::Fifo,
            "concurrent" => ConsumptionOrder::Concurrent,
            _ => ConsumptionOrder::Topic,
        }
    }

    /// Where the group begins.
    #[must_use]
    pub fn start(&self) -> ConsumptionStart {
        match self.value("consumption.start") {
            "first" => ConsumptionStart::First,
            "last" => ConsumptionStart::Last,
            time => ConsumptionStart::At(TimestampMs(time.parse().expect("checked to be an integer"))),
        }
    }

    /// Which queues a push consumer asks.
    #[must_use]
    pub fn strategy(&self) -> AssignmentStrategy {
        match self.value("assignment.strategy") {
            "averaging" => AssignmentStrategy::Averaging,
            "averaging-by-circle" => AssignmentStrategy::AveragingByCircle,
            "consistent-hashing" => AssignmentStrategy::ConsistentHashing,
            "sticky" => AssignmentStrategy::Sticky,
            "machine-room" => AssignmentStrategy::MachineRoom,
            _ => AssignmentStrategy::Shared,
        }
    }

    /// The machine rooms.
    #[must_use]
    pub fn rooms(&self) -> Rooms {
        Rooms::parse(self.value("assignment.rooms")).expect("checked to be rooms")
    }

    /// How delays between deliveries grow.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        let ms = |value: &str| value.trim().parse().expect("checked to be a positive integer");
        match self.value("retry.policy") {
            "exponential" => RetryPolicy::Exponential {
                initial_ms: ms(self.value("retry.exponential.initial.ms")),
                max_ms: ms(self.value("retry.exponential.max.ms")),
                multiplier: self.value("retry.exponential.multiplier").parse().expect("checked to be a number"),
            },
            _ => RetryPolicy::Customized(self.value("retry.customized.next.ms").split(',').map(ms).collect()),
        }
    }

    /// Deliveries of a message before it becomes a dead letter, if the group says so.
    #[must_use]
    pub fn attempts_max(&self) -> Option<u32> {
        let times = self.explicit.get("retry.max.times")?;
        times.parse::<u32>().ok().map(|times| times + 1)
    }

    fn value(&self, key: &'static str) -> &str {
        self.explicit.get(key).map_or_else(|| KEYS.find(key).expect("a known key").default, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Result<GroupConfig, ConfigError> {
        GroupConfig::new([(key, value)])
    }

    #[test]
    fn defaults_are_accepted_and_mean_what_rocketmq_does() {
        for key in GROUP_CONFIG_KEYS {
            one(key.name, key.default).unwrap();
        }
        let config = GroupConfig::default();
        assert_eq!(config.mode(), ConsumptionMode::Clustering);
        assert_eq!((config.start(), config.order()), (ConsumptionStart::First, ConsumptionOrder::Topic));
        assert_eq!((config.strategy(), config.attempts_max()), (AssignmentStrategy::Shared, None));
        assert!(matches!(config.retry_policy(), RetryPolicy::Customized(delays) if delays.len() == 18));
    }

    #[test]
    fn each_value_is_checked() {
        for (key, value) in [
            ("consumption.mode", "both"),
            ("consumption.start", "-1"),
            ("consumption.start", "yesterday"),
            ("retry.customized.next.ms", "1000,,5"),
            ("retry.customized.next.ms", "0"),
            ("retry.exponential.multiplier", "0.5"),
            ("retry.exponential.multiplier", "NaN"),
            ("retry.max.times", "-1"),
            ("assignment.rooms", "10.0.0.0/8"),
        ] {
            assert!(matches!(one(key, value), Err(ConfigError::InvalidValue { .. })), "{key}={value}");
        }
        let typo = one("consumption.mod", "clustering").unwrap_err().to_string();
        assert_eq!(typo, "unknown group config consumption.mod; did you mean consumption.mode?");
    }

    #[test]
    fn what_is_set_counts() {
        let config = GroupConfig::new([
            ("consumption.start", "1700000000000"),
            ("retry.policy", "exponential"),
            ("retry.exponential.multiplier", "1.5"),
            ("retry.max.times", "2"),
        ])
        .unwrap();
        assert_eq!(config.start(), ConsumptionStart::At(TimestampMs(1_700_000_000_000)));
        assert_eq!(config.attempts_max(), Some(3));
        let policy = RetryPolicy::Exponential { initial_ms: 5_000, max_ms: 7_200_000, multiplier: 1.5 };
        assert_eq!(config.retry_policy(), policy);
        let back = config.altered([("retry.policy", None), ("retry.max.times", Some("0"))]).unwrap();
        assert_eq!(back.attempts_max(), Some(1));
        assert!(matches!(back.retry_policy(), RetryPolicy::Customized(_)));
    }
}
