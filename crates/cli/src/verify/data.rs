//! A data directory: every record of its logs, and the states.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use duolog_commit_log::{FileReport, Finding, RealDisk, inspect};
use duolog_replication::{NodeFile, StartError, files, lock_data_dir};
use duolog_state_store::{RocksReader, StoreBudget};
use serde::Serialize;

use crate::output::{Out, Table, or_dash};

/// A cache for reading once.
const CACHE_BYTES: usize = 8 << 20;

#[derive(Debug, Serialize)]
pub(super) struct DataReport {
    pub(super) is_whole: bool,
    cluster: String,
    node_id: u64,
    groups: Vec<GroupReport>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    broker_group: u32,
    files: Vec<LogFile>,
    /// Applied log index and hash of the state, or why there is none.
    state: Result<State, String>,
}

#[derive(Debug, Serialize)]
struct State {
    applied_index: Option<u64>,
    hash: String,
}

#[derive(Debug, Serialize)]
struct LogFile {
    file: PathBuf,
    entries: u64,
    last_index: Option<u64>,
    bytes: u64,
    /// Flushed bytes that are not what was written.
    damage: Option<String>,
    /// Bytes that a crash left behind the last whole record; the next start cuts them off.
    torn_bytes: Option<u64>,
}

/// # Errors
/// The directory is none of a node, or is in use, or cannot be read.
pub(super) fn verify(dir: &Path) -> anyhow::Result<DataReport> {
    ensure!(dir.is_dir(), "--data-dir {}: expected the data_dir of a node's config, found no directory", dir.display());
    let node: Option<NodeFile> = files::read_json(&dir.join("node.json"))?;
    let node = node.with_context(|| {
        format!("--data-dir {}: expected the data_dir of a node's config, found no node.json in it", dir.display())
    })?;
    let _lock = lock_data_dir(dir).map_err(|error| match error {
        StartError::InUse(dir) => anyhow!(
            "--data-dir {}: expected that of a node that is stopped, but a process uses it; replicas of nodes that run are compared \
             with --http",
            dir.display()
        ),
        other => other.into(),
    })?;
    let groups_dir = dir.join("groups");
    let entries = fs::read_dir(&groups_dir)
        .with_context(|| format!("{}: expected a directory for each broker group", groups_dir.display()))?;
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    if ids.is_empty() {
        bail!("{}: expected a directory for each broker group, found none", groups_dir.display());
    }
    ids.sort_unstable();
    let mut groups = Vec::new();
    for id in ids {
        let dir = groups_dir.join(id.to_string());
        let files = inspect(&RealDisk, &dir.join("log")).with_context(|| format!("broker group {id}"))?;
        let state = state_of(&dir.join("state")).map_err(|error| format!("{error:#}"));
        groups.push(GroupReport { broker_group: id, files: files.into_iter().map(log_file).collect(), state });
    }
    let is_well = |group: &GroupReport| group.state.is_ok() && group.files.iter().all(|file| file.damage.is_none());
    Ok(DataReport { is_whole: groups.iter().all(is_well), cluster: node.cluster_name, node_id: node.node_id.0, groups })
}

fn log_file(report: FileReport) -> LogFile {
    let (damage, torn_bytes) = match report.finding {
        Some(Finding::Damage(error)) => (Some(error.to_string()), None),
        Some(Finding::TornTail { bytes }) => (None, Some(bytes)),
        None => (None, None),
    };
    LogFile {
        file: report.path,
        entries: report.entries,
        last_index: report.last.map(|index| index.0),
        bytes: report.bytes,
        damage,
        torn_bytes,
    }
}

/// Reads every row; the blocks of the files have checksums of their own.
fn state_of(dir: &Path) -> anyhow::Result<State> {
    let current = dir.join("CURRENT");
    let name = fs::read_to_string(&current).with_context(|| current.display().to_string())?;
    let tables = RocksReader::open_read_only(&dir.join(name.trim()), &StoreBudget::new(CACHE_BYTES, CACHE_BYTES))?;
    let (applied, hash) = tables.snapshot().state_hash()?;
    Ok(State { applied_index: applied.map(|applied| applied.index.0), hash: format!("{hash:016x}") })
}

/// # Errors
/// Nobody reads.
pub(super) fn show(out: &mut Out, report: &DataReport) -> anyhow::Result<()> {
    out.line(&format!("node {} of cluster {}", report.node_id, report.cluster))?;
    let mut table = Table::new(&["GROUP", "FILES", ">ENTRIES", ">LAST", ">BYTES", ">APPLIED", "STATE HASH", "VERDICT"]);
    for group in &report.groups {
        let damaged = group.files.iter().filter(|file| file.damage.is_some()).count();
        let (applied, hash) = match &group.state {
            Ok(state) => (or_dash(state.applied_index), state.hash.clone()),
            Err(_) => ("-".to_owned(), "-".to_owned()),
        };
        let verdict = match (damaged, &group.state) {
            (0, Ok(_)) => "whole".to_owned(),
            (0, Err(_)) => "STATE DAMAGED".to_owned(),
            (files, _) => format!("{files} FILES DAMAGED"),
        };
        table.row(vec![
            group.broker_group.to_string(),
            group.files.len().to_string(),
            group.files.iter().map(|file| file.entries).sum::<u64>().to_string(),
            or_dash(group.files.iter().filter_map(|file| file.last_index).max()),
            group.files.iter().map(|file| file.bytes).sum::<u64>().to_string(),
            applied,
            hash,
            verdict,
        ]);
    }
    out.table(&table)?;
    for group in &report.groups {
        let id = group.broker_group;
        for file in &group.files {
            if let Some(damage) = &file.damage {
                out.line(&format!("broker group {id}: {damage}"))?;
            }
            if let Some(bytes) = file.torn_bytes {
                let name = file.file.display();
                out.line(&format!(
                    "broker group {id}: {name} ends with {bytes} bytes of a torn write; the next start cuts them off"
                ))?;
            }
        }
        if let Err(error) = &group.state {
            out.line(&format!("broker group {id}: state: {error}"))?;
        }
    }
    if !report.is_whole {
        out.line(
            "A damaged entry of a sealed segment is put back from another node while this one runs. If the node does not start, put a \
             new one in its place: duolog cluster replace",
        )?;
    }
    Ok(())
}
