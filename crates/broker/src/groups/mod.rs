//! Consumer groups: which broker group coordinates one, and what front ends ask of its coordinator.
//!
//! ```text
//! JoinGroup … OffsetCommit ─▶ [Driver: GroupMachine] ─▶ proposals ─▶ Raft ─▶ applied tables
//!                                                                                 │
//! OffsetFetch ◀── loss check, once per committed offset and partition term ◀──────┘
//! ```
//!
//! Everything is answered under a valid lease only, and by a new leader only once everything of earlier terms is applied;
//! until then requests are parked here.

mod admin;
mod commit;
mod driver;
mod expiry;
mod fetch;
mod loss;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use duolog_coordinator::groups::{
    Event, GroupConfig, GroupError, GroupMachine, HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest, ReplyBody,
    RequestId, SyncReply, SyncRequest,
};
use duolog_record::group::GroupId;
use duolog_types::Term;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(crate) use admin::{delete, delete_offsets, describe, list};
pub(crate) use commit::commit;
pub(crate) use expiry::expire;
pub(crate) use fetch::fetch;

use self::driver::GroupRequest;
use self::loss::CheckedOffsets;
use crate::api::{ItemResult, JoinRefusal, TopicRef};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::fetch::PARK_MAX;
use crate::request_budget::Admission;
use crate::runtime::GroupRuntime;

/// Requests that wait for a driver.
const REQUESTS_MAX: usize = 4_096;
/// Longest id of a consumer group: what a Kafka string of any version can hold.
pub(crate) const GROUP_ID_BYTES_MAX: usize = 32_767;

/// The coordinator of the consumer groups that hash to one broker group; of use where this node leads it.
pub(crate) struct Coordinator {
    runtime: Arc<GroupRuntime>,
    requests: mpsc::Sender<GroupRequest>,
    checked: CheckedOffsets,
    pulled_back: AtomicU64,
}

impl Coordinator {
    /// Starts the driver of a broker group on the current runtime.
    pub(crate) fn start(runtime: Arc<GroupRuntime>, config: GroupConfig, handle: &tokio::runtime::Handle) -> Arc<Self> {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        handle.spawn(driver::run(runtime.clone(), config, queue));
        Arc::new(Self { runtime, requests, checked: CheckedOffsets::default(), pulled_back: AtomicU64::new(0) })
    }

    /// Committed offsets that this node has pulled back after a loss, since its start.
    pub(crate) fn pulled_back(&self) -> u64 {
        self.pulled_back.load(Ordering::Relaxed)
    }

    /// The term in which this node coordinates now.
    async fn serving(&self) -> ItemResult<Term> {
        match self.runtime.served_term(Instant::now() + PARK_MAX).await {
            Ok(term) if self.runtime.group().lease_is_valid(term) => Ok(term),
            Err(_) if self.runtime.leadership().is_self => Err(BrokerError::CoordinatorLoading),
            Ok(_) | Err(_) => Err(BrokerError::NotCoordinator),
        }
    }

    async fn ask(&self, event: impl FnOnce(RequestId) -> Event + Send + 'static) -> ItemResult<ReplyBody> {
        self.serving().await?;
        let (reply, answer) = oneshot::channel();
        let request = GroupRequest::Ask { event: Box::new(event), reply };
        self.requests.send(request).await.map_err(|_| BrokerError::NotCoordinator)?;
        answer.await.map_err(|_| BrokerError::NotCoordinator)
    }

    /// What `look` sees between two events, if this node coordinates.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&GroupMachine) -> T + Send + 'static) -> ItemResult<T> {
        self.serving().await?;
        let (reply, answer) = oneshot::channel();
        self.step(move |machine| {
            // Without an answer the caller is told that this node does not coordinate.
            let _ = if machine.leads() { reply.send(look(machine)) } else { Ok(()) };
            None
        })
        .await?;
        answer.await.map_err(|_| BrokerError::NotCoordinator)
    }

    /// Looks at the machine between two events, and lets an event follow from that at once.
    async fn step(&self, step: impl FnOnce(&GroupMachine) -> Option<Event> + Send + 'static) -> ItemResult<()> {
        self.requests.send(GroupRequest::Look(Box::new(step))).await.map_err(|_| BrokerError::NotCoordinator)
    }
}

/// The coordinator of a consumer group, on whichever node.
fn coordinator(broker: &Broker, group: &GroupId) -> ItemResult<Arc<Coordinator>> {
    if group.0.len() > GROUP_ID_BYTES_MAX {
        return Err(GroupError::InvalidGroupId.into());
    }
    broker.coordinator(broker.coordinating_group(&group.0)?)
}

/// Finds a partition. A node that does not know its topics again yet does not coordinate yet.
fn locate(broker: &Broker, topic: &TopicRef, partition: i32) -> ItemResult<Located> {
    broker.locate(topic, partition).map_err(|error| match error {
        BrokerError::LeaderNotAvailable => BrokerError::CoordinatorLoading,
        error => error,
    })
}

/// JoinGroup; the answer comes when the group's next generation begins.
pub(crate) async fn join(
    broker: &Broker,
    request: JoinRequest,
    share: Option<Admission>,
) -> Result<JoinReply, JoinRefusal> {
    let member_id = request.member_id.clone();
    let refused = |error| JoinRefusal { error, member_id };
    let coordinator = match coordinator(broker, &request.group) {
        Ok(coordinator) => coordinator,
        Err(error) => return Err(refused(error)),
    };
    let request = JoinRequest { uuid: uuid::Uuid::new_v4().to_string(), ..request };
    let event = |reply_to| {
        drop(share);
        Event::Join { reply_to, request }
    };
    match coordinator.ask(event).await {
        Ok(ReplyBody::Join(result)) => {
            result.map_err(|refusal| JoinRefusal { error: refusal.error.into(), member_id: refusal.member_id })
        }
        Ok(other) => unreachable!("a JoinGroup is answered as one, found {other:?}"),
        Err(error) => Err(refused(error)),
    }
}

/// SyncGroup; the answer comes when the leader's assignments are committed.
pub(crate) async fn sync(broker: &Broker, request: SyncRequest, share: Option<Admission>) -> ItemResult<SyncReply> {
    let coordinator = coordinator(broker, &request.group)?;
    let event = |reply_to| {
        drop(share);
        Event::Sync { reply_to, request }
    };
    match coordinator.ask(event).await? {
        ReplyBody::Sync(result) => Ok(result?),
        other => unreachable!("a SyncGroup is answered as one, found {other:?}"),
    }
}

/// Heartbeat.
pub(crate) async fn heartbeat(broker: &Broker, request: HeartbeatRequest) -> ItemResult<()> {
    let coordinator = coordinator(broker, &request.group)?;
    match coordinator.ask(|reply_to| Event::Heartbeat { reply_to, request }).await? {
        ReplyBody::Heartbeat(result) => Ok(result?),
        other => unreachable!("a Heartbeat is answered as one, found {other:?}"),
    }
}

/// LeaveGroup; one result per member, in order.
pub(crate) async fn leave(broker: &Broker, request: LeaveRequest) -> ItemResult<Vec<ItemResult<()>>> {
    let coordinator = coordinator(broker, &request.group)?;
    match coordinator.ask(|reply_to| Event::Leave { reply_to, request }).await? {
        ReplyBody::Leave(results) => Ok(results?.into_iter().map(|result| Ok(result?)).collect()),
        other => unreachable!("a LeaveGroup is answered as one, found {other:?}"),
    }
}
