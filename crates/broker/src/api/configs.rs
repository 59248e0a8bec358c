//! Configs and changes of them, as front ends name them.

/// A change of one config, as IncrementalAlterConfigs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set to a value.
    Set(String, String),
    /// Back to the default.
    Delete(String),
    /// Add words to a list.
    Append(String, String),
    /// Take words out of a list.
    Subtract(String, String),
}

/// What becomes of the explicit configs of a topic or a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    /// Some are changed.
    Changes(Vec<ConfigChange>),
    /// These take the place of all.
    Replacement(Vec<(String, String)>),
}

/// A config of this node as DescribeConfigs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfigValue {
    /// Kafka's name.
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// The value when the configuration file says nothing; `None` when it has to.
    pub default: Option<String>,
}
