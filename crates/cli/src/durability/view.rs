//! The answers of all nodes as one view: sums over the leaders, words, tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::ensure;
use duolog_types::Durability;
use serde::Serialize;

use super::promise::{Promise, note, promise};
use super::report::{Exposure, NodeReport};
use crate::output::{Table, list};

/// All topics with their promises and exposures.
#[derive(Debug, Serialize)]
pub(super) struct View {
    topics: Vec<TopicView>,
    /// Nodes that do not answer, and why; what they lead is missing.
    silent: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TopicView {
    topic: String,
    durability: String,
    flush_ms: Option<u32>,
    replicas: usize,
    partitions: usize,
    /// Partitions whose leader has answered: the exposure is theirs.
    partitions_seen: usize,
    /// None: a mode that this command does not know.
    promise: Option<Promise>,
    note: Option<String>,
    exposure: Losses,
    /// Of each leader by itself.
    leaders: Vec<LeaderView>,
    /// Losses that would take something right now.
    lost_with: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Losses {
    leader_loss: Exposure,
    power_loss: Exposure,
}

#[derive(Debug, Serialize)]
struct LeaderView {
    node_id: u64,
    partitions: usize,
    #[serde(flatten)]
    losses: Losses,
}

impl View {
    /// Puts answers together; of all topics, or of those that are asked for.
    ///
    /// # Errors
    /// A topic that is asked for is unknown to every node.
    pub(super) fn new(reports: Vec<NodeReport>, silent: Vec<String>, asked: &[String]) -> anyhow::Result<Self> {
        let mut topics: BTreeMap<String, TopicView> = BTreeMap::new();
        for report in reports {
            for topic in report.topics {
                let view = topics.entry(topic.topic.clone()).or_insert_with(|| {
                    let mode = Durability::ALL.into_iter().find(|mode| mode.to_string() == topic.durability);
                    TopicView {
                        topic: topic.topic.clone(),
                        durability: topic.durability.clone(),
                        flush_ms: topic.flush_ms,
                        replicas: topic.replicas,
                        partitions: topic.partitions,
                        partitions_seen: 0,
                        promise: mode.map(promise),
                        note: note(topic.replicas),
                        exposure: Losses::default(),
                        leaders: Vec::new(),
                        lost_with: Vec::new(),
                    }
                });
                if topic.partitions_led > 0 {
                    view.add(report.node_id, topic.partitions_led, topic.leader_loss, topic.power_loss);
                }
            }
        }
        for name in asked {
            ensure!(topics.contains_key(name), "topic {name:?}: there is none; `duolog topic list` shows all topics");
        }
        topics.retain(|name, _| asked.is_empty() || asked.contains(name));
        let topics = topics.into_values().map(TopicView::with_losses).collect();
        Ok(Self { topics, silent })
    }
}

impl TopicView {
    fn add(&mut self, node_id: u64, partitions: usize, leader_loss: Exposure, power_loss: Exposure) {
        self.partitions_seen += partitions;
        self.exposure.leader_loss = self.exposure.leader_loss.plus(leader_loss);
        self.exposure.power_loss = self.exposure.power_loss.plus(power_loss);
        self.leaders.push(LeaderView { node_id, partitions, losses: Losses { leader_loss, power_loss } });
    }

    fn with_losses(mut self) -> Self {
        let exposed = self.leaders.iter().filter(|leader| leader.losses.leader_loss.records > 0);
        self.lost_with = exposed.map(|leader| format!("node {}", leader.node_id)).collect();
        if self.exposure.power_loss.records > 0 {
            self.lost_with.push("the power of all machines".to_owned());
        }
        self
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.exposure_table())?;
        writeln!(f)?;
        write!(f, "{}", self.promise_table())?;
        for topic in &self.topics {
            if let Some(note) = &topic.note {
                writeln!(f, "{}: {note}", topic.topic)?;
            }
            if topic.partitions_seen < topic.partitions {
                let missing = topic.partitions - topic.partitions_seen.min(topic.partitions);
                writeln!(
                    f,
                    "{}: the leaders of {missing} of {} partitions have not answered, so its exposure is not whole",
                    topic.topic, topic.partitions
                )?;
            }
        }
        self.silent.iter().try_for_each(|reason| writeln!(f, "{reason}"))
    }
}

impl View {
    fn exposure_table(&self) -> Table {
        let mut table = Table::new(&[
            "TOPIC",
            "DURABILITY",
            ">LEADER LOSS: RECORDS",
            ">BYTES",
            ">AGE MS",
            ">POWER LOSS: RECORDS",
            ">BYTES",
            ">AGE MS",
            "WOULD BE LOST WITH",
        ]);
        for topic in &self.topics {
            let mut row = vec![topic.topic.clone(), topic.durability.clone()];
            for Exposure { records, bytes, age_ms } in [topic.exposure.leader_loss, topic.exposure.power_loss] {
                row.extend([records, bytes, age_ms].map(|number| number.to_string()));
            }
            row.push(list(&topic.lost_with));
            table.row(row);
        }
        table
    }

