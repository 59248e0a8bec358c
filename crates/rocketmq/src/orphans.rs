//! Asks producers how the transactions end that they left open, and forgets clients that are silent.
//!
//! A producer that is connected here is asked first, else one that is connected to another node: that node passes the question on.
//! A question has the message in it, so only who may publish to the topic at that time is asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::api::TopicRef;
use duolog_broker::message_api::{MessageApi, Orphan, Question};
use duolog_types::{MessageType, NodeId};
use prost::Message as _;
use tokio::time::{MissedTickBehavior, interval};

use crate::access::{authorize, identify};
use crate::caller::Caller;
use crate::context::Context;
use crate::handles;
use crate::mapping::{Place, to_message};
use crate::needs;
use crate::proto::telemetry_command::Command;
use crate::proto::{RecoverOrphanedTransactionCommand, Resource, TelemetryCommand};

const INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the front end stops.
pub(crate) async fn run<B: MessageApi>(context: Context<B>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = context.stop.cancelled() => return,
        }
        context.clients.expire();
        context.metrics.show_clients(context.clients.count());
        tokio::select! {
            () = look(&context) => {}
            () = context.stop.cancelled() => return,
        }
    }
}

/// Asks the clients of this node what other nodes have to ask, until the front end stops.
pub(crate) async fn relay<B: MessageApi>(context: Context<B>) {
    let mut questions = context.broker.questions();
    loop {
        let question = tokio::select! {
            question = questions.recv() => question,
            () = context.stop.cancelled() => None,
        };
        let Some(Question { topic, question, asked }) = question else { return };
        let was_asked = match TelemetryCommand::decode(question.clone()) {
            Ok(_) if question.is_empty() => {
                context.clients.has_producer(&topic, |caller| may_know(&context, caller, &topic))
            }
            Ok(command) => ask_here(&context, &topic, &command),
            // A node of another version.
            Err(_) => false,
        };
        // The other node may have given up waiting.
        let _ = asked.send(was_asked);
    }
}

async fn look<B: MessageApi>(context: &Context<B>) {
    let mut elsewhere: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    let mut asked = Vec::new();
    for orphan in context.broker.orphans().await {
        let command = question(context, &orphan);
        if ask_here(context, &orphan.topic, &command) {
            asked.push((orphan.handle, orphan.checks));
            continue;
        }
        let nodes = match elsewhere.entry(orphan.topic.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(context.broker.nodes_with_publishers(&orphan.topic).await),
        };
        if ask_elsewhere(context, nodes, &orphan.topic, command.encode_to_vec().into()).await {
            asked.push((orphan.handle, orphan.checks));
        } else {
            tracing::debug!(topic = orphan.topic, checks = orphan.checks, "no producer can say how a transaction ends");
        }
    }
    if !asked.is_empty() {
        context.metrics.count_checks(asked.len());
        context.broker.asked(asked).await;
    }
}

/// Whether a producer may have the half messages of a topic. Its rights may have gone since it told that it publishes there.
fn may_know<B: MessageApi>(context: &Context<B>, caller: &Caller, topic: &str) -> bool {
    let admitted = identify(context, caller);
    admitted.and_then(|()| authorize(context, caller, || Ok(vec![needs::publishing(topic)]))).is_ok()
}

/// Asks one of the producers that are connected to this node.
fn ask_here<B: MessageApi>(context: &Context<B>, topic: &str, command: &TelemetryCommand) -> bool {
    let may = |caller: &Caller| may_know(context, caller, topic);
    context.clients.ask_producer(topic, context.next_turn(), command, may)
}

/// Asks through one of the nodes; another one comes first the next time.
async fn ask_elsewhere<B: MessageApi>(
    context: &Context<B>,
    nodes: &mut [NodeId],
    topic: &str,
    question: Bytes,
) -> bool {
    if !nodes.is_empty() {
        nodes.rotate_left(1);
    }
    for node in nodes {
        if context.broker.ask_at(*node, topic, question.clone()).await {
            return true;
        }
    }
    false
}

fn question<B: MessageApi>(context: &Context<B>, orphan: &Orphan) -> TelemetryCommand {
    let topic = Resource { resource_namespace: String::new(), name: orphan.topic.clone() };
    let head = context.broker.topic_head(&TopicRef::Name(orphan.topic.clone()));
    let is_fifo = head.is_ok_and(|head| head.message_type == MessageType::Fifo);
    let host = context.own_address.as_str();
    let message =
        to_message(&orphan.record, Place { topic: &topic, partition: orphan.handle.partition, is_fifo, host });
    let message_id = message.system_properties.as_ref().map(|system| system.message_id.clone()).unwrap_or_default();
    let transaction_id = handles::write_hidden(&orphan.handle, &message_id);
    let question = RecoverOrphanedTransactionCommand { message: Some(message), transaction_id };
    TelemetryCommand { status: None, command: Some(Command::RecoverOrphanedTransactionCommand(question)) }
}
