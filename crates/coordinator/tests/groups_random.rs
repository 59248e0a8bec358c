//! Clients that follow the protocol, and some that do not, in any order, over a log that commits, fails and fails over.
//!
//! Held after every step: the generation never goes back while one node leads, nor in the log; every member of a stable
//! group has an assignment of its own; what is durable and stable agrees with what is served. At the end, once time has
//! passed all deadlines, every request was answered, and only once.

mod world;

use duolog_coordinator::groups::*;
use duolog_record::group::{GroupMetadata, GroupRecord, GroupState, InstanceId, MemberId};
use duolog_types::TimestampMs;
use proptest::prelude::*;
use world::*;

const CLIENTS: usize = 5;
/// Clients from this one on are static members.
const FIRST_STATIC: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Join {
        client: usize,
        preference: usize,
        requires_id: bool,
        forgets_id: bool,
    },
    Sync(usize),
    Beat {
        client: usize,
        generation_delta: i32,
    },
    Leave(usize),
    CommitOffsets {
        client: usize,
        generation_delta: i32,
    },
    Delete,
    DeleteOffsets,
    /// A look long after everything.
    Expire,
    /// Everybody joins or joins again, time passes, everybody syncs, everything is committed: what clients strive for.
    Settle,
    Pass(u64),
    CommitNext,
    FailNext(ProposalFailure),
    /// The answer is "unknown", and it is committed all the same.
    CommitNextUnseen,
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let delta = prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)];
    prop_oneof![
        12 => (client.clone(), 0usize..3, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(client, preference, requires_id, forgets_id)| Step::Join { client, preference, requires_id, forgets_id }),
        12 => client.clone().prop_map(Step::Sync),
        6 => (client.clone(), delta.clone()).prop_map(|(client, generation_delta)| Step::Beat { client, generation_delta }),
        2 => client.clone().prop_map(Step::Leave),
        3 => (client, delta).prop_map(|(client, generation_delta)| Step::CommitOffsets { client, generation_delta }),
        1 => Just(Step::Delete),
        1 => Just(Step::DeleteOffsets),
        1 => Just(Step::Expire),
        6 => Just(Step::Settle),
        8 => prop_oneof![0u64..4_000, 0u64..25_000].prop_map(Step::Pass),
        8 => Just(Step::CommitNext),
        2 => prop_oneof![Just(ProposalFailure::Unknown), Just(ProposalFailure::TooLarge)].prop_map(Step::FailNext),
        1 => Just(Step::CommitNextUnseen),
        1 => Just(Step::FailOver),
    ]
}

