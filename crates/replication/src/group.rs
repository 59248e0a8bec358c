//! One replica of a broker group: its log, its Raft core, its state, and what its leader knows.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_commit_log::{CommitLog, Disk, LogOptions, Recovered};
use duolog_state::EntryKind;
use duolog_types::{BrokerGroupId, FlushWish, LogIndex, NodeId, Term};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, RaftError};
use openraft::impls::ProgressResponder;
use openraft::metrics::WaitError;
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::blocking::blocking;
use crate::guard::Guard;
use crate::identity::Identity;
use crate::laggards::Laggards;
use crate::lease::Lease;
use crate::log_store::{EntryTap, LogProgress, LogStore, ProgressObserver};
use crate::marks::ReceivedMarks;
use crate::network::{GroupNetwork, PeerFactory};
use crate::scrub::{Peers, Scrub, ScrubCounts, ScrubOptions, Scrubber};
use crate::state_machine::{StateCell, StateFactory, StateMachine};
use crate::testing::{Early, Hooks};
use crate::type_config::{CommandResponse, CommittedLeaderId, Member, Proposal, TypeConfig};
use crate::watermarks::{Mark, Watermarks, quorum_received_next};
use crate::{RaftTimes, rebuild, snapshot};

pub(crate) type GroupRaft = Raft<TypeConfig, StateMachine>;

/// Who leads a broker group, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The term of the newest vote that this node knows.
    pub term: Term,
    /// The leader of that term, once it is elected.
    pub leader: Option<NodeId>,
    /// Whether this node is that leader.
    pub is_self: bool,
}

/// Why a proposal has no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was refused before it was appended: retry, at the leader.
    #[error("not the leader; leader: {leader:?}")]
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// It may have happened or not.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// A member of a broker group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its node id.
    pub node_id: NodeId,
    /// Its addresses and incarnation.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
}

/// What a group is opened with.
pub(crate) struct GroupOptions {
    pub(crate) id: BrokerGroupId,
    pub(crate) node_id: NodeId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) log: LogOptions,
    pub(crate) times: RaftTimes,
    pub(crate) cluster_name: String,
    pub(crate) tap: Arc<dyn EntryTap>,
    pub(crate) factory: Arc<dyn StateFactory>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) hooks: Hooks,
    /// Configured nodes, whom the scrubber asks before members are known.
    pub(crate) nodes: Vec<(NodeId, Member)>,
    pub(crate) scrub: ScrubOptions,
}

/// A replica of a broker group on this node.
pub struct BrokerGroup {
    id: BrokerGroupId,
    node_id: NodeId,
    pub(crate) raft: GroupRaft,
    log: CommitLog,
    pub(crate) progress: LogProgress,
    pub(crate) cell: Arc<StateCell>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) lease: Arc<Lease>,
    lease_length: Duration,
    pub(crate) watermarks: watch::Receiver<Watermarks>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    recovered: Recovered,
    caught_up: watch::Receiver<bool>,
    laggards: Mutex<Laggards>,
    pub(crate) scrub: Arc<Scrub>,
    pub(crate) handing_over: watch::Sender<bool>,
    early: Early,
}

/// openraft's configuration: what `RAFT.md` of the project's notes found to be necessary, see `docs/adr/0002-openraft.md`.
pub(crate) fn raft_config(cluster_name: &str, times: RaftTimes, hooks: &Hooks) -> Result<Config, String> {
    let mut config = Config {
        cluster_name: cluster_name.to_owned(),
        heartbeat_interval: times.heartbeat_interval_ms,
        election_timeout_min: times.election_timeout_min_ms,
        election_timeout_max: times.election_timeout_max_ms,
        // A leader that restarts as leader of the same term may lack entries that a quorum committed in it.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // Segments are deleted by retention, snapshots are made when it is near.
        snapshot_policy: SnapshotPolicy::Never,
        // A snapshot is no permission to purge: that is given by `purge_log` alone, never above the slowest voter.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX / 2,
        max_payload_entries: 1_024,
        install_snapshot_timeout: 600_000,
        backoff: "20ms 50ms 100ms ...500ms".to_owned(),
        ..Config::default()
    };
    if let Some(configure) = hooks.configure {
        configure(&mut config);
    }
    if !hooks.skip_config_check {
        check_raft_config(&config)?;
    }
    config.validate().map_err(|error| error.to_string())
}

