//! `cargo xtask`: the project's own commands.
//!
//! One build profile and one target directory for all of them: RocksDB compiles for a quarter of an hour.

mod bench;
mod build;
mod chaos;
mod docs;
mod fuzz;
mod http;
mod lint;
mod local;
mod native;
mod node_config;
mod process;
mod sim;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Duolog's own commands")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build Duolog and run a cluster on this machine; data stays for the next time.
    Up(local::UpOptions),
    /// Stop the cluster that `up` started.
    Down(local::DownOptions),
    /// All fast tests.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Format, clippy, dependencies, layering, and the project's own rules.
    Lint,
    /// Hurt real nodes under load, then check what clients saw.
    Chaos(chaos::Options),
    /// Simulate clusters in virtual time, one per seed, with faults; a seed repeats its run bit for bit.
    Sim(sim::Options),
    /// Search for inputs that break a parser or the recovery of the log.
    Fuzz(fuzz::Options),
    /// Measure against the real Kafka and the real RocketMQ on the same machine.
    Bench(bench::Options),
    /// Regenerate docs/config.md from the server.
    Docs,
}

fn main() -> ExitCode {
    let result = run(Options::parse().command);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(options) => local::up(&options),
        Command::Down(options) => local::down(&options),
        Command::Test { rest } => {
            native::ensure()?;
            build::cargo(&["test", "--release", "--workspace"], &rest)
        }
        Command::Lint => lint::run(),
        Command::Chaos(options) => chaos::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Docs => docs::regenerate(),
    }
}