/// What a client knows.
#[derive(Debug, Clone, Default)]
struct Client {
    member_id: String,
    generation: i32,
    members: Vec<MemberId>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    joins: Vec<(RequestId, usize)>,
    uuid: u64,
    generation: Option<i32>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::with(GroupConfig { group_size_max: 4, ..GroupConfig::default() });
        world.log = Log::Waits;
        Self { world, clients: vec![Client::default(); CLIENTS], joins: Vec::new(), uuid: 0, generation: None }
    }

    fn instance(client: usize) -> Option<InstanceId> {
        (client >= FIRST_STATIC).then(|| InstanceId(format!("s{client}")))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { client, preference, requires_id, forgets_id } => {
                if forgets_id {
                    self.clients[client] = Client::default();
                }
                self.uuid += 1;
                let names = [&["range", "sticky"][..], &["sticky", "range"], &["range"]][preference];
                let request = JoinRequest {
                    instance_id: Self::instance(client),
                    uuid: self.uuid.to_string(),
                    protocols: protocols(names),
                    requires_member_id: requires_id,
                    supports_skipping_assignment: requires_id,
                    ..join(&format!("c{client}"), &self.clients[client].member_id)
                };
                let to = self.world.join(request);
                self.joins.push((to, client));
            }
            Step::Sync(client) => {
                let known = self.clients[client].clone();
                let given: Vec<_> = known.members.iter().map(|m| (m.0.as_str(), m.0.as_str())).collect();
                let request = sync(&known.member_id, known.generation, &given);
                self.world.sync(SyncRequest { instance_id: Self::instance(client), ..request });
            }
            Step::Beat { client, generation_delta } => {
                let known = self.clients[client].clone();
                let instance = Self::instance(client).map(|i| i.0);
                let _ =
                    self.world.beat_static(&known.member_id, instance.as_deref(), known.generation + generation_delta);
            }
            Step::Leave(client) => {
                let known = std::mem::take(&mut self.clients[client]);
                let instance = Self::instance(client).map(|i| i.0).unwrap_or_default();
                if self.world.phase().is_some_and(|phase| phase != Phase::Dead) {
                    self.world.leave(&[(&known.member_id, &instance)]);
                }
            }
            Step::CommitOffsets { client, generation_delta } => {
                let known = self.clients[client].clone();
                let request = commit(&known.member_id, known.generation + generation_delta);
                self.world.commit(OffsetCommitRequest { instance_id: Self::instance(client), ..request });
            }
            Step::Delete => {
                self.world.asked += 1;
                self.world.on(Event::Delete { reply_to: RequestId(self.world.asked), group: group() });
            }
            Step::Settle => {
                for client in 0..CLIENTS {
                    self.step(Step::Join { client, preference: 0, requires_id: false, forgets_id: false });
                }
                self.step(Step::Pass(6_000));
                for client in 0..CLIENTS {
                    self.step(Step::Sync(client));
                }
                while !self.world.waiting.is_empty() {
                    self.step(Step::CommitNext);
                }
            }
            Step::DeleteOffsets => {
                self.world.ask_delete_offsets("t");
            }
            Step::Expire => {
                let stored = StoredOffset {
                    partition: partition(),
                    topic: Some("t".to_owned()),
                    commit_timestamp: TimestampMs(5),
                };
                let rule = ExpiryRule { now: TimestampMs(i64::MAX), empty_since: None, retention_ms: 1 };
                if let Some(expired) = self.world.machine.expired(&group(), &[stored], &rule) {
                    self.world.on(Event::Expire(expired));
                }
            }
            Step::Pass(ms) => self.world.pass(ms),
            Step::CommitNext if !self.world.waiting.is_empty() => self.world.commit_next(),
            Step::FailNext(reason) if !self.world.waiting.is_empty() => self.world.fail_next(reason),
            Step::CommitNextUnseen if !self.world.waiting.is_empty() => {
                let command = self.world.waiting[0].command.clone();
                self.world.machine.replay(&command);
                self.world.committed.push(command);
                self.world.fail_next(ProposalFailure::Unknown);
            }
            Step::FailOver => {
                self.world.fail_over();
                self.generation = None;
            }
            Step::CommitNext | Step::FailNext(_) | Step::CommitNextUnseen => {}
        }
        self.learn();
        self.check();
    }

    /// Clients take in the answers to their JoinGroups.
    fn learn(&mut self) {
        let clients = &mut self.clients;
        let replies = &self.world.replies;
        self.joins.retain(|(to, client)| {
            let known = &mut clients[*client];
            match replies.get(to) {
                None => return true,
                Some(ReplyBody::Join(Ok(reply))) => {
                    let members = reply.members.iter().map(|m| m.member_id.clone()).collect();
                    *known = Client { member_id: reply.member_id.0.clone(), generation: reply.generation, members };
                }
                Some(ReplyBody::Join(Err(JoinRefused { error: GroupError::MemberIdRequired, member_id }))) => {
                    known.member_id = member_id.clone().expect("it comes with an id").0;
                }
                Some(ReplyBody::Join(Err(JoinRefused {
                    error: GroupError::UnknownMemberId | GroupError::FencedInstanceId,
                    ..
                }))) => *known = Client::default(),
                Some(_) => {}
            }
            false
        });
    }

    fn check(&mut self) {
        let Some(now) = self.world.machine.describe(&group()) else {
            self.generation = None;
            return;
        };
        assert!(self.generation.is_none_or(|before| now.generation >= before), "{:?} then {now:?}", self.generation);
        self.generation = Some(now.generation);
        assert_eq!(now.leader.is_some(), !now.members.is_empty(), "{now:?}");
        assert!(now.leader.iter().all(|leader| now.members.iter().any(|m| m.member_id == *leader)), "{now:?}");
        assert!(now.members.len() <= 4 || now.phase == Phase::PreparingRebalance, "{now:?}");
        match now.phase {
            Phase::Empty | Phase::Dead => assert!(now.members.is_empty(), "{now:?}"),
            Phase::PreparingRebalance | Phase::CompletingRebalance => {}
            Phase::Stable => {
                let mut assigned: Vec<_> = now.members.iter().map(|m| &m.assignment).collect();
                assert!(assigned.iter().all(|assignment| !assignment.is_empty()), "{now:?}");
                assigned.sort();
                assigned.dedup();
                assert_eq!(assigned.len(), now.members.len(), "{now:?}");
                let durable = self.durable().unwrap_or_else(|| panic!("{now:?} is stable and not durable"));
                assert_eq!((durable.state, durable.generation), (GroupState::Stable, now.generation));
                assert_eq!(durable.members.len(), now.members.len());
            }
        }
    }

    fn durable(&self) -> Option<&GroupMetadata> {
        let last = self.world.committed.iter().rev().find_map(|command| match command {
            GroupCommand::Group(record) => Some(record),
            GroupCommand::Offsets(_) | GroupCommand::DeleteOffsets { .. } | GroupCommand::ExpireOffsets { .. } => None,
        });
        match last? {
            GroupRecord::Snapshot(metadata) => Some(metadata),
            GroupRecord::Tombstone(_) => None,
        }
    }

    fn finish(&mut self) {
        self.world.log = Log::CommitsAtOnce;
        while !self.world.waiting.is_empty() {
            self.world.commit_next();
        }
        self.learn();
        self.check();
        self.world.pass(1_000_000);
        assert_eq!(self.world.replies.len() as u64, self.world.asked, "every request is answered");
        assert!(self.world.phase().is_none_or(|phase| phase == Phase::Empty), "{:?}", self.world.phase());
        assert_eq!(self.world.deadline, None);
        let mut generation = 0;
        for command in &self.world.committed {
            match command {
                GroupCommand::Group(GroupRecord::Snapshot(now)) => {
                    assert!(now.generation >= generation, "the log goes back from {generation}: {now:?}");
                    generation = now.generation;
                }
                GroupCommand::Group(GroupRecord::Tombstone(_)) => generation = 0,
                GroupCommand::Offsets(_) | GroupCommand::DeleteOffsets { .. } | GroupCommand::ExpireOffsets { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold(steps in proptest::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}
