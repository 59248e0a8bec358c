//! What commands about age and growth change in the state, and what they leave alone.

use duolog_record::group::{CommittedOffset, GroupId, GroupMetadata, GroupRecord, GroupState, OffsetCommit};
use duolog_state::command::{CatalogCommand, ClusterNode, Command, GroupCommand};
use duolog_state::{AppliedEntry, EntryKind, Machine, MemoryTables, Response, StateEvent, TableReader, reader};
use duolog_types::{BrokerGroupId, LogIndex, NodeId, Offset, Term, TimestampMs, TopicConfig, TopicId, TopicPartition};

const TOPIC: TopicId = TopicId([4; 16]);

struct Log {
    machine: Machine<MemoryTables>,
    next: u64,
}

impl Log {
    fn new() -> Self {
        Self { machine: Machine::open(MemoryTables::new()).unwrap(), next: 0 }
    }

    fn apply(&mut self, command: Command) -> (Response, Vec<StateEvent>) {
        let (index, body) = (LogIndex(self.next), command.encode());
        self.next += 1;
        let run = [AppliedEntry { index, term: Term(1), kind: EntryKind::Command, body }];
        let mut applied = self.machine.apply(&run).unwrap();
        (applied.responses.remove(0), applied.events)
    }

    fn tables(&self) -> &dyn TableReader {
        self.machine.tables()
    }
}

fn group() -> GroupId {
    GroupId("g".to_owned())
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: number }
}

fn commit(number: u32, commit_timestamp: i64) -> Command {
    let committed = CommittedOffset {
        offset: Offset(9),
        leader_epoch: None,
        metadata: String::new(),
        commit_timestamp: TimestampMs(commit_timestamp),
    };
    let offsets = vec![(partition(number), committed)];
    Command::Groups(GroupCommand::CommitOffsets(OffsetCommit { group: group(), offsets }))
}

#[test]
fn an_offset_that_was_committed_again_does_not_expire() {
    let mut log = Log::new();
    log.apply(commit(0, 5));
    log.apply(commit(1, 5));
    log.apply(commit(1, 6));
    let seen = vec![(partition(0), TimestampMs(5)), (partition(1), TimestampMs(5)), (partition(2), TimestampMs(5))];
    let expire = Command::Groups(GroupCommand::ExpireOffsets { group: group(), seen });
    let (response, events) = log.apply(expire.clone());
    assert_eq!((response, events.len()), (Response::Ok, 2));
    assert_eq!(events[0], StateEvent::OffsetsExpired { group: group(), count: 1 });
    let left = reader::committed_offsets(log.tables(), &group()).unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [partition(1)]);
    assert_eq!(log.apply(expire), (Response::Unchanged, Vec::new()));
}

#[test]
fn the_time_when_a_group_became_empty_is_kept_until_it_has_members_again() {
    let mut log = Log::new();
    let metadata = GroupMetadata {
        group: group(),
        state: GroupState::Empty,
        generation: 3,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: None,
        leader: None,
        members: Vec::new(),
    };
    let since = |log: &Log| reader::stored_group(log.tables(), &group()).unwrap().unwrap().empty_since;
    log.apply(Command::Groups(GroupCommand::EmptyGroup { metadata: metadata.clone(), since: TimestampMs(70) }));
    assert_eq!(since(&log), Some(TimestampMs(70)));
    assert_eq!(reader::groups(log.tables()).unwrap(), std::slice::from_ref(&metadata));
    // A row of version 1, as a build before wrote it of empty groups too.
    log.apply(Command::Groups(GroupCommand::PutGroup(GroupRecord::Snapshot(metadata.clone()))));
    assert_eq!(since(&log), None);
    assert_eq!(reader::group(log.tables(), &group()).unwrap(), Some(metadata));
    log.apply(Command::Groups(GroupCommand::PutGroup(GroupRecord::Tombstone(group()))));
    assert_eq!(reader::stored_group(log.tables(), &group()).unwrap(), None);
}

#[test]
fn a_topic_grows_only_from_the_version_that_was_seen() {
    let mut log = Log::new();
    let add = |added: &[u32], expected_version| {
        let added = added.iter().copied().map(BrokerGroupId).collect();
        Command::Catalog(CatalogCommand::AddPartitions { id: TOPIC, added, expected_version })
    };
    assert_eq!(log.apply(add(&[1], 0)).0, Response::NoSuchTopic);
    log.apply(Command::Catalog(CatalogCommand::InitCluster {
        cluster_id: "c".to_owned(),
        nodes: vec![ClusterNode { id: NodeId(0), host: "h".to_owned(), kafka_port: 1 }],
        data_groups: vec![BrokerGroupId(1), BrokerGroupId(2)],
        coordinator_slots: vec![BrokerGroupId(1); 64],
    }));
    let created = log.apply(Command::Catalog(CatalogCommand::CreateTopic {
        name: "t".to_owned(),
        id: TOPIC,
        partitions: vec![BrokerGroupId(2)],
        config: TopicConfig::default(),
        timestamp: TimestampMs(1),
    }));
    let Response::TopicCreated { version, .. } = created.0 else { panic!("{created:?}") };
    let (grown, events) = log.apply(add(&[1, 2], version));
    assert_eq!(grown, Response::TopicChanged { version: version + 1 });
    assert_eq!(events, [StateEvent::CatalogChanged { version: version + 1 }]);
    let topic = reader::topic_by_id(log.tables(), TOPIC).unwrap().unwrap();
    assert_eq!((topic.partitions, topic.version), ([2, 1, 2].map(BrokerGroupId).to_vec(), version + 1));
    let again = log.apply(add(&[1, 2], version)).0;
    assert_eq!(again, Response::VersionConflict { found: version + 1, expected: version });
    assert!(matches!(log.apply(add(&[9], version + 1)).0, Response::Invalid(_)), "broker group 9 holds no data");
    log.apply(Command::Catalog(CatalogCommand::DeleteTopic { id: TOPIC }));
    assert_eq!(log.apply(add(&[1], version + 1)).0, Response::TopicDeleted);
}
