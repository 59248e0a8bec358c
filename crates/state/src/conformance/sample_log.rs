//! A log of all kinds of entries, a pure function of its seed, with a model of what the partitions must hold.
//!
//! The model is small on purpose: per partition its batches and its log start. Entries that must not count (a gap in the
//! run, a wrong offset, an old barrier) are in the log and not in the model.

mod access;
mod hidden;

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_record::BatchBuilder;
use duolog_record::entry::{Address, BatchMeta, EntryBuilder, EntryHeader};
use duolog_record::group::{CommittedOffset, GroupId, GroupMetadata, GroupRecord, GroupState, OffsetCommit};
use duolog_types::{
    BrokerGroupId, Durability, GroupConfig, LogIndex, NodeId, Offset, ProducerEpoch, ProducerId, Term, TimestampMs,
    TopicConfig, TopicId, TopicPartition,
};

use crate::command::{CatalogCommand, ClusterNode, Command, GroupCommand, PartitionCommand, PullBack};
use crate::kinds::{AppliedEntry, EntryKind};
use crate::rows::{HiddenRow, HiddenState};
use crate::run::RunBarrier;

/// Topics at a time. A deleted one is followed by a new one; the old one is still named now and then.
const TOPICS: u32 = 5;
const PARTITIONS: u32 = 3;

/// What a partition must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPartition {
    /// The first offset that is kept.
    pub log_start: i64,
    /// Batches ever: base offset, record count, greatest timestamp, term.
    pub batches: Vec<(i64, u32, i64, u64)>,
}

impl ModelPartition {
    /// The log end offset.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.batches.last().map_or(0, |(base, count, _, _)| base + i64::from(*count))
    }
}

/// The log, entry by entry; it never ends.
#[derive(Debug, Clone)]
pub struct SampleLog {
    random: u64,
    next_index: u64,
    barrier: RunBarrier,
    next_number: u64,
    catalog_version: u64,
    /// How often each of the topics was deleted.
    generations: [u32; TOPICS as usize],
    partitions: BTreeMap<TopicPartition, ModelPartition>,
    next_sequence: BTreeMap<(TopicPartition, i64), i32>,
    hidden: BTreeMap<(TopicPartition, Address), HiddenRow>,
}

