//! Calls of this node to the members of a broker group: their status, and commands for their leader.

use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_types::{BrokerGroupId, FlushWish, LogIndex, NodeId};
use tonic::{Request, Status};

use crate::cluster::Shared;
use crate::group::{BrokerGroup, ProposeError};
use crate::network::{self, Client};
use crate::type_config::{CommandResponse, Member};
use crate::wire::{self, proto};

/// A node that takes longer to say what it is counts as silent.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_000);

/// Asks a node what it is, and tells it who asks, if it is to know.
///
/// # Errors
/// It does not answer.
pub(crate) async fn probe(mut client: Client, announced: Option<proto::Member>) -> Result<proto::ProbeReply, Status> {
    let mut request = Request::new(proto::ProbeRequest { announced });
    request.set_timeout(PROBE_TIMEOUT);
    Ok(client.probe(request).await?.into_inner())
}

impl Shared {
    /// Asks a member for the state of its replica.
    pub(crate) async fn ask_status(
        &self,
        group: BrokerGroupId,
        node: NodeId,
        member: &Member,
    ) -> Option<proto::ReplicaStatusReply> {
        if node == self.node_id() {
            return self.group(group).map(|group| self.replica_status(&group));
        }
        let mut client = self.hooks.connect(node, member).ok()?;
        let mut request = Request::new(proto::ReplicaStatusRequest { group: group.0 });
        self.identity.sign(&mut request, node, &member.incarnation);
        request.set_timeout(Duration::from_millis(500));
        client.replica_status(request).await.ok().map(tonic::Response::into_inner)
    }

    /// Asks a node what it is, and tells it who this node is.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn probe(&self, host: &str, grpc_port: u16) -> Result<proto::ProbeReply, String> {
        let announced = Some(wire::member_to_wire(self.node_id(), self.own_member()));
        let client = network::connect(host, grpc_port, self.hooks.net.clone())?;
        let reply = probe(client, announced).await;
        reply.map_err(|status| format!("{host}:{grpc_port} does not answer: {}", status.message()))
    }

    pub(crate) async fn propose(
        &self,
        group_id: BrokerGroupId,
        command: Bytes,
        flush: FlushWish,
        deadline: Instant,
    ) -> Result<(LogIndex, CommandResponse), ProposeError> {
        let group = self.group(group_id).ok_or_else(|| ProposeError::Unknown(format!("no broker group {group_id}")))?;
        let mut leadership = group.leadership();
        loop {
            let current = *leadership.borrow_and_update();
            let attempt = async {
                match current.leader {
                    Some(_) if current.is_self => group.propose_command(command.clone(), flush).await,
                    Some(leader) => self.propose_at(&group, leader, command.clone(), flush).await,
                    None => Err(ProposeError::NotLeader { leader: None }),
                }
            };
            match tokio::time::timeout_at(deadline.into(), attempt).await {
                Ok(Err(ProposeError::NotLeader { .. })) => {}
                Ok(result) => return result,
                Err(_) => return Err(ProposeError::Unknown("no answer in time".to_owned())),
            }
            if Instant::now() >= deadline {
                return Err(ProposeError::Unknown("no leader in time".to_owned()));
            }
            // Refused before it was appended: wait for another leader, or for this one's first quorum.
            if let Ok(Err(_)) = tokio::time::timeout(Duration::from_millis(20), leadership.changed()).await {
                // Nothing will change any more, and so this would not wait.
                return Err(ProposeError::Unknown("this node stops".to_owned()));
            }
        }
    }

    async fn propose_at(
        &self,
        group: &BrokerGroup,
        leader: NodeId,
        command: Bytes,
        flush: FlushWish,
    ) -> Result<(LogIndex, CommandResponse), ProposeError> {
        let refused = || ProposeError::NotLeader { leader: None };
        let member = group.members().into_iter().find(|view| view.node_id == leader).ok_or_else(refused)?.member;
        let mut client = self.hooks.connect(leader, &member).map_err(ProposeError::Unknown)?;
        let message = proto::ProposeRequest { group: group.id().0, command, flush: wire::flush_to_wire(flush) };
        let mut request = Request::new(message);
        self.identity.sign(&mut request, leader, &member.incarnation);
        match client.propose(request).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                match reply.kind {
                    Some(proto::propose_reply::Kind::Response(json)) => serde_json::from_slice(&json)
                        .map(|response| (LogIndex(reply.index), response))
                        .map_err(|error| ProposeError::Unknown(format!("answer of node {leader}: {error}"))),
                    Some(proto::propose_reply::Kind::NotLeader(_)) | None => Err(refused()),
                }
            }
            // Every command is idempotent or is answered by what is there already: a retry is safe. A connection that breaks
            // under a call is `Unknown` or `Cancelled` to tonic; a leader that lost its term answers `Unknown` as well.
            Err(status) => match status.code() {
                tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => Err(refused()),
                _ => Err(ProposeError::Unknown(status.message().to_owned())),
            },
        }
    }
}
