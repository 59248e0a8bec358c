//! `sim`: builds the simulation and runs seeds.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{build, native};

#[derive(Args)]
pub struct Options {
    /// How many seeds. Default: 100, or one when a seed is given.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed. Default: by the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// More options of the simulation, after `--`; see `cargo xtask sim -- --help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    native::ensure()?;
    let runner = build::sim()?;
    let mut command = Command::new(&runner);
    command.args(options.seeds.map(|seeds| format!("--seeds={seeds}")));
    command.args(options.seed.map(|seed| format!("--seed={seed}"))).args(&options.rest);
    let status = command.status().with_context(|| format!("cannot run {}", runner.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => bail!("sim: a seed broke a promise"),
        _ => bail!("sim: the seeds could not be run ({status})"),
    }
}