impl SampleLog {
    /// The log of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            next_index: 0,
            barrier: RunBarrier { term: Term(1), run: 0 },
            next_number: 0,
            catalog_version: 0,
            generations: [0; TOPICS as usize],
            partitions: BTreeMap::new(),
            next_sequence: BTreeMap::new(),
            hidden: BTreeMap::new(),
        }
    }

    /// What the partitions must hold once every entry so far is applied.
    #[must_use]
    pub fn model(&self) -> &BTreeMap<TopicPartition, ModelPartition> {
        &self.partitions
    }

    /// The rows of hidden batches that there must be.
    #[must_use]
    pub fn hidden(&self) -> &BTreeMap<(TopicPartition, Address), HiddenRow> {
        &self.hidden
    }

    /// Every partition that the log has named so far, and more.
    pub fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        let topics = TOPICS * (1 + self.generations.iter().max().copied().unwrap_or(0));
        (0..topics).flat_map(|topic| (0..=PARTITIONS).map(move |partition| tp(topic, partition)))
    }

    /// xorshift64*: below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    /// A topic that is not deleted, or one that was deleted before it.
    fn any_topic(&mut self) -> u32 {
        let topic = self.below(u64::from(TOPICS)) as u32;
        let is_late = self.below(8) == 0;
        let generation = self.generations[topic as usize];
        topic + TOPICS * if is_late { generation.saturating_sub(1) } else { generation }
    }

    fn is_deleted(&self, topic: u32) -> bool {
        topic / TOPICS < self.generations[(topic % TOPICS) as usize]
    }

    fn any_partition(&mut self) -> TopicPartition {
        let topic = self.any_topic();
        tp(topic, self.below(u64::from(PARTITIONS) + 1) as u32)
    }

    fn next_entry(&mut self) -> (EntryKind, Bytes) {
        match (self.next_index, self.below(100)) {
            (0, _) => (EntryKind::Blank, Bytes::new()),
            (1, _) => (EntryKind::RunBarrier, self.barrier.encode()),
            (_, 0..=1) => (EntryKind::Membership, Bytes::from(self.next_index.to_string())),
            (_, 2..=4) => self.new_term_or_run(),
            (_, 5) => (EntryKind::RunBarrier, RunBarrier { run: 0, ..self.barrier }.encode()),
            (_, 6..=15) => self.upsert(),
            (_, 16) => self.delete_topic(),
            (_, 17..=22) => self.advance_log_start(),
            (_, 23..=34) => command(self.group_command()),
            (_, 35..=42) => command(self.catalog_command()),
            (_, 43..=46) => self.refused_batches(),
            (_, 47..=49) => command(self.hidden_command()),
            _ => self.batches(),
        }
    }

    fn new_term_or_run(&mut self) -> (EntryKind, Bytes) {
        self.next_number = 0;
        self.barrier = if self.below(2) == 0 {
            RunBarrier { term: Term(self.barrier.term.0 + 1 + self.below(2)), run: 0 }
        } else {
            RunBarrier { run: self.barrier.run + 1, ..self.barrier }
        };
        (EntryKind::RunBarrier, self.barrier.encode())
    }

    fn upsert(&mut self) -> (EntryKind, Bytes) {
        let topic = self.any_topic();
        self.catalog_version += 1;
        let partitions = 1 + self.below(u64::from(PARTITIONS)) as u32;
        if !self.is_deleted(topic) {
            for partition in 0..partitions {
                self.partitions.entry(tp(topic, partition)).or_default();
            }
        }
        command(Command::Partitions(PartitionCommand::UpsertTopic {
            topic_id: topic_id(topic),
            catalog_version: self.catalog_version,
            partitions: (0..partitions).collect(),
            config: TopicConfig::default(),
        }))
    }

    fn delete_topic(&mut self) -> (EntryKind, Bytes) {
        let topic = self.any_topic();
        self.catalog_version += 1;
        if !self.is_deleted(topic) {
            self.generations[(topic % TOPICS) as usize] += 1;
        }
        self.partitions.retain(|tp, _| tp.topic != topic_id(topic));
        self.hidden.retain(|(tp, _), _| tp.topic != topic_id(topic));
        command(Command::Partitions(PartitionCommand::DeleteTopic {
            topic_id: topic_id(topic),
            catalog_version: self.catalog_version,
        }))
    }

    fn advance_log_start(&mut self) -> (EntryKind, Bytes) {
        let partition = self.any_partition();
        let end = self.partitions.get(&partition).map_or(0, ModelPartition::log_end);
        let offset = self.below(end.unsigned_abs() + 2).cast_signed();
        if let Some(model) = self.partitions.get_mut(&partition) {
            model.log_start = model.log_start.max(offset.min(end));
            let log_start = model.log_start;
            let is_gone =
                |row: &HiddenRow| matches!(row.state, HiddenState::Visible { offset, .. } if offset.0 < log_start);
            self.hidden.retain(|(tp, _), row| *tp != partition || !is_gone(row));
        }
        command(Command::Partitions(PartitionCommand::AdvanceLogStart { partition, offset: Offset(offset) }))
    }

    /// An entry that counts. Slots for partitions that are not there are void.
    fn batches(&mut self) -> (EntryKind, Bytes) {
        let mut builder = EntryBuilder::new(self.header());
        let mut stored = Vec::new();
        self.next_number += 1;
        for _ in 0..=self.below(4) {
            match self.below(8) {
                0..=1 => {
                    self.push_hidden(&mut builder, &mut stored);
                    continue;
                }
                2 => {
                    self.push_end(&mut builder);
                    continue;
                }
                _ => {}
            }
            let partition = self.any_partition();
            let term = self.barrier.term.0;
            let base_offset = self.partitions.get(&partition).map_or(0, ModelPartition::log_end);
            let (count, timestamp) = self.push(&mut builder, partition, base_offset);
            if let Some(model) = self.partitions.get_mut(&partition) {
                model.batches.push((base_offset, count, timestamp, term));
            }
        }
        let body = builder.finish();
        self.remember(&body, stored);
        (EntryKind::Batches, body)
    }

    /// An entry that does not count: the number before was refused, it comes from another run, or an offset is wrong.
    fn refused_batches(&mut self) -> (EntryKind, Bytes) {
        let header = self.header();
        let (header, shift) = match self.below(4) {
            0 => (EntryHeader { number: header.number + 1, ..header }, 0),
            1 => (EntryHeader { run: header.run + 1, ..header }, 0),
            2 => (EntryHeader { run_term: Term(header.run_term.0 + 1), ..header }, 0),
            _ => (header, 1),
        };
        let mut builder = EntryBuilder::new(header);
        let known = self.partitions.iter().map(|(tp, model)| (*tp, model.log_end())).next();
        let (partition, end) = known.unwrap_or((tp(0, 0), 0));
        if known.is_none() && shift == 1 {
            return (EntryKind::Blank, Bytes::new());
        }
        self.push(&mut builder, partition, end + shift);
        (EntryKind::Batches, builder.finish())
    }

    fn header(&self) -> EntryHeader {
        EntryHeader { run_term: self.barrier.term, run: self.barrier.run, number: self.next_number }
    }

    fn push(&mut self, builder: &mut EntryBuilder, partition: TopicPartition, base_offset: i64) -> (u32, i64) {
        let count = 1 + self.below(4) as u32;
        let timestamp = (self.next_index * 10 + self.below(200)).cast_signed();
        let value = vec![b'x'; [10, 300, 40_000][self.below(3) as usize]];
        let mut batch = BatchBuilder::new();
        if self.below(2) == 0 {
            let producer = self.below(3).cast_signed();
            let sequence = self.next_sequence.entry((partition, producer)).or_default();
            batch = batch.producer(ProducerId(producer), ProducerEpoch(0), *sequence);
            *sequence += count.cast_signed();
        }
        for _ in 0..count {
            batch.push(TimestampMs(timestamp), None, Some(&value)).expect("a small record fits");
        }
        let meta = BatchMeta {
            partition,
            base_offset: Offset(base_offset),
            durability: Durability::ALL[self.below(4) as usize],
            flags: 0,
            log_append_time: None,
        };
        builder.push(meta, &batch.build().expect("it has records"));
        (count, timestamp)
    }

    fn group_command(&mut self) -> Command {
        let group = GroupId(format!("group-{}", self.below(3)));
        let partition = self.any_partition();
        let offset = Offset(self.below(4).cast_signed());
        let metadata = |group, generation| GroupMetadata {
            group,
            state: GroupState::Empty,
            generation,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: Vec::new(),
        };
        let seen = TimestampMs(self.next_index.saturating_sub(self.below(40)).cast_signed());
        Command::Groups(match self.below(10) {
            0 => GroupCommand::PutGroup(GroupRecord::Tombstone(group)),
            1 => GroupCommand::PutGroup(GroupRecord::Snapshot(metadata(group, self.next_index as i32))),
            8 => GroupCommand::EmptyGroup { metadata: metadata(group, self.next_index as i32), since: seen },
            9 => GroupCommand::ExpireOffsets { group, seen: vec![(partition, seen)] },
            2 => GroupCommand::DeleteOffsets { group, partitions: vec![partition] },
            3 => GroupCommand::PullBackOffset(PullBack {
                group,
                partition,
                from: offset,
                from_leader_epoch: None,
                to: Offset(0),
                to_leader_epoch: None,
            }),
            _ => {
                let committed = CommittedOffset {
                    offset,
                    leader_epoch: None,
                    metadata: String::new(),
                    commit_timestamp: TimestampMs(self.next_index.cast_signed()),
                };
                GroupCommand::CommitOffsets(OffsetCommit { group, offsets: vec![(partition, committed)] })
            }
        })
    }

    fn catalog_command(&mut self) -> Command {
        let topic = self.any_topic();
        Command::Catalog(match self.below(10) {
            0 => CatalogCommand::InitCluster {
                cluster_id: format!("cluster-{}", self.next_index),
                nodes: vec![ClusterNode { id: NodeId(1), host: "localhost".to_owned(), kafka_port: 9092 }],
                data_groups: vec![BrokerGroupId(1)],
                coordinator_slots: vec![BrokerGroupId(1); 64],
            },
            1 => CatalogCommand::DeleteTopic { id: topic_id(topic) },
            2 => CatalogCommand::AlterTopicConfig {
                id: topic_id(topic),
                config: TopicConfig::default(),
                expected_version: self.below(9),
            },
            3 => CatalogCommand::AllocateProducerIds { node: NodeId(1) },
            4 => CatalogCommand::AddPartitions {
                id: topic_id(topic),
                added: vec![BrokerGroupId(1)],
                expected_version: self.below(9),
            },
            5 => CatalogCommand::PutGroupConfig {
                group: GroupId(format!("g{}", self.below(2))),
                config: GroupConfig::new((self.below(2) == 0).then_some(("retry.max.times", "3")))
                    .expect("a known config"),
                expected_version: self.below(9),
            },
            8 | 9 => self.access_command(),
            _ => CatalogCommand::CreateTopic {
                name: format!("topic-{topic}"),
                id: topic_id(self.any_topic()),
                partitions: vec![BrokerGroupId(1); 2],
                config: TopicConfig::default(),
                timestamp: TimestampMs(1),
            },
        })
    }
}

impl Iterator for SampleLog {
    type Item = AppliedEntry;

    fn next(&mut self) -> Option<AppliedEntry> {
        let (kind, body) = self.next_entry();
        let index = LogIndex(self.next_index);
        self.next_index += 1;
        Some(AppliedEntry { index, term: self.barrier.term, kind, body })
    }
}

fn command(command: Command) -> (EntryKind, Bytes) {
    (EntryKind::Command, command.encode())
}

fn topic_id(topic: u32) -> TopicId {
    let mut id = [0xd0; 16];
    id[..4].copy_from_slice(&topic.to_be_bytes());
    TopicId(id)
}

fn tp(topic: u32, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic_id(topic), partition }
}
