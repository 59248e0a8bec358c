//! `duolog-chaos`: runs chaos against a `duolog` binary, or judges a stored history again.
//!
//! Exit code 0: passed. 1: a violation or an inconclusive run. 2: the run itself could not be done.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;

use duolog_chaos::check::{self, Findings, Verdict};
use duolog_chaos::faults::Kind;
use duolog_chaos::history::{Event, History};
use duolog_chaos::report::{self, Remarks};
use duolog_chaos::run::{self, Outcome, Settings};
use duolog_chaos::target;
use duolog_chaos::workload::topics::ConfigNames;

#[derive(Parser)]
#[command(
    name = "duolog chaos",
    about = "Hurts a throw-away cluster of real nodes under load and checks what clients saw; or checks your own cluster under load",
    after_help = "Examples:
  duolog chaos --duration 60s
  duolog chaos --faults kill,partition,one-way --duration 10m --report chaos.html
  duolog chaos --target 10.0.0.1:9092,10.0.0.2:9092 --duration 60s
  duolog chaos --check history.jsonl --report chaos.html

Exit codes: 0 passed, 1 a violation or a run that proves too little, 2 the run could not be done. docs/chaos.md describes it."
)]
struct Options {
    /// The duolog binary to test. Default: the one beside this program, or in PATH.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A rolling upgrade: the nodes start with this older binary, and one after the other goes on with the newer one, while faults go on.
    #[arg(long, value_name = "BINARY")]
    upgrade_from: Option<PathBuf>,
    /// Hurts nothing: works on topics of its own in this running cluster, checks them and removes them. HOST:PORT[,HOST:PORT…] for Kafka clients.
    #[arg(long, value_name = "ADDRESSES", conflicts_with_all = ["check", "faults", "upgrade_from", "nodes", "dir", "keep"])]
    target: Option<String>,
    /// How long load and faults last: `60s`, `10m`.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// Decides which faults happen. Default: a new one.
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object per line, the last a summary.
    #[arg(long)]
    json: bool,
    /// 1 or 3.
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// The faults to choose from, separated by commas. Default: all that this machine and this number of nodes allow.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    faults: Vec<Kind>,
    /// No consumer groups.
    #[arg(long)]
    no_groups: bool,
    /// No RocketMQ clients.
    #[arg(long)]
    no_messages: bool,
    /// Select the modes by Kafka's own topic configs instead of `duolog.*`.
    #[arg(long)]
    kafka_config_names: bool,
    /// Only these modes: `sync-sync`, `sync-async`, `async-sync`, `async-async`. May be repeated.
    #[arg(long)]
    mode: Vec<String>,
    /// Records per second and topic.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Where data, logs and history lie. Default: a new directory among the temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep them after a run that passed, too.
    #[arg(long)]
    keep: bool,
    /// Writes the outcome as one HTML file with plots. After a failed run it lies beside the history in any case.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Start nothing: check this stored history.jsonl again.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Verdict> {
    let Outcome { history, findings, remarks } = match &options.check {
        Some(file) => check_again(file)?,
        None if options.target.is_some() => run_target(options)?,
        None => run_new(options)?,
    };
    write_report(options, &history, &findings, &remarks)?;
    let text = match options.json {
        true => report::json(&history, &findings, &remarks),
        false => report::table(&history, &findings, &remarks),
    };
    print!("{text}");
    Ok(findings.verdict())
}

fn write_report(options: &Options, history: &History, findings: &Findings, remarks: &Remarks) -> Result<()> {
    let beside_history = remarks.kept.as_ref().map(|dir| dir.join("report.html"));
    let files: Vec<&PathBuf> = options.report.iter().chain(&beside_history).collect();
    if files.is_empty() {
        return Ok(());
    }
    let page = report::html::page(history, findings, remarks);
    files.into_iter().try_for_each(|file| {
        std::fs::write(file, &page).with_context(|| format!("cannot write the report to {}", file.display()))
    })
}

