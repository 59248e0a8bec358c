//! One attempt to send one message.

use duolog_broker::BrokerError;
use duolog_broker::api::TopicRef;
use duolog_broker::message_api::{Delivery, MessageApi, SendMessage, Sent, TAG_HEADER};
use duolog_chaos::history::Value;
use duolog_chaos::history::messages::{Form, MessageEvent, Outcome, tag};
use duolog_record::{BatchBuilder, RecordHeader};
use tokio::time::sleep;

use super::super::{Clients, wall_now};
use crate::cluster::{Failure, PAUSE};

/// What a producer does next.
pub enum Attempt {
    Acked(Sent),
    /// It is not there and will not be; `is_elsewhere`: another node may take it.
    Refused {
        is_elsewhere: bool,
    },
    /// Nobody knows.
    Open,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Letter {
    pub topic: u16,
    pub partition: i32,
    pub value: Value,
    pub form: Form,
    pub delivery: Delivery,
}

/// Sends to `node`, which becomes the next one upon a failure.
pub async fn send(clients: &Clients, node: &mut usize, letter: &Letter) -> Attempt {
    let Letter { topic, partition, value, form, delivery } = letter.clone();
    let key = match form {
        Form::Ordered { order } => Some(format!("order-{order}")),
        _ => None,
    };
    let mut builder = BatchBuilder::new();
    let key = key.as_deref().map(str::as_bytes);
    let tag = RecordHeader::text(TAG_HEADER, tag(value));
    builder.push_with_headers(wall_now(), key, Some(&value.payload()), &[tag]).expect("a small record");
    let batch = builder.build().expect("a small batch").into_bytes();
    let name = TopicRef::Name(clients.message_topic(topic).name.clone());
    let message = SendMessage { topic: name, partition, batch, delivery };
    let asked_ms = clients.recorder.now_ms();
    let answer = clients
        .cluster
        .attempt(*node, |broker| async move { broker.send_messages(vec![message], 2_000).await.swap_remove(0) })
        .await;
    let (outcome, offset) = match &answer {
        Ok(sent) => (Outcome::Ok, sent.offset.map(|offset| offset.0)),
        Err(Failure::Refused) => (Outcome::Refused("not here".to_owned()), None),
        Err(Failure::Final(error)) => (Outcome::Refused(error.to_string()), None),
        Err(Failure::Unknown(error)) => (Outcome::Open(error.clone()), None),
    };
    let time_ms = clients.recorder.now_ms();
    // The offset of what is hidden at first is not known, but that of a message whose time had come already is.
    let offset = offset.filter(|_| !matches!(form, Form::Delayed { .. } | Form::Half { .. }));
    clients.record(MessageEvent::Sent { asked_ms, time_ms, topic, value, form, outcome, offset });
    match answer {
        Ok(sent) => Attempt::Acked(sent),
        Err(Failure::Final(error)) => {
            // Everything that is sent here is in order.
            assert!(matches!(error, BrokerError::DuplicateSequence), "a message was refused: {error}");
            Attempt::Refused { is_elsewhere: false }
        }
        Err(failure) => {
            *node = clients.cluster.after(*node);
            sleep(PAUSE).await;
            match failure {
                Failure::Refused => Attempt::Refused { is_elsewhere: true },
                _ => Attempt::Open,
            }
        }
    }
}