/// Refuses to start with settings that lose acknowledged writes.
pub(crate) fn check_raft_config(config: &Config) -> Result<(), String> {
    if config.enable_leader_restore != Some(false) {
        return Err(
            "enable_leader_restore must be off: with it a restarted leader can overwrite committed entries".to_owned()
        );
    }
    if config.enable_pre_vote != Some(true) {
        return Err("enable_pre_vote must be on: without it a returning node disturbs a healthy leader".to_owned());
    }
    if config.snapshot_policy != SnapshotPolicy::Never {
        return Err("snapshot_policy must be Never: retention decides when the log may go".to_owned());
    }
    if config.max_in_snapshot_log_to_keep != u64::MAX {
        return Err(
            "max_in_snapshot_log_to_keep must be unlimited: retention decides how much of the log may go".to_owned()
        );
    }
    Ok(())
}

impl BrokerGroup {
    /// Recovers the log and the state, and builds the Raft core without running it.
    pub(crate) async fn open(dir: &Path, options: GroupOptions) -> io::Result<Arc<Self>> {
        let scratch = dir.join("snapshot");
        snapshot::clean_scratch(&scratch)?;
        let (observer, progress) = ProgressObserver::new();
        let (log, recovered) =
            CommitLog::open(options.disk.clone(), &dir.join("log"), options.log.clone(), observer.clone())
                .map_err(io::Error::other)?;
        if let Some(torn) = &recovered.torn {
            tracing::warn!(broker_group = %options.id, ?torn, "cut a torn tail off the log");
        }
        let cell = rebuild::open_state(dir, &log, &options).await?;
        observer.recovered(log.last().map(|(term, index)| Mark { term: term.0, index: index.0 }));
        let marks = Arc::new(ReceivedMarks::new());
        let lease = Arc::new(Lease::new(options.node_id.0));
        let scrub = Arc::new(Scrub::new(options.scrub));
        let network = Arc::new(GroupNetwork {
            group: options.id.0,
            identity: options.identity.clone(),
            marks: marks.clone(),
            lease: lease.clone(),
            snapshots: cell.clone(),
            scrub: scrub.clone(),
            hooks: options.hooks.clone(),
        });
        let peers = Arc::new(Peers { configured: options.nodes, raft: OnceLock::new() });
        let scrubber = Scrubber {
            group: options.id,
            node_id: options.node_id,
            log: log.clone(),
            identity: options.identity,
            hooks: options.hooks.clone(),
            peers: peers.clone(),
            scrub: scrub.clone(),
        };
        tokio::spawn(scrubber.run());
        let config = raft_config(&options.cluster_name, options.times, &options.hooks).map_err(io::Error::other)?;
        let raft = Raft::build(
            options.node_id.0,
            Arc::new(config),
            PeerFactory(network),
            LogStore::new(log.clone(), options.tap, options.guard.clone(), scrub.clone()),
            StateMachine::new(cell.clone(), progress.clone(), options.hooks.early),
        )
        .await
        .map_err(io::Error::other)?;
        // Nobody else sets it.
        let _ = peers.raft.set(raft.clone());
        let (watermarks_tx, watermarks) = watch::channel(Watermarks::default());
        let (leadership_tx, leadership) = watch::channel(Leadership::default());
        let follow = Follow {
            node_id: options.node_id,
            raft: raft.clone(),
            progress: progress.clone(),
            marks,
            lease: lease.clone(),
            watermarks: watermarks_tx,
            leadership: leadership_tx,
            early: options.hooks.early,
        };
        tokio::spawn(follow.run());
        let (caught_up_tx, caught_up) = watch::channel(false);
        tokio::spawn(watch_recovery(raft.clone(), caught_up_tx));
        Ok(Arc::new(Self {
            id: options.id,
            node_id: options.node_id,
            raft,
            log,
            progress,
            cell,
            guard: options.guard,
            lease,
            lease_length: Duration::from_millis(options.times.election_timeout_min_ms),
            watermarks,
            leadership,
            recovered,
            caught_up,
            laggards: Mutex::new(Laggards::default()),
            scrub,
            handing_over: watch::channel(false).0,
            early: options.hooks.early,
        }))
    }

