//! What clients are told about how to behave: their own settings, with the server's part filled in.

use prost_types::Duration;

use crate::check::BODY_BYTES_MAX;
use crate::proto::retry_policy::Strategy;
use crate::proto::settings::PubSub;
use crate::proto::{CustomizedBackoff, ExponentialBackoff, Metric, RetryPolicy, Settings};
use crate::time::to_duration;

/// Deliveries of a message before it becomes a dead letter, for consumers that say nothing else.
pub(crate) const ATTEMPTS_MAX: u32 = 17;
/// Messages of one answer at most.
pub(crate) const RECEIVE_BATCH_MAX: u32 = 32;
/// How long consumers wait for a first message.
pub(crate) const POLL_MS: u64 = 20_000;

const SEND_ATTEMPTS_MAX: i32 = 3;
const SEND_BACKOFF_FIRST_MS: u64 = 10;
const SEND_BACKOFF_LAST_MS: u64 = 1_000;
const SEND_BACKOFF_FACTOR: f32 = 2.0;
/// When a message whose consumption failed is delivered again: RocketMQ's steps.
const CONSUME_BACKOFF_S: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

/// The answer to a client's settings. `is_fifo`: whether all topics that it subscribes to deliver in order.
pub(crate) fn answer(mut settings: Settings, is_fifo: bool) -> Settings {
    match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publishing.max_body_size = i32::try_from(BODY_BYTES_MAX).unwrap_or(i32::MAX);
            publishing.validate_message_type = true;
            settings.backoff_policy = Some(send_policy());
        }
        Some(PubSub::Subscription(subscription)) => {
            subscription.fifo = Some(is_fifo);
            subscription.receive_batch_size = i32::try_from(RECEIVE_BATCH_MAX).ok();
            subscription.long_polling_timeout = Some(to_duration(POLL_MS));
            let told = settings.backoff_policy.as_ref().map(|policy| policy.max_attempts);
            settings.backoff_policy = Some(consume_policy(told.filter(|attempts| *attempts > 0)));
        }
        None => {}
    }
    settings.metric = Some(Metric { on: false, endpoints: None });
    settings
}

/// Clients fail when a producer's policy is not exponential.
fn send_policy() -> RetryPolicy {
    let backoff = ExponentialBackoff {
        initial: Some(to_duration(SEND_BACKOFF_FIRST_MS)),
        max: Some(to_duration(SEND_BACKOFF_LAST_MS)),
        multiplier: SEND_BACKOFF_FACTOR,
    };
    RetryPolicy { max_attempts: SEND_ATTEMPTS_MAX, strategy: Some(Strategy::ExponentialBackoff(backoff)) }
}

fn consume_policy(attempts_max: Option<i32>) -> RetryPolicy {
    let seconds = |s: &u64| Duration { seconds: i64::try_from(*s).unwrap_or(i64::MAX), nanos: 0 };
    let backoff = CustomizedBackoff { next: CONSUME_BACKOFF_S.iter().map(seconds).collect() };
    let max_attempts = attempts_max.unwrap_or(i32::try_from(ATTEMPTS_MAX).unwrap_or(i32::MAX));
    RetryPolicy { max_attempts, strategy: Some(Strategy::CustomizedBackoff(backoff)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ClientType, Publishing, Resource, Subscription};

    #[test]
    fn a_producer_keeps_its_words_and_learns_its_limits() {
        let topics = vec![Resource { resource_namespace: String::new(), name: "t".to_owned() }];
        let publishing = Publishing { topics: topics.clone(), ..Publishing::default() };
        let mut asked = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
        asked.set_client_type(ClientType::Producer);
        let told = answer(asked, false);
        assert_eq!(told.client_type(), ClientType::Producer);
        let Some(PubSub::Publishing(publishing)) = told.pub_sub else { panic!("the case must be the same") };
        assert_eq!((publishing.topics, publishing.max_body_size), (topics, 4 << 20));
        let policy = told.backoff_policy.unwrap();
        assert!(matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
        assert_eq!(policy.max_attempts, 3);
    }

    #[test]
    fn a_consumer_learns_order_and_backoff() {
        let asked = Settings { pub_sub: Some(PubSub::Subscription(Subscription::default())), ..Settings::default() };
        let told = answer(asked.clone(), true);
        let Some(PubSub::Subscription(subscription)) = told.pub_sub else { panic!("the case must be the same") };
        assert_eq!((subscription.fifo, subscription.receive_batch_size), (Some(true), Some(32)));
        assert_eq!(told.backoff_policy.as_ref().unwrap().max_attempts, 17);
        let own = Settings { backoff_policy: Some(RetryPolicy { max_attempts: 3, strategy: None }), ..asked };
        assert_eq!(answer(own, false).backoff_policy.unwrap().max_attempts, 3);
    }
}
