//! `bench`: Duolog and the real Kafka in turn (A B A B) on this machine, with Kafka's own load tools; only ratios count.
//!
//! ```text
//!   per case:  fdatasync probe → [ start → discarded run → measured run → stop ] × sides × rounds → fdatasync probe
//! ```
//! Only one broker runs at a time: two cores do not carry two clusters and a load tool.

mod measure;
mod report;
mod side;
mod tools;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{build, native};
use measure::{Sample, fsync_probe};
use report::{Figures, Report};
use side::{Mode, Side};
use tools::Tools;

const PARTITIONS: u32 = 8;
const LATENCY_RECORDS_PER_SECOND: u32 = 3_000;
const LATENCY_SECONDS: u32 = 20;

#[derive(Args)]
pub struct Options {
    /// Only the cases whose name contains this.
    #[arg(long = "case")]
    name: Option<String>,
    /// One JSON object per line, the last a summary.
    #[arg(long)]
    json: bool,
    /// Measured runs per side and case.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Size of a discarded run, and of a throughput run, in MiB of payload.
    #[arg(long, default_value_t = 400)]
    load_mib: u64,
}

/// What one case does to a started cluster.
#[derive(Clone, Copy)]
enum Load {
    Throughput { record_bytes: u64 },
    Latency { record_bytes: u64 },
    LeaderKill,
}

struct Case {
    name: String,
    mode: Mode,
    load: Load,
}

pub fn run(options: &Options) -> Result<()> {
    native::ensure()?;
    let tools = Tools::find()?;
    let binary = build::server()?;
    let wanted: Vec<Case> = cases().into_iter().filter(|case| is_wanted(case, options)).collect();
    ensure!(!wanted.is_empty(), "no such case; there are: {}", names(&cases()));
    let dir = build::user_dir("XDG_CACHE_HOME", ".cache")?.join("duolog/bench");
    let sides = [Side::duolog(binary, dir.join("duolog")), Side::kafka(tools.clone())];
    let mut report = Report::new(options.json);
    for case in &wanted {
        report.fsync(&case.name, "before", &fsync_probe(&dir)?);
        for round in 0..options.rounds {
            for side in &sides {
                let figures = measure_side(side, &tools, case, options)
                    .with_context(|| format!("case {}, {}, round {round}", case.name, side.name()))?;
                report.run(&case.name, side.name(), round, figures);
            }
        }
        report.fsync(&case.name, "after", &fsync_probe(&dir)?);
        report.case(&case.name);
    }
    report.summary();
    Ok(())
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in [Mode::SyncSync, Mode::SyncAsync] {
        let mut add = |what: &str, load| cases.push(Case { name: format!("{what}-{}", mode.name()), mode, load });
        add("throughput-1k", Load::Throughput { record_bytes: 1_024 });
        add("throughput-100b", Load::Throughput { record_bytes: 100 });
        add("latency-1k", Load::Latency { record_bytes: 1_024 });
        add("leader-kill", Load::LeaderKill);
    }
    cases
}

fn is_wanted(case: &Case, options: &Options) -> bool {
    options.name.as_ref().is_none_or(|part| case.name.contains(part))
}

fn names(cases: &[Case]) -> String {
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.join(", ")
}

/// Starts the side, warms it, measures once, stops it: also after a failure.
fn measure_side(side: &Side, tools: &Tools, case: &Case, options: &Options) -> Result<Figures> {
    side.start()?;
    let figures = measure(side, tools, case, options);
    side.stop()?;
    figures
}

fn measure(side: &Side, tools: &Tools, case: &Case, options: &Options) -> Result<Figures> {
    let topic = |what: &str| format!("bench-{what}-{}", unique());
    let warm = topic("warm");
    side.create_topic(&warm, PARTITIONS, case.mode)?;
    let record_bytes = match case.load {
        Load::Throughput { record_bytes } | Load::Latency { record_bytes } => record_bytes,
        Load::LeaderKill => 1_024,
    };
    let records = (options.load_mib << 20) / record_bytes;
    // As much as is measured: Kafka's compiler is still at work after a quarter of it.
    tools.produce(&side.bootstrap()?, &warm, records, records / 4, record_bytes, None)?;

    let measured = topic("measured");
    let partitions = if matches!(case.load, Load::LeaderKill) { 1 } else { PARTITIONS };
    side.create_topic(&measured, partitions, case.mode)?;
    let bootstrap = side.bootstrap()?;
    if let Load::LeaderKill = case.load {
        return leader_kill(side, tools, &bootstrap, &measured);
    }
    let (records, rate) = match case.load {
        Load::Latency { .. } => {
            (u64::from(LATENCY_RECORDS_PER_SECOND * LATENCY_SECONDS), Some(LATENCY_RECORDS_PER_SECOND))
        }
        _ => (records, None),
    };
    let warm_up = records / 4;
    let before = Sample::take(&side.pids()?);
    let produced = tools.produce(&bootstrap, &measured, records, warm_up, record_bytes, rate)?;
    let used = Sample::take(&side.pids()?).since(&before);
    let mut figures = produced;
    figures.insert("broker_cpu_s_per_million", used.broker_cpu_s / (warm_up + records) as f64 * 1e6);
    figures.insert("rss_mib", used.rss_mib);
    figures.insert("other_cores", used.other_cores);
    Ok(figures)
}

fn leader_kill(side: &Side, tools: &Tools, bootstrap: &str, topic: &str) -> Result<Figures> {
    const RUN: Duration = Duration::from_secs(25);
    const KILL_AFTER: Duration = Duration::from_secs(6);
    let leader = tools.leader(bootstrap, topic)?;
    let figures = tools.produce_through_kill(bootstrap, topic, RUN, KILL_AFTER, || side.kill(leader))?;
    side.restart(leader)?;
    Ok(figures)
}

fn unique() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Where the Kafka scripts lie.
fn peers_dir() -> PathBuf {
    match std::env::var_os("DUOLOG_PEERS") {
        Some(dir) => dir.into(),
        None => build::root().join("../shared/peers"),
    }
}
