//! `fuzz`: builds the fuzz targets with coverage counters, and lets each search for a while.
//!
//! Below the target directory, per target:
//!
//! ```text
//! fuzz/<target>/seeds     written anew by the target when it starts
//! fuzz/<target>/corpus    inputs that reach something new; kept for the next time
//! fuzz/<target>/crashes   inputs that broke a promise; tried first until they no longer do
//! fuzz/<target>/log       what libFuzzer said
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{build, native};

/// Tells a target where its seeds go; the same word as in `crates/fuzz/src/seeds.rs`.
const SEEDS_VARIABLE: &str = "DUOLOG_FUZZ_SEEDS";
/// Inputs are no longer than this: enough for several requests, batches or edits.
const INPUT_BYTES_MAX: u32 = 4096;
/// A process that grows beyond this has allocated by a length that an input claims.
const MEMORY_MIB_MAX: u32 = 2048;
/// One input may take this long.
const INPUT_SECONDS_MAX: u32 = 20;
/// The seeds alone reach more edges of the control flow than this. Fewer: the counters are missing.
const EDGES_MIN: u64 = 500;

#[derive(Args)]
pub struct Options {
    /// Only this one; all, one after the other, without it.
    #[arg(long)]
    target: Option<Target>,
    /// How long each searches.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Target {
    /// Frames of the Kafka protocol.
    Frame,
    /// Record batches, log entries and commands.
    Batch,
    /// Opening a commit log whose files were damaged.
    Recovery,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Batch => "batch",
            Self::Recovery => "recovery",
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    native::ensure()?;
    ensure!(options.seconds > 0, "--seconds 0 would search without an end");
    let binaries = build::fuzz_targets()?;
    let chosen = options.target.as_ref().map_or(Target::value_variants(), std::slice::from_ref);
    for target in chosen {
        let name = target.name();
        eprintln!("fuzz: {name} for {} s", options.seconds);
        let directory = build::target_dir()?.join("fuzz").join(name);
        println!("{name}: {}", search(&binaries.join(format!("fuzz_{name}")), &directory, options.seconds)?);
    }
    Ok(())
}

/// Runs one target; gives its summary.
fn search(binary: &Path, directory: &Path, seconds: u32) -> Result<String> {
    let [seeds, corpus, crashes] = ["seeds", "corpus", "crashes"].map(|name| directory.join(name));
    if seeds.exists() {
        fs::remove_dir_all(&seeds).with_context(|| format!("cannot remove {}", seeds.display()))?;
    }
    for dir in [&seeds, &corpus, &crashes] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let log_path = directory.join("log");
    let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let begun = SystemTime::now();
    let mut command = Command::new(binary);
    command.env(SEEDS_VARIABLE, &seeds).stdout(log.try_clone()?).stderr(log);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/", crashes.display()));
    // What is new goes into the first directory.
    let status = command
        .args([&corpus, &crashes, &seeds])
        .status()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
    if !status.success() {
        let why = reason(&text);
        let found = match newest_since(&crashes, begun)? {
            Some(input) => format!("input: {0}\n  replay: {1} {0}", input.display(), binary.display()),
            None => "it left no input".to_owned(),
        };
        bail!("{} failed ({status})\n  {why}\n  {found}\n  log: {}", binary.display(), log_path.display());
    }
    let figures = Figures::read(&text).with_context(|| format!("no figures in {}", log_path.display()))?;
    ensure!(figures.executions > 0, "nothing was executed; see {}", log_path.display());
    ensure!(
        figures.edges >= EDGES_MIN,
        "only {} edges were reached, expected {EDGES_MIN}: is the code instrumented?",
        figures.edges
    );
    Ok(format!(
        "{} executions, {} a second, {} edges, {} features, {} inputs in the corpus",
        figures.executions, figures.executions_per_second, figures.edges, figures.features, figures.corpus
    ))
}

/// The panic, or what ended the process without one.
fn reason(log: &str) -> String {
    let ends = ["panicked at", "memory allocation of", "ERROR: libFuzzer"];
    let find = |end: &str| {
        let lines = log.lines().skip_while(|line| !line.contains(end)).take(2).collect::<Vec<_>>();
        (!lines.is_empty()).then(|| lines.join("\n  "))
    };
    ends.into_iter().find_map(find).unwrap_or_default()
}

fn newest_since(dir: &Path, begun: SystemTime) -> Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let changed = path.metadata()?.modified()?;
        if changed >= begun && newest.as_ref().is_none_or(|(latest, _)| changed > *latest) {
            newest = Some((changed, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// What libFuzzer reports at its end.
#[derive(Debug, PartialEq)]
struct Figures {
    executions: u64,
    executions_per_second: u64,
    /// Edges of the control flow that were taken.
    edges: u64,
    /// Edges, told apart by how often they were taken, and comparisons.
    features: u64,
    corpus: u64,
}

impl Figures {
    /// From `#48 DONE cov: 36 ft: 99 corp: 7/60b …` and the lines `stat::…: 48`.
    fn read(log: &str) -> Option<Self> {
        let done = log.lines().rev().find(|line| line.starts_with('#') && line.contains("DONE"))?;
        let after = |name: &str| {
            let word = done.split_whitespace().skip_while(|word| *word != name).nth(1)?;
            word.split('/').next()?.parse().ok()
        };
        let stat = |name: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name))?;
            line.trim_start_matches(':').trim().parse().ok()
        };
        Some(Self {
            executions: stat("number_of_executed_units")?,
            executions_per_second: stat("average_exec_per_sec")?,
            edges: after("cov:")?,
            features: after("ft:")?,
            corpus: after("corp:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_log() {
        let log = "#54\tINITED cov: 10 ft: 21 corp: 2/6b exec/s: 0 rss: 33Mb\n\
                   #4807\tDONE   cov: 2290 ft: 6499 corp: 804/221Kb lim: 4096 exec/s: 133 rss: 66Mb\n\
                   stat::number_of_executed_units: 4807\nstat::average_exec_per_sec:     133\n";
        let expected =
            Figures { executions: 4807, executions_per_second: 133, edges: 2290, features: 6499, corpus: 804 };
        assert_eq!(Figures::read(log), Some(expected));
        assert_eq!(Figures::read("#54\tINITED cov: 10 ft: 21 corp: 2/6b"), None);
    }
}
