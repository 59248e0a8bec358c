//! `bench`: Duolog and the real Kafka in turn (A B A B) on this machine, with Kafka's own load tools; only ratios count.
//!
//! ```text
//!   per suite and round:  [ start → discarded runs → { fdatasync probe → case → probe } × cases → stop ] × sides
//! ```
//! Only one broker runs at a time: two cores do not carry two clusters and a load tool.

mod cases;
mod measure;
mod page_cache;
mod report;
mod side;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{build, native};
use cases::{Case, END_TO_END_RECORDS, LATENCY_RECORDS_PER_SECOND, LATENCY_SECONDS, Load, Suite};
use measure::{Sample, fsync_probe};
use page_cache::PageCache;
use report::{Figures, Report};
use side::{Side, Topic};
use tools::Tools;

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

pub fn run(options: &Options) -> Result<()> {
    native::ensure()?;
    let tools = Tools::find()?;
    let binary = build::server()?;
    let suites: Vec<Suite> = cases::suites().into_iter().filter_map(|suite| wanted(suite, options)).collect();
    ensure!(!suites.is_empty(), "no such case; there are: {}", names());
    let dir = build::user_dir("XDG_CACHE_HOME", ".cache")?.join("duolog/bench");
    let mut report = Report::new(options.json);
    for suite in &suites {
        let sides = [
            Side::duolog(tools.clone(), binary.clone(), dir.join("duolog"), suite.nodes),
            Side::kafka(tools.clone(), suite.nodes),
        ];
        for round in 0..options.rounds {
            for side in &sides {
                let bench = Bench { side, tools: &tools, dir: &dir, load_bytes: options.load_mib << 20, round };
                bench.run(suite, &mut report).with_context(|| format!("{}, round {round}", side.name()))?;
            }
        }
        for case in &suite.cases {
            report.case(&case.name);
        }
    }
    report.summary();
    Ok(())
}

/// The suite with the cases that are asked for; a consume case needs the one that fills its topic.
fn wanted(suite: Suite, options: &Options) -> Option<Suite> {
    let is_wanted = |case: &Case| options.name.as_ref().is_none_or(|part| case.name.contains(part));
    let filled_for_consume: Vec<u64> = suite
        .cases
        .iter()
        .filter(|case| case.load == Load::Consume && is_wanted(case))
        .map(|case| case.record_bytes)
        .collect();
    let fills = |case: &Case| case.load == Load::Produce && filled_for_consume.contains(&case.record_bytes);
    let mut needed: Vec<u64> = Vec::new();
    let cases: Vec<Case> = suite
        .cases
        .into_iter()
        .filter(|case| {
            // One filled topic per record size is enough.
            let first_filler = fills(case) && !needed.contains(&case.record_bytes);
            if first_filler {
                needed.push(case.record_bytes);
            }
            first_filler || is_wanted(case)
        })
        .collect();
    (!cases.is_empty()).then_some(Suite { nodes: suite.nodes, cases })
}

fn names() -> String {
    let names: Vec<String> = cases::suites().into_iter().flat_map(|suite| suite.cases).map(|case| case.name).collect();
    names.join(", ")
}

/// One round on one side.
struct Bench<'a> {
    side: &'a Side,
    tools: &'a Tools,
    dir: &'a Path,
    load_bytes: u64,
    round: u32,
}

/// A topic with records for a consumer.
struct Filled {
    record_bytes: u64,
    topic: String,
    records: u64,
}

