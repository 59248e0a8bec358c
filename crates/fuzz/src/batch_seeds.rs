//! Valid batches of every codec, entries and commands.

use bytes::Bytes;
use duolog_record::entry::{
    Address, BatchMeta, Close, Closing, EntryBuilder, EntryHeader, Hidden, HiddenReason, NO_OFFSET, Payload,
};
use duolog_record::group::{
    CommittedOffset, GroupId, GroupMember, GroupMetadata, GroupRecord, GroupState, InstanceId, MemberId,
    MemberProtocol, OffsetCommit,
};
use duolog_record::{BatchBuilder, Compression, RecordBatch, RecordHeader};
use duolog_state::Command;
use duolog_state::command::{CheckBack, GroupCommand, HiddenCommand};
use duolog_state::run::RunBarrier;
use duolog_types::{
    Durability, LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicId, TopicPartition,
};

use crate::batch::{BARRIER, COMMAND, ENTRY, FIX_CRC, PRODUCED};
use crate::seeds::Seed;

/// Inputs of the target.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |name: String, mode: u8, bytes: &[u8]| seeds.push((name, [&[mode], bytes].concat()));
    for codec in Compression::ALL {
        for count in [1, 3, 40] {
            let batch = batch(codec, count);
            add(format!("batch-{codec}-{count}"), PRODUCED | FIX_CRC, batch.bytes());
            add(format!("batch-{codec}-{count}-checked"), PRODUCED, batch.bytes());
            add(format!("entry-{codec}-{count}"), ENTRY, &entry(&[batch]));
        }
    }
    let three = [batch(Compression::None, 1), batch(Compression::Lz4, 2), idempotent()];
    add("three-batches".into(), PRODUCED | FIX_CRC, &three.iter().map(|b| &b.bytes()[..]).collect::<Vec<_>>().concat());
    add("entry-three-batches".into(), ENTRY, &entry(&three));
    add("entry-empty".into(), ENTRY, &entry(&[]));
    for (name, entry) in hidden_entries() {
        add(format!("entry-{name}"), ENTRY, &entry);
    }
    for (number, command) in commands().iter().enumerate() {
        add(format!("command-{number}"), COMMAND, &command.encode());
    }
    add("barrier".into(), BARRIER, &RunBarrier { term: Term(300), run: 7 }.encode());
    seeds
}

fn batch(codec: Compression, count: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new().compression(codec);
    let headers = [
        RecordHeader { key: Bytes::from_static(b"name"), value: Some(Bytes::from_static(b"text")) },
        RecordHeader { key: Bytes::new(), value: None },
    ];
    for number in 0..count {
        let key = format!("key-{number}");
        let key = (number % 3 != 1).then_some(key.as_bytes());
        let value = (number % 4 != 2).then_some(&b"value value value"[..]);
        let headers = if number % 2 == 0 { &headers[..] } else { &[] };
        let timestamp = TimestampMs(1_000 + number * 37 % 11);
        builder.push_with_headers(timestamp, key, value, headers).expect("small records fit");
    }
    builder.build().expect("there are records")
}

fn idempotent() -> RecordBatch {
    let mut builder = BatchBuilder::new().producer(ProducerId(4_000), ProducerEpoch(2), 17);
    builder.push(TimestampMs(5), None, None).expect("a small record fits");
    builder.build().expect("there is a record")
}

fn entry(batches: &[RecordBatch]) -> Bytes {
    let mut builder = EntryBuilder::new(EntryHeader { run_term: Term(9), run: 2, number: 77 });
    for (batch, number) in batches.iter().zip(0_u32..) {
        let meta = BatchMeta {
            partition: TopicPartition { topic: TopicId([7; 16]), partition: number },
            base_offset: Offset(100),
            durability: Durability::ALL[number as usize % 4],
            flags: 0,
            log_append_time: (number == 1).then_some(TimestampMs(99)),
        };
        builder.push(meta, batch);
    }
    builder.finish()
}

/// Adds a slot to an entry.
type Push<'a> = &'a dyn Fn(&mut EntryBuilder);

/// Entries with a slot of each kind, alone and after a batch.
fn hidden_entries() -> Vec<(&'static str, Bytes)> {
    let address = Address { index: LogIndex(40), slot: 1 };
    let meta = |base_offset| BatchMeta {
        partition: TopicPartition { topic: TopicId([7; 16]), partition: 2 },
        base_offset,
        durability: Durability::ALL[1],
        flags: 0,
        log_append_time: None,
    };
    let hidden = |entry: &mut EntryBuilder| {
        let hidden = Hidden { reason: HiddenReason::Half, time: TimestampMs(70) };
        entry.push_hidden(meta(NO_OFFSET), hidden, &batch(Compression::Snappy, 1));
    };
    let reference = |entry: &mut EntryBuilder| {
        let payload = Payload { address, term: Term(8), start: 176, size_bytes: 80 };
        entry.push_reference(meta(Offset(103)), payload, TimestampMs(71));
    };
    let close = |entry: &mut EntryBuilder| {
        let close = Close { address, closing: Closing::RolledBack, keep_until: TimestampMs(90) };
        entry.push_close(meta(NO_OFFSET), close);
    };
    let pushes: [(_, Push<'_>); 3] = [("hidden", &hidden), ("reference", &reference), ("close", &close)];
    let new = || EntryBuilder::new(EntryHeader { run_term: Term(9), run: 2, number: 78 });
    let mut entries = Vec::new();
    let mut all = new();
    all.push(meta(Offset(100)), &batch(Compression::None, 3));
    for (name, push) in pushes {
        let mut alone = new();
        push(&mut alone);
        entries.push((name, alone.finish()));
        push(&mut all);
    }
    entries.push(("all-kinds", all.finish()));
    entries
}

fn commands() -> Vec<Command> {
    let group = GroupId("payments".to_owned());
    let partition = TopicPartition { topic: TopicId([7; 16]), partition: 2 };
    let committed = CommittedOffset {
        offset: Offset(9),
        leader_epoch: Some(LeaderEpoch(1)),
        metadata: "note".to_owned(),
        commit_timestamp: TimestampMs(1_000),
    };
    let member = GroupMember {
        member_id: MemberId("a-1".to_owned()),
        instance_id: Some(InstanceId("a".to_owned())),
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"\0\x01") }],
        assignment: Bytes::from_static(b"\xff\0"),
    };
    let snapshot = GroupRecord::Snapshot(GroupMetadata {
        group: group.clone(),
        state: GroupState::Stable,
        generation: 3,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        leader: Some(member.member_id.clone()),
        members: vec![member],
    });
    let commands = [
        GroupCommand::PutGroup(GroupRecord::Tombstone(group.clone())),
        GroupCommand::PutGroup(snapshot),
        GroupCommand::CommitOffsets(OffsetCommit { group: group.clone(), offsets: vec![(partition, committed)] }),
        GroupCommand::DeleteOffsets { group, partitions: vec![partition] },
    ];
    let check = CheckBack {
        partition,
        address: Address { index: LogIndex(300), slot: 2 },
        checks: 14,
        next: TimestampMs(31_000),
    };
    let hidden = [
        HiddenCommand::CheckBack { due: vec![check] },
        HiddenCommand::Forget { now: TimestampMs(99_000) },
        HiddenCommand::Claim { due: vec![check] },
    ];
    commands.into_iter().map(Command::Groups).chain(hidden.map(Command::Hidden)).collect()
}
