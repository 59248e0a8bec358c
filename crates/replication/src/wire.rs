//! Between openraft's messages and the node-to-node interface.

use bytes::Bytes;
use duolog_commit_log::LogEntry;
use duolog_types::{FlushWish, LogIndex, NodeId, Term};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use tonic::Status;

use crate::disk_space::DiskState;
use crate::log_store::{from_log_entry, to_log_entry};
use crate::type_config::{Member, RaftEntry, RaftLogId, RaftVote, TypeConfig, raft_log_id, term_of};

/// Generated types of `cluster.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("duolog.cluster.v1");
}

/// Largest message between nodes: one entry of 100 MiB and its frame.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 20;

pub(crate) fn log_id_to_wire(id: &RaftLogId) -> proto::LogId {
    proto::LogId { term: term_of(id), index: id.index }
}

pub(crate) fn log_id_from_wire(id: &proto::LogId) -> RaftLogId {
    raft_log_id(id.term, id.index)
}

pub(crate) fn vote_to_wire(vote: &RaftVote) -> proto::Vote {
    proto::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_from_wire(vote: Option<&proto::Vote>) -> Result<RaftVote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("the call has no vote"))?;
    Ok(if vote.committed {
        RaftVote::new_committed(vote.term, vote.node_id)
    } else {
        RaftVote::new(vote.term, vote.node_id)
    })
}

pub(crate) fn flush_to_wire(flush: FlushWish) -> u32 {
    match flush {
        FlushWish::Now => 0,
        FlushWish::WithinMs(ms) => ms.saturating_add(1),
    }
}

pub(crate) fn flush_from_wire(flush: u32) -> FlushWish {
    match flush {
        0 => FlushWish::Now,
        ms => FlushWish::WithinMs(ms - 1),
    }
}

pub(crate) fn disk_to_wire(state: DiskState) -> proto::DiskState {
    match state {
        DiskState::Writable => proto::DiskState::Writable,
        DiskState::ReadOnly => proto::DiskState::ReadOnly,
        DiskState::Exhausted => proto::DiskState::Exhausted,
    }
}

pub(crate) fn disk_from_wire(state: proto::DiskState) -> DiskState {
    match state {
        proto::DiskState::Writable => DiskState::Writable,
        proto::DiskState::ReadOnly => DiskState::ReadOnly,
        proto::DiskState::Exhausted => DiskState::Exhausted,
    }
}

pub(crate) fn log_entry_to_wire(entry: LogEntry) -> proto::Entry {
    proto::Entry {
        term: entry.term.0,
        index: entry.index.0,
        kind: u32::from(entry.kind),
        flush: flush_to_wire(entry.flush),
        body: entry.body,
    }
}

pub(crate) fn log_entry_from_wire(entry: proto::Entry) -> Result<LogEntry, Status> {
    Ok(LogEntry {
        index: LogIndex(entry.index),
        term: Term(entry.term),
        kind: u8::try_from(entry.kind).map_err(|_| Status::invalid_argument("an entry's kind is a byte"))?,
        flush: flush_from_wire(entry.flush),
        body: entry.body,
    })
}

fn entry_from_wire(entry: proto::Entry) -> Result<RaftEntry, Status> {
    from_log_entry(log_entry_from_wire(entry)?).map_err(|error| Status::invalid_argument(error.to_string()))
}

