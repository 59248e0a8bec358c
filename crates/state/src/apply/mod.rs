//! The state machine: a run of log entries in, one atomic write set out.
//!
//! Invariants, after every [`Machine::apply`]:
//! - the tables' applied index is the index of the run's last entry; it grows by exactly one per entry;
//! - the tables are a pure function of the log up to it, however the log was cut into runs;
//! - the caches hold nothing that the tables do not say.

mod access;
mod batches;
mod cache;
mod catalog;
mod context;
mod groups;
mod hidden;
mod partitions;
mod pop;

use duolog_types::LogIndex;

use crate::codec;
use crate::command::{Command, Response};
use crate::event::StateEvent;
use crate::kinds::{AppliedEntry, EntryKind};
use crate::rows::{Applied, MembershipRow};
use crate::run::{RunBarrier, RunJudge};
use crate::tables::{Overlay, TableId, TableWriter};
use crate::{StateError, keys, reader};
use cache::Caches;
use context::Context;

/// What a run of entries came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppliedRun {
    /// One response per entry, in order.
    pub responses: Vec<Response>,
    /// What changed, in the order of the log.
    pub events: Vec<StateEvent>,
}

/// The replicated state of one broker group on one node: the tables and what is derived from them.
pub struct Machine<T> {
    tables: T,
    applied: Option<Applied>,
    judge: RunJudge,
    caches: Caches,
    has_failed: bool,
}

impl<T: TableWriter> Machine<T> {
    /// Goes on where the tables stand.
    ///
    /// # Errors
    /// When the tables fail or hold what cannot be decoded.
    pub fn open(tables: T) -> Result<Self, StateError> {
        let applied = reader::applied(&tables)?;
        let judge = RunJudge::new(reader::open_run(&tables)?);
        Ok(Self { tables, applied, judge, caches: Caches::default(), has_failed: false })
    }

    /// The last applied entry; `None` when nothing was applied.
    #[must_use]
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The last applied membership.
    ///
    /// # Errors
    /// When the tables fail.
    pub fn membership(&self) -> Result<Option<MembershipRow>, StateError> {
        reader::membership(&self.tables)
    }

    /// The tables, for readers.
    #[must_use]
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// The judge as it stands at the applied index: the leader's append hook starts from a copy.
    #[must_use]
    pub fn judge(&self) -> RunJudge {
        self.judge
    }

    /// Applies entries in order and writes all their changes at once.
    ///
    /// # Errors
    /// `Gap`, `TermWentBack`, undecodable input, failing tables. Then nothing of the run was written, and every later
    /// call gives `Stopped`: the replica must not serve any more.
    pub fn apply(&mut self, run: &[AppliedEntry]) -> Result<AppliedRun, StateError> {
        if self.has_failed {
            return Err(StateError::Stopped);
        }
        let applied = self.try_apply(run);
        self.has_failed = applied.is_err();
        applied
    }

    fn try_apply(&mut self, run: &[AppliedEntry]) -> Result<AppliedRun, StateError> {
        let Some(last) = run.last() else {
            return Ok(AppliedRun::default());
        };
        let before = self.judge;
        let mut context = Context::new(Overlay::new(&self.tables), &mut self.caches);
        let mut responses = Vec::with_capacity(run.len());
        let mut applied = self.applied;
        for entry in run {
            check_follows(applied, entry)?;
            responses.push(apply_entry(&mut context, &mut self.judge, entry)?);
            applied = Some(Applied { term: entry.term, index: entry.index });
        }
        let position = Applied { term: last.term, index: last.index };
        context.put(TableId::Meta, keys::APPLIED.to_vec(), &position);
        if let Some(open) = self.judge.open().filter(|_| self.judge != before) {
            context.put(TableId::Meta, keys::RUN.to_vec(), &open);
        }
        let (changes, events) = context.finish();
        self.tables.write(&changes)?;
        self.caches.trim();
        self.applied = Some(position);
        Ok(AppliedRun { responses, events })
    }
}

fn check_follows(applied: Option<Applied>, entry: &AppliedEntry) -> Result<(), StateError> {
    let expected = applied.map_or(LogIndex(0), |applied| LogIndex(applied.index.0 + 1));
    if entry.index != expected {
        return Err(StateError::Gap { found: entry.index, expected });
    }
    match applied {
        Some(applied) if entry.term < applied.term => {
            Err(StateError::TermWentBack { index: entry.index, found: entry.term, applied: applied.term })
        }
        _ => Ok(()),
    }
}

fn apply_entry(context: &mut Context<'_>, judge: &mut RunJudge, entry: &AppliedEntry) -> Result<Response, StateError> {
    let bad = |error: StateError| StateError::BadEntry { index: entry.index, reason: error.to_string() };
    match entry.kind {
        EntryKind::Blank => Ok(Response::Ok),
        EntryKind::Membership => {
            let position = Applied { term: entry.term, index: entry.index };
            let row = MembershipRow { position, body: entry.body.to_vec() };
            context.put(TableId::Meta, keys::MEMBERSHIP.to_vec(), &row);
            Ok(Response::Ok)
        }
        EntryKind::Batches => batches::apply(context, judge, entry),
        EntryKind::Command => match codec::decode(&entry.body).map_err(bad)? {
            Command::Catalog(command) => catalog::apply(context, command),
            Command::Partitions(command) => partitions::apply(context, command),
            Command::Groups(command) => groups::apply(context, command),
            Command::Pop(updates) => pop::apply(context, updates),
            Command::Hidden(command) => hidden::apply(context, command),
        },
        EntryKind::RunBarrier => {
            let barrier = RunBarrier::decode(&entry.body).map_err(bad)?;
            Ok(if judge.barrier(entry.term, barrier) { Response::RunOpened } else { Response::RunRefused })
        }
    }
}
