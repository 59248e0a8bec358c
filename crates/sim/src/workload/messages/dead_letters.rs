//! The reader of a group's dead letters.

use duolog_broker::api::{BrokerApi, GroupId, TopicRef};
use duolog_broker::message_api::dead_letter_topic;
use duolog_chaos::history::messages::{MessageEvent, Spot};
use duolog_chaos::workload::messages::ledger::Debt;
use duolog_record::Record;
use tokio::time::sleep;

use super::Clients;
use crate::cluster::{PAUSE, value_of};
use crate::workload::Phase;

/// The topic is there as soon as the first message has died, and may grow.
pub async fn follow(clients: Clients, topic: u16) {
    let name = dead_letter_topic(&GroupId(clients.message_topic(topic).group.clone()));
    let mut positions: Vec<i64> = Vec::new();
    let mut node = 0;
    while clients.phase.get() != Phase::Over {
        let wanted = TopicRef::Name(name.clone());
        let view = clients.cluster.attempt(node, |broker| async move { broker.topic(&wanted) }).await;
        if let Ok(view) = view {
            positions.resize(view.partitions.len(), 0);
        }
        for (partition, position) in (0..).zip(&mut positions) {
            let Ok(read) = clients.cluster.read_topic(node, &name, partition, *position).await else { continue };
            for (record, _) in &read.records {
                take(&clients, topic, record);
                *position = record.offset.0 + 1;
            }
        }
        node = clients.cluster.after(node);
        sleep(PAUSE).await;
    }
}

/// Records a dead letter with where it says that it comes from.
fn take(clients: &Clients, topic: u16, record: &Record) {
    let text = |name: &str| {
        let header = record.headers.iter().find(|header| header.key == name.as_bytes())?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    };
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or(-1_i64);
    // A letter of another topic has no place in this one.
    let is_ours = text("DLQ_ORIGIN_TOPIC") == Some(&clients.message_topic(topic).name);
    let offset = if is_ours { number("DLQ_ORIGIN_OFFSET") } else { -1 };
    let value = value_of(record);
    clients.ledger.pay(Debt::Letter, value);
    clients.ledger.pay(Debt::Message, value);
    let origin = Spot { topic, partition: number("DLQ_ORIGIN_PARTITION") as i32, offset };
    clients.record(MessageEvent::DeadLetter { origin, value });
}