pub(crate) fn append_to_wire(group: u32, request: &AppendEntriesRequest<TypeConfig>) -> proto::AppendRequest {
    proto::AppendRequest {
        group,
        vote: Some(vote_to_wire(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_to_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(|entry| log_entry_to_wire(to_log_entry(entry))).collect(),
    }
}

pub(crate) fn append_from_wire(request: proto::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote.as_ref())?,
        prev_log_id: request.prev.as_ref().map(log_id_from_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_from_wire),
        entries: request.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn answer_to_wire(response: &AppendEntriesResponse<TypeConfig>) -> proto::AppendAnswer {
    use proto::append_answer::Outcome;
    let answer = |outcome: Outcome| proto::AppendAnswer { outcome: outcome.into(), matching: None, vote: None };
    match response {
        AppendEntriesResponse::Success => answer(Outcome::Success),
        AppendEntriesResponse::PartialSuccess(matching) => {
            proto::AppendAnswer { matching: matching.as_ref().map(log_id_to_wire), ..answer(Outcome::Partial) }
        }
        AppendEntriesResponse::Conflict => answer(Outcome::Conflict),
        AppendEntriesResponse::HigherVote(vote) => {
            proto::AppendAnswer { vote: Some(vote_to_wire(vote)), ..answer(Outcome::HigherVote) }
        }
    }
}

pub(crate) fn answer_from_wire(answer: &proto::AppendAnswer) -> Result<AppendEntriesResponse<TypeConfig>, Status> {
    use proto::append_answer::Outcome;
    Ok(match answer.outcome() {
        Outcome::Success => AppendEntriesResponse::Success,
        Outcome::Partial => AppendEntriesResponse::PartialSuccess(answer.matching.as_ref().map(log_id_from_wire)),
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::HigherVote => AppendEntriesResponse::HigherVote(vote_from_wire(answer.vote.as_ref())?),
    })
}

pub(crate) fn vote_request_to_wire(group: u32, request: &VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        group,
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire(request: &proto::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let mut vote_request =
        VoteRequest::new(vote_from_wire(request.vote.as_ref())?, request.last.as_ref().map(log_id_from_wire));
    vote_request.leadership_transfer = request.leadership_transfer;
    Ok(vote_request)
}

pub(crate) fn vote_reply_to_wire(response: &VoteResponse<TypeConfig>) -> proto::VoteReply {
    proto::VoteReply {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_reply_from_wire(reply: &proto::VoteReply) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse::new(
        vote_from_wire(reply.vote.as_ref())?,
        reply.last.as_ref().map(log_id_from_wire),
        reply.granted,
    ))
}

pub(crate) fn transfer_to_wire(group: u32, request: &TransferLeaderRequest<TypeConfig>) -> proto::TransferRequest {
    proto::TransferRequest {
        group,
        from: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_wire),
    }
}

pub(crate) fn transfer_from_wire(
    request: &proto::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    Ok(TransferLeaderRequest::new(
        vote_from_wire(request.from.as_ref())?,
        request.to,
        request.last.as_ref().map(log_id_from_wire),
    ))
}

/// A member, as calls between nodes carry it.
pub(crate) fn member_to_wire(node: NodeId, member: Member) -> proto::Member {
    proto::Member {
        node_id: node.0,
        incarnation: member.incarnation,
        host: member.host,
        grpc_port: u32::from(member.grpc_port),
        kafka_port: u32::from(member.kafka_port),
        rocketmq_port: u32::from(member.rocketmq_port),
        http_port: u32::from(member.http_port),
    }
}

/// The inverse of [`member_to_wire`]; what is no port is 0.
pub(crate) fn member_from_wire(member: &proto::Member) -> Member {
    let port = |number| u16::try_from(number).unwrap_or(0);
    Member {
        host: member.host.clone(),
        grpc_port: port(member.grpc_port),
        kafka_port: port(member.kafka_port),
        rocketmq_port: port(member.rocketmq_port),
        http_port: port(member.http_port),
        incarnation: member.incarnation.clone(),
    }
}

/// A membership with its log id, for a snapshot's header.
pub(crate) fn stored_membership_to_bytes(membership: &crate::type_config::StoredMembership) -> Bytes {
    serde_json::to_vec(membership).expect("a membership is plain data").into()
}

/// The inverse of [`stored_membership_to_bytes`].
pub(crate) fn stored_membership_from_bytes(bytes: &[u8]) -> Result<crate::type_config::StoredMembership, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("stored membership: {error}"))
}
