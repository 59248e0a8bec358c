//! A damaged state comes back from another replica. The log stays, with everything that this node has acknowledged.
//!
//! ```text
//!  own log    ─────────── shared ──────────┤─ tail ─┤        tail: entries that never counted, if the peer applied others there
//!  the peer   ─────────── shared ──────────┤──────────────┤ P
//!                                          state at P, and the entries that this log lacks up to P
//! ```
//!
//! What the peer has applied is committed. So an entry here at the same index with another term never was, nor was anything behind it, and
//! may be cut off. Where the terms are equal, everything before is equal, too.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duolog_commit_log::CommitLog;
use duolog_types::{LogIndex, NodeId, Term};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::calls;
use crate::group::GroupOptions;
use crate::log_store::truncate_durably;
use crate::peer::Peer;
use crate::retired;
use crate::snapshot;
use crate::state_machine::{Received, StateCell};
use crate::type_config::{Member, term_of};
use crate::watermarks::Mark;
use crate::wire::proto;

/// Between two rounds in which nobody could help.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is said that a node waits.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the state of a replica. A damaged one is copied from another node first; where no node can help now, and the log still has its
/// first entry, it is made anew from the log.
///
/// # Errors
/// Those of the state; damage where nothing can be done about it.
pub(crate) async fn open_state(dir: &Path, log: &CommitLog, options: &GroupOptions) -> io::Result<Arc<StateCell>> {
    let damage = match StateCell::open(options.id, dir, log.clone(), options.factory.clone()) {
        Err(damage) if damage.kind() == io::ErrorKind::InvalidData => damage,
        opened => return opened,
    };
    tracing::warn!(broker_group = %options.id, %damage, "the state of this replica is damaged");
    let whole = Rebuild { log, scratch_dir: &dir.join("snapshot"), options }.run(&damage).await?;
    StateCell::replace_damaged(options.id, dir, log.clone(), options.factory.clone(), &whole)
}

/// A replica whose state is damaged.
struct Rebuild<'a> {
    log: &'a CommitLog,
    /// A directory for files under way.
    scratch_dir: &'a Path,
    options: &'a GroupOptions,
}