fn check_again(file: &PathBuf) -> Result<Outcome> {
    let from = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let history = History::read(BufReader::new(from)).with_context(|| format!("cannot read {}", file.display()))?;
    let findings = check::check(&history);
    Ok(Outcome { history, findings, remarks: Remarks::default() })
}

fn run_new(options: &Options) -> Result<Outcome> {
    if !matches!(options.nodes, 1 | 3) {
        bail!("--nodes is 1 or 3, not {}", options.nodes);
    }
    let seed = seed(options)?;
    let name = format!("duolog-chaos-{seed}-{}", std::process::id());
    let settings = Settings {
        binary: binary(options)?,
        upgrade_from: options.upgrade_from.clone(),
        dir: options.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(name)),
        duration: options.duration,
        seed,
        node_count: options.nodes,
        with_groups: !options.no_groups,
        with_messages: !options.no_messages,
        config_names: config_names(options),
        modes: options.mode.clone(),
        records_per_second: options.rate,
        faults: chosen(options)?,
        keep: options.keep,
    };
    let json = options.json;
    let progress = |text: &str| eprintln!("chaos: {text}");
    progress(&format!("seed {seed}"));
    let mut on_fault = |event: &Event| {
        if json {
            println!("{}", serde_json::to_string(event).expect("an event becomes JSON"));
        } else if let Event::FaultBegan { time_ms, node, fault, leads, detail, .. } = event {
            let (seconds, what, leads) = (*time_ms as f64 / 1e3, fault.as_str(), leads.len());
            eprintln!("chaos: {seconds:>7.1} s  {what:<9} node {node}, leader of {leads:>2} partitions  {detail}");
        }
    };
    let outcome = run::run(&settings, &progress, &mut on_fault);
    outcome.with_context(|| format!("data and logs are in {}", settings.dir.display()))
}

fn run_target(options: &Options) -> Result<Outcome> {
    let settings = target::Settings {
        bootstrap: options.target.clone().unwrap_or_default(),
        duration: options.duration,
        seed: seed(options)?,
        with_groups: !options.no_groups,
        config_names: config_names(options),
        modes: options.mode.clone(),
        records_per_second: options.rate,
    };
    target::run(&settings, &|text| eprintln!("chaos: {text}"))
}

fn seed(options: &Options) -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(options.seed.unwrap_or(now.as_nanos() as u64 % 1_000_000))
}

fn config_names(options: &Options) -> ConfigNames {
    if options.kafka_config_names { ConfigNames::Kafka } else { ConfigNames::Duolog }
}

/// `duolog`, where it was not said.
fn binary(options: &Options) -> Result<PathBuf> {
    // `duolog chaos` says where it is itself.
    let said = options.binary.clone().or_else(|| std::env::var_os("DUOLOG_BINARY").map(PathBuf::from));
    if let Some(binary) = said {
        return Ok(binary);
    }
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let beside = own.with_file_name("duolog");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::iter::once(beside.clone()).chain(std::env::split_paths(&path).map(|dir| dir.join("duolog")));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.with_context(|| {
        format!("expected the program duolog at {} or in PATH, found none: give --binary", beside.display())
    })
}

/// The faults that were asked for, or all that are possible here.
fn chosen(options: &Options) -> Result<Vec<Kind>> {
    let mut kinds = if options.faults.is_empty() { Kind::all().collect() } else { options.faults.clone() };
    if options.nodes == 1 {
        let asked_in_vain = options.faults.iter().find(|kind| kind.needs_peers());
        if let Some(kind) = asked_in_vain {
            bail!("--faults {}: expected at least 3 nodes, found --nodes 1", kind.name());
        }
        kinds.retain(|kind| !kind.needs_peers());
    }
    Ok(kinds)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("expected a length like 60s or 10m, found {text:?}"))?;
    match &text[digits.len()..] {
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3_600 * number)),
        unit => Err(format!("unknown unit {unit:?}: use s, m or h")),
    }
}
