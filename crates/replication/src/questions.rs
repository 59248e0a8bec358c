//! Questions to clients of other nodes. A client is connected to the nodes that it knows, which need not be those that have to
//! ask it something: these pass the question on, between nodes and never over a port for clients, so that nobody else can make a node
//! ask its clients.
//!
//! What a question says is the front end's matter. Nothing is kept: it was handed to a client, or it was not.

use std::time::Duration;

use bytes::Bytes;
use duolog_types::{BrokerGroupId, NodeId};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::Request;

use crate::cluster::{Cluster, Shared};
use crate::group::MemberView;
use crate::wire::proto;

/// Questions that wait for the front end; further ones are not asked.
const QUESTIONS_MAX: usize = 256;
/// Longest wait for another node.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A question of another node.
#[derive(Debug)]
pub struct Question {
    /// One of the clients that publish to this topic is asked.
    pub topic: String,
    /// In the front end's words. Empty: is there such a client?
    pub question: Bytes,
    /// Whether a client took it.
    pub asked: oneshot::Sender<bool>,
}

/// Where questions of other nodes go.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Option<mpsc::Sender<Question>>>);

impl Questions {
    /// From now on they come out here.
    fn subscribe(&self) -> mpsc::Receiver<Question> {
        let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
        *self.0.lock() = Some(sender);
        receiver
    }

    /// Hands a question to the front end. Whether a client was asked.
    pub(crate) async fn pass(&self, request: proto::AskRequest) -> bool {
        let Some(sender) = self.0.lock().clone() else { return false };
        let (asked, answer) = oneshot::channel();
        let question = Question { topic: request.topic, question: request.question, asked };
        sender.try_send(question).is_ok() && answer.await.unwrap_or(false)
    }
}

impl Cluster {
    /// Where questions of other nodes come out from now on.
    #[must_use]
    pub fn questions(&self) -> mpsc::Receiver<Question> {
        self.shared().questions.subscribe()
    }

    /// The other nodes to which a client is connected that publishes to a topic, as far as they answer.
    pub async fn nodes_with_publishers(&self, topic: &str) -> Vec<NodeId> {
        let shared = self.shared();
        let asked = others(shared).into_iter().map(|other| async move {
            let is_there = shared.ask(&other, topic, Bytes::new()).await;
            is_there.then_some(other.node_id)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Asks one of the clients of another node that publish to a topic. Whether there was one.
    pub async fn ask(&self, node: NodeId, topic: &str, question: Bytes) -> bool {
        let shared = self.shared();
        match others(shared).into_iter().find(|other| other.node_id == node) {
            Some(other) => shared.ask(&other, topic, question).await,
            None => false,
        }
    }
}

/// Every node is a member of the system group.
fn others(shared: &Shared) -> Vec<MemberView> {
    let members = shared.group(BrokerGroupId::SYSTEM).map(|group| group.members()).unwrap_or_default();
    members.into_iter().filter(|member| member.node_id != shared.node_id()).collect()
}

impl Shared {
    async fn ask(&self, other: &MemberView, topic: &str, question: Bytes) -> bool {
        let Ok(mut client) = self.hooks.connect(other.node_id, &other.member) else { return false };
        let mut request = Request::new(proto::AskRequest { topic: topic.to_owned(), question });
        self.identity.sign(&mut request, other.node_id, &other.member.incarnation);
        request.set_timeout(TIMEOUT);
        client.ask(request).await.is_ok_and(|reply| reply.into_inner().asked)
    }
}