    /// One row per mode that occurs.
    fn promise_table(&self) -> Table {
        let mut table = Table::new(&[
            "DURABILITY",
            "ANSWERED WHEN",
            "KILL -9 OF A MINORITY",
            "ONE MACHINE LOSES POWER",
            "ALL MACHINES LOSE POWER",
        ]);
        let mut seen = BTreeSet::new();
        for topic in &self.topics {
            let Some(promise) = topic.promise.as_ref().filter(|_| seen.insert(&topic.durability)) else { continue };
            table.row(vec![
                topic.durability.clone(),
                format!("{}: {}", promise.ack_point, promise.answered_when),
                promise.kill_of_minority.to_owned(),
                promise.power_loss_of_one_machine.to_owned(),
                promise.power_loss_of_all_machines.to_owned(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::TopicReport;
    use super::*;

    fn exposure(records: u64, age_ms: u64) -> Exposure {
        Exposure { records, bytes: records * 100, age_ms }
    }

    fn report(node_id: u64, partitions_led: usize, leader: Exposure, power: Exposure) -> NodeReport {
        let topic = TopicReport {
            topic: "t".into(),
            durability: "async/async".into(),
            flush_ms: Some(100),
            replicas: 3,
            partitions: 4,
            partitions_led,
            leader_loss: leader,
            power_loss: power,
        };
        NodeReport { node_id, nodes: Vec::new(), topics: vec![topic] }
    }

    #[test]
    fn leaders_add_up_and_the_exposed_ones_are_named() {
        let reports = vec![
            report(0, 1, exposure(0, 0), exposure(5, 30)),
            report(1, 2, exposure(2, 9), exposure(7, 20)),
            report(2, 0, exposure(0, 0), exposure(0, 0)),
        ];
        let view = View::new(reports, vec![], &[]).unwrap();
        let topic = &view.topics[0];
        assert_eq!((topic.partitions, topic.partitions_seen), (4, 3));
        assert_eq!((topic.exposure.leader_loss, topic.exposure.power_loss), (exposure(2, 9), exposure(12, 30)));
        assert_eq!(topic.lost_with, ["node 1", "the power of all machines"]);
        let text = view.to_string();
        for expected in ["node 1,the power of all machines", "1 of 4 partitions have not answered", "appended: in the"]
        {
            assert!(text.contains(expected), "{text}");
        }
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["topics"][0]["exposure"]["power_loss"]["age_ms"], 30);
        assert_eq!(json["topics"][0]["leaders"][1]["leader_loss"]["bytes"], 200);
        assert_eq!(json["topics"][0]["promise"]["ack_point"], "appended");
    }

    #[test]
    fn an_unknown_topic_is_an_error_and_others_are_left_out() {
        let reports = || vec![report(0, 4, exposure(0, 0), exposure(0, 0))];
        assert!(View::new(reports(), vec![], &["t".into()]).unwrap().topics[0].lost_with.is_empty());
        let error = View::new(reports(), vec![], &["u".into()]).unwrap_err().to_string();
        assert!(error.contains("topic \"u\""), "{error}");
    }
}
