//! `duolog topic`: create, list, describe, alter, delete.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use clap::{Subcommand, ValueEnum};
use duolog_types::Durability;

use crate::client::ConfigEntry;
use crate::exit::Exit;
use crate::run;

/// Commands about topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Creates a topic.
    Create(create::CreateCommand),
    /// Shows every topic: partitions, durability, records.
    List(list::ListCommand),
    /// Shows one topic: its partitions with leaders and offsets, and its configs.
    Describe(describe::DescribeCommand),
    /// Changes a topic while it is used: its configs, its durability, its number of partitions.
    Alter(alter::AlterCommand),
    /// Deletes a topic with all its records.
    Delete(delete::DeleteCommand),
}

impl TopicCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// It was not done; the error says what was wrong, what was expected and what to do.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Create(command) => run::block_on(create::run(command))?,
            Self::List(command) => run::block_on(list::run(command))?,
            Self::Describe(command) => run::block_on(describe::run(command))?,
            Self::Alter(command) => run::block_on(alter::run(command))?,
            Self::Delete(command) => run::block_on(delete::run(command))?,
        }
        Ok(Exit::Success)
    }
}

const REPLICATION_KEY: &str = "duolog.replication";
const FLUSH_KEY: &str = "duolog.flush";

/// Replication and flush in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// On the disks of a quorum.
    #[value(name = "sync/sync")]
    SyncSync,
    /// In the memory of a quorum.
    #[value(name = "sync/async")]
    SyncAsync,
    /// On the leader's disk.
    #[value(name = "async/sync")]
    AsyncSync,
    /// In the leader's memory.
    #[value(name = "async/async")]
    AsyncAsync,
}

impl Mode {
    /// The topic configs that select it.
    fn configs(self) -> [(String, String); 2] {
        let (replication, flush) = match self {
            Self::SyncSync => ("sync", "sync"),
            Self::SyncAsync => ("sync", "async"),
            Self::AsyncSync => ("async", "sync"),
            Self::AsyncAsync => ("async", "async"),
        };
        [(REPLICATION_KEY.to_owned(), replication.to_owned()), (FLUSH_KEY.to_owned(), flush.to_owned())]
    }
}

/// `--config` pairs, and those that `--durability` stands for.
fn with_durability(
    mut configs: Vec<(String, String)>,
    durability: Option<Mode>,
) -> anyhow::Result<Vec<(String, String)>> {
    for (key, value) in durability.into_iter().flat_map(Mode::configs) {
        if let Some((_, other)) = configs.iter().find(|(known, _)| *known == key) {
            anyhow::bail!("--config {key}={other} and --durability both say {key}: expected one of them");
        }
        configs.push((key, value));
    }
    Ok(configs)
}

/// The durability that a topic's effective configs say.
fn durability_of(configs: &[ConfigEntry]) -> Option<String> {
    let value = |key| configs.iter().find(|config| config.name == key).map(|config| config.value.as_str());
    let shown = format!("{}/{}", value(REPLICATION_KEY)?, value(FLUSH_KEY)?);
    Durability::ALL.iter().any(|mode| mode.to_string() == shown).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ConfigOrigin;

    #[test]
    fn durability_is_sugar_for_two_configs_and_may_not_repeat_them() {
        let configs = with_durability(vec![("retention.ms".into(), "1".into())], Some(Mode::AsyncSync)).unwrap();
        let shown: Vec<String> = configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["retention.ms=1", "duolog.replication=async", "duolog.flush=sync"]);
        let error = with_durability(vec![(FLUSH_KEY.into(), "sync".into())], Some(Mode::SyncSync)).unwrap_err();
        assert!(error.to_string().contains("duolog.flush"), "{error}");
    }

    #[test]
    fn every_mode_has_its_word() {
        let words: Vec<String> =
            Mode::value_variants().iter().filter_map(|m| Some(m.to_possible_value()?.get_name().to_owned())).collect();
        assert_eq!(words, Durability::ALL.map(|mode| mode.to_string()));
        for mode in Mode::value_variants() {
            let entry = |(name, value): (String, String)| ConfigEntry { name, value, origin: ConfigOrigin::Explicit };
            let entries = mode.configs().map(entry);
            let word = mode.to_possible_value().expect("no variant is hidden");
            assert_eq!(durability_of(&entries).as_deref(), Some(word.get_name()));
        }
        assert_eq!(durability_of(&[]), None);
    }
}