    /// What a test plants.
    #[doc(hidden)]
    #[must_use]
    pub fn early(&self) -> Early {
        self.early
    }

    /// The group's id.
    #[must_use]
    pub fn id(&self) -> BrokerGroupId {
        self.id
    }

    /// The commit log, for readers that serve consumers and for retention.
    #[must_use]
    pub fn log(&self) -> &CommitLog {
        &self.log
    }

    /// A reader found this entry of the log damaged: it is put back from another replica, soon.
    pub fn suspect(&self, index: LogIndex) {
        self.scrub.suspect(index);
    }

    /// What the scrubber of the log has done.
    #[must_use]
    pub fn scrub_counts(&self) -> &ScrubCounts {
        &self.scrub.counts
    }

    /// How the scrubber goes about; its rate is this group's share.
    #[must_use]
    pub fn scrub_options(&self) -> ScrubOptions {
        self.scrub.options
    }

    /// What recovery found when the node started.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Watches the four watermarks; zero while this node does not lead.
    #[must_use]
    pub fn watermarks(&self) -> watch::Receiver<Watermarks> {
        self.watermarks.clone()
    }

    /// Watches who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Watches the last applied entry.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<Mark>> {
        self.cell.applied()
    }

    /// Snapshots that were installed since the start.
    #[must_use]
    pub fn installed_snapshots(&self) -> u64 {
        self.cell.installed_snapshots()
    }

    /// Whether everything that this replica's log held at the start was decided and, if it was committed, is applied: from
    /// then on its state is not older than what it knew before.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Waits until the Raft core stops; why, unless it was asked to.
    pub(crate) async fn core_failure(&self) -> Option<String> {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return match fatal {
                    openraft::errors::Fatal::Stopped => None,
                    other => Some(other.to_string()),
                };
            }
            if metrics.changed().await.is_err() {
                // A core that ends says why; one that panicked cannot.
                return Some("it panicked".to_owned());
            }
        }
    }

    /// Members of the effective membership.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        members_of(&self.raft)
    }

    /// Voters in the order in which the group prefers them as leader.
    #[must_use]
    pub fn voters_by_preference(&self) -> Vec<NodeId> {
        crate::balance::by_preference(self.id, &self.members())
    }

    /// Whether this node leads `term` and a quorum has confirmed it within the shortest election time-out, so that no other
    /// leader can have been elected.
    #[must_use]
    pub fn lease_is_valid(&self, term: Term) -> bool {
        let leadership = *self.leadership.borrow();
        leadership.is_self
            && leadership.term == term
            && (self.lease.is_valid(term.0, tokio::time::Instant::now(), self.lease_length) || self.early.leases)
    }

    /// Proposes an entry as leader of `term`: refused when the term has ended. The receiver gets the response once the entry
    /// is applied, or why there is none.
    ///
    /// # Errors
    /// The Raft core has stopped.
    pub async fn propose_as(
        &self,
        term: Term,
        proposal: Proposal,
    ) -> Result<oneshot::Receiver<ClientWriteResult<TypeConfig>>, ProposeError> {
        let (responder, receiver) = ProgressResponder::complete_only();
        self.raft
            .write(proposal)
            .with_leader(CommittedLeaderId::new(term.0))
            .responder(responder)
            .await
            .map_err(|fatal| ProposeError::Unknown(fatal.to_string()))?;
        Ok(receiver)
    }

    /// Proposes a command on this node, which must lead; waits until it is applied here.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_command(
        &self,
        command: Bytes,
        flush: FlushWish,
    ) -> Result<(LogIndex, CommandResponse), ProposeError> {
        let leadership = *self.leadership.borrow();
        if !leadership.is_self {
            return Err(ProposeError::NotLeader { leader: leadership.leader });
        }
        let proposal = Proposal { kind: EntryKind::Command, flush, body: command };
        let receiver = self.propose_as(leadership.term, proposal).await?;
        match receiver.await {
            Ok(result) => outcome(result),
            Err(_) => Err(ProposeError::Unknown("the Raft core has stopped".to_owned())),
        }
    }

    /// Makes the applied state durable and moves Raft's purge mark up to `wanted`: never above what the state holds durably,
    /// nor, on the leader, above the log of the slowest voter that is waited for (see `laggards`). openraft takes the snapshot
    /// in the background, so the mark may only move with the next call.
    ///
    /// # Errors
    /// The state cannot be written, or the Raft core has stopped.
    pub async fn release_log_below(&self, wanted: LogIndex) -> io::Result<()> {
        self.raft.trigger().snapshot().await.map_err(io::Error::other)?;
        let cell = self.cell.clone();
        let durable = blocking(move || cell.make_durable()).await?.map_or(0, |mark| mark.index);
        let slowest = self.slowest_voter_index().unwrap_or(u64::MAX);
        let upto = wanted.0.min(durable).min(slowest);
        if let Some(upto) = upto.checked_sub(1) {
            self.raft.trigger().purge_log(upto).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The smallest index that a voter which is waited for is known to have, on the leader.
    fn slowest_voter_index(&self) -> Option<u64> {
        let voters: Vec<u64> = {
            let metrics = self.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            let replication = metrics.replication.as_ref()?;
            replication.values().map(|log_id| log_id.as_ref().map_or(0, |id| id.index)).collect()
        };
        let last_index = self.log.last().map_or(0, |(_, index)| index.0);
        let segments = self.log.segments();
        let behind_bytes = |index: u64| {
            let above = segments.iter().filter(|segment| segment.last_inclusive.is_none_or(|last| last.0 > index));
            above.map(|segment| segment.size_bytes).sum()
        };
        self.laggards.lock().slowest(voters, last_index, Instant::now(), behind_bytes)
    }

    /// Stops the Raft core and closes the log; everything is flushed when this returns.
    pub(crate) async fn close(&self) -> io::Result<()> {
        self.raft.shutdown().await.map_err(io::Error::other)?;
        let (cell, log) = (self.cell.clone(), self.log.clone());
        let close = move || {
            cell.make_durable()?;
            log.close().map_err(io::Error::other)
        };
        blocking(close).await
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }
}

/// The state restarts behind the log; it has caught up once a commit of the cluster that covers the log is applied.
async fn watch_recovery(raft: GroupRaft, caught_up: watch::Sender<bool>) {
    const LOOK_AGAIN: Duration = Duration::from_secs(10);
    while let Err(error) = raft.wait_for_recovery(Some(LOOK_AGAIN)).await {
        // A core that has stopped says so at once, again and again.
        if caught_up.is_closed() || matches!(error, WaitError::ShuttingDown) {
            return;
        }
    }
    caught_up.send_replace(true);
}

/// Members of the effective membership.
pub(crate) fn members_of(raft: &GroupRaft) -> Vec<MemberView> {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let members = metrics.membership_config.nodes();
    members
        .map(|(id, member)| MemberView { node_id: NodeId(*id), member: member.clone(), voter: voters.contains(id) })
        .collect()
}

/// What a proposal's receiver got.
///
/// # Errors
/// See [`ProposeError`].
pub fn outcome(result: ClientWriteResult<TypeConfig>) -> Result<(LogIndex, CommandResponse), ProposeError> {
    match result {
        Ok(response) => Ok((LogIndex(response.log_id.index), response.data)),
        Err(ClientWriteError::ForwardToLeader(forward)) => Err(ProposeError::NotLeader {
            leader: match forward.reason {
                // This node leads, but must first hear from a quorum.
                ForwardReason::LeaseExpired => None,
                ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => forward.leader_id.map(NodeId),
            },
        }),
        Err(error) => Err(ProposeError::Unknown(error.to_string())),
    }
}

/// As [`outcome`], for openraft's calls that wait themselves.
pub(crate) fn raft_error(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
        other => ProposeError::Unknown(other.to_string()),
    }
}

