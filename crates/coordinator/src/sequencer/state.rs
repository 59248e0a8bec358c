//! What the sequencer asks the applied state.

use duolog_record::entry::Address;
use duolog_state::rows::{HiddenRow, ProducerRow};
use duolog_state::{StateError, TableReader, reader};
use duolog_types::{Offset, ProducerId, TopicPartition};

/// The applied state. What was reported as applied MUST be visible in it.
pub trait SequencerState {
    /// The log end offset; `None` when the partition is not hosted here.
    ///
    /// # Errors
    /// When the tables fail: the replica stops.
    fn log_end(&self, partition: TopicPartition) -> Result<Option<Offset>, StateError>;

    /// An idempotent producer in a partition.
    ///
    /// # Errors
    /// When the tables fail: the replica stops.
    fn producer(&self, partition: TopicPartition, id: ProducerId) -> Result<Option<ProducerRow>, StateError>;

    /// A hidden batch for a partition.
    ///
    /// # Errors
    /// When the tables fail: the replica stops.
    fn hidden(&self, partition: TopicPartition, address: Address) -> Result<Option<HiddenRow>, StateError>;
}

/// The applied state as tables hold it.
pub struct TableState<'a>(pub &'a dyn TableReader);

impl SequencerState for TableState<'_> {
    fn log_end(&self, partition: TopicPartition) -> Result<Option<Offset>, StateError> {
        reader::log_end(self.0, partition)
    }

    fn producer(&self, partition: TopicPartition, id: ProducerId) -> Result<Option<ProducerRow>, StateError> {
        reader::producer(self.0, partition, id)
    }

    fn hidden(&self, partition: TopicPartition, address: Address) -> Result<Option<HiddenRow>, StateError> {
        reader::hidden(self.0, partition, address)
    }
}
