//! A replicated state that only remembers what was applied, in memory and, when asked to, in a file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use duolog_replication::{CommandResponse, EntryTap, Mark, ReplicatedState, StateFactory, StateFiles};
use duolog_state::command::CatalogCommand;
use duolog_state::{AppliedEntry, Command, EntryKind, Response};
use duolog_types::{BrokerGroupId, LogIndex, NodeId, Term};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::{Door, Gate};

/// An applied entry: where, and how its body begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub term: u64,
    pub index: u64,
    pub text: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct File {
    seen: Vec<Seen>,
    membership: Option<(u64, u64, Vec<u8>)>,
    retired: Vec<u64>,
}

impl File {
    fn applied(&self) -> Option<Mark> {
        self.seen.last().map(|seen| Mark { term: seen.term, index: seen.index })
    }
}

/// What every state of a node applied, and from what it was opened. Its flushes pass a gate.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<BrokerGroupId, Recorded>>>, Gate);

#[derive(Default)]
struct Recorded {
    file: File,
    /// How many entries the state held when it was opened last.
    opened_with: usize,
    /// How many checkpoints were made since then.
    checkpoints: u64,
}

/// As much of a body is kept.
const TEXT_BYTES_MAX: usize = 24;

/// The text at the beginning of a body.
pub fn text_of(body: &[u8]) -> String {
    let end = body.iter().take(TEXT_BYTES_MAX).position(|byte| *byte == 0).unwrap_or(body.len().min(TEXT_BYTES_MAX));
    String::from_utf8_lossy(&body[..end]).into_owned()
}

impl Recorder {
    /// Holds back flushes of the states.
    pub fn gate(&self) -> &Gate {
        &self.1
    }

    /// Everything that was applied, in order.
    pub fn seen(&self, group: BrokerGroupId) -> Vec<Seen> {
        self.0.lock().get(&group).map(|recorded| recorded.file.seen.clone()).unwrap_or_default()
    }

    /// The texts of the applied commands, in order.
    pub fn texts(&self, group: BrokerGroupId) -> Vec<String> {
        self.seen(group).into_iter().map(|seen| seen.text).filter(|text| !text.is_empty()).collect()
    }

    pub fn opened_with(&self, group: BrokerGroupId) -> usize {
        self.0.lock()[&group].opened_with
    }

    /// Checkpoints that were made of the state since it was opened: one for each attempt to send it.
    pub fn checkpoints(&self, group: BrokerGroupId) -> u64 {
        self.0.lock()[&group].checkpoints
    }
}

impl StateFactory for Recorder {
    fn open(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("state.json");
        let file: File = duolog_replication::files::read_json(&path)?.unwrap_or_default();
        let opened_with = file.seen.len();
        self.0.lock().insert(group, Recorded { file, opened_with, checkpoints: 0 });
        Ok(Box::new(State { group, path, recorder: self.clone() }))
    }

    /// A recorder of its own: that of the cluster goes on.
    fn open_copy(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        Self::default().open(group, dir)
    }
}

#[derive(Clone)]
struct State {
    group: BrokerGroupId,
    path: PathBuf,
    recorder: Recorder,
}

impl State {
    fn with<T>(&self, look: impl FnOnce(&mut File) -> T) -> T {
        let mut all = self.recorder.0.lock();
        look(&mut all.get_mut(&self.group).expect("inserted by open").file)
    }
}

impl ReplicatedState for State {
    fn applied(&self) -> Option<Mark> {
        self.with(|file| file.applied())
    }

    fn membership(&self) -> Option<(Mark, Vec<u8>)> {
        self.with(|file| file.membership.clone().map(|(term, index, json)| (Mark { term, index }, json)))
    }

    fn retired_nodes(&self) -> Vec<NodeId> {
        self.with(|file| file.retired.iter().copied().map(NodeId).collect())
    }

    fn apply(&mut self, run: &[AppliedEntry]) -> io::Result<Vec<CommandResponse>> {
        self.with(|file| {
            for entry in run {
                let next = file.seen.last().map_or(0, |seen| seen.index + 1);
                assert_eq!(entry.index.0, next, "entries are applied one after the other");
                if entry.kind == EntryKind::Command
                    && let Ok(Command::Catalog(CatalogCommand::RetireNode { node })) = Command::decode(&entry.body)
                {
                    file.retired.push(node.0);
                }
                let text = if entry.kind == EntryKind::Membership {
                    file.membership = Some((entry.term.0, entry.index.0, entry.body.to_vec()));
                    String::new()
                } else {
                    text_of(&entry.body)
                };
                file.seen.push(Seen { term: entry.term.0, index: entry.index.0, text });
            }
        });
        Ok(run.iter().map(|_| CommandResponse(Response::Ok)).collect())
    }

    fn files(&self) -> Arc<dyn StateFiles> {
        Arc::new(self.clone())
    }
}

impl StateFiles for State {
    fn make_durable(&self) -> io::Result<Option<Mark>> {
        self.recorder.1.pass(Door::Flush);
        let file = self.with(|file| file.clone());
        duolog_replication::files::write_json(&self.path, &file)?;
        Ok(file.applied())
    }

    fn checkpoint(&self, dir: &Path) -> io::Result<Option<Mark>> {
        std::fs::create_dir(dir)?;
        self.recorder.0.lock().get_mut(&self.group).expect("inserted by open").checkpoints += 1;
        let file = self.with(|file| file.clone());
        duolog_replication::files::write_json(&dir.join("state.json"), &file)?;
        Ok(file.applied())
    }
}

/// The core that appends an entry that begins so panics.
pub const PANIC: &str = "panic";

/// Looks at nothing but [`PANIC`].
pub struct NoTap;

impl EntryTap for NoTap {
    fn entry_appended(&self, _: Term, _: LogIndex, _: EntryKind, body: &Bytes) {
        assert!(text_of(body) != PANIC, "as the test wants it");
    }
    fn truncated_after(&self, _: Option<LogIndex>) {}
    fn is_answered_unflushed(&self, _: EntryKind, _: &Bytes) -> bool {
        true
    }
}
