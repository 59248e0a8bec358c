//! The verb send: every message is sent until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use rocketmq::conf::ProducerOption;
use rocketmq::error::ClientError;
use rocketmq::model::message::MessageBuilder;
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use rocketmq::Producer;
use tokio::time::{sleep, sleep_until, Instant};

use crate::{client_option, now, now_ms, until_asked, Options};

const PLANS: [&str; 4] = ["commit", "rollback", "check-commit", "check-rollback"];

fn plan_of(number: usize) -> &'static str {
    PLANS[number % PLANS.len()]
}

pub async fn run(options: Options) {
    let number_of = |name: &str| options[name].parse::<usize>().expect("a number");
    let (count, rate, kind, topic) = (number_of("count"), number_of("rate"), options["type"].clone(), options["topic"].clone());
    let lane_count = if kind == "fifo" { 4 } else { 16 };
    let mut option = ProducerOption::default();
    option.set_topics(vec![topic.clone()]);
    let check = Box::new(|_: String, message: rocketmq::model::message::MessageView| {
        let id = String::from_utf8_lossy(message.body()).into_owned();
        let number = id.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number");
        let commits = plan_of(number).ends_with("commit");
        println!("decided {id} {} {} check", now_ms(), if commits { "commit" } else { "rollback" });
        if commits {
            TransactionResolution::COMMIT
        } else {
            TransactionResolution::ROLLBACK
        }
    });
    let mut producer = Producer::new_transaction_producer(option, client_option(&options), check).expect("a producer");
    producer.start().await.expect("it starts");
    println!("ready");

    let (producer, begin) = (Arc::new(producer), Instant::now());
    let lanes: Vec<_> = (0..lane_count)
        .map(|lane| {
            let (producer, kind, topic) = (producer.clone(), kind.clone(), topic.clone());
            tokio::spawn(async move {
                for number in (lane..count).step_by(lane_count) {
                    sleep_until(begin + Duration::from_secs(number as u64) / rate as u32).await;
                    // The same when it is sent again: what got no answer may be stored.
                    let due_s = now().as_secs() as i64 + 3 + (number % 5) as i64;
                    while let Err(error) = send_one(&producer, &topic, &kind, number, lane, due_s).await {
                        eprintln!("{kind}-{number} is not acknowledged: {error}");
                        sleep(Duration::from_millis(500)).await;
                    }
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.expect("a lane ends");
    }
    println!("end");
    until_asked().await;
}

async fn send_one(
    producer: &Producer,
    topic: &str,
    kind: &str,
    number: usize,
    lane: usize,
    due_s: i64,
) -> Result<(), ClientError> {
    let id = format!("{kind}-{number}");
    let message = MessageBuilder::builder()
        .set_topic(topic)
        .set_tag(kind)
        .set_keys(vec![id.clone()])
        .set_body(id.clone().into_bytes());
    let (message, detail) = match kind {
        "fifo" => (message.set_message_group(format!("group-{lane}")), format!("group-{lane}")),
        "delay" => (message.set_delivery_timestamp(due_s), (due_s * 1_000).to_string()),
        "transaction" => return send_in_transaction(producer, message.enable_transaction(), id, plan_of(number)).await,
        _ => (message, "-".to_owned()),
    };
    let receipt = producer.send(message.build()?).await?;
    println!("sent {id} {} {} {detail}", now_ms(), receipt.message_id());
    Ok(())
}

async fn send_in_transaction(
    producer: &Producer,
    message: MessageBuilder,
    id: String,
    plan: &str,
) -> Result<(), ClientError> {
    let transaction = producer.send_transaction_message(message.build()?).await?;
    println!("sent {id} {} {} {plan}", now_ms(), transaction.message_id());
    let ended = match plan {
        "commit" => transaction.commit().await,
        "rollback" => transaction.rollback().await,
        _ => return Ok(()),
    };
    match ended {
        Ok(()) => println!("decided {id} {} {plan} client", now_ms()),
        Err(error) => eprintln!("{id} is left to the check-back: {error}"),
    }
    Ok(())
}
