//! The RocketMQ 5 front end: gRPC calls of `apache.rocketmq.v2.MessagingService` in, calls of
//! [`duolog_broker::message_api::MessageApi`] out. It only translates: no broker rule lives here.
//!
//! ```text
//! socket ─▶ first byte: TLS or not ─▶ HTTP/2 preface ─▶ tonic ─▶ service ─▶ api/*.rs ─┬─▶ MessageApi (this node leads)
//!                                                                                     └─▶ the same call to the leader's node
//! ```
//!
//! - [`server`]: listener, connections, clean stop. `stream`: plaintext and TLS on one port. [`config`]: what an operator may change.
//! - `service`: the protocol's trait. `api`: one file per call. `caller`: what a call's metadata says.
//! - `access`, `signature`, `needs`: who makes a call, and which rights it needs. `budget`, `elements`: bytes of requests, and what is
//!   repeated in them, bounded.
//! - `place`, `peers`: which node leads, the same call to it, and what is tried again during a fail-over.
//! - `mapping`: messages and records. `handles`: receipts and names of hidden messages as text. `check`: what may be sent.
//! - `delivery`: messages that a client does not take come back. `unread`: answers that nobody reads are given up.
//! - `clients`, `settings`, `orphans`: who is connected here, what clients are told, half messages whose producers are asked.
//! - `assignment`: which queues each consumer asks. `describe`: messages for people.
//! - `errors`: broker errors to the protocol's codes. [`metrics`]: counters.
//!
//! Deliberately absent: certificates of clients, lite topics.
#![warn(missing_docs)]

mod access;
mod answer;
mod api;
mod assignment;
mod budget;
mod caller;
mod check;
mod clients;
mod context;
mod delivery;
mod describe;
mod digest;
mod elements;
mod errors;
mod handles;
mod mapping;
mod names;
mod needs;
mod orphans;
mod peers;
mod place;
mod service;
mod settings;
mod signature;
mod stream;
mod time;
mod tls;
mod unread;

pub mod config;
pub mod metrics;
pub mod proto;
pub mod server;

pub use config::{AccessConfig, CertificateFiles, RocketmqConfig, RocketmqNode};
pub use describe::{MessageParts, parts_of, read_transaction_id, transaction_id};
pub use metrics::RocketmqMetrics;
pub use server::RocketmqServer;
