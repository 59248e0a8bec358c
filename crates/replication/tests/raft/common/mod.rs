//! Three nodes in one process.

pub mod damage;
pub mod disk;
pub mod links;
pub mod nodes;
pub mod state;

pub use nodes::{GROUP, Nodes, Settings};
