//! Nodes that left the cluster for good: who they are, and how such a node finds out that it is one.
//!
//! A node that was removed may not get the entry that removes it, and a follower that hears nobody cannot tell a removal from a
//! partition. So every node asks the others now and then.

use std::sync::Arc;
use std::time::Duration;

use duolog_types::{BrokerGroupId, NodeId};
use tokio::time::MissedTickBehavior;

use crate::cluster::Shared;
use crate::identity::NodeFile;
use crate::wire::proto;

const ASK_INTERVAL: Duration = Duration::from_secs(2);

impl Shared {
    /// Nodes that left for good, as this node's replica of the catalog knows them.
    pub(crate) fn retired_nodes(&self) -> Vec<NodeId> {
        self.group(BrokerGroupId::SYSTEM).map(|group| group.cell.retired_nodes()).unwrap_or_default()
    }

    /// Ends this node if a peer says that it has left.
    ///
    /// # Errors
    /// It has; what to do.
    pub(crate) fn check_not_retired(&self, peer: &proto::ProbeReply) -> Result<(), String> {
        match removal(&self.identity.get(), peer) {
            None => Ok(()),
            Some(reason) => {
                self.fail(reason.clone());
                Err(reason)
            }
        }
    }
}

/// Why a node must end: a peer says that it has left. With what to do.
pub(crate) fn removal(own: &NodeFile, peer: &proto::ProbeReply) -> Option<String> {
    let is_of_cluster = own.cluster_id.as_ref().is_none_or(|id| *id == peer.cluster_id);
    let is_member = peer.members.iter().any(|member| member.node_id == own.node_id.0);
    let has_left = is_of_cluster && !is_member && peer.retired.contains(&own.node_id.0);
    has_left.then(|| {
        format!(
            "node {id} was removed from the cluster, as node {peer} says, and an id is never used again. To let this machine in as \
             another node: give it a new node_id and an empty data_dir, start it, and run: duolog cluster add-node --id NEW_ID",
            id = own.node_id,
            peer = peer.node_id,
        )
    })
}

/// Asks one peer after the other, as long as the node runs.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(ASK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        tick.tick().await;
        let peers = peers(&shared);
        // A node that was never let in is told by `bootstrap`.
        if peers.is_empty() || !shared.is_initialized() {
            continue;
        }
        let (host, port) = &peers[turn % peers.len()];
        if let Ok(reply) = shared.probe(host, *port).await
            && shared.check_not_retired(&reply).is_err()
        {
            return;
        }
    }
}

/// Where the others are: the configured ones, and those that this node knew as members.
fn peers(shared: &Shared) -> Vec<(String, u16)> {
    let configured = shared.options.nodes.iter().map(|node| (node.id, node.host.clone(), node.grpc_port));
    let members = shared.groups().flat_map(|group| group.members());
    let members = members.map(|view| (view.node_id, view.member.host, view.member.grpc_port));
    let others = configured.chain(members).filter(|(id, ..)| *id != shared.node_id());
    let mut peers: Vec<(String, u16)> = others.map(|(_, host, port)| (host, port)).collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}
