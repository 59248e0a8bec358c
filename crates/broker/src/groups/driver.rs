//! The task that owns a broker group's [`GroupMachine`] and its clock.
//!
//! Invariant: a machine lives as long as a term that this node serves. It begins with what is applied, and proposes as the
//! leader of that term only, so nothing of an earlier machine can follow in the log. Proposals are handed to Raft in the
//! machine's order; their outcomes come back in the order of the log. The task never waits for an outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::groups::{
    Event, GroupCommand, GroupConfig, GroupMachine, Output, Proposal, ProposalFailure, ProposalId, Reply, ReplyBody,
    RequestId,
};
use duolog_record::group::{GroupRecord, GroupState, OffsetCommit};
use duolog_replication::{ProposeError, outcome};
use duolog_state::command::{self, Command};
use duolog_state::{EntryKind, StateError, TableReader, reader};
use duolog_types::{FlushWish, Term, TimestampMs};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::produce::now;
use crate::runtime::GroupRuntime;

/// Proposals whose outcome is not known; further requests wait in the queue.
const PROPOSALS_MAX: usize = 4_096;
/// Largest command, so that one group cannot fill a log's budget.
const COMMAND_BYTES_MAX: usize = 4 << 20;
/// After this time a proposal's outcome counts as unknown; Kafka's `offsets.commit.timeout.ms`.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks for groups that the machine does not know.
const LEARN_INTERVAL: Duration = Duration::from_secs(2);
/// When to wake up if the machine has no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(3_600);

/// A request to the machine.
pub(super) enum GroupRequest {
    /// An event that is answered.
    Ask { event: Box<dyn FnOnce(RequestId) -> Event + Send>, reply: oneshot::Sender<ReplyBody> },
    /// A look at the machine between two events, and perhaps an event that follows from it at once.
    Look(Look),
}

/// What looks at a machine.
pub(super) type Look = Box<dyn FnOnce(&GroupMachine) -> Option<Event> + Send>;

/// How a proposal ended.
struct Outcome {
    id: ProposalId,
    command: GroupCommand,
    result: Result<(), ProposalFailure>,
}

struct Driver {
    runtime: Arc<GroupRuntime>,
    config: GroupConfig,
    machine: GroupMachine,
    /// The machine's term, while it leads.
    term: Option<Term>,
    deadline_ms: Option<u64>,
    waiting: HashMap<RequestId, oneshot::Sender<ReplyBody>>,
    next_request: u64,
    outcomes: FuturesOrdered<BoxFuture<'static, Outcome>>,
}