/// Follows openraft, the log and the marks, and publishes leadership and watermarks.
struct Follow {
    node_id: NodeId,
    raft: GroupRaft,
    progress: LogProgress,
    marks: Arc<ReceivedMarks>,
    lease: Arc<Lease>,
    watermarks: watch::Sender<Watermarks>,
    leadership: watch::Sender<Leadership>,
    early: Early,
}

impl Follow {
    async fn run(mut self) {
        let mut server = self.raft.server_metrics();
        let mut commit = self.raft.watch_commit_progress();
        let mut marks = self.marks.subscribe();
        loop {
            let (leadership, configurations) = {
                let metrics = server.borrow_watched();
                let is_self = metrics.state == ServerState::Leader && metrics.current_leader == Some(self.node_id.0);
                // A node that led before its restart remembers its own vote, but does not lead.
                let leader = metrics.current_leader.map(NodeId).filter(|id| is_self || *id != self.node_id);
                let leadership = Leadership { term: Term(metrics.vote.leader_id.term), leader, is_self };
                (leadership, metrics.membership_config.get_joint_config().clone())
            };
            if leadership.is_self {
                self.lease.lead(leadership.term.0, &configurations);
            }
            if *self.leadership.borrow() != leadership {
                // Marks of an earlier term would not count anyhow; a new stream begins with the current one.
                if self.leadership.borrow().term != leadership.term {
                    self.marks.reset();
                }
                self.leadership.send_replace(leadership);
            }
            self.publish(leadership, &configurations, commit.get().map_or(0, |id| id.index + 1));
            let open = tokio::select! {
                changed = server.changed() => changed.is_ok(),
                changed = commit.changed() => changed.is_ok(),
                changed = self.progress.written.changed() => changed.is_ok(),
                changed = self.progress.flushed.changed() => changed.is_ok(),
                changed = marks.changed() => changed.is_ok(),
            };
            if !open {
                self.leadership.send_replace(Leadership { is_self: false, leader: None, ..leadership });
                self.watermarks.send_replace(Watermarks::default());
                return;
            }
        }
    }

