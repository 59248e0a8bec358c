//! `duolog group`: list, describe, alter, seek, delete.

mod alter;
mod delete;
mod describe;
mod list;
mod seek;

use clap::Subcommand;

use crate::exit::Exit;
use crate::run;

/// Commands about consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Shows every consumer group.
    List(list::ListCommand),
    /// Shows a consumer group: its members, and per partition what is committed and how far behind it is.
    Describe(describe::DescribeCommand),
    /// Changes configs of a consumer group: how RocketMQ clients share its messages, where it begins, what follows a failure.
    Alter(alter::AlterCommand),
    /// Moves the committed offsets of a group without members. Shows what would be done; `--execute` does it.
    Seek(seek::SeekCommand),
    /// Deletes consumer groups without members, with their committed offsets.
    Delete(delete::DeleteCommand),
}

impl GroupCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// It was not done; the error says what was wrong, what was expected and what to do.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::List(command) => run::block_on(list::run(command))?,
            Self::Describe(command) => run::block_on(describe::run(command))?,
            Self::Alter(command) => run::block_on(alter::run(command))?,
            Self::Seek(command) => run::block_on(seek::run(command))?,
            Self::Delete(command) => run::block_on(delete::run(command))?,
        }
        Ok(Exit::Success)
    }
}

/// Kafka's name of the state of a group that does not exist.
const DEAD: &str = "Dead";
