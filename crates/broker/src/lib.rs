//! The core of a node: produce, fetch, the durability gate, topics, groups. See `docs/architecture.md`.
//!
//! Front ends see [`api::BrokerApi`] and [`BrokerError`] and nothing else; this crate sees no protocol.
#![warn(missing_docs)]

mod access;
pub mod api;
mod assignment;
mod backend;
mod beside;
mod broker;
mod catalog;
mod config_edit;
mod consumers;
mod durability;
mod error;
mod fetch;
mod group_configs;
mod groups;
mod hidden;
mod hook;
mod inspect;
mod leader_log;
mod leaders;
pub mod message_api;
mod messages;
mod metrics;
mod new_partitions;
mod offsets;
mod pop;
mod produce;
mod producer_expiry;
mod producer_ids;
mod prometheus;
mod reconcile;
mod records;
mod request_budget;
mod retention;
mod runtime;
mod sequencer_task;
mod sql;
mod start;
mod state_scrub;
mod stored;
mod topics;
mod trace;
mod unpack;
mod views;
mod wakeups;

pub use access::{AccessApi, FirstUser, UserEdit, UserError};
pub use backend::{StateReader, StateStore, StoredTables};
pub use broker::{Broker, Settings};
pub use durability::{LedExposure, TopicDurability};
pub use error::BrokerError;
pub use hidden::{Transaction, TransactionState};
pub use leader_log::Exposure;
pub use prometheus::{Histogram, metric_head};
pub use request_budget::{Admission, RequestBudget};
