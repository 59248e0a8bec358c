//! `chaos`: builds the server and the chaos runner, and runs it.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, native};

#[derive(Args)]
pub struct Options {
    /// How long load and faults last: `60s`, `10m`.
    #[arg(long, default_value = "60s")]
    duration: String,
    /// Decides which faults happen. Default: a new one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object per line, the last a summary.
    #[arg(long)]
    json: bool,
    /// The faults to choose from, by name, separated by commas. Default: all.
    #[arg(long)]
    faults: Option<String>,
    /// Writes the outcome as one HTML file with plots.
    #[arg(long)]
    report: Option<String>,
    /// 1 or 3.
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// More options of the runner, after `--`; see `cargo xtask chaos -- --help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    native::ensure()?;
    let (server, runner) = (build::server()?, build::chaos()?);
    let mut command = Command::new(&runner);
    command.arg("--binary").arg(server);
    command.args(["--duration", &options.duration, "--nodes", &options.nodes.to_string()]);
    command.args(options.seed.map(|seed| format!("--seed={seed}")));
    command.args(options.faults.as_ref().map(|names| format!("--faults={names}")));
    command.args(options.report.as_ref().map(|file| format!("--report={file}")));
    command.args(options.json.then_some("--json")).args(&options.rest);
    let status = command.status().with_context(|| format!("cannot run {}", runner.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => bail!("chaos: the run was violated or inconclusive"),
        _ => bail!("chaos: the run could not be done ({status})"),
    }
}
