//! What administrators may see of this node's replicas: bytes on its disk, idempotent producers.

use duolog_state::reader;
use duolog_types::TopicPartition;

use crate::api::{EpochCheck, ItemResult, LogDirView, PartitionSize, ProducerView, TopicRef};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::fetch::serve;
use crate::runtime::storage;

/// The data directory, with the size of every partition that this node has a replica of.
///
/// A size is that of the partition's record batches, as far as they are applied: partitions share the files of their
/// broker group's log.
pub(crate) fn log_dir(broker: &Broker) -> ItemResult<LogDirView> {
    let path = broker.data_dir();
    let usage = broker.cluster_handle().disk_space().usage;
    let mut partitions = Vec::new();
    for topic in broker.catalog().topics() {
        for (group, number) in topic.row.partitions.iter().zip(0_u32..) {
            let Ok(runtime) = broker.runtime(*group) else { continue };
            let partition = TopicPartition { topic: topic.id, partition: number };
            let size = reader::partition_size_bytes(&*runtime.tables(), partition).map_err(storage)?;
            if let Some(size_bytes) = size {
                partitions.push(PartitionSize { topic: topic.row.name.clone(), partition: number, size_bytes });
            }
        }
    }
    Ok(LogDirView {
        path: path.display().to_string(),
        total_bytes: usage.total_bytes,
        usable_bytes: usage.free_bytes,
        partitions,
    })
}

/// The idempotent producers of a partition that this node leads, by id.
pub(crate) async fn producers(broker: &Broker, topic: &TopicRef, partition: i32) -> ItemResult<Vec<ProducerView>> {
    let place = broker.locate(topic, partition)?;
    let runtime = broker.runtime(place.group)?;
    serve(&place, &runtime, EpochCheck::default()).await?;
    let rows = reader::producers(&*runtime.tables(), place.partition).map_err(storage)?;
    let view = |(id, row): (_, duolog_state::rows::ProducerRow)| {
        let last = row.batches.last().ok_or_else(|| BrokerError::Storage(format!("producer {id:?} has no batch")))?;
        Ok(ProducerView { id, epoch: row.epoch, last_sequence: last.last_sequence, last_timestamp: last.max_timestamp })
    };
    rows.into_iter().map(view).collect()
}
