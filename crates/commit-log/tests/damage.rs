//! Goal: a torn tail is cut, damage to what was flushed is refused, and nothing half is ever served.

mod common;

use std::path::PathBuf;

use common::*;
use duolog_commit_log::*;
use duolog_types::{FlushWish, LogIndex, Term};

const NEVER: FlushWish = FlushWish::WithinMs(u32::MAX);

/// Ten entries that a record says are flushed, then five that none does; killed. Gives the disk, the segment, its
/// bytes without the zeros at the end, and where the five begin.
fn killed_log() -> (SimDisk, PathBuf, Vec<u8>, usize) {
    killed_log_on(SimDisk::new())
}

#[test]
fn a_file_cut_at_any_byte_opens_with_whole_entries() {
    let (original, path, bytes, flushed) = killed_log();
    for cut in flushed - 40..=bytes.len() {
        let disk = original.fork();
        disk.set_file(&path, &bytes[..cut]);
        let opened = open_with(&disk, small());
        // The first of the late records tells that the ten are flushed: without it nothing says so.
        let claimed = cut >= flushed + 72;
        if !claimed && cut < flushed {
            let (log, recovered) = opened.unwrap();
            assert!(recovered.last.unwrap().1.0 >= 8 && log.read_any(LogIndex(8)).unwrap().is_some(), "cut at {cut}");
            continue;
        }
        let (log, recovered) = opened.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let next = recovered.last.unwrap().1.0 + 1;
        assert!(next >= 10, "cut at {cut}");
        for i in 0..next {
            let expected = if i < 10 { format!("body {i} of 1") } else { format!("late {i}") };
            assert_eq!(log.read_any(LogIndex(i)).unwrap().unwrap().body, expected, "cut at {cut}");
        }
        append_and_wait(&log, next..next + 2, 2);
        disk.power_loss(cut as u64);
        let (log, recovered) = open(&disk);
        assert_eq!(recovered.last, Some((Term(2), LogIndex(next + 1))), "cut at {cut}");
        assert_eq!(log.read_any(LogIndex(9)).unwrap().unwrap().body, "body 9 of 1");
    }
}

#[test]
fn a_flipped_byte_is_corruption_below_the_flushed_position_and_a_torn_tail_above() {
    let (original, path, bytes, flushed) = killed_log();
    let (mut corrupt, mut torn) = (0, 0);
    for at in (0..bytes.len()).step_by(3) {
        let disk = original.fork();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        disk.set_file(&path, &damaged);
        match open_with(&disk, small()) {
            Err(LogError::Corrupt { file, .. }) => {
                assert!(at < flushed, "byte {at} was never flushed");
                assert_eq!(file, path);
                assert_eq!(disk.file(&path), damaged, "nothing is changed");
                corrupt += 1;
            }
            Err(LogError::UnsupportedVersion { .. }) => assert!(at < 64),
            Err(error) => panic!("byte {at}: {error}"),
            Ok((log, recovered)) => {
                let whole = recovered.last == Some((Term(1), LogIndex(14)));
                // A byte of padding matters to nobody.
                assert!(whole || at >= flushed, "byte {at} was flushed");
                for i in 0..=recovered.last.unwrap().1.0 {
                    assert!(log.read_any(LogIndex(i)).unwrap().is_some());
                }
                if !whole {
                    let tail = recovered.torn.expect("reported");
                    assert!(tail.segment == path && tail.position_bytes as usize <= at && tail.bytes_cut > 0);
                    torn += 1;
                }
            }
        }
    }
    assert!(corrupt > 100 && torn > 50, "{corrupt} {torn}");
}

#[test]
fn a_damaged_segment_header_never_takes_back_what_was_flushed() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..100, 1);
    log.close().unwrap();
    // The segment that this start begins holds little more than its header.
    let (log, _) = open(&disk);
    append_and_wait(&log, 100..102, 1);
    append_and_wait(&log, 102..104, 1);
    disk.kill();
    drop(log);
    let path = segment_files(&disk).pop().unwrap();
    let bytes = disk.file(&path);
    let header_bytes = 64 + 50;
    for at in 0..header_bytes {
        let disk = disk.fork();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        disk.set_file(&path, &damaged);
        match open_with(&disk, small()) {
            Err(LogError::Corrupt { file, .. } | LogError::UnsupportedVersion { file, .. }) => assert_eq!(file, path),
            Err(error) => panic!("byte {at}: {error}"),
            Ok((_, recovered)) => panic!("byte {at}: opened up to {:?}", recovered.last),
        }
        assert_eq!(disk.file(&path), damaged, "nothing is changed");
    }
}

#[test]
fn records_of_another_file_or_place_never_pass() {
    let (disk, path, bytes, flushed) = killed_log();
    // The last record once more, behind itself: valid alone, but not the next of the chain.
    let again = [&bytes[..], &bytes[bytes.len() - 72..]].concat();
    // The late records of a log with another salt.
    let (_, _, mut other, _) = {
        let shifted = SimDisk::new();
        Disk::random_salt(&shifted);
        killed_log_on(shifted)
    };
    assert_eq!(other.len(), bytes.len());
    other[..flushed].copy_from_slice(&bytes[..flushed]);
    for (content, last) in [(again, 14), (other, 9)] {
        let disk = disk.fork();
        disk.set_file(&path, &content);
        let (_, recovered) = open(&disk);
        assert_eq!(recovered.last, Some((Term(1), LogIndex(last))));
        assert!(recovered.torn.is_some());
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..200, 1);
    append_and_wait(&log, 200..210, 1);
    log.close().unwrap();
    let files = segment_files(&disk);
    assert!(files.len() > 3);
    for file in &files[..files.len() - 1] {
        let disk = disk.fork();
        Disk::remove(&disk, file).unwrap();
        assert!(matches!(open_with(&disk, small()), Err(LogError::Corrupt { .. })), "{}", file.display());
    }
}

