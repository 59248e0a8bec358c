//! The flusher thread: decides when, and makes everything written so far durable with one fdatasync.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::disk::DiskFile;
use crate::entry::LogId;
use crate::error::LogError;
use crate::format::Extent;
use crate::index_file;
use crate::shared::{FlushCallback, FlushState, InFlight, SealedSegment, Shared, Urgency, answer, lesser};
use crate::steps::Step;

/// One flush: what was written when it began, and who waits for it.
struct Flush {
    sealed: Vec<SealedSegment>,
    active: Arc<dyn DiskFile>,
    active_path: std::path::PathBuf,
    dir_changed: bool,
    target: Extent,
    target_last: Option<LogId>,
    callbacks: Vec<FlushCallback>,
}

pub(crate) fn run(shared: &Shared) {
    while let Some(flush) = next(shared) {
        if let Err(error) = sync(shared, &flush) {
            fail(shared, flush, error);
            return;
        }
        finish(shared, flush);
    }
}

/// A flush whose files are synced; it counts when it is finished.
pub(crate) struct Synced(Flush, Result<(), LogError>);

/// Takes a flush that is due and syncs its files; else when to look again.
pub(crate) fn step(shared: &Shared) -> Result<Synced, Step> {
    let flush = {
        let mut state = shared.flush.lock();
        match due(shared, &state) {
            _ if state.stopped => return Err(Step::Ended),
            Some(Urgency::Now) if state.in_flight == InFlight::Idle => begin(&mut state),
            Some(Urgency::Until(deadline)) => return Err(Step::Wait(Some(deadline))),
            Some(Urgency::Now) | None => return Err(Step::Wait(None)),
        }
    };
    let result = sync(shared, &flush);
    Ok(Synced(flush, result))
}

/// Tells everybody how the flush ended.
pub(crate) fn finish_step(shared: &Shared, Synced(flush, result): Synced) {
    match result {
        Ok(()) => finish(shared, flush),
        Err(error) => fail(shared, flush, error),
    }
}

/// The log is dead before anybody hears of it: whoever does may ask why.
fn fail(shared: &Shared, flush: Flush, error: LogError) {
    shared.fail(&error);
    answer(flush.callbacks, &Err(error));
}

/// Waits until a flush is due and takes it. `None` when the log ends.
fn next(shared: &Shared) -> Option<Flush> {
    let mut state = shared.flush.lock();
    loop {
        if state.stopped {
            return None;
        }
        match due(shared, &state) {
            Some(Urgency::Now) => return Some(begin(&mut state)),
            Some(Urgency::Until(deadline)) => {
                shared.due.wait_until(&mut state, deadline);
            }
            None => shared.due.wait(&mut state),
        }
    }
}

/// The whole rule of DESIGN.md, section 4, "flushing".
fn due(shared: &Shared, state: &FlushState) -> Option<Urgency> {
    let options = &shared.options;
    if state.unflushed_bytes >= options.flush_bytes || state.waiting.len() >= options.unanswered_appends_max {
        return Some(Urgency::Now);
    }
    match state.urgency {
        Some(Urgency::Until(deadline)) if deadline <= Instant::now() => Some(Urgency::Now),
        urgency => urgency,
    }
}

fn begin(state: &mut FlushState) -> Flush {
    state.urgency = None;
    state.in_flight = InFlight::Flushing { cut: None, bytes: std::mem::take(&mut state.unflushed_bytes) };
    Flush {
        sealed: std::mem::take(&mut state.sealed),
        active: state.active.clone(),
        active_path: state.active_path.clone(),
        dir_changed: std::mem::take(&mut state.dir_changed),
        target: state.written,
        target_last: state.written_last,
        callbacks: std::mem::take(&mut state.waiting),
    }
}

/// All files side by side: a disk that takes long for a flush takes as long for several. Nothing of any of them counts
/// before all are flushed, and the directory.
fn sync(shared: &Shared, flush: &Flush) -> Result<(), LogError> {
    let sync_file = |file: &dyn DiskFile, path: &Path| file.sync_data().map_err(|e| LogError::io("flush", path, e));
    if flush.sealed.is_empty() && !flush.dir_changed {
        return sync_file(&*flush.active, &flush.active_path);
    }
    if shared.options.driver.is_stepped() {
        for sealed in &flush.sealed {
            sync_file(&*sealed.file, &sealed.segment.path)?;
        }
        sync_file(&*flush.active, &flush.active_path)?;
        return shared.disk.sync_dir(&shared.dir).map_err(|e| LogError::io("flush", &shared.dir, e));
    }
    std::thread::scope(|scope| {
        let mut others: Vec<_> = flush
            .sealed
            .iter()
            .map(|sealed| scope.spawn(move || sync_file(&*sealed.file, &sealed.segment.path)))
            .collect();
        if flush.dir_changed {
            others.push(
                scope.spawn(|| shared.disk.sync_dir(&shared.dir).map_err(|e| LogError::io("flush", &shared.dir, e))),
            );
        }
        let active = sync_file(&*flush.active, &flush.active_path);
        let others: Vec<_> = others.into_iter().map(|thread| thread.join().expect("a flush does not panic")).collect();
        others.into_iter().collect::<Result<(), LogError>>().and(active)
    })
}

fn finish(shared: &Shared, flush: Flush) {
    let published = {
        let mut state = shared.flush.lock();
        let before = state.flushed_last;
        let cut = match std::mem::replace(&mut state.in_flight, InFlight::Idle) {
            InFlight::Flushing { cut, .. } => cut,
            InFlight::Idle => None,
        };
        state.flushed = flush.target;
        state.flushed_last = cut.map_or(flush.target_last, |kept| lesser(kept, flush.target_last));
        state.flushed_last.filter(|_| cut.is_none() && state.flushed_last != before)
    };
    if let Some((term, index)) = published {
        shared.observer.flushed(term, index);
    }
    answer(flush.callbacks, &Ok(()));
    shared.flush_done.notify_all();
    shared.wake();
    write_sidecars(shared, &flush.sealed);
}

/// A sidecar only saves time at the next start: without it the segment is scanned.
fn write_sidecars(shared: &Shared, sealed: &[SealedSegment]) {
    for sealed in sealed {
        let Some((summary, rows)) = &sealed.index else { continue };
        match index_file::write(&*shared.disk, &sealed.segment.path, summary, rows) {
            Ok(()) => shared.table.write().indexed(sealed.segment.sequence),
            Err(error) => tracing::warn!(%error, "no index of a sealed segment; the next start scans it"),
        }
    }
}
