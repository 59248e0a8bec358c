//! What every handler gets: the broker, the settings, the counters, the fetch sessions.

use std::ops::Deref;
use std::sync::Arc;

use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, GroupId};
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

use crate::answers::UnwrittenAnswers;
use crate::config::KafkaConfig;
use crate::errors;
use crate::fetch_sessions::FetchSessions;
use crate::head::Caller;
use crate::metrics::KafkaMetrics;
use crate::translate::group_id;

/// Shared by all connections; cheap to clone.
pub(crate) struct Context<B>(Arc<Shared<B>>);

pub(crate) struct Shared<B> {
    pub(crate) broker: B,
    pub(crate) config: KafkaConfig,
    pub(crate) metrics: Arc<KafkaMetrics>,
    pub(crate) sessions: FetchSessions,
    pub(crate) unwritten: UnwrittenAnswers,
}

impl<B> Context<B> {
    pub(crate) fn new(broker: B, config: KafkaConfig, metrics: Arc<KafkaMetrics>) -> Self {
        let sessions = FetchSessions::new(config.fetch_sessions_max, metrics.clone());
        Self(Arc::new(Shared { broker, config, metrics, sessions, unwritten: UnwrittenAnswers::default() }))
    }

    /// Kafka's code and a sentence for an error; counted.
    pub(crate) fn failure(&self, error: &BrokerError) -> (i16, Option<StrBytes>) {
        self.refusal(errors::response_error(error), error.to_string())
    }

    /// A code of our own with a sentence; counted.
    pub(crate) fn refusal(
        &self,
        code: kafka_protocol::ResponseError,
        sentence: impl Into<String>,
    ) -> (i16, Option<StrBytes>) {
        let code = code.code();
        self.metrics.count_error(code);
        (code, Some(StrBytes::from_string(sentence.into())))
    }
}

impl<B: BrokerApi> Context<B> {
    /// The group whose state counts for a member of a group: in broadcasting each client has one of its own.
    pub(crate) fn member_group(&self, group: &messages::GroupId, caller: &Caller) -> GroupId {
        self.broker.member_group(&group_id(group), &caller.client_id())
    }
}

impl<B> Clone for Context<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Deref for Context<B> {
    type Target = Shared<B>;

    fn deref(&self) -> &Shared<B> {
        &self.0
    }
}
