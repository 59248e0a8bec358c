//! How a cluster begins, and how a new node waits to be let in.
//!
//! Explicit: the lowest listed node initializes every group, and only when *every* listed node answers "empty directory,
//! same cluster name". A node with an empty directory never initializes a cluster while a configured peer has data.
//!
//! The groups begin one after the other. The first may lead before the last has begun, so who is stopped in between finds a cluster that
//! is there. What was begun is therefore written down before, and gone on with by the same data directory.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use duolog_types::{BrokerGroupId, NodeId};
use tonic::Request;

use crate::cluster::{NodeAddress, Shared};
use crate::group::BrokerGroup;
use crate::type_config::Member;
use crate::wire::proto;
use crate::{files, network};

const PROBE_INTERVAL: Duration = Duration::from_millis(200);
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_000);
/// In the data directory: with which members this node has begun to initialize the cluster. Goes when every group has begun.
const BEGUN_FILE: &str = "initializing.json";

/// The members that a cluster begins with, by node id.
type Founders = BTreeMap<u64, Member>;

/// Runs until this node takes part in a cluster.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(PROBE_INTERVAL);
    let mut told = String::new();
    loop {
        tick.tick().await;
        if !shared.groups().any(|group| is_empty(group)) {
            return;
        }
        let outcome = step(&shared).await;
        if let Err(waiting) = outcome
            && waiting != told
        {
            tracing::info!(reason = %waiting, "waiting to take part in a cluster");
            told = waiting;
        }
    }
}

/// Whether a group has not begun, as far as this node knows.
fn is_empty(group: &BrokerGroup) -> bool {
    group.log().vote().is_none() && group.log().last().is_none()
}

async fn probe(shared: &Shared, node: &NodeAddress) -> Result<proto::ProbeReply, String> {
    if node.id == shared.node_id() {
        return Ok(shared.probe_reply());
    }
    let reply =
        shared.probe(&node.host, node.grpc_port).await.map_err(|reason| format!("node {}: {reason}", node.id))?;
    if reply.node_id != node.id.0 {
        return Err(format!(
            "{}:{} is node {}, but [[nodes]] lists it as node {}",
            node.host, node.grpc_port, reply.node_id, node.id
        ));
    }
    Ok(reply)
}

/// One look around. `Err` says what is waited for.
async fn step(shared: &Arc<Shared>) -> Result<(), String> {
    if let Some(founders) = unfinished(shared)? {
        tracing::info!("goes on initializing the cluster: some broker groups have not begun");
        return begin_groups(shared, &founders).await;
    }
    let mut replies = BTreeMap::new();
    let mut unreachable = None;
    for node in &shared.options.nodes {
        match probe(shared, node).await {
            Ok(reply) => {
                replies.insert(node.id, reply);
            }
            Err(reason) => unreachable = Some(reason),
        }
    }
    let own = shared.identity.get();
    for reply in replies.values() {
        if reply.cluster_name != own.cluster_name {
            return Err(format!(
                "node {} belongs to cluster {:?}, this node to {:?}; check cluster_name",
                reply.node_id, reply.cluster_name, own.cluster_name
            ));
        }
    }
    if let Some(member) = replies.values().find(|reply| reply.initialized && reply.node_id != own.node_id.0) {
        return join(shared, member);
    }
    if shared.options.nodes.iter().map(|node| node.id).min() != Some(shared.node_id()) {
        return Err("the node with the lowest id initializes the cluster".to_owned());
    }
    if let Some(reason) = unreachable {
        return Err(reason);
    }
    initialize(shared, &replies).await
}

