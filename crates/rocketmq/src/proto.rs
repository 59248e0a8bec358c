//! The protocol's messages, its client and its server, generated from `proto/`.
#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("apache.rocketmq.v2");
