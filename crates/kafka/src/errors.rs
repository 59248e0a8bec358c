//! Broker errors to Kafka's codes: one exhaustive match.

use duolog_broker::BrokerError;
use duolog_broker::api::GroupError;
use kafka_protocol::ResponseError;

/// The answer to everything that needs transactions, until there are transactions. It belongs to
/// transactional requests and is final: librdkafka 2.0.2 ends its producer at once and shows our sentence. A code that may be
/// tried again, such as COORDINATOR_NOT_AVAILABLE, would let clients wait until they time out.
pub(crate) const TRANSACTIONS_REFUSED: ResponseError = ResponseError::TransactionalIdAuthorizationFailed;

/// What [`TRANSACTIONS_REFUSED`] says where there is room for a sentence.
pub(crate) const TRANSACTIONS_REFUSED_SENTENCE: &str =
    "transactions are not supported yet: remove transactional.id from the producer's configuration";

/// Kafka's code for an error.
pub(crate) fn response_error(error: &BrokerError) -> ResponseError {
    match error {
        BrokerError::UnknownTopic(_) => ResponseError::UnknownTopicOrPartition,
        BrokerError::UnknownTopicId(_) => ResponseError::UnknownTopicId,
        BrokerError::UnknownPartition { .. } => ResponseError::UnknownTopicOrPartition,
        BrokerError::NotLeader { .. } => ResponseError::NotLeaderOrFollower,
        BrokerError::LeaderNotAvailable => ResponseError::LeaderNotAvailable,
        BrokerError::FencedLeaderEpoch { .. } => ResponseError::FencedLeaderEpoch,
        BrokerError::UnknownLeaderEpoch { .. } => ResponseError::UnknownLeaderEpoch,
        BrokerError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        BrokerError::CorruptMessage(_) => ResponseError::CorruptMessage,
        BrokerError::InvalidRecord(_) => ResponseError::InvalidRecord,
        BrokerError::UnsupportedFormat(_) => ResponseError::UnsupportedForMessageFormat,
        BrokerError::MessageTooLarge { .. } => ResponseError::MessageTooLarge,
        BrokerError::InvalidTimestamp(_) => ResponseError::InvalidTimestamp,
        BrokerError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        BrokerError::DuplicateSequence => ResponseError::DuplicateSequenceNumber,
        BrokerError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        BrokerError::TopicExists(_) => ResponseError::TopicAlreadyExists,
        BrokerError::InvalidTopicName(_) => ResponseError::InvalidTopicException,
        BrokerError::InvalidPartitions(_) => ResponseError::InvalidPartitions,
        BrokerError::InvalidReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
        BrokerError::InvalidReplicaAssignment(_) => ResponseError::InvalidReplicaAssignment,
        BrokerError::InvalidConfig(_) => ResponseError::InvalidConfig,
        BrokerError::InvalidRequest(_) => ResponseError::InvalidRequest,
        BrokerError::RequestTimedOut(_) => ResponseError::RequestTimedOut,
        BrokerError::Group(error) => group_error(*error),
        BrokerError::NotCoordinator => ResponseError::NotCoordinator,
        BrokerError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        BrokerError::CoordinatorLoading => ResponseError::CoordinatorLoadInProgress,
        BrokerError::PreferredLeaderNotAvailable(_) => ResponseError::PreferredLeaderNotAvailable,
        BrokerError::InvalidReceipt(_) => ResponseError::InvalidRequest,
        BrokerError::EligibleLeadersNotAvailable => ResponseError::EligibleLeadersNotAvailable,
        BrokerError::Storage(_) => ResponseError::KafkaStorageError,
        // Not to be tried again, and the nearest of Kafka's codes to "this server cannot do that".
        BrokerError::Unsupported(_) => ResponseError::UnsupportedVersion,
    }
}

/// Kafka's code for an error of one partition in Fetch.
///
/// Kafka's brokers never answer LEADER_NOT_AVAILABLE there, and Java's consumer ends on every code that it does not expect
/// (`FetchCollector.handleInitializeErrors`). NOT_LEADER_OR_FOLLOWER makes it ask for metadata and come back.
pub(crate) fn fetch_error(error: &BrokerError) -> ResponseError {
    match response_error(error) {
        ResponseError::LeaderNotAvailable => ResponseError::NotLeaderOrFollower,
        code => code,
    }
}

/// Kafka's code for an error in SyncGroup.
///
/// While a group is loaded Kafka answers REBALANCE_IN_PROGRESS there (`GroupCoordinatorService.syncGroup`): the rebalance is
/// lost with the coordinator of before, and the member joins again. Java's consumer throws on COORDINATOR_LOAD_IN_PROGRESS,
/// which it expects of JoinGroup and of offsets only.
pub(crate) fn sync_error(error: &BrokerError) -> ResponseError {
    match error {
        BrokerError::CoordinatorLoading => ResponseError::RebalanceInProgress,
        error => response_error(error),
    }
}

fn group_error(error: GroupError) -> ResponseError {
    match error {
        GroupError::NotCoordinator => ResponseError::NotCoordinator,
        GroupError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::UnknownMemberId => ResponseError::UnknownMemberId,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        GroupError::InvalidCommitOffsetSize => ResponseError::InvalidCommitOffsetSize,
        GroupError::MemberIdRequired => ResponseError::MemberIdRequired,
        GroupError::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
        GroupError::FencedInstanceId => ResponseError::FencedInstanceId,
        GroupError::NonEmptyGroup => ResponseError::NonEmptyGroup,
        GroupError::GroupIdNotFound => ResponseError::GroupIdNotFound,
        GroupError::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        GroupError::UnknownServerError => ResponseError::UnknownServerError,
    }
}
