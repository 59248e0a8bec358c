//! Consumer groups: members that join, read, commit, leave and vanish, and the question for what is committed.
//!
//! The assignment of a member is its partitions, four bytes each: the broker does not look into it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{
    BrokerApi, GroupError, GroupId, HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest, LeavingMember, MemberId,
    MemberProtocol, OffsetCommits, PartitionOffset, SyncRequest, TopicRef,
};
use duolog_chaos::history::{Event, Place};
use duolog_types::{LeaderEpoch, Offset};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::{Clients, Phase};
use crate::cluster::{Failure, PAUSE};
use crate::random::Random;

const MEMBERS_PER_GROUP: u32 = 2;
/// Members have numbers from here on: below are the readers of partitions.
const FIRST_MEMBER: u32 = 1_000;
/// The least that is allowed.
const SESSION_TIMEOUT_MS: u32 = 6_000;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
const COMMIT_EVERY: Duration = Duration::from_millis(300);
const ASK_EVERY: Duration = Duration::from_millis(1_000);
/// A member without positions for so long joins again.
const PATIENCE: Duration = Duration::from_secs(8);
/// In so many rounds of reading a member leaves, or vanishes.
const LEAVES_ONE_IN: u64 = 300;

pub fn spawn(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let mut tasks: Vec<JoinHandle<()>> =
        (0..MEMBERS_PER_GROUP).map(|_| spawn_local(run_member(clients.clone(), topic, random.fork()))).collect();
    tasks.push(spawn_local(run_asker(clients.clone(), topic)));
    tasks
}

fn group_of(topic: u16) -> GroupId {
    GroupId(format!("group-{topic}"))
}

struct Member {
    clients: Clients,
    topic: u16,
    group: GroupId,
    /// Unique in the run, also for each life of a member.
    reader: u32,
    node: usize,
    id: Option<MemberId>,
    generation: i32,
    positions: BTreeMap<i32, Position>,
}

struct Position {
    next: i64,
    epoch: Option<LeaderEpoch>,
    is_committed: bool,
}

/// Why a member stops reading.
enum Stop {
    /// The group wants everybody to join again.
    Rejoin,
    /// It is not in the group any more.
    Lost,
    Leave,
    Vanish,
    Over,
}

async fn run_member(clients: Clients, topic: u16, mut random: Random) {
    let node = random.below(clients.cluster.nodes.len() as u64) as usize;
    let reader = FIRST_MEMBER + clients.number() as u32;
    let (group, positions) = (group_of(topic), BTreeMap::new());
    let mut member = Member { clients, topic, group, reader, node, id: None, generation: -1, positions };
    while member.goes_on() {
        let stop = match member.join().await {
            Ok(()) => member.work(&mut random).await,
            Err(stop) => stop,
        };
        match stop {
            Stop::Rejoin => {}
            Stop::Lost => member.id = None,
            Stop::Leave => {
                member.leave().await;
                member.begin_anew();
                sleep(random.ms(0..2_000)).await;
            }
            Stop::Vanish => {
                member.begin_anew();
                sleep(random.ms(0..9_000)).await;
            }
            Stop::Over => return,
        }
    }
}

impl Member {
    fn goes_on(&self) -> bool {
        self.clients.phase.get() == Phase::Load
    }

    fn begin_anew(&mut self) {
        self.id = None;
        self.reader = FIRST_MEMBER + self.clients.number() as u32;
        self.positions.clear();
    }

