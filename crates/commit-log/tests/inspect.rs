//! Goal: damage is told from a torn tail without changing a byte, and without trusting a sidecar.

mod common;

use std::path::Path;

use common::*;
use duolog_commit_log::*;
use duolog_types::LogIndex;

fn findings(disk: &SimDisk) -> Vec<(usize, Finding)> {
    let before: Vec<_> = disk.paths().into_iter().map(|path| (disk.file(&path), path)).collect();
    let reports = inspect(&disk.process(), Path::new(DIR)).unwrap();
    for (bytes, path) in before {
        assert!(disk.file(&path) == bytes, "{} was changed", path.display());
    }
    let found = reports.into_iter().enumerate();
    found.filter_map(|(at, report)| Some((at, report.finding?))).collect()
}

/// Several segments, killed.
fn log() -> SimDisk {
    let disk = SimDisk::new();
    let (log, _) = open(&disk);
    for next in (0..240).step_by(3) {
        append_and_wait(&log, next..next + 3, 1);
    }
    drop(log);
    disk.kill();
    disk
}

#[test]
fn a_whole_log_has_no_findings() {
    let disk = log();
    let reports = inspect(&disk.process(), Path::new(DIR)).unwrap();
    assert!(reports.len() >= 4, "{reports:?}");
    assert!(reports.iter().all(|report| report.finding.is_none()), "{reports:?}");
    assert_eq!(reports.iter().map(|report| report.entries).sum::<u64>(), 240);
    assert_eq!(reports.iter().filter_map(|report| report.last).max(), Some(LogIndex(239)));
    // A recovered log has a fresh segment, which supersedes a part of the old one.
    let (log, _) = open(&disk);
    append_and_wait(&log, 240..243, 2);
    log.close().unwrap();
    assert!(findings(&disk).is_empty());
}

#[test]
fn each_damaged_byte_of_a_sealed_segment_is_found_although_its_sidecar_is_whole() {
    let original = log();
    let path = segment_files(&original)[1].clone();
    let bytes = original.file(&path);
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut found = 0;
    for at in (0..used).step_by(7) {
        let disk = original.fork();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        disk.set_file(&path, &damaged);
        if at == 8 {
            continue; // The version of the format: an error of its own.
        }
        match &findings(&disk)[..] {
            [(_, Finding::Damage(LogError::Corrupt { file, position_bytes, .. })), ..] => {
                assert_eq!(*file, path);
                assert!(*position_bytes <= at as u64, "byte {at}");
                found += 1;
            }
            // Padding matters to nobody.
            [] => {}
            other => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(found * 10 > used / 7 * 9, "{found} of {}", used / 7);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let disk = log();
    let path = segment_files(&disk).last().unwrap().clone();
    let mut bytes = disk.file(&path);
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.resize(used.next_multiple_of(8) + 4096, 0);
    let end = used.next_multiple_of(8);
    bytes[end..end + 100].fill(0x55);
    disk.set_file(&path, &bytes);
    let found = findings(&disk);
    assert!(matches!(found[..], [(_, Finding::TornTail { bytes: 96..=104 })]), "{found:?}");
}
