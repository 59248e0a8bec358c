//! `duolog-sim`: a whole cluster in one thread, under virtual time, with faults, from one seed.
//!
//! ```text
//!  workload ─▶ Broker ×3 ─▶ sequencer, openraft, apply, commit log ─▶ SimDisk      every clock and every dice: interpose.rs
//!                 └────────── gRPC over simulated links (turmoil) ──────┘          verdict: the checkers of the chaos tests
//! ```

mod cluster;
mod interpose;
mod log_driver;
mod net;
mod node;
mod random;
mod store;
mod workload;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use duolog_chaos::history::{History, fnv1a};

use crate::node::Plant;
use crate::world::{Outcome, Plan};

/// Simulates clusters, one per seed, and says which seeds broke a promise.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds, from the first one on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed; alone it repeats one run, bit for bit. Default: by the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Simulated seconds with load and faults.
    #[arg(long, default_value_t = 20)]
    load_s: u64,
    /// The history of a seed that failed is written into this directory.
    #[arg(long)]
    histories: Option<PathBuf>,
    /// Plants a bug, and stops at the first seed that finds it.
    #[arg(long)]
    plant: Option<Plant>,
    /// Shows what the nodes log.
    #[arg(long)]
    logs: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.logs {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let by_clock =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() << 20);
    let first = arguments.seed.unwrap_or_else(by_clock);
    let count = if arguments.seed.is_some() && arguments.seeds == 100 { 1 } else { arguments.seeds };
    let begun = Instant::now();
    let mut failed = Vec::new();
    let mut acked = 0;
    for seed in first..first + count {
        let plan = Plan { seed, load: Duration::from_secs(arguments.load_s), plant: arguments.plant };
        // A thread of its own: nothing of an earlier seed is left in it.
        let outcome = std::thread::Builder::new()
            .name(format!("seed-{seed}"))
            .spawn(move || world::run(plan))
            .context("a thread for a seed")?
            .join();
        let outcome = outcome.map_err(|_| anyhow::anyhow!("seed {seed} panicked"))?;
        acked += outcome.findings.topics.iter().map(|counts| counts.acked).sum::<u64>();
        if count == 1 {
            tell(&outcome);
        }
        if !outcome.findings.violations.is_empty() || outcome.error.is_some() {
            failed.push(seed);
            eprintln!("seed {seed} FAILED");
            tell(&outcome);
            if let Some(directory) = &arguments.histories {
                keep(directory, &outcome.history)?;
            }
            if arguments.plant.is_some() {
                println!("found with seed {seed}, the {}. that was tried", seed - first + 1);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    println!(
        "{count} seeds from {first}, {} failed {failed:?}; {acked} records acknowledged, {:.0?} of real time",
        failed.len(),
        begun.elapsed()
    );
    if arguments.plant.is_some() {
        println!("the planted bug was not found");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(outcome: &Outcome) {
    let Outcome { history, findings, error } = outcome;
    println!(
        "seed {}: {} events with digest {:016x}, {} kills, acknowledged {:?}",
        history.run.seed,
        history.events.len(),
        digest(history),
        findings.kills,
        findings.topics.iter().map(|counts| counts.acked).collect::<Vec<_>>(),
    );
    for violation in findings.violations.iter().take(20) {
        println!("  {} (topic {:?}): {}", violation.property, violation.topic, violation.text);
    }
    if let Some(error) = error {
        println!("  the simulation ended early: {error}");
    }
}

/// Two runs of a seed have the same.
fn digest(history: &History) -> u64 {
    let mut bytes = Vec::new();
    history.write(&mut bytes).expect("writing to memory");
    fnv1a(&bytes)
}

fn keep(directory: &std::path::Path, history: &History) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(format!("seed-{}.jsonl", history.run.seed));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    history.write(&mut file)?;
    file.flush()?;
    println!("  its history: {}", path.display());
    Ok(())
}
