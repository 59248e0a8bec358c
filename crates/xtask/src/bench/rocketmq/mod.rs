//! Duolog and the real RocketMQ, with RocketMQ's own client for gRPC.
//!
//! RocketMQ flushes as its configuration says and Duolog as each topic says. So a round has three clusters: Duolog, with topics of
//! both modes, and a RocketMQ of each kind.

mod cases;
mod side;
mod tool;

use std::path::Path;
use std::{fs, iter};

use anyhow::Result;

use super::Lab;
use super::duolog::{Duolog, Durability};
use super::report::{Figures, Report};
use super::round::{self, Bench, Run};
use super::script::Script;
use crate::process;
use cases::{CLUSTERS, COMPARED, Case, DELAY_SECONDS, FILL_SECONDS_MAX, Load, Mode, Suite};
use side::{MessageType, PROXY_PORT, Side, Topic};
use tool::Tool;

const WARM_IN_FLIGHT: u32 = 256;

pub fn case_names() -> Vec<String> {
    cases::suites().into_iter().flat_map(|suite| suite.cases).map(|case| case.name).collect()
}

/// Finds the script and installs RocketMQ where it is not there yet.
pub fn install(dir: &Path) -> Result<Script> {
    // A directory and ports of its own, apart from others on this machine: a start deletes what lies in the directory.
    let home = dir.join("peers");
    fs::create_dir_all(&home)?;
    let script = Script::find("rocketmq")?
        .with("PEERS_DIR", &home)
        .with("NS_PORT", "29876")
        .with("CTRL_PORT", "29878")
        .with("BROKER_PORT", "20911")
        .with("PROXY_REMOTING_PORT", "28080")
        .with("GRPC_PORT", PROXY_PORT.to_string());
    let installed = home.join("rocketmq/lib/.complete");
    if !installed.exists() {
        eprintln!("bench: installing RocketMQ in {} (Maven)", home.display());
        script.call(&["install"])?;
    }
    Ok(script)
}

pub fn run(script: &Script, lab: &Lab, report: &mut Report) -> Result<()> {
    for mut suite in cases::suites() {
        suite.cases.retain(|case| lab.is_wanted(&case.name));
        if suite.cases.is_empty() {
            continue;
        }
        for round in 0..lab.rounds {
            for modes in CLUSTERS {
                measure(script, &suite, modes, round, lab, report)?;
            }
        }
        for case in &suite.cases {
            for (ours, theirs) in COMPARED {
                report.compare(&case.name, ours.name(), theirs.name());
            }
        }
    }
    Ok(())
}

/// One round of the cluster that has these modes.
fn measure(script: &Script, suite: &Suite, modes: &[Mode], round: u32, lab: &Lab, report: &mut Report) -> Result<()> {
    let runs: Vec<Run<Planned>> = suite.cases.iter().flat_map(|case| planned(case, modes)).collect();
    if runs.is_empty() {
        return Ok(());
    }
    let side = match modes[0] {
        Mode::Duolog(_) => Side::Duolog(Duolog::new(&lab.server, &lab.dir, suite.nodes)),
        Mode::RocketMq(flush) => Side::rocketmq(script, flush, suite.nodes),
    };
    let topics = iter::once(warm_topic(&runs)).chain(runs.iter().map(|run| run.case.topic.clone())).collect();
    let tool = Tool::new(script, &side.endpoints());
    let mut bench = RocketMqBench { side, tool, topics, seconds: lab.seconds };
    round::measure(&mut bench, &runs, round, &lab.dir, report)
}

/// A case with the topic that it has to itself.
struct Planned {
    load: Load,
    topic: Topic,
}

fn planned(case: &Case, modes: &[Mode]) -> Vec<Run<Planned>> {
    let plan = |mode: &Mode| {
        let durability = match mode {
            Mode::Duolog(durability) => *durability,
            Mode::RocketMq(_) => Durability::SyncSync,
        };
        let name = format!("{}-{}", case.name, mode.name());
        let topic = Topic { name, message_type: case.message_type, partitions: case.partitions, durability };
        Run { name: case.name.clone(), side: mode.name(), case: Planned { load: case.load, topic } }
    };
    modes.iter().filter(|mode| case.modes.contains(mode)).map(plan).collect()
}

fn warm_topic(runs: &[Run<Planned>]) -> Topic {
    let durability = runs[0].case.topic.durability;
    Topic { name: "bench-warm".to_owned(), message_type: MessageType::Normal, partitions: 8, durability }
}

/// One cluster in one round.
struct RocketMqBench {
    side: Side,
    tool: Tool,
    /// That of the discarded runs, then those of the cases.
    topics: Vec<Topic>,
    seconds: u32,
}

impl Bench for RocketMqBench {
    type Case = Planned;

    fn start(&self) -> Result<()> {
        self.side.start()
    }

    fn stop(&self) -> Result<()> {
        self.side.stop()
    }

    fn pids(&self) -> Result<Vec<u32>> {
        self.side.pids()
    }

    fn warm(&mut self) -> Result<()> {
        self.side.create_topics(&self.topics)?;
        let warm = &self.topics[0];
        round::until_steady(|| {
            let (_, figures) = self.tool.send(&warm.name, warm.message_type, WARM_IN_FLIGHT, self.seconds)?;
            Ok(figures["messages_per_s"])
        })
    }

    fn measure(&mut self, Planned { load, topic }: &Planned) -> Result<Figures> {
        match *load {
            Load::Send { in_flight } => {
                self.sampled(|| self.tool.send(&topic.name, topic.message_type, in_flight, self.seconds))
            }
            Load::Consume(consumer) => {
                let discarded = self.tool.fill(&topic.name, self.seconds)?;
                self.tool.consume(consumer, &topic.name, discarded)?;
                let messages = self.tool.fill(&topic.name, FILL_SECONDS_MAX)?;
                self.sampled(|| self.tool.consume(consumer, &topic.name, messages))
            }
            Load::Delay { per_second } => {
                self.tool.delay(&topic.name, per_second, self.seconds)?;
                self.sampled(|| self.tool.delay(&topic.name, per_second, DELAY_SECONDS))
            }
            Load::LeaderKill => {
                let leader = self.side.leader_pid(&topic.name)?;
                self.tool.send_through_kill(&topic.name, || process::signal(leader, libc::SIGKILL))
            }
        }
    }
}