#[test]
fn a_damaged_sealed_entry_is_not_served() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    append_and_wait(&log, 0..200, 1);
    log.close().unwrap();
    drop(open(&disk));
    let file = segment_files(&disk)[1].clone();
    let mut bytes = disk.file(&file);
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    disk.set_file(&file, &bytes);
    let (log, _) = open(&disk);
    let errors = (0..200).filter(|i| log.read_any(LogIndex(*i)).is_err()).count();
    assert!(errors <= 1, "at most the damaged one");
    // A damaged sidecar costs a scan, nothing else.
    let sidecar = PathBuf::from(format!("{}.index", segment_files(&disk)[2].display()));
    let mut bytes = disk.file(&sidecar);
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    disk.set_file(&sidecar, &bytes);
    let (log, _) = open(&disk);
    assert_eq!((0..200).filter(|i| log.read_any(LogIndex(*i)).is_err()).count(), errors);
}

fn killed_log_on(disk: SimDisk) -> (SimDisk, PathBuf, Vec<u8>, usize) {
    let options = LogOptions {
        flush_delay_ms_max: 3_600_000,
        idle_mark_after_ms: 3_600_000,
        segment_size_bytes: 1 << 20,
        ..small()
    };
    let (log, _) = open_with(&disk, options).unwrap();
    append_and_wait(&log, 0..10, 1);
    let path = segment_files(&disk).pop().unwrap();
    let flushed = log.segments().last().unwrap().size_bytes as usize;
    for i in 10..15 {
        log.append(vec![entry(i, 1, format!("late {i}"), NEVER)], None).unwrap();
    }
    while log.written() != Some((Term(1), LogIndex(14))) {
        std::thread::yield_now();
    }
    let end = log.segments().last().unwrap().size_bytes as usize;
    disk.kill();
    let mut bytes = disk.file(&path);
    bytes.truncate(end);
    (disk, path, bytes, flushed)
}

fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.file(&path))).collect()
}

fn is_refused_unchanged(disk: &SimDisk) {
    let before = contents(disk);
    let error = open_with(disk, small()).map(|_| ()).expect_err("it is damaged");
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    assert!(contents(disk) == before, "a refusal changed files");
}

/// Found by fuzzing: a fresh segment was begun before an older one was found to be damaged.
#[test]
fn a_refusal_changes_nothing_although_the_tail_reaches_back_into_a_damaged_segment() {
    let disk = SimDisk::new();
    let options = LogOptions { flush_delay_ms_max: 3_600_000, idle_mark_after_ms: 3_600_000, ..small() };
    let (log, _) = open_with(&disk, options).unwrap();
    append_and_wait(&log, 0..120, 1);
    append_and_wait(&log, 120..123, 1);
    // Its last entry lies in the first segment then; the truncation is not flushed.
    log.truncate_after(Some(LogIndex(5))).unwrap();
    while log.written() != Some((Term(1), LogIndex(5))) {
        std::thread::yield_now();
    }
    disk.kill();
    drop(log);
    let (log, recovered) = open(&disk.fork());
    assert_eq!(recovered.last, Some((Term(1), LogIndex(5))), "the truncation is in the tail");
    drop(log);
    let segment = segment_files(&disk)[0].clone();
    let sidecar = PathBuf::from(format!("{}.index", segment.display()));
    for (path, at) in [(&segment, 400), (&sidecar, 80)] {
        let mut bytes = disk.file(path);
        bytes[at] ^= 1;
        disk.set_file(path, &bytes);
    }
    is_refused_unchanged(&disk);
}

#[test]
fn a_refusal_writes_no_sidecar_and_removes_no_leftover() {
    let (disk, path, bytes, _) = killed_log();
    let (log, _) = open(&disk);
    for first in [100, 200] {
        let mut archive = log.archive_writer(LogIndex(first));
        archive.append(&entry(first, 1, "archived", FlushWish::Now)).unwrap();
        archive.finish().unwrap();
    }
    log.close().unwrap();
    let archives: Vec<PathBuf> =
        disk.paths().into_iter().filter(|path| path.to_string_lossy().ends_with(".archive")).collect();
    assert_eq!(archives.len(), 2);
    // Without sidecars they are read; a leftover of a dead process lies beside them.
    let without_sidecars = disk.fork();
    for archive in &archives {
        without_sidecars.set_file(&PathBuf::from(format!("{}.index", archive.display())), b"");
    }
    without_sidecars.set_file(&PathBuf::from(format!("{DIR}/left.tmp")), b"x");
    let whole = without_sidecars.fork();
    let (log, _) = open(&whole);
    assert!(log.read_any(LogIndex(200)).unwrap().is_some());
    drop(log);
    assert!(!whole.paths().iter().any(|path| path.ends_with("left.tmp")), "a start that succeeds removes it");
    // The second archive is damaged, and in another case a segment.
    let damaged = without_sidecars.fork();
    let mut content = damaged.file(&archives[1]);
    content[130] ^= 1;
    damaged.set_file(&archives[1], &content);
    is_refused_unchanged(&damaged);
    let damaged = without_sidecars;
    let segment = segment_files(&damaged)[0].clone();
    assert_eq!(segment, path);
    let mut content = bytes;
    content[200] ^= 1;
    damaged.set_file(&segment, &content);
    damaged.set_file(&PathBuf::from(format!("{}.index", segment.display())), b"");
    is_refused_unchanged(&damaged);
}
