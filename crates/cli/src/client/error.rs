//! What can go wrong between the client and a node.

use kafka_protocol::ResponseError;

use super::Address;

/// A call that had no good end. Each variant says whom was asked; Kafka's codes are apart, since some mean "try again".
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {address}: {reason}; is a node running there, and is this its Kafka port?")]
    Connect {
        /// Who was asked.
        address: Address,
        /// Why not.
        reason: String,
    },
    /// The connection ended, or its bytes are no answer.
    #[error("{api} at {address}: {reason}")]
    Broken {
        /// Who was asked.
        address: Address,
        /// What was asked.
        api: &'static str,
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error("{api} at {address}: no answer within {limit_ms} ms")]
    TimedOut {
        /// Who was asked.
        address: Address,
        /// What was asked.
        api: &'static str,
        /// How long.
        limit_ms: u128,
    },
    /// The node does not know the API, or none of the versions that this client speaks.
    #[error(
        "the node at {address} does not offer {api}{found}: it runs another version of Duolog than this command; upgrade the node, or use its own `duolog`"
    )]
    NotOffered {
        /// Who was asked.
        address: Address,
        /// What was asked.
        api: &'static str,
        /// The versions that it offers and those that were expected, or nothing.
        found: String,
    },
    /// A request that cannot be written in the version that the node speaks.
    #[error("{api} cannot be asked of {address}: {reason}")]
    Request {
        /// Who was to be asked.
        address: Address,
        /// What.
        api: &'static str,
        /// Why not.
        reason: String,
    },
    /// The node answered with one of Kafka's codes.
    #[error("{what}: {sentence} ({code})")]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's code.
        code: ResponseError,
        /// The node's own sentence, or what the code means.
        sentence: String,
    },
    /// No node leads a partition, or coordinates a group, for now.
    #[error("{what} has no leader at the moment; `duolog cluster health` says why")]
    NoLeader {
        /// The partition or the group.
        what: String,
    },
}

impl ClientError {
    /// An error code with what it was about; `message` is the node's own sentence.
    pub(crate) fn refused(what: impl Into<String>, code: ResponseError, message: Option<&str>) -> Self {
        let sentence = message.filter(|message| !message.is_empty()).unwrap_or_else(|| meaning(code)).to_owned();
        Self::Refused { what: what.into(), code, sentence }
    }

    /// Whether another attempt, maybe at another node, can end better.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::TimedOut { .. } | Self::NoLeader { .. } => true,
            Self::NotOffered { .. } | Self::Request { .. } => false,
            Self::Refused { code, .. } => code.is_retriable(),
        }
    }

    /// Kafka's code, if there is one.
    pub(crate) fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A sentence for the codes that a user meets.
fn meaning(code: ResponseError) -> &'static str {
    match code {
        ResponseError::UnknownTopicOrPartition => {
            "there is no such topic or partition; `duolog topic list` shows all topics"
        }
        ResponseError::TopicAlreadyExists => "the topic exists already",
        ResponseError::InvalidTopicException => {
            "not a topic name: expected 1 to 249 of letters, digits, '.', '_' and '-'"
        }
        ResponseError::OffsetOutOfRange => "the offset is not between the log start offset and the log end offset",
        ResponseError::NotLeaderOrFollower | ResponseError::LeaderNotAvailable => {
            "the partition has no leader at the moment"
        }
        ResponseError::NotCoordinator
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::CoordinatorLoadInProgress => "the consumer group has no coordinator at the moment",
        ResponseError::RequestTimedOut => "not done in time; it may be done later",
        ResponseError::MessageTooLarge => "the batch is larger than the topic's max.message.bytes",
        ResponseError::NonEmptyGroup => "the consumer group has members; stop them first",
        ResponseError::GroupIdNotFound => "there is no such consumer group; `duolog group list` shows all groups",
        ResponseError::InvalidGroupId => "not a group id: expected at least one character",
        ResponseError::UnknownMemberId => "the consumer group has members, or this member is not one any more",
        ResponseError::InconsistentGroupProtocol => {
            "the members of the consumer group do not use the assignment strategy \"range\""
        }
        _ => "the node refused",
    }
}
