//! The commands of `duolog` that talk to a running cluster.
//!
//! - `topic`, `produce`, `consume`, `group`, `message`, `acl`: over the Kafka protocol, as any other client, with the client in `client`;
//! - `cluster`: over the calls between nodes;
//! - `verify`: on the files of a stopped node, or over HTTP;
//! - `durability`, `transaction`, `user`: over HTTP; [`report`], [`transaction_report`] and [`user_report`] are the forms.
//!
//! Each command is a clap type with a `run` that blocks until it is done. What people and scripts rely on (tables, JSON,
//! exit codes) is described in `docs/cli.md`.
//!
//! Invariant: everything is printed through [`Out`], so that a reader who goes away (`| head`) ends a command
//! silently; nothing here panics on what a node answers.

mod acl;
mod arguments;
mod client;
mod cluster;
mod consume;
mod durability;
mod exit;
mod group;
mod http;
mod message;
mod output;
mod produce;
mod run;
mod time;
mod topic;
mod transaction;
mod user;
mod verify;

pub use acl::AclCommand;
pub use cluster::ClusterCommand;
pub use consume::ConsumeCommand;
pub use durability::{DurabilityCommand, report};
pub use exit::Exit;
pub use group::GroupCommand;
pub use message::MessageCommand;
pub use output::{Out, OutputClosed, OutputFormat, Table};
pub use produce::ProduceCommand;
pub use topic::TopicCommand;
pub use transaction::{TransactionCommand, report as transaction_report};
pub use user::{UserCommand, report as user_report};
pub use verify::VerifyCommand;