    /// One call at whoever seems to coordinate; after a failure somebody else is asked next.
    async fn ask<T, F>(&mut self, call: impl FnOnce(duolog_broker::Broker) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BrokerError>> + Send + 'static,
    {
        let answer = self.clients.cluster.attempt(self.node, call).await;
        if let Err(Failure::Refused | Failure::Unknown(_)) = &answer {
            self.node = self.clients.cluster.after(self.node);
            sleep(PAUSE).await;
        }
        answer
    }

    /// Joins, gets an assignment, and learns where to begin.
    async fn join(&mut self) -> Result<(), Stop> {
        let joined = self.enter().await?;
        self.generation = joined.generation;
        let assignments = if joined.leader == joined.member_id { self.share_out(&joined) } else { Vec::new() };
        let request = SyncRequest {
            group: self.group.clone(),
            member_id: joined.member_id,
            instance_id: None,
            generation: joined.generation,
            protocol_type: None,
            protocol_name: None,
            assignments,
        };
        let synced = self.ask(|broker| async move { broker.sync_group(request, None).await }).await;
        let assignment = synced.map_err(stop_of)?.assignment;
        let recorder = self.clients.recorder.clone();
        let partitions: Vec<i32> =
            assignment.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect();
        for partition in &partitions {
            let place = Place { topic: self.topic, partition: *partition };
            recorder.record(Event::Assigned { time_ms: recorder.now_ms(), reader: self.reader, place });
        }
        self.find_positions(partitions).await
    }

    /// The answer to JoinGroup, under the member's id.
    async fn enter(&mut self) -> Result<JoinReply, Stop> {
        while self.goes_on() {
            let protocol = MemberProtocol { name: "sim".to_owned(), metadata: Bytes::new() };
            let request = JoinRequest {
                group: self.group.clone(),
                member_id: self.id.clone(),
                instance_id: None,
                client_id: format!("member-{}", self.reader),
                client_host: "client".to_owned(),
                session_timeout_ms: SESSION_TIMEOUT_MS,
                rebalance_timeout_ms: 1_500,
                protocol_type: "consumer".to_owned(),
                protocols: vec![protocol],
                uuid: String::new(),
                requires_member_id: true,
                supports_skipping_assignment: true,
            };
            let joined = self.ask(|broker| async move { Ok(broker.join_group(request, None).await) }).await;
            match joined {
                Ok(Ok(reply)) => {
                    self.id = Some(reply.member_id.clone());
                    return Ok(reply);
                }
                Ok(Err(refusal)) => {
                    if refusal.error == BrokerError::Group(GroupError::MemberIdRequired) {
                        self.id = refusal.member_id;
                        continue;
                    }
                    if refusal.error == BrokerError::Group(GroupError::UnknownMemberId) {
                        self.id = None;
                    }
                    self.node = self.clients.cluster.after(self.node);
                    sleep(PAUSE).await;
                }
                Err(_) => {}
            }
        }
        Err(Stop::Over)
    }

    /// Every partition to one member, in turn.
    fn share_out(&self, joined: &JoinReply) -> Vec<(MemberId, Bytes)> {
        let mut shares: Vec<(MemberId, Vec<u8>)> =
            joined.members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect();
        let count = shares.len().max(1);
        for partition in 0..self.clients.cluster.topics[usize::from(self.topic)].partition_count {
            let turn = (partition + self.generation).unsigned_abs() as usize % count;
            if let Some((_, share)) = shares.get_mut(turn) {
                share.extend_from_slice(&partition.to_le_bytes());
            }
        }
        shares.into_iter().map(|(member, share)| (member, Bytes::from(share))).collect()
    }

    async fn find_positions(&mut self, partitions: Vec<i32>) -> Result<(), Stop> {
        self.positions.clear();
        let end = Instant::now() + PATIENCE;
        while self.goes_on() && Instant::now() < end {
            let Some(committed) = ask(&self.clients, &mut self.node, self.topic, &partitions).await else { continue };
            for (partition, offset) in partitions.iter().zip(committed) {
                let position = Position { next: offset.unwrap_or(0), epoch: None, is_committed: true };
                self.positions.insert(*partition, position);
            }
            return Ok(());
        }
        Err(Stop::Rejoin)
    }

    /// Reads and commits.
    async fn work(&mut self, random: &mut Random) -> Stop {
        let (mut heartbeat_at, mut commit_at) = (Instant::now(), Instant::now() + COMMIT_EVERY);
        let mut nodes: BTreeMap<i32, usize> = BTreeMap::new();
        while self.goes_on() {
            if Instant::now() >= heartbeat_at {
                heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
                if let Err(stop) = self.heartbeat().await {
                    // As clients do: what was read is committed before the member joins again.
                    let _ = self.commit().await;
                    return stop;
                }
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + COMMIT_EVERY;
                if let Err(stop) = self.commit().await {
                    return stop;
                }
            }
            for (partition, position) in &mut self.positions {
                let node = nodes.entry(*partition).or_insert(0);
                let place = Place { topic: self.topic, partition: *partition };
                match self.clients.cluster.read(*node, place, position.next).await {
                    Ok(read) => {
                        let recorder = &self.clients.recorder;
                        for ((offset, value), (_, epoch)) in read.values().zip(&read.records) {
                            let (time_ms, reader) = (recorder.now_ms(), self.reader);
                            recorder.record(Event::Seen { time_ms, reader, place, offset, value });
                            *position = Position { next: offset + 1, epoch: Some(*epoch), is_committed: false };
                        }
                    }
                    Err(_) => *node = self.clients.cluster.after(*node),
                }
            }
            if random.one_in(LEAVES_ONE_IN) {
                return if random.one_in(2) { Stop::Leave } else { Stop::Vanish };
            }
            sleep(PAUSE).await;
        }
        let _ = self.commit().await;
        self.leave().await;
        Stop::Over
    }

    async fn heartbeat(&mut self) -> Result<(), Stop> {
        let Some(member_id) = self.id.clone() else { return Err(Stop::Lost) };
        let (group, generation) = (self.group.clone(), self.generation);
        let request = HeartbeatRequest { group, member_id, instance_id: None, generation };
        match self.ask(|broker| async move { broker.heartbeat(request).await }).await {
            Err(Failure::Final(error)) => Err(stop_of(Failure::Final(error))),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn commit(&mut self) -> Result<(), Stop> {
        let recorder = self.clients.recorder.clone();
        let offsets: Vec<(i32, i64)> = self
            .positions
            .iter()
            .filter(|(_, position)| !position.is_committed)
            .map(|(partition, position)| (*partition, position.next))
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let partition = |(partition, offset): &(i32, i64)| PartitionOffset {
            topic: TopicRef::Name(self.clients.cluster.topics[usize::from(self.topic)].name.clone()),
            partition: *partition,
            offset: Offset(*offset),
            leader_epoch: self.positions[partition].epoch,
            metadata: String::new(),
        };
        let request = OffsetCommits {
            group: self.group.clone(),
            member_id: self.id.clone(),
            instance_id: None,
            generation: self.generation,
            partitions: offsets.iter().map(partition).collect(),
        };
        let asked_ms = recorder.now_ms();
        let answers = self.ask(|broker| async move {
            let results = broker.commit_offsets(request).await;
            // All or none of a group's offsets are committed.
            results.into_iter().collect::<Result<Vec<()>, BrokerError>>()
        });
        let answers = answers.await;
        let time_ms = recorder.now_ms();
        for (partition, offset) in offsets {
            let place = Place { topic: self.topic, partition };
            match &answers {
                Ok(_) => {
                    recorder.record(Event::CommitAcked { asked_ms, time_ms, place, offset });
                    if let Some(position) = self.positions.get_mut(&partition) {
                        position.is_committed = position.next == offset;
                    }
                }
                Err(Failure::Final(_)) => {}
                Err(failure) => {
                    let error = format!("{failure:?}");
                    recorder.record(Event::CommitUnknown { asked_ms, time_ms, place, offset, error });
                }
            }
        }
        match answers {
            Err(failure @ Failure::Final(_)) => Err(stop_of(failure)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn leave(&mut self) {
        let Some(id) = self.id.take() else { return };
        let member = LeavingMember { member_id: Some(id), instance_id: None };
        let request = LeaveRequest { group: self.group.clone(), members: vec![member] };
        // A member whose leave is lost is found out by its silence.
        let _ = self.ask(|broker| async move { broker.leave_group(request).await }).await;
    }
}

/// What a refusal means for a member.
fn stop_of(failure: Failure) -> Stop {
    match failure {
        Failure::Final(BrokerError::Group(GroupError::UnknownMemberId)) => Stop::Lost,
        _ => Stop::Rejoin,
    }
}

/// The committed offsets of partitions, once; `None` when there was no answer.
async fn ask(clients: &Clients, node: &mut usize, topic: u16, partitions: &[i32]) -> Option<Vec<Option<i64>>> {
    let Clients { cluster, recorder, .. } = clients;
    let (group, name) = (group_of(topic), cluster.topics[usize::from(topic)].name.clone());
    let wanted = partitions.iter().map(|partition| (TopicRef::Name(name.clone()), *partition)).collect();
    let asked_ms = recorder.now_ms();
    let answer =
        cluster.attempt(*node, move |broker| async move { broker.fetch_offsets(group, Some(wanted)).await }).await;
    let Ok(answer) = answer else {
        *node = cluster.after(*node);
        sleep(PAUSE).await;
        return None;
    };
    let time_ms = recorder.now_ms();
    let offsets: Vec<Option<i64>> =
        answer.into_iter().map(|found| found.committed.map(|committed| committed.offset.0)).collect();
    for (partition, offset) in partitions.iter().zip(&offsets) {
        let place = Place { topic, partition: *partition };
        recorder.record(Event::CommittedRead { asked_ms, time_ms, place, offset: *offset });
    }
    Some(offsets)
}

fn all_partitions(clients: &Clients, topic: u16) -> Vec<i32> {
    (0..clients.cluster.topics[usize::from(topic)].partition_count).collect()
}

async fn run_asker(clients: Clients, topic: u16) {
    let (mut node, partitions) = (0, all_partitions(&clients, topic));
    while clients.phase.get() == Phase::Load {
        // Another one is asked the next time.
        let _ = ask(&clients, &mut node, topic, &partitions).await;
        sleep(ASK_EVERY).await;
    }
}

/// Asks for everything that is committed, after everything.
pub async fn ask_all(clients: &Clients) {
    for topic in 0..clients.cluster.topics.len() as u16 {
        let (mut node, partitions) = (0, all_partitions(clients, topic));
        let end = Instant::now() + super::RECOVERY;
        while ask(clients, &mut node, topic, &partitions).await.is_none() && Instant::now() < end {}
    }
}
