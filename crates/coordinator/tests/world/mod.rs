//! A driver for tests: it owns the clock and the log, and checks that no request is answered twice.
#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_coordinator::groups::*;
use duolog_record::group::{GroupId, GroupRecord, InstanceId, MemberId, MemberProtocol};
use duolog_types::{Offset, TimestampMs, TopicId, TopicPartition};

pub const SESSION_MS: u32 = 10_000;
pub const REBALANCE_MS: u32 = 20_000;
pub const DELAY_MS: u64 = 3_000;

/// Whether proposals are committed at once, or wait for the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    CommitsAtOnce,
    Waits,
}

pub struct World {
    pub machine: GroupMachine,
    pub now: u64,
    pub log: Log,
    pub committed: Vec<GroupCommand>,
    pub waiting: Vec<Proposal>,
    pub deadline: Option<u64>,
    pub asked: u64,
    pub replies: BTreeMap<RequestId, ReplyBody>,
    pub config: GroupConfig,
}

pub fn group() -> GroupId {
    GroupId("g".to_owned())
}

pub fn id(name: &str) -> MemberId {
    MemberId(name.to_owned())
}

/// A JoinGroup of a client that is named `name`; `member` is empty for a new one.
pub fn join(name: &str, member: &str) -> JoinRequest {
    JoinRequest {
        group: group(),
        member_id: (!member.is_empty()).then(|| id(member)),
        instance_id: None,
        client_id: name.to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range"]),
        uuid: "1".to_owned(),
        requires_member_id: false,
        supports_skipping_assignment: true,
    }
}

/// A JoinGroup of a static member that has just started.
pub fn join_static(instance: &str, uuid: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(InstanceId(instance.to_owned())), uuid: uuid.to_owned(), ..join("c", "") }
}

pub fn protocols(names: &[&str]) -> Vec<MemberProtocol> {
    names
        .iter()
        .map(|name| MemberProtocol { name: (*name).to_owned(), metadata: Bytes::from((*name).to_owned()) })
        .collect()
}

pub fn sync(member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncRequest {
    SyncRequest {
        group: group(),
        member_id: id(member),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol_name: None,
        assignments: assignments.iter().map(|(m, a)| (id(m), Bytes::from((*a).to_owned()))).collect(),
    }
}

pub fn commit(member: &str, generation: i32) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group: group(),
        member_id: (!member.is_empty()).then(|| id(member)),
        instance_id: None,
        generation,
        commit_timestamp: TimestampMs(5),
        partitions: vec![PartitionCommit {
            partition: partition(),
            offset: Offset(9),
            leader_epoch: None,
            metadata: String::new(),
        }],
    }
}

pub fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition: 0 }
}

impl World {
    pub fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    pub fn with(config: GroupConfig) -> Self {
        let mut world = Self {
            machine: GroupMachine::new(config.clone()),
            now: 1_000,
            log: Log::CommitsAtOnce,
            committed: Vec::new(),
            waiting: Vec::new(),
            deadline: None,
            asked: 0,
            replies: BTreeMap::new(),
            config,
        };
        world.on(Event::Lead);
        world
    }

    pub fn on(&mut self, event: Event) {
        let out = self.machine.on(event, self.now);
        for reply in out.replies {
            assert!(reply.to.0 <= self.asked, "{:?} was never asked", reply.to);
            let again = self.replies.insert(reply.to, reply.body);
            assert_eq!(again, None, "{:?} is answered twice", reply.to);
        }
        self.deadline = out.next_deadline_ms;
        self.waiting.extend(out.proposals);
        while self.log == Log::CommitsAtOnce && !self.waiting.is_empty() {
            self.commit_next();
        }
    }

    /// Commits the oldest proposal that waits.
    pub fn commit_next(&mut self) {
        let proposal = self.waiting.remove(0);
        self.machine.replay(&proposal.command);
        self.committed.push(proposal.command);
        self.on(Event::Committed { proposal: proposal.id });
    }

    pub fn fail_next(&mut self, reason: ProposalFailure) {
        let proposal = self.waiting.remove(0);
        self.on(Event::ProposalFailed { proposal: proposal.id, reason });
    }