impl Rebuild<'_> {
    /// Gives a whole state, whose files are on disk. Without its log's beginning it waits for a node that has one.
    async fn run(&self, damage: &io::Error) -> io::Result<Received> {
        let broker_group = self.options.id;
        let nodes: Vec<_> = self.options.nodes.iter().filter(|(id, _)| *id != self.options.node_id).collect();
        let mut told = Instant::now();
        loop {
            let mut last = String::new();
            for (node, member) in &nodes {
                match self.copy(*node, member).await {
                    Ok(received) => {
                        let log_index = received.last.map(|mark| mark.index);
                        tracing::info!(%broker_group, from = %node, log_index, "copied the state");
                        return Ok(received);
                    }
                    Err(reason) => last = format!("node {node}: {reason}"),
                }
            }
            // The others may wait for this node's vote.
            if self.log.purged().is_none() {
                tracing::info!(%broker_group, last, "no other node has the state now: makes it anew from the log");
                let empty = self.scratch_dir.join("empty");
                std::fs::create_dir_all(&empty)?;
                return Ok(Received { dir: empty, last: None });
            }
            if nodes.is_empty() {
                let reason =
                    format!("{damage}. There is no other node to copy it from: restore a backup (duolog restore)");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            let asked = nodes.iter().map(|(node, member)| self.removal(*node, member));
            if let Some(reason) = join_all(asked).await.into_iter().flatten().next() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            if told.elapsed() >= TELL_INTERVAL {
                told = Instant::now();
                tracing::warn!(
                    %broker_group, last,
                    "waits for a node to copy the state from. If there is none any more, put a new node in the place of this one: \
                     duolog cluster replace"
                );
            }
            tokio::time::sleep(ROUND_INTERVAL).await;
        }
    }

    /// Nobody helps a node that was removed: it must end.
    async fn removal(&self, node: NodeId, member: &Member) -> Option<String> {
        let client = self.options.hooks.connect(node, member).ok()?;
        let reply = calls::probe(client, None).await.ok()?;
        retired::removal(&self.options.identity.get(), &reply)
    }

    async fn copy(&self, node: NodeId, member: &Member) -> Result<Received, String> {
        let GroupOptions { hooks, identity, .. } = self.options;
        let mut peer = Peer::new(hooks, identity, self.options.id, (node, member))?;
        self.cut_off(&mut peer).await?;
        if let Some(before_copy) = &hooks.before_copy {
            before_copy();
        }
        let next = self.log.last().map_or(0, |(_, index)| index.0 + 1);
        let request = peer.request(proto::FetchStateRequest { group: self.options.id.0, entries_from: next });
        let mut stream = peer.client.fetch_state(request).await.map_err(said)?.into_inner();
        let header = snapshot::receive_header(&mut stream).await.map_err(said)?;
        let arrived = snapshot::receive(header, stream, self.scratch_dir, self.log).await.map_err(said)?;
        let last = arrived.meta.last_log_id.ok_or("a state without a position")?;
        let last = Mark { term: term_of(&last), index: last.index };
        let is_shared = self.is_shared(&mut peer, last).await;
        if is_shared != Ok(true) {
            std::fs::remove_dir_all(&arrived.dir).map_err(|error| error.to_string())?;
            return Err(is_shared.err().unwrap_or_else(|| "it went on meanwhile".to_owned()));
        }
        Ok(Received { dir: arrived.dir, last: Some(last) })
    }

    /// Whether this log is the peer's up to where the shorter ends, of this log and the peer's state. The peer may have gone on since
    /// they were compared: what it applied then may differ from a tail that is still here, be that shorter or longer.
    async fn is_shared(&self, peer: &mut Peer<'_>, state: Mark) -> Result<bool, String> {
        match self.log.last() {
            None => Ok(true),
            Some((term, own_last)) if own_last.0 < state.index => Ok(term_at(peer, own_last.0).await? == term),
            Some(_) => Ok(self.term_of(state.index)? == Some(Term(state.term))),
        }
    }

    /// Cuts off a tail that differs from what the peer has applied.
    async fn cut_off(&self, peer: &mut Peer<'_>) -> Result<(), String> {
        let applied_next = peer.applied_next().await.map_err(said)?;
        if self.log.purged().is_some_and(|(_, purged)| purged.0 >= applied_next) {
            return Err("its state is behind what was purged from this node's log; it may have just started".to_owned());
        }
        let (Some((_, own_last)), Some(applied)) = (self.log.last(), applied_next.checked_sub(1)) else {
            return if applied_next == 0 { Err("it has nothing yet".to_owned()) } else { Ok(()) };
        };
        let first = own_last.0.min(applied);
        let mut shared = first;
        while self.term_of(shared)? != Some(term_at(peer, shared).await?) {
            if self.log.purged().is_some_and(|(_, purged)| purged.0 >= shared) {
                return Err(format!("its log differs from this one's at {shared}, where this one's was applied"));
            }
            let Some(before) = shared.checked_sub(1) else {
                return Err("no entry of its log is the same here".to_owned());
            };
            shared = before;
        }
        if shared == first {
            return Ok(());
        }
        tracing::warn!(broker_group = %self.options.id, after = shared, "cuts off entries that were never committed");
        truncate_durably(self.log, Some(LogIndex(shared))).await.map_err(|error| error.to_string())
    }

    fn term_of(&self, index: u64) -> Result<Option<Term>, String> {
        self.log.term_of(LogIndex(index)).map_err(|error| error.to_string())
    }
}

/// The term of an entry that the peer has applied.
async fn term_at(peer: &mut Peer<'_>, index: u64) -> Result<Term, String> {
    let entry = peer.entry(index).await.map_err(said)?;
    entry.map(|entry| Term(entry.term)).ok_or_else(|| format!("it has no entry {index} to compare with"))
}

fn said(status: tonic::Status) -> String {
    status.message().to_owned()
}
