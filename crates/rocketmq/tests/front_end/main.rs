//! The front end over brokers in memory, as clients see it.

mod access;
mod budget;
mod calls;
mod forwarding;
mod port;
mod support;
mod telemetry;
