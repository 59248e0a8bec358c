//! Goal: each promise of the interface on its own.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use duolog_commit_log::*;
use duolog_types::{FlushWish, LogIndex, Term};

const NEVER: FlushWish = FlushWish::WithinMs(u32::MAX);

/// Nothing is flushed by time or marked.
fn quiet() -> LogOptions {
    LogOptions {
        flush_delay_ms_max: 3_600_000,
        idle_mark_after_ms: 3_600_000,
        allocation_step_bytes: 1 << 20,
        queue_bytes_max: 1 << 20,
        ..LogOptions::default()
    }
}

fn indexes(entries: &[LogEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index.0).collect()
}

#[test]
fn entries_are_readable_at_once_and_after_reopening() {
    let disk = SimDisk::new();
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.last, None);
    log.append((0..50).map(|i| entry(i, 1, vec![i as u8; 300], NEVER)).collect(), None).unwrap();
    assert_eq!(indexes(&log.read(LogIndex(10)..LogIndex(99), usize::MAX).unwrap()), (10..50).collect::<Vec<_>>());
    assert_eq!(indexes(&log.read(LogIndex(10)..LogIndex(20), 700).unwrap()), [10, 11]);
    assert_eq!(indexes(&log.read(LogIndex(10)..LogIndex(20), 0).unwrap()), [10], "at least one");
    assert!(matches!(log.append(vec![entry(51, 1, "", NEVER)], None), Err(LogError::OutOfOrder { .. })));
    log.close().unwrap();
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.last, recovered.torn, recovered.rewritten_bytes), (Some((Term(1), LogIndex(49))), None, 0));
    for i in 0..50 {
        assert_eq!(log.read_any(LogIndex(i)).unwrap().unwrap().body, vec![i as u8; 300]);
        assert_eq!(log.read_slice(LogIndex(i), 7..9).unwrap().unwrap(), vec![i as u8; 2]);
        assert_eq!(log.term_of(LogIndex(i)).unwrap(), Some(Term(1)));
    }
    assert!(matches!(log.read_slice(LogIndex(3), 7..301), Err(LogError::OutOfRange { .. })));
    assert!(log.segments().len() > 3);
}

#[test]
fn many_appends_share_few_flushes() {
    let disk = SimDisk::new();
    let (log, _) = open_with(&disk, LogOptions { unanswered_appends_max: 32, ..quiet() }).unwrap();
    let before = disk.syncs();
    let (sender, receiver) = mpsc::channel();
    for i in 0..32 {
        let sender = sender.clone();
        log.append(vec![entry(i, 1, "x", NEVER)], Some(Box::new(move |r| sender.send(r).unwrap()))).unwrap();
    }
    (0..32).for_each(|_| receiver.recv().unwrap().unwrap());
    assert_eq!(disk.syncs() - before, 1, "32 waiting appends, one flush");
    // A vote flushes at once, and everything before it.
    log.append(vec![entry(32, 1, "x", NEVER)], None).unwrap();
    log.save_vote("me".into(), Box::new(move |r| sender.send(r).unwrap()));
    receiver.recv().unwrap().unwrap();
    assert_eq!(log.flushed(), Some((Term(1), LogIndex(32))));
    assert_eq!(disk.syncs() - before, 2);
}

#[test]
fn deadlines_and_bytes_make_a_flush_due() {
    for (options, wish, length) in [
        (LogOptions { flush_delay_ms_max: 5, ..quiet() }, NEVER, 1),
        (quiet(), FlushWish::WithinMs(5), 1),
        (quiet(), FlushWish::Now, 1),
        (LogOptions { flush_bytes: 1000, ..quiet() }, NEVER, 1000),
    ] {
        let (log, _) = open_with(&SimDisk::new(), options).unwrap();
        let (sender, receiver) = mpsc::channel();
        log.append(vec![entry(0, 1, vec![0; length], wish)], Some(Box::new(move |r| sender.send(r).unwrap()))).unwrap();
        receiver.recv().unwrap().unwrap();
    }
}

