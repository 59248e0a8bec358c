//! `duolog verify`: a stopped node's data directory, or the replicas of a running cluster.

mod data;
mod replicas;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::arguments::{OutputArgs, addresses};
use crate::exit::Exit;
use crate::output::{Out, OutputFormat};
use crate::run;

/// The options.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog verify --data-dir /var/lib/duolog           # every byte of a node that is stopped; nothing is changed
  duolog verify --http 10.0.0.1:8090                 # the states of all replicas of a running cluster
  duolog verify --http 10.0.0.1:8090 --output json

Exit code 0: all is well. 1: damage, or replicas that differ; the lines say what and where.
A running node verifies its own log all the time: log.scrub_bytes_per_second in docs/config.md.")]
pub struct VerifyCommand {
    /// The data directory of a stopped node: each record of its log, and its state.
    #[arg(long, value_name = "DIR", conflicts_with = "http", required_unless_present = "http")]
    data_dir: Option<PathBuf>,
    /// HTTP addresses of one or more nodes: the states of all replicas are compared.
    #[arg(long, value_name = "ADDRESSES")]
    http: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl VerifyCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// It could not be verified. What is wrong with the data is no error but a line, and exit code 1.
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut out = Out::default();
        let json = self.output.output == OutputFormat::Json;
        let is_well = match (&self.data_dir, &self.http) {
            (Some(dir), _) => {
                let report = data::verify(dir)?;
                if json {
                    out.json(&report)?
                } else {
                    data::show(&mut out, &report)?
                }
                report.is_whole
            }
            (None, Some(http)) => {
                let http = addresses(http).with_context(|| format!("--http {http:?}"))?;
                let report = run::block_on(replicas::compare(&http))?;
                if json {
                    out.json(&report)?
                } else {
                    replicas::show(&mut out, &report)?
                }
                report.are_equal
            }
            (None, None) => unreachable!("clap wants one of them"),
        };
        Ok(if is_well { Exit::Success } else { Exit::Degraded })
    }
}
