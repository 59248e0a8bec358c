//! What a fetch finds in the broker in memory.

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{EpochEnd, Fetch, FetchPartition, Fetched, ItemResult};
use duolog_types::{LeaderEpoch, Offset};

use super::FakeBroker;

impl FakeBroker {
    pub(super) fn read(&self, fetch: &Fetch) -> Vec<ItemResult<Fetched>> {
        let read = |p: &FetchPartition| {
            self.with_partition(&p.topic, p.partition, |records| {
                let end = records.len() as i64;
                if !(0..=end).contains(&p.fetch_offset.0) {
                    return Err(BrokerError::OffsetOutOfRange {
                        found: p.fetch_offset.0,
                        start: 0,
                        end_inclusive: end,
                    });
                }
                let diverging = p
                    .last_fetched_epoch
                    .filter(|epoch| epoch.0 > 7)
                    .map(|_| EpochEnd { epoch: LeaderEpoch(7), end_offset: Offset(end) });
                Ok(Fetched {
                    high_watermark: Offset(end),
                    last_stable_offset: Offset(end),
                    log_start_offset: Offset(0),
                    records: match diverging {
                        Some(_) => Vec::new(),
                        None => records[p.fetch_offset.0 as usize..].to_vec(),
                    },
                    diverging,
                })
            })
        };
        fetch.partitions.iter().map(read).collect()
    }
}