/// Runs as long as the node does.
pub(super) async fn run(runtime: Arc<GroupRuntime>, config: GroupConfig, mut requests: mpsc::Receiver<GroupRequest>) {
    let mut serving = runtime.subscribe_serving();
    let mut ticks = tokio::time::interval(LEARN_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut driver = Driver {
        runtime,
        machine: GroupMachine::new(config.clone()),
        config,
        term: None,
        deadline_ms: None,
        waiting: HashMap::new(),
        next_request: 0,
        outcomes: FuturesOrdered::new(),
    };
    // The machine's deadline has come, and so many requests that came before are to be taken first: after a stall, a member whose
    // heartbeat waits here is alive. Those that come later wait, so that no flood keeps the machine from its deadline.
    let mut before_tick: Option<usize> = None;
    loop {
        let term = *serving.borrow_and_update();
        driver.follow(term).await;
        if before_tick == Some(0) {
            before_tick = None;
            driver.on(Event::Tick).await;
        }
        let deadline = driver.deadline();
        tokio::select! {
            biased;
            changed = serving.changed() => if changed.is_err() { return },
            Some(outcome) = driver.outcomes.next(), if !driver.outcomes.is_empty() => driver.on_outcome(outcome).await,
            () = tokio::time::sleep_until(deadline), if before_tick.is_none() => {
                // Connections that a stall has held up too hand over what has arrived for them.
                tokio::task::yield_now().await;
                before_tick = Some(requests.len());
            }
            _ = ticks.tick() => driver.learn(),
            request = requests.recv(), if driver.outcomes.len() < PROPOSALS_MAX => {
                let Some(request) = request else { return };
                before_tick = before_tick.map(|waiting| waiting.saturating_sub(1));
                // A request may overtake the news that its sender has waited for.
                let term = *serving.borrow_and_update();
                driver.follow(term).await;
                driver.submit(request).await;
            }
        }
    }
}

impl Driver {
    async fn follow(&mut self, serving: Option<Term>) {
        if serving == self.term {
            return;
        }
        if self.term.is_some() {
            self.on(Event::Resign).await;
            // Everyone who waited was answered.
            self.outcomes.clear();
            self.term = None;
        }
        let Some(term) = serving else { return };
        self.machine = GroupMachine::new(self.config.clone());
        match load(&*self.runtime.tables()) {
            Ok(commands) => {
                tracing::info!(broker_group = %self.runtime.id(), %term, consumer_groups = commands.len(), "coordinates");
                commands.iter().for_each(|command| self.machine.replay(command));
                self.term = Some(term);
                self.on(Event::Lead).await;
            }
            // Tried again at the next wake-up; until then the machine refuses as one that does not lead.
            Err(error) => tracing::error!(broker_group = %self.runtime.id(), %error, "cannot read the consumer groups"),
        }
    }

    /// Groups of single messages commit offsets without the machine's doing.
    fn learn(&mut self) {
        if self.term.is_none() {
            return;
        }
        match reader::groups_with_offsets(&*self.runtime.tables()) {
            Ok(groups) => groups.into_iter().for_each(|group| self.machine.learn(group)),
            Err(error) => tracing::error!(broker_group = %self.runtime.id(), %error, "cannot read the consumer groups"),
        }
    }

    fn deadline(&self) -> Instant {
        let after = self.deadline_ms.map_or(NO_DEADLINE, |deadline_ms| {
            Duration::from_millis(deadline_ms.saturating_sub(self.runtime.now_ms())).min(NO_DEADLINE)
        });
        Instant::now() + after
    }

    async fn submit(&mut self, request: GroupRequest) {
        match request {
            GroupRequest::Ask { event, reply } => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(id, reply);
                self.on(event(id)).await;
            }
            GroupRequest::Look(look) => {
                if let Some(event) = look(&self.machine) {
                    self.on(event).await;
                }
            }
        }
    }

    async fn on_outcome(&mut self, outcome: Outcome) {
        let proposal = outcome.id;
        match outcome.result {
            Ok(()) => {
                self.machine.replay(&outcome.command);
                self.on(Event::Committed { proposal }).await;
            }
            Err(reason) => self.on(Event::ProposalFailed { proposal, reason }).await,
        }
    }

    async fn on(&mut self, event: Event) {
        let Output { proposals, replies, next_deadline_ms } = self.machine.on(event, self.runtime.now_ms());
        self.deadline_ms = next_deadline_ms;
        for Reply { to, body } in replies {
            if let Some(reply) = self.waiting.remove(&to) {
                // The connection may have gone.
                let _ = reply.send(body);
            }
        }
        for proposal in proposals {
            self.propose(proposal).await;
        }
    }

    /// Hands a proposal to Raft, behind all earlier ones.
    async fn propose(&mut self, Proposal { id, command }: Proposal) {
        let term = self.term.expect("the machine proposes only while it leads");
        let body = entry(command.clone(), now()).encode();
        if body.len() > COMMAND_BYTES_MAX {
            let result = Err(ProposalFailure::TooLarge);
            self.outcomes.push_back(Box::pin(std::future::ready(Outcome { id, command, result })));
            return;
        }
        let proposal = duolog_replication::Proposal { kind: EntryKind::Command, flush: FlushWish::Now, body };
        let proposed = self.runtime.group().propose_as(term, proposal).await;
        let is_early = self.runtime.group().early().offset_commits && matches!(command, GroupCommand::Offsets(_));
        self.outcomes.push_back(Box::pin(async move {
            let result = match proposed {
                Ok(_) if is_early => Ok(()),
                Ok(receiver) => match tokio::time::timeout(PROPOSAL_TIMEOUT, receiver).await {
                    Ok(Ok(result)) => outcome(result).map(|_| ()).map_err(|error| failure(&error)),
                    Ok(Err(_)) | Err(_) => Err(ProposalFailure::Unknown),
                },
                Err(error) => Err(failure(&error)),
            };
            Outcome { id, command, result }
        }));
    }
}

/// What a new machine must know: every group that is applied, those that have nothing but committed offsets included.
fn load(tables: &dyn TableReader) -> Result<Vec<GroupCommand>, StateError> {
    let known = reader::groups_with_offsets(tables)?;
    let offsets = known.into_iter().map(|group| GroupCommand::Offsets(OffsetCommit { group, offsets: Vec::new() }));
    let snapshots = reader::groups(tables)?.into_iter().map(|group| GroupCommand::Group(GroupRecord::Snapshot(group)));
    Ok(offsets.chain(snapshots).collect())
}

/// A snapshot without members is written when the last one has gone, so its time is now.
fn entry(command: GroupCommand, now: TimestampMs) -> Command {
    Command::Groups(match command {
        GroupCommand::Group(GroupRecord::Snapshot(metadata)) if metadata.state == GroupState::Empty => {
            command::GroupCommand::EmptyGroup { metadata, since: now }
        }
        GroupCommand::Group(record) => command::GroupCommand::PutGroup(record),
        GroupCommand::Offsets(commit) => command::GroupCommand::CommitOffsets(commit),
        GroupCommand::DeleteOffsets { group, partitions } => command::GroupCommand::DeleteOffsets { group, partitions },
        GroupCommand::ExpireOffsets { group, offsets } => command::GroupCommand::ExpireOffsets { group, seen: offsets },
    })
}

fn failure(error: &ProposeError) -> ProposalFailure {
    match error {
        ProposeError::NotLeader { .. } => ProposalFailure::NotLeader,
        ProposeError::Unknown(_) => ProposalFailure::Unknown,
    }
}
