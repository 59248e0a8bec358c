//! The `duolog` binary: a node, and the commands that talk to one.

mod chaos_command;
mod config;
mod config_command;
mod http;
mod http_listener;
mod node;
mod open_files;
mod private_files;
mod restore_command;
mod testing;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use duolog_cli::{
    AclCommand, ClusterCommand, ConsumeCommand, DurabilityCommand, Exit, GroupCommand, MessageCommand, Out,
    OutputClosed, ProduceCommand, TopicCommand, TransactionCommand, UserCommand, VerifyCommand,
};

/// A message broker for Kafka and RocketMQ clients, with a durability per topic.
#[derive(Parser)]
#[command(
    name = "duolog",
    version,
    about,
    after_help = "Examples:
  duolog start --config node.toml
  duolog topic create payments --durability sync/async
  seq 1 1000 | duolog produce payments
  duolog consume payments --from-beginning --until-end
  duolog durability --watch
  duolog cluster health

Exit codes: 0 done, 1 failed, 64 wrong usage; `cluster health` has its own. docs/cli.md describes every command."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node until SIGTERM or Ctrl-C.
    #[command(after_help = "Examples:
  duolog start --config node.toml
  DUOLOG_NODE_ID=2 DUOLOG_LISTEN_KAFKA=0.0.0.0:9092 duolog start --config node.toml
  RUST_LOG=debug duolog start --config node.toml

Every key may come from the environment, which goes before the file: docs/config.md.")]
    Start {
        /// The node's config file; see docs/config.md.
        #[arg(long)]
        config: PathBuf,
    },
    /// Topics: create, list, describe, alter, delete.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Produces the lines of standard input.
    Produce(ProduceCommand),
    /// Prints a topic's records.
    Consume(ConsumeCommand),
    /// Consumer groups: list, describe, seek, delete.
    #[command(subcommand)]
    Group(GroupCommand),
    /// The cluster: status, health, members, backup, recovery after an accepted loss.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// What each topic promises, and what could be lost right now.
    Durability(DurabilityCommand),
    /// Single messages: query by id or key, trace, resend.
    #[command(subcommand)]
    Message(MessageCommand),
    /// Half messages whose transactions are stuck: list, describe, commit, rollback.
    #[command(subcommand)]
    Transaction(TransactionCommand),
    /// Users, as which RocketMQ clients sign their calls: create, list, describe, alter, delete.
    #[command(subcommand)]
    User(UserCommand),
    /// Access control lists: what users may do: create, list, delete.
    #[command(subcommand)]
    Acl(AclCommand),
    /// Makes a new cluster from a backup.
    Restore(restore_command::RestoreCommand),
    /// Verifies a stopped node's data directory, or compares the replicas of a running cluster.
    Verify(VerifyCommand),
    /// Hurts a throw-away cluster under load and checks what clients saw; or checks your own cluster under load.
    Chaos(chaos_command::ChaosCommand),
    /// The config file.
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Prints a script that completes commands and options in a shell.
    #[command(after_help = "Examples:
  source <(duolog completion bash)
  duolog completion zsh > \"${fpath[1]}/_duolog\"
  duolog completion fish > ~/.config/fish/completions/duolog.fish")]
    Completion {
        /// The shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return refuse_usage(&error),
    };
    match run(command) {
        Ok(exit) => exit.into(),
        // Whoever read our output has seen enough.
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duolog: {error:#}");
            ExitCode::from(if error.is::<config::Invalid>() { Exit::CONFIG } else { Exit::FAILURE })
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    if matches!(command, Command::Start { .. } | Command::Restore(_) | Command::Cluster(_)) {
        private_files::make_private();
    }
    match command {
        Command::Start { config } => {
            let loaded = config::Loaded::read(&config).map_err(config::Invalid)?;
            node::run(loaded).map(|()| Exit::Success)
        }
        Command::Topic(command) => command.run(),
        Command::Produce(command) => command.run(),
        Command::Consume(command) => command.run(),
        Command::Group(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Cluster(command) => command.run(),
        Command::Durability(command) => command.run(),
        Command::Message(command) => command.run(),
        Command::Transaction(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Acl(command) => command.run(),
        Command::Chaos(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Completion { shell } => completion(shell),
    }
}

/// Prints help and version, or what is wrong with the command line.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    // Nobody may be listening.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(Exit::USAGE),
    }
}

fn completion(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "duolog", &mut script);
    let mut out = Out::default();
    out.write(&script)?;
    out.flush()?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command that does something shows how.
    #[test]
    fn every_help_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let mut children = command.get_subcommands().peekable();
            if children.peek().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "{path} has no examples");
            }
            children.for_each(|child| check(child, &path));
        }
        check(&Cli::command(), "");
    }
}
