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
use duolog_chaos::history::{Event, History};
use duolog_chaos::report::{self, Remarks};
use duolog_chaos::run::{self, Outcome, Settings};
use duolog_chaos::workload::topics::ConfigNames;

#[derive(Parser)]
#[command(about = "Kills and pauses real duolog nodes under load and checks what clients saw")]
struct Options {
    /// The duolog binary to test.
    #[arg(long, required_unless_present = "check")]
    binary: Option<PathBuf>,
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
    /// Pauses nodes and kills none: what a leader answers that wakes up after others have elected another one.
    #[arg(long)]
    only_pauses: bool,
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let seed = options.seed.unwrap_or(now.as_nanos() as u64 % 1_000_000);
    let name = format!("duolog-chaos-{}-{}", now.as_secs(), std::process::id());
    let settings = Settings {
        binary: options.binary.clone().context("--binary is missing")?,
        dir: options.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(name)),
        duration: options.duration,
        seed,
        node_count: options.nodes,
        with_groups: !options.no_groups,
        with_messages: !options.no_messages,
        config_names: if options.kafka_config_names { ConfigNames::Kafka } else { ConfigNames::Duolog },
        modes: options.mode.clone(),
        records_per_second: options.rate,
        only_pauses: options.only_pauses,
        keep: options.keep,
    };
    let json = options.json;
    let progress = |text: &str| eprintln!("chaos: {text}");
    progress(&format!("seed {seed}"));
    let mut on_fault = |event: &Event| {
        if json {
            println!("{}", serde_json::to_string(event).expect("an event becomes JSON"));
        } else if let Event::FaultBegan { time_ms, node, fault, leads, .. } = event {
            let what = format!("{fault:?}").to_lowercase();
            eprintln!(
                "chaos: {:>7.1} s  {what} node {node}, leader of {} partitions",
                *time_ms as f64 / 1e3,
                leads.len()
            );
        }
    };
    let outcome = run::run(&settings, &progress, &mut on_fault);
    outcome.with_context(|| format!("data and logs are in {}", settings.dir.display()))
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