/// A cluster exists: this node is a member that was not reached yet, or waits to be let in, or must not return.
fn join(shared: &Arc<Shared>, peer: &proto::ProbeReply) -> Result<(), String> {
    let own = shared.identity.get();
    shared.check_not_retired(peer)?;
    let (ours, theirs) = (shared.options.broker_groups, peer.broker_groups);
    if ours != theirs {
        return Err(format!("broker_groups = {ours}, but the cluster has {theirs}: check node.toml, and start again"));
    }
    if let Some(known) = peer.members.iter().find(|member| member.node_id == own.node_id.0)
        && known.incarnation != own.incarnation.0
        && !shared.is_initialized()
    {
        shared.fail(format!(
            "the cluster knows node {id} with another data directory (incarnation {known}, this one is {own}): it was emptied or \
             exchanged, and must not return under its old identity, because it has forgotten what it acknowledged. Give this \
             node a new node_id, start it, and run: duolog cluster replace --old {id} --new NEW_ID",
            id = own.node_id,
            known = known.incarnation,
            own = own.incarnation,
        ));
        return Err("refused by the cluster".to_owned());
    }
    if !peer.cluster_id.is_empty() && own.cluster_id.is_none() {
        shared.identity.adopt(&peer.cluster_id)?;
    }
    if peer.members.iter().any(|member| member.node_id == own.node_id.0) {
        Err("a member of the cluster; waiting for its leaders".to_owned())
    } else {
        Err(format!(
            "not a member yet; let it in with: duolog cluster add-node --id {id}, or in the place of another node: duolog cluster \
             replace --old OLD_ID --new {id}",
            id = own.node_id
        ))
    }
}

async fn initialize(shared: &Arc<Shared>, replies: &BTreeMap<NodeId, proto::ProbeReply>) -> Result<(), String> {
    let known = replies.values().map(|reply| reply.cluster_id.clone()).find(|id| !id.is_empty());
    let cluster_id = known.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    shared.identity.adopt(&cluster_id)?;
    let mut founders = Founders::new();
    for node in &shared.options.nodes {
        if node.id != shared.node_id() {
            adopt(shared, node, &cluster_id).await?;
        }
        let incarnation = replies.get(&node.id).map(|reply| reply.incarnation.clone()).unwrap_or_default();
        founders.insert(node.id.0, node.member(incarnation));
    }
    files::write_json(&begun_file(shared), &founders).map_err(|error| error.to_string())?;
    begin_groups(shared, &founders).await?;
    tracing::info!(%cluster_id, nodes = founders.len(), "initialized the cluster");
    Ok(())
}

fn begun_file(shared: &Shared) -> PathBuf {
    shared.options.data_dir.join(BEGUN_FILE)
}

/// With whom this node has begun to initialize the cluster, if it has not come to the end of it. What it wrote down counts only if the system
/// group, which is the first, has begun so and is as it was.
fn unfinished(shared: &Shared) -> Result<Option<Founders>, String> {
    let Some(system) = shared.group(BrokerGroupId::SYSTEM) else { return Ok(None) };
    let members: Founders = system.members().into_iter().map(|view| (view.node_id.0, view.member)).collect();
    if members.is_empty() {
        return Ok(None);
    }
    let begun: Option<Founders> = files::read_json(&begun_file(shared)).map_err(|error| error.to_string())?;
    Ok(begun.filter(|founders| *founders == members))
}

/// Begins every group that has not begun.
async fn begin_groups(shared: &Shared, founders: &Founders) -> Result<(), String> {
    for (begun, group) in shared.groups().enumerate() {
        if shared.hooks.groups_begun_max == Some(begun) {
            std::future::pending::<()>().await;
        }
        if is_empty(group) {
            group.raft.initialize(founders.clone()).await.map_err(|error| error.to_string())?;
        }
    }
    match std::fs::remove_file(begun_file(shared)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn adopt(shared: &Shared, node: &NodeAddress, cluster_id: &str) -> Result<(), String> {
    let mut client = network::connect(&node.host, node.grpc_port, shared.hooks.net.clone())?;
    let message =
        proto::AdoptRequest { cluster_id: cluster_id.to_owned(), cluster_name: shared.identity.get().cluster_name };
    let mut request = Request::new(message);
    request.set_timeout(PROBE_TIMEOUT);
    let reply = client.adopt(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    if reply.refused.is_empty() { Ok(()) } else { Err(format!("node {} refused: {}", node.id, reply.refused)) }
}
