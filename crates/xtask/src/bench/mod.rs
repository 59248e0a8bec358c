//! `bench`: Duolog and a real broker in turn (A B A B) on this machine, with load tools of the other's own clients; only ratios
//! count.
//!
//! ```text
//!   per suite and round:  [ start → discarded runs → { fdatasync probe → case → probe } × cases → stop ] × sides
//! ```
//! Only one broker runs at a time: two cores do not carry two clusters and a load tool.

mod duolog;
mod kafka;
mod measure;
mod page_cache;
mod report;
mod rocketmq;
mod round;
mod script;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{build, native};
use report::Report;
use script::Script;

#[derive(Args)]
pub struct Options {
    /// The broker to measure against; both, one after the other, otherwise.
    #[arg(long)]
    peer: Option<Peer>,
    /// Only the cases whose name contains this.
    #[arg(long = "case")]
    name: Option<String>,
    /// One JSON object per line, the last a summary.
    #[arg(long)]
    json: bool,
    /// Measured runs per side and case.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Kafka: size of a discarded run, and of a throughput run, in MiB of payload.
    #[arg(long, default_value_t = 400)]
    load_mib: u64,
    /// RocketMQ: length of a run that sends, in seconds; a discarded one as long goes before it.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// A server that is there already, instead of one built now.
    #[arg(long)]
    server: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Kafka,
    Rocketmq,
}

/// What all comparisons of a call share.
struct Lab {
    server: PathBuf,
    dir: PathBuf,
    rounds: u32,
    load_bytes: u64,
    seconds: u32,
    name: Option<String>,
}

impl Lab {
    fn is_wanted(&self, case: &str) -> bool {
        self.name.as_ref().is_none_or(|part| case.contains(part))
    }
}

pub fn run(options: &Options) -> Result<()> {
    let mut lab = Lab {
        server: PathBuf::new(),
        dir: build::user_dir("XDG_CACHE_HOME", ".cache")?.join("duolog/bench"),
        rounds: options.rounds,
        load_bytes: options.load_mib << 20,
        seconds: options.seconds,
        name: options.name.clone(),
    };
    let peers = options.peer.map_or(vec![Peer::Kafka, Peer::Rocketmq], |peer| vec![peer]);
    let names: Vec<String> = peers.iter().flat_map(|peer| peer.case_names()).collect();
    ensure!(names.iter().any(|name| lab.is_wanted(name)), "no such case; there are: {}", names.join(", "));
    let peers = peers.into_iter().filter(|peer| peer.case_names().iter().any(|name| lab.is_wanted(name)));
    // Before the first measurement: what is missing should be known at once.
    let peers: Vec<(Peer, Script)> = peers.map(|peer| Ok((peer, peer.install(&lab.dir)?))).collect::<Result<_>>()?;
    lab.server = match &options.server {
        Some(server) => std::path::absolute(server)?,
        None => {
            native::ensure()?;
            build::server()?
        }
    };
    ensure!(lab.server.is_file(), "there is no server at {}", lab.server.display());
    let mut report = Report::new(options.json);
    for (peer, script) in &peers {
        peer.run(script, &lab, &mut report).with_context(|| format!("against {}", peer.name()))?;
    }
    report.summary();
    Ok(())
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Kafka => "Kafka",
            Peer::Rocketmq => "RocketMQ",
        }
    }

    fn case_names(self) -> Vec<String> {
        match self {
            Peer::Kafka => kafka::case_names(),
            Peer::Rocketmq => rocketmq::case_names(),
        }
    }

    fn install(self, dir: &Path) -> Result<Script> {
        match self {
            Peer::Kafka => kafka::install(),
            Peer::Rocketmq => rocketmq::install(dir),
        }
    }

    fn run(self, script: &Script, lab: &Lab, report: &mut Report) -> Result<()> {
        match self {
            Peer::Kafka => kafka::run(script, lab, report),
            Peer::Rocketmq => rocketmq::run(script, lab, report),
        }
    }
}
