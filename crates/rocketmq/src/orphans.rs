//! Asks producers how the transactions end that they left open, and forgets clients that are silent.

use std::time::Duration;

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::{MessageApi, Orphan};
use duolog_types::MessageType;
use tokio::time::{MissedTickBehavior, interval};

use crate::context::Context;
use crate::handles;
use crate::mapping::{Place, to_message};
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
        if !context.clients.has_producers() {
            continue;
        }
        let orphans = tokio::select! {
            orphans = context.broker.orphans() => orphans,
            () = context.stop.cancelled() => return,
        };
        for orphan in orphans {
            ask(&context, &orphan);
        }
    }
}

fn ask<B: MessageApi>(context: &Context<B>, orphan: &Orphan) {
    let topic = Resource { resource_namespace: String::new(), name: orphan.topic.clone() };
    let view = context.broker.topic(&TopicRef::Name(orphan.topic.clone()));
    let is_fifo = view.is_ok_and(|view| view.config.message_type() == MessageType::Fifo);
    let host = context.own_address.as_str();
    let message =
        to_message(&orphan.record, Place { topic: &topic, partition: orphan.handle.partition, is_fifo, host });
    let message_id = message.system_properties.as_ref().map(|system| system.message_id.clone()).unwrap_or_default();
    let transaction_id = handles::write_hidden(&orphan.handle, &message_id);
    let question = RecoverOrphanedTransactionCommand { message: Some(message), transaction_id };
    let command =
        TelemetryCommand { status: None, command: Some(Command::RecoverOrphanedTransactionCommand(question)) };
    if context.clients.ask_producer(&orphan.topic, context.next_turn(), &command) {
        context.metrics.count_check();
    } else {
        tracing::debug!(
            topic = orphan.topic,
            checks = orphan.checks,
            "no producer here can say how a transaction ends"
        );
    }
}
