//! Configs by name, of topics and of consumer groups: what a key takes, and how a refusal is told.

/// A config that was refused: which key, what was found, what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The key is not known.
    #[error("unknown {what} config {key}{}", suggestion(.nearest))]
    UnknownKey {
        /// What it was to configure.
        what: &'static str,
        /// The key as given.
        key: String,
        /// A known key that looks alike.
        nearest: Option<&'static str>,
    },
    /// The value is not one that the key takes.
    #[error("invalid value {value:?} for {key}: expected {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// Two configs select different durabilities.
    #[error("{first} contradicts {second}: {first} asks for {first_mode}, {second} for {second_mode}")]
    Contradiction {
        /// One key and its value.
        first: String,
        /// What it asks for.
        first_mode: String,
        /// The other key and its value.
        second: String,
        /// What that asks for.
        second_mode: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An integer in min..=max.
    Integer { min: i64, max: i64 },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, or an integer of at least 0.
    OneOfOrInteger(&'static [&'static str]),
    /// A number in 0..=1.
    Ratio,
    /// A number in 1..=100.
    Factor,
    /// true or false.
    Boolean,
    /// A comma-separated list of these words.
    ListOf(&'static [&'static str]),
    /// A comma-separated list of at most 32 integers from 1 on.
    Integers,
    /// Machine rooms with what lies in them.
    Rooms,
}

pub(crate) const ANY_INTEGER: Kind = Kind::Integer { min: -1, max: i64::MAX };
pub(crate) const NOT_NEGATIVE: Kind = Kind::Integer { min: 0, max: i64::MAX };

impl Kind {
    fn accepts(self, value: &str) -> bool {
        let integer_from = |text: &str, min: i64| text.trim().parse::<i64>().is_ok_and(|n| n >= min);
        match self {
            Self::Integer { min, max } => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Self::OneOf(words) => words.contains(&value),
            Self::OneOfOrInteger(words) => words.contains(&value) || integer_from(value, 0),
            Self::Ratio => value.parse::<f64>().is_ok_and(|r| (0.0..=1.0).contains(&r)),
            Self::Factor => value.parse::<f32>().is_ok_and(|f| (1.0..=100.0).contains(&f)),
            Self::Boolean => value == "true" || value == "false",
            Self::ListOf(words) => value.split(',').all(|word| words.contains(&word.trim())),
            Self::Rooms => crate::Rooms::parse(value).is_some(),
            Self::Integers => value.split(',').count() <= 32 && value.split(',').all(|item| integer_from(item, 1)),
        }
    }
}

/// A known config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// Value when it is not set.
    pub default: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
    /// What an accepted value looks like, for error messages.
    pub expected: &'static str,
    pub(crate) kind: Kind,
}

impl ConfigKey {
    /// Kafka's type code: 1 boolean, 2 string, 5 long, 6 double, 7 list.
    #[must_use]
    pub fn kafka_type(&self) -> i8 {
        match self.kind {
            Kind::Boolean => 1,
            Kind::OneOf(_) | Kind::OneOfOrInteger(_) | Kind::Rooms => 2,
            Kind::Integer { .. } => 5,
            Kind::Ratio | Kind::Factor => 6,
            Kind::ListOf(_) | Kind::Integers => 7,
        }
    }
}

/// The known configs of a kind of thing.
pub(crate) struct ConfigKeys {
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [ConfigKey],
}

impl ConfigKeys {
    pub(crate) fn find(&self, key: &str) -> Result<&'static ConfigKey, ConfigError> {
        self.keys.iter().find(|known| known.name == key).ok_or_else(|| ConfigError::UnknownKey {
            what: self.what,
            key: key.to_owned(),
            nearest: crate::nearest(key, self.keys.iter().map(|known| known.name), 2),
        })
    }

    pub(crate) fn check(&self, key: &str, value: &str) -> Result<(), ConfigError> {
        let known = self.find(key)?;
        let value = value.trim();
        if known.kind.accepts(value) {
            Ok(())
        } else {
            Err(ConfigError::InvalidValue { key: known.name, value: value.to_owned(), expected: known.expected })
        }
    }
}

/// Whether a value was set or is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic or group.
    Explicit,
    /// The default, or derived from another config.
    Default,
}

/// One config as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigValue {
    /// The key and its documentation.
    pub key: &'static ConfigKey,
    /// The effective value.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
}