    fn publish(&self, leadership: Leadership, configurations: &[BTreeSet<u64>], committed_next: u64) {
        if !leadership.is_self {
            if self.watermarks.borrow().term != 0 {
                self.watermarks.send_replace(Watermarks::default());
            }
            return;
        }
        let term = leadership.term.0;
        let written = *self.progress.written.borrow();
        let next_in_term = |mark: Option<Mark>| mark.filter(|mark| mark.term == term).map_or(0, |mark| mark.index + 1);
        let mut marks = self.marks.get();
        if let Some(own) = written {
            marks.insert(self.node_id.0, own);
        }
        let committed_next = if self.early.acks { next_in_term(written).max(committed_next) } else { committed_next };
        let new = Watermarks {
            term,
            appended_next: next_in_term(written),
            flushed_next: next_in_term(*self.progress.flushed.borrow()),
            received_next: quorum_received_next(configurations, &marks, term).max(committed_next),
            committed_next,
        };
        self.watermarks.send_if_modified(|current| {
            let next = if current.term == new.term { never_back(*current, new) } else { new };
            let modified = *current != next;
            *current = next;
            modified
        });
    }
}

/// Within a term no watermark goes back.
fn never_back(old: Watermarks, new: Watermarks) -> Watermarks {
    Watermarks {
        term: new.term,
        appended_next: old.appended_next.max(new.appended_next),
        flushed_next: old.flushed_next.max(new.flushed_next),
        received_next: old.received_next.max(new.received_next),
        committed_next: old.committed_next.max(new.committed_next),
    }
}
