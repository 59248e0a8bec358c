//! Edits of the explicit configs of topics and of consumer groups.

use duolog_types::{ConfigError, ConfigValue, GroupConfig, TopicConfig};

use crate::api::{ConfigChange, ConfigEdit, ItemResult};
use crate::error::BrokerError;

/// Checked configs.
pub(crate) trait Configs: Sized {
    fn replaced(configs: &[(String, String)]) -> Result<Self, ConfigError>;
    fn altered(&self, changes: Vec<(&str, Option<&str>)>) -> Result<Self, ConfigError>;
    fn describe(&self) -> Vec<ConfigValue>;
}

impl Configs for TopicConfig {
    fn replaced(configs: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::new(configs.iter().cloned())
    }

    fn altered(&self, changes: Vec<(&str, Option<&str>)>) -> Result<Self, ConfigError> {
        self.altered(changes)
    }

    fn describe(&self) -> Vec<ConfigValue> {
        self.describe()
    }
}

impl Configs for GroupConfig {
    fn replaced(configs: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::new(configs.iter().cloned())
    }

    fn altered(&self, changes: Vec<(&str, Option<&str>)>) -> Result<Self, ConfigError> {
        self.altered(changes)
    }

    fn describe(&self) -> Vec<ConfigValue> {
        self.describe()
    }
}

/// The configs after an edit.
pub(crate) fn apply<C: Configs>(edit: &ConfigEdit, config: &C) -> ItemResult<C> {
    match edit {
        ConfigEdit::Changes(changes) => altered(config, changes),
        ConfigEdit::Replacement(configs) => C::replaced(configs).map_err(invalid),
    }
}

fn invalid(error: ConfigError) -> BrokerError {
    BrokerError::InvalidConfig(error.to_string())
}

fn altered<C: Configs>(config: &C, changes: &[ConfigChange]) -> ItemResult<C> {
    let current = |key: &str| {
        config.describe().into_iter().find(|value| value.key.name == key).map(|value| value.value).unwrap_or_default()
    };
    let words = |list: &str| -> Vec<String> {
        list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let edits: Vec<(&str, Option<String>)> = changes
        .iter()
        .map(|change| match change {
            ConfigChange::Set(key, value) => (key.as_str(), Some(value.clone())),
            ConfigChange::Delete(key) => (key.as_str(), None),
            ConfigChange::Append(key, more) => {
                let mut list = words(&current(key));
                list.extend(words(more).into_iter().filter(|word| !current(key).split(',').any(|known| known == word)));
                (key.as_str(), Some(list.join(",")))
            }
            ConfigChange::Subtract(key, less) => {
                let gone = words(less);
                let list: Vec<String> = words(&current(key)).into_iter().filter(|word| !gone.contains(word)).collect();
                (key.as_str(), Some(list.join(",")))
            }
        })
        .collect();
    let edits = edits.iter().map(|(key, value)| (*key, value.as_deref())).collect();
    config.altered(edits).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_changes_add_and_take_out() {
        let config = TopicConfig::default();
        let append = ConfigChange::Append("cleanup.policy".to_owned(), "delete".to_owned());
        assert_eq!(altered(&config, &[append]).unwrap().describe().len(), config.describe().len());
        let subtract = ConfigChange::Subtract("cleanup.policy".to_owned(), "delete".to_owned());
        assert!(altered(&config, &[subtract]).is_err());
    }
}
