//! The node's side of the calls between nodes.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::Snapshot;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesResponse, VoteRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use duolog_types::{BrokerGroupId, LogIndex};

use crate::cluster::{Shared, StartError};
use crate::disk_space::DiskState;
use crate::group::{BrokerGroup, ProposeError};
use crate::identity::{Caller, verify_member};
use crate::net;
use crate::snapshot::{self, SnapshotHandle};
use crate::type_config::{RaftVote, TypeConfig};
use crate::wire::{self, proto};

/// Bytes of appends that wait for Raft's answer on one stream; further requests wait in the connection.
const UNANSWERED_BYTES_MAX: usize = 16 << 20;

/// Calls on one connection that were given up before this node had looked at them.
const RESET_CALLS_MAX: usize = 10_000;

/// The gRPC service of a node.
pub(crate) struct ClusterService(pub(crate) Arc<Shared>);

type Answer = Result<(AppendEntriesResponse<TypeConfig>, usize), Status>;

impl ClusterService {
    fn group(&self, id: u32) -> Result<Arc<BrokerGroup>, Status> {
        self.0.group(BrokerGroupId(id)).ok_or_else(|| {
            Status::not_found(format!("this node has no broker group {id}; check broker_groups in node.toml"))
        })
    }

    /// Checks who calls, against the membership that this node knows.
    fn verify<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = self.0.identity.verify(request.metadata())?;
        let known = self.0.known_incarnation(caller.node_id);
        verify_member(&caller, known.as_deref())?;
        if known.is_none() && self.0.retired_nodes().contains(&caller.node_id) {
            let left = format!("node {} was removed from the cluster, and an id is never used again", caller.node_id);
            return Err(Status::failed_precondition(left));
        }
        Ok(caller)
    }

    /// A node that may have lost what it acknowledged, or that has just forgotten a lease, does not vote.
    fn may_vote(&self, group: &BrokerGroup, request: &VoteRequest<TypeConfig>) -> Result<(), Status> {
        if self.0.lease_of_earlier_life_may_hold() {
            return Err(Status::unavailable("this node has just started: an earlier vote's lease may still hold"));
        }
        if group.guard.is_guarded(group.id()) && !self.0.guarded_may_grant(group.id(), request.last_log_id.as_ref()) {
            return Err(Status::unavailable("this node is guarded after a loss of power and does not vote yet"));
        }
        Ok(())
    }
}

/// Takes calls from now on.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn listen(shared: Arc<Shared>) -> Result<(), StartError> {
    let address = shared.options.grpc_listen;
    let incoming = match &shared.hooks.net {
        Some(net) => net.listen(address).await,
        None => net::listen_tcp(address).await,
    };
    let incoming = incoming.map_err(|source| StartError::Listen { address, source })?;
    let service = proto::cluster_server::ClusterServer::new(ClusterService(shared))
        .max_decoding_message_size(wire::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(wire::MESSAGE_BYTES_MAX);
    let server = tonic::transport::Server::builder()
        // A call that takes too long is reset. A node that was held up finds more of those than HTTP/2 servers allow strangers, and would
        // end the connections with all that is under way on them: the others would take it for dead once more.
        .http2_max_pending_accept_reset_streams(Some(RESET_CALLS_MAX))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(service)
        .serve_with_incoming(incoming);
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the service for calls between nodes has ended");
        }
    });
    Ok(())
}

/// Answers the requests of one append stream in order, and sends the *received* marks as the log is written.
async fn follow(
    shared: Arc<Shared>,
    group: Arc<BrokerGroup>,
    mut first: Option<proto::AppendRequest>,
    mut inbound: Streaming<proto::AppendRequest>,
    replies: mpsc::Sender<Result<proto::AppendReply, Status>>,
) {
    let send_marks = !shared.drop_received_marks;
    let mut pending: FuturesOrdered<Pin<Box<dyn Future<Output = Answer> + Send>>> = FuturesOrdered::new();
    let mut pending_bytes = 0_usize;
    let mut written = group.progress.written.clone();
    // A new stream begins with the current mark.
    written.mark_changed();
    loop {
        let reply = tokio::select! {
            biased;
            changed = written.changed(), if send_marks => {
                if changed.is_err() {
                    return;
                }
                let mark = *written.borrow_and_update();
                let Some(mark) = mark else { continue };
                Ok(proto::append_reply::Kind::Received(proto::LogId { term: mark.term, index: mark.index }))
            }
            Some(answer) = pending.next(), if !pending.is_empty() => answer.map(|(response, bytes)| {
                pending_bytes -= bytes;
                proto::append_reply::Kind::Answer(wire::answer_to_wire(&response))
            }),
            request = next_request(&mut first, &mut inbound), if pending_bytes < UNANSWERED_BYTES_MAX => match request {
                Ok(Some(request)) => {
                    let bytes: usize = request.entries.iter().map(|entry| entry.body.len()).sum();
                    pending_bytes += bytes;
                    match room_for(&shared, &request).and_then(|()| accept(&group, request, bytes)) {
                        Ok(answer) => {
                            pending.push_back(answer);
                            continue;
                        }
                        Err(status) => Err(status),
                    }
                }
                // The leader has ended the session; what it sent is still being flushed.
                Ok(None) if pending.is_empty() => return,
                Ok(None) => {
                    while let Some(answer) = pending.next().await {
                        let reply = answer.map(|(response, _)| proto::AppendReply {
                            kind: Some(proto::append_reply::Kind::Answer(wire::answer_to_wire(&response))),
                        });
                        if replies.send(reply).await.is_err() {
                            return;
                        }
                    }
                    return;
                }
                Err(_) => return,
            },
        };
        let failed = reply.is_err();
        let reply = reply.map(|kind| proto::AppendReply { kind: Some(kind) });
        if replies.send(reply).await.is_err() || failed {
            return;
        }
    }
}