    /// Lets time pass, with a tick at every deadline.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(deadline) = self.deadline.filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.on(Event::Tick);
        }
        self.now = end;
    }

    /// Another node takes over: a new machine that knows only what was committed.
    pub fn fail_over(&mut self) {
        self.on(Event::Resign);
        assert_eq!(self.replies.len() as u64, self.asked, "who resigns answers everybody");
        self.waiting.clear();
        self.machine = GroupMachine::new(self.config.clone());
        for command in &self.committed {
            self.machine.replay(command);
        }
        self.on(Event::Lead);
    }

    fn ask(&mut self, event: impl FnOnce(RequestId) -> Event) -> RequestId {
        self.asked += 1;
        let to = RequestId(self.asked);
        self.on(event(to));
        to
    }

    pub fn join(&mut self, request: JoinRequest) -> RequestId {
        self.ask(|reply_to| Event::Join { reply_to, request })
    }

    pub fn sync(&mut self, request: SyncRequest) -> RequestId {
        self.ask(|reply_to| Event::Sync { reply_to, request })
    }

    pub fn commit(&mut self, request: OffsetCommitRequest) -> RequestId {
        self.ask(|reply_to| Event::CommitOffsets { reply_to, request })
    }

    pub fn delete(&mut self) -> Result<(), GroupError> {
        let to = self.ask(|reply_to| Event::Delete { reply_to, group: group() });
        match &self.replies[&to] {
            ReplyBody::Delete(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    /// OffsetDelete of the test's partition, as one of a topic of this name.
    pub fn ask_delete_offsets(&mut self, topic: &str) -> RequestId {
        let request = OffsetDeleteRequest { group: group(), partitions: vec![(topic.to_owned(), partition())] };
        self.ask(|reply_to| Event::DeleteOffsets { reply_to, request })
    }

    /// The same where the log commits at once.
    pub fn delete_offsets(&mut self, topic: &str) -> Result<OffsetResults, GroupError> {
        let to = self.ask_delete_offsets(topic);
        match &self.replies[&to] {
            ReplyBody::DeleteOffsets(results) => results.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn beat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.beat_static(member, None, generation)
    }

    pub fn beat_static(&mut self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        let instance_id = instance.map(|i| InstanceId(i.to_owned()));
        let request = HeartbeatRequest { group: group(), member_id: id(member), instance_id, generation };
        let to = self.ask(|reply_to| Event::Heartbeat { reply_to, request });
        match &self.replies[&to] {
            ReplyBody::Heartbeat(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    /// LeaveGroup by (member id, instance id); an empty one is none.
    pub fn leave(&mut self, members: &[(&str, &str)]) -> Vec<Result<(), GroupError>> {
        let members = members
            .iter()
            .map(|(m, i)| LeavingMember {
                member_id: (!m.is_empty()).then(|| id(m)),
                instance_id: (!i.is_empty()).then(|| InstanceId((*i).to_owned())),
            })
            .collect();
        let request = LeaveRequest { group: group(), members };
        let to = self.ask(|reply_to| Event::Leave { reply_to, request });
        match &self.replies[&to] {
            ReplyBody::Leave(Ok(results)) => results.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn joined(&self, to: RequestId) -> JoinReply {
        match self.replies.get(&to) {
            Some(ReplyBody::Join(Ok(reply))) => reply.clone(),
            other => panic!("{to:?}: {other:?}"),
        }
    }

    pub fn refused(&self, to: RequestId) -> GroupError {
        match self.replies.get(&to) {
            Some(ReplyBody::Join(Err(refused))) => refused.error,
            Some(ReplyBody::Sync(Err(error)) | ReplyBody::CommitOffsets(Err(error))) => *error,
            other => panic!("{to:?}: {other:?}"),
        }
    }

    pub fn assignment(&self, to: RequestId) -> Bytes {
        match self.replies.get(&to) {
            Some(ReplyBody::Sync(Ok(reply))) => reply.assignment.clone(),
            other => panic!("{to:?}: {other:?}"),
        }
    }

    pub fn parked(&self, to: RequestId) -> bool {
        !self.replies.contains_key(&to)
    }

    pub fn phase(&self) -> Option<Phase> {
        self.machine.describe(&group()).map(|g| g.phase)
    }

    pub fn snapshots(&self) -> usize {
        self.committed.iter().filter(|c| matches!(c, GroupCommand::Group(GroupRecord::Snapshot(_)))).count()
    }

    /// Members join an empty group together and sync; generation 1. The first is the leader, each is assigned its id.
    pub fn stable(&mut self, requests: Vec<JoinRequest>) -> Vec<MemberId> {
        let joins: Vec<_> = requests.into_iter().map(|request| self.join(request)).collect();
        self.pass(2 * DELAY_MS);
        let members: Vec<MemberId> = joins.iter().map(|to| self.joined(*to).member_id).collect();
        self.sync_all(&members, 1);
        members
    }

    /// All sync, the leader last.
    pub fn sync_all(&mut self, members: &[MemberId], generation: i32) {
        let leader = self.machine.describe(&group()).unwrap().leader.unwrap();
        let assignments: Vec<_> = members.iter().map(|m| (m.0.as_str(), m.0.as_str())).collect();
        let mut order: Vec<_> = members.iter().collect();
        order.sort_by_key(|m| **m == leader);
        let syncs: Vec<_> = order
            .iter()
            .map(|m| self.sync(sync(&m.0, generation, if **m == leader { &assignments } else { &[] })))
            .collect();
        for (to, member) in syncs.into_iter().zip(order) {
            assert_eq!(self.assignment(to), member.0.as_bytes());
        }
        assert_eq!(self.phase(), Some(Phase::Stable));
    }
}