#[test]
fn written_does_not_wait_for_a_flush_under_way() {
    struct Watch(mpsc::Sender<(&'static str, u64)>);
    impl LogObserver for Watch {
        fn written(&self, _: Term, index: LogIndex) {
            let _ = self.0.send(("written", index.0));
        }
        fn flushed(&self, _: Term, index: LogIndex) {
            let _ = self.0.send(("flushed", index.0));
        }
        fn failed(&self, _: &LogError) {}
    }
    let disk = SimDisk::new();
    let (sender, receiver) = mpsc::channel();
    let (log, _) = CommitLog::open(Arc::new(disk.process()), Path::new(DIR), quiet(), Arc::new(Watch(sender))).unwrap();
    disk.set_flush_delay(Duration::from_millis(200));
    let before = disk.syncs();
    log.append(vec![entry(0, 1, "a", FlushWish::Now)], None).unwrap();
    while disk.syncs() == before {
        std::thread::yield_now();
    }
    log.append(vec![entry(1, 1, "b", FlushWish::Now)], None).unwrap();
    let events: Vec<_> = receiver.iter().take(4).collect();
    assert_eq!(events.iter().filter(|e| e.0 == "written").map(|e| e.1).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(events.iter().filter(|e| e.0 == "flushed").map(|e| e.1).collect::<Vec<_>>(), [0, 1], "two flushes");
}

#[test]
fn what_replaces_a_flushed_entry_is_not_flushed_with_it() {
    let (sender, receiver) = mpsc::channel();
    let driver = LogDriver::Steps(Arc::new(move |steps| sender.send(steps).unwrap()));
    let (log, _) = open_with(&SimDisk::new(), LogOptions { driver, ..quiet() }).unwrap();
    let steps = receiver.recv().unwrap();
    let append = |indexes: std::ops::Range<u64>, term| {
        log.append(indexes.map(|index| entry(index, term, "x", FlushWish::Now)).collect(), None).unwrap();
    };
    // So many entries from the first on are flushed.
    let flushed = || (0..20).take_while(|index| log.is_flushed(LogIndex(*index))).count();
    append(0..5, 1);
    append(5..10, 3);
    assert_eq!(steps.write(), Step::Done);
    assert_eq!(flushed(), 0);
    assert_eq!(steps.begin_flush(), Step::Done);
    steps.end_flush();
    assert_eq!(flushed(), 10);
    // Of a lower term, as they may be: a candidate with more entries of it may win against a longer term's few.
    log.truncate_after(Some(LogIndex(4))).unwrap();
    append(5..8, 2);
    assert_eq!(flushed(), 5, "queued");
    assert_eq!(steps.write(), Step::Done);
    assert_eq!(flushed(), 5, "written");
    assert_eq!(steps.begin_flush(), Step::Done);
    // While that flush is under way.
    log.truncate_after(Some(LogIndex(6))).unwrap();
    append(7..9, 4);
    assert_eq!(steps.write(), Step::Done);
    steps.end_flush();
    assert_eq!(flushed(), 7);
    assert_eq!(steps.begin_flush(), Step::Done);
    steps.end_flush();
    assert_eq!(flushed(), 9);
}

/// Hears why the log died.
struct Failures(mpsc::Sender<String>);

impl LogObserver for Failures {
    fn written(&self, _: Term, _: LogIndex) {}
    fn flushed(&self, _: Term, _: LogIndex) {}
    fn failed(&self, error: &LogError) {
        self.0.send(error.to_string()).unwrap();
    }
}

#[test]
fn a_panic_of_a_thread_kills_the_log() {
    /// Panics once it is armed, of the writer or of the flusher.
    struct Panics {
        of_writer: bool,
        is_armed: AtomicBool,
    }
    impl Panics {
        fn at(&self, is_writer: bool) {
            assert!(self.of_writer != is_writer || !self.is_armed.load(Ordering::SeqCst), "as the test wants it");
        }
    }
    impl DiskHook for Panics {
        fn before_write(&self) {
            self.at(true);
        }
        fn flush(&self, file: &dyn DiskFile) -> std::io::Result<()> {
            self.at(false);
            file.sync_data()
        }
    }
    for of_writer in [true, false] {
        let hook = Arc::new(Panics { of_writer, is_armed: AtomicBool::new(false) });
        let disk = HookedDisk::new(Arc::new(SimDisk::new().process()), hook.clone());
        let (sender, receiver) = mpsc::channel();
        let (log, _) = CommitLog::open(Arc::new(disk), Path::new(DIR), quiet(), Arc::new(Failures(sender))).unwrap();
        append_and_wait(&log, 0..3, 1);
        hook.is_armed.store(true, Ordering::SeqCst);
        log.append(vec![entry(3, 1, "x", FlushWish::Now)], None).unwrap();
        let failure = receiver.recv_timeout(Duration::from_secs(30)).expect("somebody notices");
        assert!(failure.contains("panicked"), "{failure}");
        assert!(log.append(vec![entry(4, 1, "x", FlushWish::Now)], None).is_err());
        assert!(log.close().is_err());
    }
}

#[test]
fn a_failed_flush_or_write_kills_the_log() {
    for break_disk in [(|disk: &SimDisk| disk.fail_sync(0)) as fn(&SimDisk), |disk| disk.fail_write(0)] {
        let disk = SimDisk::new();
        let (sender, receiver) = mpsc::channel();
        let (log, _) =
            CommitLog::open(Arc::new(disk.process()), Path::new(DIR), quiet(), Arc::new(Failures(sender))).unwrap();
        append_and_wait(&log, 0..3, 1);
        break_disk(&disk);
        assert!(log.failure().is_none());
        let (done, waited) = mpsc::channel();
        let asked = log.clone();
        let on_flushed = move |result: Result<(), LogError>| done.send((result, asked.failure())).unwrap();
        log.append(vec![entry(3, 1, "x", FlushWish::Now)], Some(Box::new(on_flushed))).unwrap();
        let (result, failure) = waited.recv().unwrap();
        assert!(matches!(result, Err(LogError::Io { .. })));
        assert!(matches!(failure, Some(LogError::Io { .. })), "dead before anybody hears of it");
        assert!(receiver.recv().unwrap().contains("simulated"));
        let syncs = disk.syncs();
        assert!(log.append(vec![entry(4, 1, "x", FlushWish::Now)], None).is_err());
        assert!(log.flush_and_wait().is_err());
        assert!(log.truncate_after(None).is_err());
        assert!(log.read_any(LogIndex(0)).is_err());
        assert!(log.close().is_err());
        assert_eq!(disk.syncs(), syncs, "a failed flush is never tried again");
        assert!(receiver.try_recv().is_err(), "told once");
    }
}

#[test]
fn a_full_disk_refuses_entries_and_heals() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..3, 1);
    let used: u64 = disk.paths().iter().map(|path| disk.file(path).len() as u64).sum();
    disk.set_space_bytes_max(Some(used));
    let mut next = 3;
    let error = loop {
        match log.append(vec![entry(next, 1, vec![1; 500], FlushWish::Now)], None) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
        log.flush_and_wait().unwrap();
    };
    assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
    let (sender, receiver) = mpsc::channel();
    log.save_vote("v".into(), Box::new(move |r| sender.send(r).unwrap()));
    receiver.recv().unwrap().expect("votes still find space");
    assert_eq!(log.read_any(LogIndex(0)).unwrap().unwrap().index, LogIndex(0));
    disk.set_space_bytes_max(None);
    while log.append(vec![entry(next, 1, "x", FlushWish::Now)], None).is_err() {
        std::thread::yield_now();
    }
    log.flush_and_wait().unwrap();
    disk.power_loss(1);
    assert_eq!(open(&disk).1.last, Some((Term(1), LogIndex(next))));
}

#[test]
fn purge_beyond_the_last_entry_empties_the_log_for_raft_only() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..10, 1);
    log.purge(LogIndex(4), Term(1));
    assert!(matches!(log.read(LogIndex(4)..LogIndex(6), 100), Err(LogError::Purged { .. })));
    assert_eq!(log.first_index(), Some(LogIndex(5)));
    assert!(matches!(log.truncate_after(Some(LogIndex(3))), Err(LogError::Purged { .. })));
    log.purge(LogIndex(500), Term(3));
    for reopened in [false, true] {
        let log = if reopened {
            disk.kill();
            open(&disk).0
        } else {
            log.clone()
        };
        assert_eq!((log.first_index(), log.last()), (None, Some((Term(3), LogIndex(500)))));
        assert_eq!(log.read_any(LogIndex(9)).unwrap().unwrap().body, "body 9 of 1");
        assert_eq!(log.read_any(LogIndex(10)).unwrap(), None);
        log.flush_and_wait().unwrap();
    }
    let log = open(&disk).0;
    append_and_wait(&log, 501..503, 4);
    let freed = log.delete_segments_below(LogIndex(501)).unwrap();
    assert!(freed > 0);
    assert_eq!(log.read_any(LogIndex(9)).unwrap(), None);
    disk.power_loss(3);
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.purged, recovered.last), (Some((Term(3), LogIndex(500))), Some((Term(4), LogIndex(502)))));
    assert_eq!(indexes(&log.read(LogIndex(501)..LogIndex(600), 1000).unwrap()), [501, 502]);
}

