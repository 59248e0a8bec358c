//! Which crate may use which: the arrows of the layout, and the sole owners of the big dependencies.
//!
//! ```text
//! types ← record ← {state, commit-log}     state ← {coordinator, state-store}
//! {commit-log, state-store} ← replication  {coordinator, replication} ← broker ← {kafka, rocketmq} ← server
//! {record, replication} ← cli ← server     kafka ← fuzz
//!                                          rocketmq ← chaos
//! ```
//! A crate may use everything below it, not only the next one. A crate that the table does not know is refused, so that
//! a new one is placed on purpose. The rules hold for tests and build scripts too.

use std::collections::BTreeSet;

use super::metadata::{Metadata, Package};

/// Crate, and the crates directly below it (without the `duolog-` prefix).
const BELOW: [(&str, &[&str]); 17] = [
    ("types", &[]),
    ("record", &["types"]),
    ("state", &["record"]),
    ("commit-log", &["record"]),
    ("coordinator", &["state"]),
    ("state-store", &["state"]),
    ("replication", &["commit-log", "state-store"]),
    ("broker", &["coordinator", "replication"]),
    ("kafka", &["broker"]),
    ("rocketmq", &["broker"]),
    ("cli", &["record", "replication"]),
    ("server", &["kafka", "rocketmq", "cli"]),
    ("sim", &["server", "chaos"]),
    ("chaos", &["rocketmq"]),
    ("chaos-preload", &[]),
    ("fuzz", &["kafka"]),
    ("xtask", &[]),
];

/// Pure crates: no runtime, no system calls, no randomness.
const PURE: [&str; 4] = ["types", "record", "state", "coordinator"];
const IMPURE_DEPENDENCIES: [&str; 5] = ["tokio", "libc", "rand", "parking_lot", "tracing-subscriber"];

/// A dependency that only these crates may name.
const OWNED: [(&str, &[&str]); 5] = [
    ("rocksdb", &["state-store"]),
    ("librocksdb-sys", &["state-store"]),
    ("openraft", &["replication"]),
    ("rdkafka", &["chaos"]),
    ("libfuzzer-sys", &["fuzz"]),
];

/// What the broker never sees.
const PROTOCOL_CRATES: [&str; 3] = ["kafka-protocol", "duolog-kafka", "duolog-rocketmq"];

pub fn check(metadata: &Metadata) -> Vec<String> {
    metadata.members().flat_map(check_crate).collect()
}

fn check_crate(package: &Package) -> Vec<String> {
    let name = short(&package.name);
    let Some(allowed) = below(name) else {
        return vec![format!("crate {} has no place in the layering: give it one in lint/layering.rs", package.name)];
    };
    let mut problems = Vec::new();
    for dependency in &package.dependencies {
        let dependency_name = dependency.name.as_str();
        let mut refuse =
            |why: &str| problems.push(format!("{} must not depend on {dependency_name}: {why}", package.name));
        if dependency_name.starts_with("duolog-") && !allowed.contains(short(dependency_name)) {
            refuse("it is not below it");
        }
        if PURE.contains(&name) && dependency.kind.is_none() && IMPURE_DEPENDENCIES.contains(&dependency_name) {
            refuse("it is a pure crate");
        }
        if name == "broker" && PROTOCOL_CRATES.contains(&dependency_name) {
            refuse("the broker never sees a protocol");
        }
        let owners = OWNED.iter().find(|(owned, _)| *owned == dependency_name).map(|(_, owners)| owners);
        if owners.is_some_and(|owners| !owners.contains(&name)) {
            refuse("it belongs to another crate alone");
        }
    }
    problems
}

/// Everything below a crate, at any depth. None: the crate is unknown.
fn below(name: &str) -> Option<BTreeSet<&'static str>> {
    let (_, direct) = BELOW.iter().find(|(known, _)| *known == name)?;
    let mut all: BTreeSet<&str> = direct.iter().copied().collect();
    for next in *direct {
        all.extend(below(next).into_iter().flatten());
    }
    Some(all)
}

fn short(name: &str) -> &str {
    name.strip_prefix("duolog-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{self, Dependency};
    use super::*;

    #[test]
    fn the_workspace_keeps_the_layering() {
        let metadata = metadata::load().expect("cargo metadata works");
        let problems = check(&metadata);
        assert!(problems.is_empty(), "{problems:#?}");
    }

    fn package(name: &str, dependency: &str) -> Package {
        let dependencies = vec![Dependency { name: dependency.into(), kind: None }];
        Package { id: name.into(), name: name.into(), license: None, source: None, dependencies }
    }

    #[test]
    fn each_forbidden_edge_is_found() {
        for (from, to) in [
            ("duolog-kafka", "duolog-rocketmq"),
            ("duolog-rocketmq", "duolog-kafka"),
            ("duolog-broker", "kafka-protocol"),
            ("duolog-cli", "duolog-broker"),
            ("duolog-kafka", "duolog-cli"),
            ("duolog-broker", "duolog-kafka"),
            ("duolog-broker", "duolog-rocketmq"),
            ("duolog-types", "duolog-record"),
            ("duolog-state", "duolog-state-store"),
            ("duolog-coordinator", "duolog-commit-log"),
            ("duolog-coordinator", "tokio"),
            ("duolog-broker", "rocksdb"),
            ("duolog-server", "openraft"),
            ("duolog-server", "duolog-fuzz"),
            ("duolog-kafka", "libfuzzer-sys"),
            ("duolog-unknown", "bytes"),
        ] {
            assert_eq!(check_crate(&package(from, to)).len().min(1), 1, "{from} → {to}");
        }
    }

    #[test]
    fn allowed_edges_pass() {
        for (from, to) in [
            ("duolog-record", "duolog-types"),
            ("duolog-broker", "duolog-state-store"),
            ("duolog-server", "duolog-types"),
            ("duolog-kafka", "kafka-protocol"),
            ("duolog-rocketmq", "duolog-broker"),
            ("duolog-state-store", "rocksdb"),
            ("duolog-replication", "openraft"),
        ] {
            assert_eq!(check_crate(&package(from, to)), Vec::<String>::new(), "{from} → {to}");
        }
    }
}
