//! Duolog and the real Kafka, with Kafka's own load tools.

mod cases;
mod side;
mod tools;

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::Lab;
use super::duolog::Duolog;
use super::report::{Figures, Report};
use super::round::{self, Bench, Run};
use super::script::Script;
use cases::{Case, END_TO_END_RECORDS, LATENCY_RECORDS_PER_SECOND, LATENCY_SECONDS, Load, Suite};
use side::{Side, Topic};
use tools::Tools;

pub fn case_names() -> Vec<String> {
    cases::suites().into_iter().flat_map(|suite| suite.cases).map(|case| case.name).collect()
}

/// Finds the script and installs Kafka where it is not there yet.
pub fn install() -> Result<Script> {
    // A cluster of its own, apart from others on this machine.
    let script = Script::find("kafka")?.with("KAFKA_CLUSTER", "duolog-bench");
    eprintln!("bench: installing Kafka where it is missing (Maven)");
    script.call(&["install"])?;
    Ok(script)
}

pub fn run(script: &Script, lab: &Lab, report: &mut Report) -> Result<()> {
    let tools = Tools::new(script.clone());
    for suite in cases::suites().into_iter().filter_map(|suite| wanted(suite, lab)) {
        let cluster = Duolog::new(&lab.server, &lab.dir, suite.nodes);
        let sides =
            [Side::Duolog { cluster, tools: tools.clone() }, Side::Kafka { tools: tools.clone(), nodes: suite.nodes }];
        for round in 0..lab.rounds {
            for side in &sides {
                let run = |case: &Case| Run { name: case.name.clone(), side: side.name(), case: case.clone() };
                let runs: Vec<Run<Case>> = suite.cases.iter().map(run).collect();
                let warm_topic = suite.cases[0].topic;
                let mut bench =
                    KafkaBench { side, tools: &tools, load_bytes: lab.load_bytes, warm_topic, filled: None };
                round::measure(&mut bench, &runs, round, &lab.dir, report)?;
            }
        }
        for case in &suite.cases {
            report.compare(&case.name, "duolog", "kafka");
        }
    }
    Ok(())
}

/// The suite with the cases that are asked for; a consume case needs the one that fills its topic.
fn wanted(suite: Suite, lab: &Lab) -> Option<Suite> {
    let filled_for_consume: Vec<u64> = suite
        .cases
        .iter()
        .filter(|case| case.load == Load::Consume && lab.is_wanted(&case.name))
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
            first_filler || lab.is_wanted(&case.name)
        })
        .collect();
    (!cases.is_empty()).then_some(Suite { nodes: suite.nodes, cases })
}

/// One side in one round.
struct KafkaBench<'a> {
    side: &'a Side,
    tools: &'a Tools,
    load_bytes: u64,
    warm_topic: Topic,
    filled: Option<Filled>,
}

/// A topic with records for a consumer.
struct Filled {
    record_bytes: u64,
    topic: String,
    records: u64,
}

impl Bench for KafkaBench<'_> {
    type Case = Case;

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
        [1_024, 100].into_iter().try_for_each(|record_bytes| {
            round::until_steady(|| {
                let topic = self.create(&self.warm_topic)?;
                let (bootstrap, records) = (self.side.bootstrap()?, self.load_bytes / record_bytes);
                let figures = self.tools.produce(&bootstrap, &topic, records, 0, record_bytes, None)?;
                self.side.delete_topic(&topic)?;
                Ok(figures.get("records_per_s").copied().unwrap_or_default())
            })
        })
    }

    fn measure(&mut self, case: &Case) -> Result<Figures> {
        if let Load::Consume = case.load {
            let filled = self.filled.as_ref().filter(|filled| filled.record_bytes == case.record_bytes);
            let filled = filled.context("a consume case follows the case that fills its topic")?;
            let (bootstrap, topic, records) = (self.side.bootstrap()?, &filled.topic, filled.records);
            return self.sampled(|| Ok((records, self.tools.consume(&bootstrap, topic, records)?)));
        }
        let topic = self.create(&case.topic)?;
        let bootstrap = self.side.bootstrap()?;
        let records = self.load_bytes / case.record_bytes;
        let warm_up = records / 4;
        let produce = |records, warm_up, rate| {
            let figures = self.tools.produce(&bootstrap, &topic, records, warm_up, case.record_bytes, rate)?;
            Ok((warm_up + records, figures))
        };
        let figures = match case.load {
            Load::Produce => self.sampled(|| produce(records, warm_up, None))?,
            Load::Latency => {
                let records = u64::from(LATENCY_RECORDS_PER_SECOND * LATENCY_SECONDS);
                self.sampled(|| produce(records, records / 4, Some(LATENCY_RECORDS_PER_SECOND)))?
            }
            Load::EndToEnd => {
                let records = u64::from(END_TO_END_RECORDS);
                self.sampled(|| Ok((records, self.tools.end_to_end(&bootstrap, &topic, records, case.record_bytes)?)))?
            }
            Load::LeaderKill => self.leader_kill(&bootstrap, &topic)?,
            Load::Consume => unreachable!("measured above"),
        };
        if let Load::Produce = case.load {
            let new = Filled { record_bytes: case.record_bytes, topic, records: warm_up + records };
            if let Some(old) = self.filled.replace(new) {
                self.side.delete_topic(&old.topic)?;
            }
        } else {
            self.side.delete_topic(&topic)?;
        }
        Ok(figures)
    }
}

impl KafkaBench<'_> {
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
