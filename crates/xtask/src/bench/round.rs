//! One round on one side: start → discarded runs → { fdatasync probe → case → probe } × cases → stop.

use std::path::Path;

use anyhow::{Context, Result};

use super::measure::{Sample, fsync_probe};
use super::page_cache::PageCache;
use super::report::{Figures, Report};

/// A cluster of one side, with what loads it.
pub trait Bench {
    type Case;

    /// An empty cluster.
    fn start(&self) -> Result<()>;

    /// Removes what `start` and the cases have left.
    fn stop(&self) -> Result<()>;

    /// Of all processes that serve.
    fn pids(&self) -> Result<Vec<u32>>;

    /// Loads the started cluster until it is as fast as it becomes.
    fn warm(&mut self) -> Result<()>;

    fn measure(&mut self, case: &Self::Case) -> Result<Figures>;

    /// Adds what the brokers used to the figures of a load, which says how many messages it moved.
    fn sampled(&self, load: impl FnOnce() -> Result<(u64, Figures)>) -> Result<Figures> {
        let before = Sample::take(&self.pids()?);
        let (messages, mut figures) = load()?;
        let used = Sample::take(&self.pids()?).since(&before);
        figures.insert("broker_cpu_s_per_million", used.broker_cpu_s / messages as f64 * 1e6);
        figures.insert("rss_mib", used.rss_mib);
        figures.insert("rss_anon_mib", used.rss_anon_mib);
        figures.insert("other_cores", used.other_cores);
        Ok(figures)
    }
}

/// A case on one side, as the report names both.
pub struct Run<C> {
    pub name: String,
    pub side: &'static str,
    pub case: C,
}

/// Stops the cluster also after a failure.
pub fn measure<B: Bench>(
    bench: &mut B,
    runs: &[Run<B::Case>],
    round: u32,
    dir: &Path,
    report: &mut Report,
) -> Result<()> {
    bench.start()?;
    let result = measure_started(bench, runs, round, dir, report);
    bench.stop()?;
    result
}

fn measure_started<B: Bench>(
    bench: &mut B,
    runs: &[Run<B::Case>],
    round: u32,
    dir: &Path,
    report: &mut Report,
) -> Result<()> {
    bench.warm()?;
    let mut page_cache = PageCache::new(dir)?;
    for Run { name, side, case } in runs {
        page_cache.fill()?;
        report.fsync(name, "before", &fsync_probe(dir)?);
        let figures = bench.measure(case).with_context(|| format!("case {name}, {side}, round {round}"))?;
        report.run(name, side, round, figures);
        report.fsync(name, "after", &fsync_probe(dir)?);
    }
    Ok(())
}

/// Discarded runs, each with its rate, until one is no longer clearly faster than those before: Java's compiler is at work for
/// minutes, and the first case would show half of a peer's speed.
pub fn until_steady(mut run: impl FnMut() -> Result<f64>) -> Result<()> {
    const RUNS_MAX: u32 = 8;
    const CLEARLY_FASTER: f64 = 1.1;
    let mut best = 0.0;
    for _ in 0..RUNS_MAX {
        let rate = run()?;
        if rate < best * CLEARLY_FASTER {
            break;
        }
        best = rate;
    }
    Ok(())
}