impl Bench<'_> {
    /// Starts the side, warms it, measures every case once, stops it: also after a failure.
    fn run(&self, suite: &Suite, report: &mut Report) -> Result<()> {
        self.side.start()?;
        let result = self.measure_all(suite, report);
        self.side.stop()?;
        result
    }

    fn measure_all(&self, suite: &Suite, report: &mut Report) -> Result<()> {
        self.warm(suite)?;
        let mut filled = None;
        let mut page_cache = PageCache::new(self.dir)?;
        for case in &suite.cases {
            page_cache.fill()?;
            report.fsync(&case.name, "before", &fsync_probe(self.dir)?);
            let figures = self.measure(case, &mut filled).with_context(|| format!("case {}", case.name))?;
            report.run(&case.name, self.side.name(), self.round, figures);
            report.fsync(&case.name, "after", &fsync_probe(self.dir)?);
        }
        Ok(())
    }

    /// Discarded runs until one is no longer clearly faster than those before: Kafka's compiler is at work for minutes, and its
    /// first case would show half of its speed.
    fn warm(&self, suite: &Suite) -> Result<()> {
        const RUNS_MAX: u32 = 8;
        const CLEARLY_FASTER: f64 = 1.1;
        for record_bytes in [1_024, 100] {
            let mut best = 0.0;
            for _ in 0..RUNS_MAX {
                let topic = self.create(&suite.cases[0].topic)?;
                let (bootstrap, records) = (self.side.bootstrap()?, self.load_bytes / record_bytes);
                let figures = self.tools.produce(&bootstrap, &topic, records, 0, record_bytes, None)?;
                self.side.delete_topic(&topic)?;
                let rate = figures.get("records_per_s").copied().unwrap_or_default();
                if rate < best * CLEARLY_FASTER {
                    break;
                }
                best = rate;
            }
        }
        Ok(())
    }

    fn measure(&self, case: &Case, filled: &mut Option<Filled>) -> Result<Figures> {
        if let Load::Consume = case.load {
            let filled = filled.as_ref().filter(|filled| filled.record_bytes == case.record_bytes);
            let filled = filled.context("a consume case follows the case that fills its topic")?;
            let (bootstrap, topic, records) = (self.side.bootstrap()?, &filled.topic, filled.records);
            return self.sampled(records, || self.tools.consume(&bootstrap, topic, records));
        }
        let topic = self.create(&case.topic)?;
        let bootstrap = self.side.bootstrap()?;
        let records = self.load_bytes / case.record_bytes;
        let warm_up = records / 4;
        let produce = |records, rate| self.tools.produce(&bootstrap, &topic, records, warm_up, case.record_bytes, rate);
        let figures = match case.load {
            Load::Produce => self.sampled(warm_up + records, || produce(records, None))?,
            Load::Latency => {
                let records = u64::from(LATENCY_RECORDS_PER_SECOND * LATENCY_SECONDS);
                let warm_up = records / 4;
                let rate = Some(LATENCY_RECORDS_PER_SECOND);
                self.sampled(warm_up + records, || {
                    self.tools.produce(&bootstrap, &topic, records, warm_up, case.record_bytes, rate)
                })?
            }
            Load::EndToEnd => {
                let records = u64::from(END_TO_END_RECORDS);
                self.sampled(records, || self.tools.end_to_end(&bootstrap, &topic, records, case.record_bytes))?
            }
            Load::LeaderKill => self.leader_kill(&bootstrap, &topic)?,
            Load::Consume => unreachable!("measured above"),
        };
        if let Load::Produce = case.load {
            let new = Filled { record_bytes: case.record_bytes, topic, records: warm_up + records };
            if let Some(old) = filled.replace(new) {
                self.side.delete_topic(&old.topic)?;
            }
        } else {
            self.side.delete_topic(&topic)?;
        }
        Ok(figures)
    }

    /// Adds what the brokers used meanwhile.
    fn sampled(&self, records: u64, load: impl FnOnce() -> Result<Figures>) -> Result<Figures> {
        let before = Sample::take(&self.side.pids()?);
        let mut figures = load()?;
        let used = Sample::take(&self.side.pids()?).since(&before);
        figures.insert("broker_cpu_s_per_million", used.broker_cpu_s / records as f64 * 1e6);
        figures.insert("rss_mib", used.rss_mib);
        figures.insert("other_cores", used.other_cores);
        Ok(figures)
    }

    fn leader_kill(&self, bootstrap: &str, topic: &str) -> Result<Figures> {
        const RUN: Duration = Duration::from_secs(25);
        const KILL_AFTER: Duration = Duration::from_secs(6);
        let leader = self.tools.leader(bootstrap, topic)?;
        let kill = || self.side.kill(leader);
        let figures = self.tools.produce_through_kill(bootstrap, topic, RUN, KILL_AFTER, kill)?;
        self.side.restart(leader)?;
        Ok(figures)
    }

    fn create(&self, topic: &Topic) -> Result<String> {
        let name = format!("bench-{}", unique());
        self.side.create_topic(&name, topic)?;
        Ok(name)
    }
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
