//! The verb receive. The library has a simple consumer only.

use std::sync::Arc;
use std::time::Duration;

use rocketmq::conf::SimpleConsumerOption;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageView;
use rocketmq::SimpleConsumer;
use tokio::time::sleep;

use crate::{client_option, now_ms, until_asked, Options};

/// A call asks for one topic.
const LOOPS_PER_TOPIC: usize = 2;
const INVISIBLE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);

pub async fn run(options: Options) {
    assert_eq!(options["kind"], "simple", "the library has no push consumer");
    let topics: Vec<String> = options["topic"].split(',').map(str::to_owned).collect();
    let mut option = SimpleConsumerOption::default();
    option.set_consumer_group(options["group"].clone());
    option.set_topics(topics.clone());
    let mut consumer = SimpleConsumer::new(option, client_option(&options)).expect("a consumer");
    consumer.start().await.expect("it starts");
    println!("ready");
    let consumer = Arc::new(consumer);
    for topic in topics {
        for _ in 0..LOOPS_PER_TOPIC {
            tokio::spawn(receive_and_ack(consumer.clone(), topic.clone()));
        }
    }
    until_asked().await;
}

async fn receive_and_ack(consumer: Arc<SimpleConsumer>, topic: String) {
    let all = FilterExpression::new(FilterType::Tag, "*");
    loop {
        match consumer.receive_with(&topic, &all, 32, INVISIBLE).await {
            Ok(messages) => {
                for message in messages {
                    let id = String::from_utf8_lossy(message.body());
                    println!("received {id} {} {} {}", now_ms(), message.message_id(), message.delivery_attempt());
                    ack(&consumer, &message).await;
                }
            }
            Err(error) => {
                eprintln!("receive: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn ack(consumer: &SimpleConsumer, message: &MessageView) {
    let id = String::from_utf8_lossy(message.body());
    for _ in 0..10 {
        match consumer.ack(message).await {
            Ok(()) => return println!("acked {id} {} {}", now_ms(), message.message_id()),
            Err(error) => eprintln!("ack of {id}: {error}"),
        }
        sleep(PAUSE).await;
    }
    println!("unsure {id} {} {}", now_ms(), message.message_id());
}
