//! What is measured: one row per case, and on which sides.

use super::super::duolog::Durability;
use super::side::{Flush, MessageType};

pub const MESSAGE_BYTES: u32 = 1_024;
/// What a consumer case sends first and then receives; fewer when the sending ends first.
pub const CONSUMED_MESSAGES_MAX: u32 = 20_000;
pub const FILL_SECONDS_MAX: u32 = 8;
/// Of a case with delayed messages.
pub const DELAY_SECONDS: u32 = 10;

/// A cluster's kind of durability: Duolog has it per topic, RocketMQ per broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Duolog(Durability),
    RocketMq(Flush),
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Duolog(Durability::SyncSync) => "duolog-sync-sync",
            Mode::Duolog(Durability::SyncAsync) => "duolog-sync-async",
            Mode::RocketMq(Flush::Async) => "rocketmq-async-flush",
            Mode::RocketMq(Flush::Sync) => "rocketmq-sync-flush",
        }
    }
}

const DUOLOG_FLUSHES: Mode = Mode::Duolog(Durability::SyncSync);
const DUOLOG: Mode = Mode::Duolog(Durability::SyncAsync);
const ROCKETMQ_FLUSHES: Mode = Mode::RocketMq(Flush::Sync);
const ROCKETMQ: Mode = Mode::RocketMq(Flush::Async);

/// The modes of each cluster that a round measures.
pub const CLUSTERS: [&[Mode]; 3] = [&[DUOLOG_FLUSHES, DUOLOG], &[ROCKETMQ], &[ROCKETMQ_FLUSHES]];

/// The pairs whose ratio says something. RocketMQ without flushes is what most people run.
pub const COMPARED: [(Mode, Mode); 3] =
    [(DUOLOG_FLUSHES, ROCKETMQ), (DUOLOG_FLUSHES, ROCKETMQ_FLUSHES), (DUOLOG, ROCKETMQ)];

const ALL_MODES: &[Mode] = &[DUOLOG_FLUSHES, DUOLOG, ROCKETMQ, ROCKETMQ_FLUSHES];
const DEFAULT_MODES: &[Mode] = &[DUOLOG_FLUSHES, ROCKETMQ];

/// What a case does to a started cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As fast as so many unanswered sends allow.
    Send { in_flight: u32 },
    /// Receives and acknowledges what was sent before.
    Consume(Consumer),
    /// At a rate, each message to be seen two seconds later.
    Delay { per_second: u32 },
    /// kill -9 of the leader under a steady rate of sends.
    LeaderKill,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    Push,
    Simple,
}

#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub load: Load,
    pub message_type: MessageType,
    pub partitions: u32,
    pub modes: &'static [Mode],
}

/// Cases that run one after the other on a cluster, which is started anew for each round.
pub struct Suite {
    pub nodes: u16,
    pub cases: Vec<Case>,
}

pub fn suites() -> Vec<Suite> {
    vec![Suite { nodes: 3, cases: three_nodes() }, Suite { nodes: 1, cases: sends("rocketmq-one-node") }]
}

fn three_nodes() -> Vec<Case> {
    let mut cases = sends("rocketmq");
    let mut add = |name: String, load, message_type, partitions| {
        cases.push(Case { name, load, message_type, partitions, modes: DEFAULT_MODES });
    };
    for (name, consumer) in [("push", Consumer::Push), ("simple", Consumer::Simple)] {
        add(format!("rocketmq-consume-{name}"), Load::Consume(consumer), MessageType::Normal, 8);
    }
    for per_second in [200, 1_000] {
        add(format!("rocketmq-delay-{per_second}-per-s"), Load::Delay { per_second }, MessageType::Delay, 8);
    }
    let many = "rocketmq-send-normal-256-1000-partitions".to_owned();
    add(many, Load::Send { in_flight: 256 }, MessageType::Normal, 1_000);
    // Last: nobody starts the killed node again.
    add("rocketmq-leader-kill".to_owned(), Load::LeaderKill, MessageType::Normal, 1);
    cases
}

fn sends(prefix: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for message_type in [MessageType::Normal, MessageType::Fifo, MessageType::Transaction] {
        for in_flight in [64, 256] {
            let name = format!("{prefix}-send-{}-{in_flight}", message_type.name());
            cases.push(Case { name, load: Load::Send { in_flight }, message_type, partitions: 8, modes: ALL_MODES });
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CLUSTERS, COMPARED, suites};

    #[test]
    fn each_case_has_a_name_of_its_own_and_a_comparison() {
        let cases: Vec<_> = suites().into_iter().flat_map(|suite| suite.cases).collect();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let compared = |mode| {
                COMPARED.iter().any(|(ours, theirs)| {
                    (*ours == mode || *theirs == mode) && case.modes.contains(ours) && case.modes.contains(theirs)
                })
            };
            assert!(case.modes.iter().all(|mode| compared(*mode)), "{}", case.name);
            assert!(case.modes.iter().all(|mode| CLUSTERS.iter().any(|modes| modes.contains(mode))), "{}", case.name);
        }
    }
}
