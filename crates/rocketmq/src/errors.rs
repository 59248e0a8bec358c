//! Why a call or a part of it was refused: broker errors to the protocol's codes in one exhaustive match.

use duolog_broker::BrokerError;

use crate::proto::{Code, Status};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By the broker.
    Broker(BrokerError),
    /// By this front end or by that of another node.
    Own(Code, String),
}

impl Refusal {
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self::Own(code, sentence.into())
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Broker(error) => code_of(error),
            Self::Own(code, _) => *code,
        }
    }

    /// Whether there is no leader at the moment, so that the call did not happen and may be tried again.
    pub(crate) fn is_transient(&self) -> bool {
        self.code() == Code::HaNotAvailable
    }

    /// The same with this code when it is about a receipt: calls name receipts differently.
    pub(crate) fn with_receipt_code(self, code: Code) -> Self {
        match self {
            Self::Broker(BrokerError::InvalidReceipt(sentence)) => Self::Own(code, sentence),
            Self::Own(Code::InvalidReceiptHandle, sentence) => Self::Own(code, sentence),
            other => other,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let message = match self {
            Self::Broker(error) => error.to_string(),
            Self::Own(_, sentence) => sentence.clone(),
        };
        Status { code: self.code().into(), message }
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

/// The status of success.
pub(crate) fn ok() -> Status {
    Status { code: Code::Ok.into(), message: Code::Ok.as_str_name().to_owned() }
}

/// The status of a call with several results: theirs when they agree.
pub(crate) fn overall<'a>(results: impl Iterator<Item = Option<&'a Status>>) -> Status {
    let mut results = results.flatten();
    let Some(first) = results.next() else { return ok() };
    if results.all(|other| other.code == first.code) {
        return first.clone();
    }
    Status { code: Code::MultipleResults.into(), message: "the entries ended differently".to_owned() }
}

/// The protocol's code for an error. `HaNotAvailable` is kept for what did not happen because there is no leader here.
fn code_of(error: &BrokerError) -> Code {
    match error {
        BrokerError::UnknownTopic(_) | BrokerError::UnknownTopicId(_) => Code::TopicNotFound,
        BrokerError::UnknownPartition { .. } => Code::NotFound,
        BrokerError::NotLeader { .. }
        | BrokerError::LeaderNotAvailable
        | BrokerError::NotCoordinator
        | BrokerError::CoordinatorNotAvailable
        | BrokerError::CoordinatorLoading
        | BrokerError::PreferredLeaderNotAvailable(_)
        | BrokerError::EligibleLeadersNotAvailable => Code::HaNotAvailable,
        BrokerError::OffsetOutOfRange { .. } => Code::IllegalOffset,
        BrokerError::CorruptMessage(_) => Code::MessageCorrupted,
        BrokerError::MessageTooLarge { .. } => Code::MessageBodyTooLarge,
        BrokerError::InvalidTopicName(_) => Code::IllegalTopic,
        BrokerError::InvalidReceipt(_) => Code::InvalidReceiptHandle,
        BrokerError::InvalidRecord(_)
        | BrokerError::InvalidTimestamp(_)
        | BrokerError::TopicExists(_)
        | BrokerError::InvalidPartitions(_)
        | BrokerError::InvalidReplicationFactor(_)
        | BrokerError::InvalidReplicaAssignment(_)
        | BrokerError::InvalidConfig(_)
        | BrokerError::InvalidRequest(_)
        | BrokerError::Group(_) => Code::BadRequest,
        BrokerError::RequestTimedOut(_) => Code::MasterPersistenceTimeout,
        BrokerError::Unsupported(_) | BrokerError::UnsupportedFormat(_) => Code::NotImplemented,
        // None of these can come of what this front end asks for, but for the disk.
        BrokerError::FencedLeaderEpoch { .. }
        | BrokerError::UnknownLeaderEpoch { .. }
        | BrokerError::OutOfOrderSequence { .. }
        | BrokerError::DuplicateSequence
        | BrokerError::InvalidProducerEpoch { .. }
        | BrokerError::Storage(_) => Code::InternalServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_happened() {
        for (error, code, is_transient) in [
            (BrokerError::UnknownTopic("t".to_owned()), Code::TopicNotFound, false),
            (BrokerError::NotLeader { leader: None, epoch: None }, Code::HaNotAvailable, true),
            (BrokerError::LeaderNotAvailable, Code::HaNotAvailable, true),
            (BrokerError::RequestTimedOut("x".to_owned()), Code::MasterPersistenceTimeout, false),
            (BrokerError::MessageTooLarge { found: 2, limit: 1 }, Code::MessageBodyTooLarge, false),
            (BrokerError::InvalidReceipt("used".to_owned()), Code::InvalidReceiptHandle, false),
            (BrokerError::Storage("full".to_owned()), Code::InternalServerError, false),
        ] {
            let refusal = Refusal::from(error.clone());
            assert_eq!((refusal.code(), refusal.is_transient()), (code, is_transient), "{error:?}");
            assert_eq!(refusal.status().message, error.to_string());
        }
    }

    #[test]
    fn a_transaction_names_its_receipt_differently() {
        let refusal = Refusal::from(BrokerError::InvalidReceipt("gone".to_owned()));
        let named = refusal.with_receipt_code(Code::InvalidTransactionId);
        assert_eq!(named, Refusal::new(Code::InvalidTransactionId, "gone"));
        let other = Refusal::from(BrokerError::LeaderNotAvailable);
        assert_eq!(other.clone().with_receipt_code(Code::InvalidTransactionId), other);
    }

    #[test]
    fn the_whole_says_what_its_parts_agree_on() {
        let bad = Refusal::new(Code::BadRequest, "no").status();
        assert_eq!(overall([Some(&ok()), Some(&ok())].into_iter()).code(), Code::Ok);
        assert_eq!(overall([Some(&bad), Some(&bad)].into_iter()), bad);
        assert_eq!(overall([Some(&ok()), Some(&bad)].into_iter()).code(), Code::MultipleResults);
    }
}
