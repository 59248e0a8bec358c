//! The `duolog` binary: a node, and the commands that talk to one.

mod cluster_command;
mod config;
mod http;
mod node;
mod testing;
mod topic_command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A message broker for Kafka and RocketMQ clients, with a durability per topic.
#[derive(Parser)]
#[command(name = "duolog", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node.
    Start {
        /// The node's config file; see docs/config.md.
        #[arg(long)]
        config: PathBuf,
    },
    /// Topics.
    #[command(subcommand)]
    Topic(topic_command::TopicCommand),
    /// The cluster: status, replacement of a node, recovery after an accepted loss.
    #[command(subcommand)]
    Cluster(cluster_command::ClusterCommand),
    /// The config file.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Prints the documentation of every key, in Markdown.
    Doc,
    /// Checks a config file.
    Check {
        /// The file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Start { config } => config::NodeConfig::read(&config).and_then(node::run),
        Command::Topic(command) => topic_command::run(command),
        Command::Cluster(command) => cluster_command::run(command),
        Command::Config(ConfigCommand::Doc) => {
            print!("{}", config::markdown());
            Ok(())
        }
        Command::Config(ConfigCommand::Check { file }) => {
            config::NodeConfig::read(&file).map(|_| println!("{}: ok", file.display()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duolog: {error:#}");
            ExitCode::FAILURE
        }
    }
}
