//! The Kafka front end: TCP frames in, calls of [`duolog_broker::api::BrokerApi`], frames out. It only translates: no
//! broker rule lives here.
//!
//! ```text
//! socket ─▶ frame ─▶ head ─▶ dispatch table ─▶ shape check ─▶ kafka-protocol decode ─▶ api/*.rs ─▶ BrokerApi
//!          (budget)                            (bounds counts)                                        │
//! socket ◀─ pieces, vectored, in the order of the requests ◀─ encode ◀───────────────────────────────┘
//! ```
//!
//! - [`server`]: listener, connections, clean stop. [`config`]: what an operator may change.
//! - `connection`, `frame`: order, bounded memory. `bounds`: answers in proportion to what there is to tell.
//! - `dispatch`: the one table of APIs and versions. `shape`: refuses what would make a decoder allocate too much.
//! - `fetch_sessions`: what clients that fetch incrementally were told (KIP-227).
//! - `api`: one file per API. `errors`: broker errors to Kafka's codes. [`metrics`]: counters.
//!
//! Deliberately absent: quotas, authentication and authorization (ACLs are kept, for the front end that enforces them), TLS, transactions.
#![warn(missing_docs)]

mod acls;
mod answers;
mod api;
mod bounds;
mod connection;
mod context;
mod dispatch;
mod errors;
mod fetch_sessions;
mod frame;
mod head;
mod response;
mod shape;
mod translate;

pub mod config;
pub mod metrics;
pub mod server;

pub use config::KafkaConfig;
pub use dispatch::{SupportedApi, supported_apis};
pub use metrics::KafkaMetrics;
pub use server::{KafkaServer, serve};
