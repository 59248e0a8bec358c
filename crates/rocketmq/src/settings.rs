//! What clients are told about how to behave: their own settings, with the server's part filled in.

use duolog_broker::api::TopicView;
use duolog_types::{ConsumptionOrder, GroupConfig, MessageType};

use crate::check::BODY_BYTES_MAX;
use crate::proto::retry_policy::Strategy;
use crate::proto::settings::PubSub;
use crate::proto::{CustomizedBackoff, ExponentialBackoff, Metric, RetryPolicy, Settings};
use crate::time::to_duration;

/// Deliveries of a message before it becomes a dead letter, for consumers that say nothing else.
const ATTEMPTS_MAX: u32 = 17;
/// Messages of one answer at most.
pub(crate) const RECEIVE_BATCH_MAX: u32 = 32;
/// How long consumers wait for a first message.
pub(crate) const POLL_MS: u64 = 20_000;

const SEND_ATTEMPTS_MAX: i32 = 3;
const SEND_BACKOFF_FIRST_MS: u64 = 10;
const SEND_BACKOFF_LAST_MS: u64 = 1_000;
const SEND_BACKOFF_FACTOR: f32 = 2.0;
/// The answer to a client's settings. `is_fifo`: whether all topics that it subscribes to deliver in order.
pub(crate) fn answer(mut settings: Settings, is_fifo: bool, group: &GroupConfig) -> Settings {
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
            let told = told.and_then(|attempts| u32::try_from(attempts).ok()).filter(|attempts| *attempts > 0);
            settings.backoff_policy = Some(consume_policy(group, attempts_max(group, told)));
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

fn consume_policy(group: &GroupConfig, attempts_max: u32) -> RetryPolicy {
    let strategy = match group.retry_policy() {
        duolog_types::RetryPolicy::Customized(delays) => {
            Strategy::CustomizedBackoff(CustomizedBackoff { next: delays.into_iter().map(to_duration).collect() })
        }
        duolog_types::RetryPolicy::Exponential { initial_ms, max_ms, multiplier } => {
            Strategy::ExponentialBackoff(ExponentialBackoff {
                initial: Some(to_duration(initial_ms)),
                max: Some(to_duration(max_ms)),
                multiplier,
            })
        }
    };
    RetryPolicy { max_attempts: i32::try_from(attempts_max).unwrap_or(i32::MAX), strategy: Some(strategy) }
}

/// Deliveries of a message before it becomes a dead letter: what the group's configs say, else what the consumer has told.
pub(crate) fn attempts_max(group: &GroupConfig, told: Option<u32>) -> u32 {
    group.attempts_max().or(told).unwrap_or(ATTEMPTS_MAX)
}

/// Whether a group gets the messages of a topic's message groups in order, each partition being asked by itself.
pub(crate) fn is_in_order(group: &GroupConfig, topic: &TopicView) -> bool {
    match group.order() {
        ConsumptionOrder::Topic => topic.config.message_type() == MessageType::Fifo,
        ConsumptionOrder::Fifo => true,
        ConsumptionOrder::Concurrent => false,
    }
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
        let told = answer(asked, false, &GroupConfig::default());
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
        let told = answer(asked.clone(), true, &GroupConfig::default());
        let Some(PubSub::Subscription(subscription)) = told.pub_sub else { panic!("the case must be the same") };
        assert_eq!((subscription.fifo, subscription.receive_batch_size), (Some(true), Some(32)));
        assert_eq!(told.backoff_policy.as_ref().unwrap().max_attempts, 17);
        let own = Settings { backoff_policy: Some(RetryPolicy { max_attempts: 3, strategy: None }), ..asked };
        assert_eq!(answer(own.clone(), false, &GroupConfig::default()).backoff_policy.unwrap().max_attempts, 3);
        let group = GroupConfig::new([("retry.max.times", "1"), ("retry.policy", "exponential")]).unwrap();
        let policy = answer(own, false, &group).backoff_policy.unwrap();
        assert_eq!(policy.max_attempts, 2, "the group's word counts for more");
        assert!(matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
    }
}
