//! Half messages for operators: those whose transactions are open, and those that ended without becoming visible, as long as they are
//! remembered.

use std::sync::Arc;

use duolog_record::Record;
use duolog_record::entry::Address;
use duolog_state::keys::TimerKind;
use duolog_state::reader;
use duolog_state::rows::{HiddenRow, HiddenState};
use duolog_types::{TimestampMs, TopicPartition};

use super::record;
use crate::api::{ItemResult, TopicRef};
use crate::broker::Broker;
use crate::message_api::HiddenHandle;
use crate::runtime::{GroupRuntime, storage};

/// A half message that is not visible.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Names it.
    pub handle: HiddenHandle,
    /// The topic's name.
    pub topic: String,
    /// What has become of it.
    pub state: TransactionState,
    /// The message.
    pub record: Record,
}

/// What has become of a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Nothing yet.
    Open {
        /// How often its producer was asked.
        checks: u32,
        /// When it is asked next.
        next_check: TimestampMs,
    },
    /// Its producer never answered.
    GivenUp {
        /// When it is forgotten.
        kept_until: TimestampMs,
    },
    /// It was rolled back.
    RolledBack {
        /// When it is forgotten.
        kept_until: TimestampMs,
    },
}

impl TransactionState {
    fn of(state: &HiddenState) -> Option<Self> {
        match *state {
            HiddenState::Half { check_at, checks } => Some(Self::Open { checks, next_check: check_at }),
            HiddenState::GivenUp { keep_until } => Some(Self::GivenUp { kept_until: keep_until }),
            HiddenState::RolledBack { keep_until } => Some(Self::RolledBack { kept_until: keep_until }),
            HiddenState::Delayed { .. } | HiddenState::Visible { .. } => None,
        }
    }
}

impl Broker {
    /// At most `limit` half messages of partitions that this node leads, of one topic or all.
    ///
    /// # Errors
    /// `UnknownTopic`; `Storage`.
    pub fn transactions(&self, topic: Option<&str>, limit: usize) -> ItemResult<Vec<Transaction>> {
        let wanted = match topic {
            Some(name) => Some(self.catalog().find(&TopicRef::Name(name.to_owned()))?.id),
            None => None,
        };
        let mut found = Vec::new();
        for runtime in self.runtimes().filter(|runtime| runtime.subscribe_serving().borrow().is_some()) {
            let places = match wanted {
                Some(topic) => {
                    let rows = reader::hidden_of_topic(&*runtime.tables(), topic).map_err(storage)?;
                    rows.into_iter().map(|(partition, address, _)| (partition, address)).collect()
                }
                None => waiting(runtime, limit - found.len())?,
            };
            for (partition, address) in places {
                if found.len() == limit {
                    return Ok(found);
                }
                found.extend(self.transaction_at(runtime, partition, address)?);
            }
        }
        Ok(found)
    }

    /// A half message that is not visible; `None` when there is none.
    ///
    /// # Errors
    /// `NotLeader`; `Storage`.
    pub fn transaction(&self, handle: HiddenHandle) -> ItemResult<Option<Transaction>> {
        let place = super::ending::locate(self, &handle)?;
        let runtime = self.runtime(place.group)?;
        if runtime.subscribe_serving().borrow().is_none() {
            return Err(runtime.not_leader());
        }
        let found = self.transaction_at(&runtime, handle.partition, handle.address())?;
        Ok(found.filter(|found| found.handle == handle))
    }

    fn transaction_at(
        &self,
        runtime: &Arc<GroupRuntime>,
        partition: TopicPartition,
        address: Address,
    ) -> ItemResult<Option<Transaction>> {
        let row: Option<HiddenRow> = reader::hidden(&*runtime.tables(), partition, address).map_err(storage)?;
        let catalog = self.catalog();
        let (Some(row), Some(topic)) = (row, catalog.by_id(partition.topic)) else { return Ok(None) };
        let Some(state) = TransactionState::of(&row.state) else { return Ok(None) };
        let handle = HiddenHandle { partition, index: address.index, term: row.term, slot: address.slot };
        let record = record(runtime, handle, &row)?;
        Ok(Some(Transaction { handle, topic: topic.row.name.clone(), state, record }))
    }
}

/// What waits for a check-back, the oldest first, then what waits to be forgotten.
fn waiting(runtime: &GroupRuntime, limit: usize) -> ItemResult<Vec<(TopicPartition, Address)>> {
    let mut places = Vec::new();
    for kind in [TimerKind::CheckBack, TimerKind::Expiry] {
        let timers = reader::timers(&*runtime.tables(), kind, TimestampMs(i64::MIN), limit - places.len());
        places.extend(timers.map_err(storage)?.into_iter().map(|timer| (timer.partition, timer.address)));
    }
    Ok(places)
}