async fn next_request(
    first: &mut Option<proto::AppendRequest>,
    inbound: &mut Streaming<proto::AppendRequest>,
) -> Result<Option<proto::AppendRequest>, Status> {
    match first.take() {
        Some(request) => Ok(Some(request)),
        None => inbound.message().await,
    }
}

/// Entries and snapshots are refused before the disk is full: the leader tries again, and the others go on.
fn has_room(shared: &Shared) -> Result<(), Status> {
    match shared.disk_space().state {
        DiskState::Exhausted => Err(Status::resource_exhausted("the disk of this node is full")),
        DiskState::ReadOnly | DiskState::Writable => Ok(()),
    }
}

fn room_for(shared: &Shared, request: &proto::AppendRequest) -> Result<(), Status> {
    if request.entries.is_empty() { Ok(()) } else { has_room(shared) }
}

/// Hands a request to Raft at once, so that the order is kept; its answer comes after the flush.
fn accept(
    group: &Arc<BrokerGroup>,
    request: proto::AppendRequest,
    bytes: usize,
) -> Result<Pin<Box<dyn Future<Output = Answer> + Send>>, Status> {
    let request = wire::append_from_wire(request)?;
    let raft = group.raft.clone();
    let mut answer = Box::pin(async move {
        match raft.append_entries(request).await {
            Ok(response) => Ok((response, bytes)),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    });
    // The first poll puts the request into the core's queue.
    match answer.as_mut().now_or_never() {
        Some(done) => Ok(Box::pin(std::future::ready(done))),
        None => Ok(answer),
    }
}

/// Resolves once the Raft core has processed what was sent to it before, if it follows the leader of `vote`.
async fn processed_under(group: &BrokerGroup, vote: RaftVote) -> bool {
    let (sender, receiver) = oneshot::channel();
    // The core saves a vote, flushed, before it takes the next message.
    let look = move |state: &openraft::RaftState<TypeConfig>| {
        // The real answer may have come first; then nobody listens.
        let _ = sender.send(*state.vote_ref() == vote);
    };
    group.raft.external_request(look).await.is_ok() && receiver.await.unwrap_or(false)
}

#[tonic::async_trait]
impl proto::cluster_server::Cluster for ClusterService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<proto::AppendReply, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.verify(&request)?;
        let shared = self.0.clone();
        let mut inbound = request.into_inner();
        let (replies, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            let Ok(Some(first)) = inbound.message().await else { return };
            match shared.group(BrokerGroupId(first.group)) {
                Some(group) => follow(shared.clone(), group, Some(first), inbound, replies).await,
                None => {
                    // The caller may have gone already.
                    let _ = replies.send(Err(Status::not_found(format!("no broker group {}", first.group)))).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    /// Answered as soon as the core has processed it: a slow disk is not a dead node. A refusal comes from Raft itself.
    async fn heartbeat(&self, request: Request<proto::AppendRequest>) -> Result<Response<proto::AppendAnswer>, Status> {
        self.verify(&request)?;
        let request = request.into_inner();
        let group = self.group(request.group)?;
        let request = wire::append_from_wire(request)?;
        let vote = request.vote;
        let real = group.raft.append_entries(request);
        tokio::pin!(real);
        let early = async {
            if !processed_under(&group, vote).await {
                std::future::pending::<()>().await;
            }
        };
        let response = tokio::select! {
            biased;
            response = &mut real => response.map_err(|error| Status::unavailable(error.to_string()))?,
            () = early => AppendEntriesResponse::Success,
        };
        Ok(Response::new(wire::answer_to_wire(&response)))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        self.verify(&request)?;
        let group = self.group(request.get_ref().group)?;
        let request = wire::vote_request_from_wire(request.get_ref())?;
        self.may_vote(&group, &request)?;
        let response = group.raft.vote(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_reply_to_wire(&response)))
    }

    async fn pre_vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        self.verify(&request)?;
        let group = self.group(request.get_ref().group)?;
        let request = wire::vote_request_from_wire(request.get_ref())?;
        self.may_vote(&group, &request)?;
        let response = group.raft.pre_vote(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_reply_to_wire(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferReply>, Status> {
        self.verify(&request)?;
        let group = self.group(request.get_ref().group)?;
        if group.guard.is_guarded(group.id()) {
            let refused = "this node is guarded after a loss of power and stands for no election".to_owned();
            return Ok(Response::new(proto::TransferReply { refused }));
        }
        let request = wire::transfer_from_wire(request.get_ref())?;
        let outcome =
            group.raft.handle_transfer_leader(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let refused = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(proto::TransferReply { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<proto::SnapshotReply>, Status> {
        self.verify(&request)?;
        let mut stream = request.into_inner();
        let header = snapshot::receive_header(&mut stream).await?;
        let group = self.group(header.group)?;
        let scratch = self.0.group_dir(group.id()).join("snapshot");
        let shared = self.0.clone();
        // Looked at with every chunk: the disk may fill up while a large state comes.
        let stream = stream.map(move |chunk| has_room(&shared).and(chunk));
        let arrived = snapshot::receive(header, stream, &scratch, group.log()).await?;
        let snapshot = Snapshot { meta: arrived.meta, snapshot: SnapshotHandle::Received(arrived.dir.clone()) };
        let installed = group.raft.install_full_snapshot(arrived.vote, snapshot).await;
        // Installed, it was moved away; refused or not needed, it goes.
        let _ = std::fs::remove_dir_all(&arrived.dir);
        let response = installed.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(proto::SnapshotReply { vote: Some(wire::vote_to_wire(&response.vote)) }))
    }

    type FetchStateStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotChunk, Status>> + Send>>;

    async fn fetch_state(
        &self,
        request: Request<proto::FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        self.verify(&request)?;
        let proto::FetchStateRequest { group, entries_from } = request.into_inner();
        let group = self.group(group)?;
        let vote = current_vote(&group);
        let chunks = snapshot::serve(group.cell.clone(), group.scrub.clone(), group.id().0, vote, entries_from)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn replica_status(
        &self,
        request: Request<proto::ReplicaStatusRequest>,
    ) -> Result<Response<proto::ReplicaStatusReply>, Status> {
        self.verify(&request)?;
        let group = self.group(request.get_ref().group)?;
        Ok(Response::new(self.0.replica_status(&group)))
    }

    async fn read_entry(
        &self,
        request: Request<proto::ReadEntryRequest>,
    ) -> Result<Response<proto::ReadEntryReply>, Status> {
        self.verify(&request)?;
        let proto::ReadEntryRequest { group, index } = request.into_inner();
        let group = self.group(group)?;
        let is_applied = group.applied().borrow().is_some_and(|mark| mark.index >= index);
        let entry = if is_applied { group.log().read_any(LogIndex(index)).ok().flatten() } else { None };
        Ok(Response::new(proto::ReadEntryReply { entry: entry.map(wire::log_entry_to_wire) }))
    }

    async fn propose(&self, request: Request<proto::ProposeRequest>) -> Result<Response<proto::ProposeReply>, Status> {
        self.verify(&request)?;
        let request = request.into_inner();
        let group = self.group(request.group)?;
        let flush = wire::flush_from_wire(request.flush);
        match group.propose_command(request.command, flush).await {
            Ok((index, response)) => {
                let json = serde_json::to_vec(&response).map_err(|error| Status::internal(error.to_string()))?;
                let kind = Some(proto::propose_reply::Kind::Response(json.into()));
                Ok(Response::new(proto::ProposeReply { kind, index: index.0 }))
            }
            Err(error @ ProposeError::NotLeader { .. }) => Ok(Response::new(proto::ProposeReply {
                kind: Some(proto::propose_reply::Kind::NotLeader(error.to_string())),
                index: 0,
            })),
            Err(ProposeError::Unknown(reason)) => Err(Status::unknown(reason)),
        }
    }

    async fn ask(&self, request: Request<proto::AskRequest>) -> Result<Response<proto::AskReply>, Status> {
        self.verify(&request)?;
        let asked = self.0.questions.pass(request.into_inner()).await;
        Ok(Response::new(proto::AskReply { asked }))
    }

    async fn probe(&self, request: Request<proto::ProbeRequest>) -> Result<Response<proto::ProbeReply>, Status> {
        if let Some(announced) = request.into_inner().announced {
            self.0.announced(announced);
        }
        Ok(Response::new(self.0.probe_reply()))
    }

    async fn adopt(&self, request: Request<proto::AdoptRequest>) -> Result<Response<proto::AdoptReply>, Status> {
        let request = request.into_inner();
        let known = self.0.identity.get();
        let refused = if request.cluster_name == known.cluster_name {
            self.0.identity.adopt(&request.cluster_id).err().unwrap_or_default()
        } else {
            format!("this node belongs to cluster {:?}, not to {:?}", known.cluster_name, request.cluster_name)
        };
        Ok(Response::new(proto::AdoptReply { refused }))
    }

    async fn admin(&self, request: Request<proto::AdminRequest>) -> Result<Response<proto::AdminReply>, Status> {
        let json = crate::admin::handle(&self.0, &request.into_inner().json).await;
        Ok(Response::new(proto::AdminReply { json }))
    }
}

/// The vote that a replica knows now.
pub(crate) fn current_vote(group: &BrokerGroup) -> RaftVote {
    group.raft.server_metrics().borrow_watched().vote
}