#[test]
fn archives_serve_what_no_segment_holds() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    let mut writer = log.archive_writer(LogIndex(100));
    for i in 100..120 {
        writer.append(&entry(i, 2, format!("archived {i}"), NEVER)).unwrap();
    }
    assert!(writer.append(&entry(121, 2, "", NEVER)).is_err());
    drop(log.archive_writer(LogIndex(7)));
    writer.finish().unwrap();
    log.purge(LogIndex(119), Term(2));
    append_and_wait(&log, 120..122, 2);
    disk.power_loss(9);
    let (log, _) = open(&disk);
    for i in 100..120 {
        assert_eq!(log.read_any(LogIndex(i)).unwrap().unwrap().body, format!("archived {i}"));
    }
    assert_eq!(log.read_slice(LogIndex(105), 0..8).unwrap().unwrap(), "archived");
    assert_eq!(log.read_any(LogIndex(99)).unwrap(), None);
    log.delete_segments_below(LogIndex(119)).unwrap();
    assert!(log.read_any(LogIndex(105)).unwrap().is_some(), "the archive reaches to 119");
    assert!(log.delete_segments_below(LogIndex(120)).unwrap() > 0);
    assert_eq!(log.read_any(LogIndex(105)).unwrap(), None);
}

#[test]
fn readers_run_beside_appends_and_truncations() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..100, 1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let log = log.clone();
            scope.spawn(move || {
                for round in 0..40 {
                    for entry in log.read(LogIndex(round)..LogIndex(1000), 10_000).unwrap() {
                        assert_eq!(entry.body, format!("body {} of {}", entry.index, entry.term));
                    }
                }
            });
        }
        for term in 2..30 {
            log.truncate_after(Some(LogIndex(80))).unwrap();
            let entries = (81..140).map(|i| entry(i, term, format!("body {i} of {term}"), FlushWish::Now)).collect();
            log.append(entries, None).unwrap();
        }
    });
    assert_eq!(log.last(), Some((Term(29), LogIndex(139))));
}

#[test]
fn the_real_disk_does_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let usage = disk.usage(dir.path()).unwrap();
    assert!(usage.free_bytes > 0 && usage.free_bytes <= usage.total_bytes, "{usage:?}");
    for round in 0..3 {
        let (log, recovered) = CommitLog::open(disk.clone(), &path, small(), Arc::new(Deaf)).unwrap();
        assert_eq!(recovered.last.map(|(_, i)| i.0 + 1).unwrap_or(0), round * 100);
        append_and_wait(&log, round * 100..round * 100 + 100, round + 1);
        for i in 0..(round + 1) * 100 {
            assert_eq!(
                log.read_any(LogIndex(i)).unwrap().unwrap().body,
                Bytes::from(format!("body {i} of {}", i / 100 + 1))
            );
        }
        // Once by dropping, as after a crash.
        if round != 1 {
            log.close().unwrap();
        }
    }
}

#[test]
fn an_idle_log_writes_down_how_far_it_is_flushed() {
    // Taken of the log that writes no mark: the other one may have written it before anybody looks.
    let mut entries_bytes = 0;
    for (idle_mark_after_ms, rewritten) in [(3_600_000, true), (1, false)] {
        let disk = SimDisk::new();
        let (log, _) = open_with(&disk, LogOptions { idle_mark_after_ms, ..quiet() }).unwrap();
        append_and_wait(&log, 0..5, 1);
        let size_bytes = || log.segments()[0].size_bytes;
        if rewritten {
            entries_bytes = size_bytes();
        }
        let syncs = disk.syncs();
        while !rewritten && size_bytes() == entries_bytes {
            std::thread::yield_now();
        }
        disk.kill();
        assert_eq!(disk.syncs(), syncs, "the mark itself is not flushed");
        let (_, recovered) = open(&disk);
        assert_eq!(recovered.rewritten_bytes > 0, rewritten, "{recovered:?}");
        assert_eq!(recovered.last, Some((Term(1), LogIndex(4))));
    }
}
