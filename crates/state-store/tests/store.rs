//! Goal: RocksDB keeps the contract of the tables, and what it has on disk is always the state at one applied index.

use std::fs;
use std::path::Path;

use duolog_state::conformance::{self, SampleLog};
use duolog_state::rows::Applied;
use duolog_state::{AppliedEntry, Machine, MemoryTables, TableId, TableReader, TableWriter, codec, keys, state_hash};
use duolog_state_store::{RocksTables, StoreBudget, StoreError};
use duolog_types::{LogIndex, Term};
use tempfile::TempDir;

fn open(path: &Path) -> Machine<RocksTables> {
    Machine::open(RocksTables::open(path, &StoreBudget::default()).unwrap()).unwrap()
}

fn apply_all<T: TableWriter>(machine: &mut Machine<T>, log: &[AppliedEntry]) {
    for run in log.chunks(7) {
        machine.apply(run).unwrap();
    }
}

fn hash_of_replay(log: &[AppliedEntry]) -> u64 {
    let mut machine = Machine::open(MemoryTables::new()).unwrap();
    apply_all(&mut machine, log);
    state_hash(machine.tables()).unwrap()
}

fn log(length: usize) -> Vec<AppliedEntry> {
    SampleLog::new(11).take(length).collect()
}

fn index(applied: Option<Applied>) -> Option<LogIndex> {
    applied.map(|applied| applied.index)
}

#[test]
fn rocksdb_conforms() {
    let directory = TempDir::new().unwrap();
    let mut next = 0..;
    conformance::check(|| {
        let path = directory.path().join(format!("{}", next.next().unwrap()));
        RocksTables::open(&path, &StoreBudget::default()).unwrap()
    })
    .unwrap();
}

#[test]
fn a_state_on_disk_equals_one_in_memory() {
    let directory = TempDir::new().unwrap();
    let log = log(600);
    let mut machine = open(directory.path());
    apply_all(&mut machine, &log);
    let (applied, hash) = machine.tables().snapshot().state_hash().unwrap();
    assert_eq!((index(applied), hash), (Some(LogIndex(599)), hash_of_replay(&log)));
}

#[test]
fn a_snapshot_does_not_see_later_runs() {
    let directory = TempDir::new().unwrap();
    let log = log(200);
    let mut machine = open(directory.path());
    apply_all(&mut machine, &log[..100]);
    let reader = machine.tables().reader();
    let snapshot = reader.snapshot();
    apply_all(&mut machine, &log[100..]);
    let (applied, hash) = snapshot.state_hash().unwrap();
    assert_eq!((index(applied), hash), (Some(LogIndex(99)), hash_of_replay(&log[..100])));
}

#[test]
fn the_durable_position_follows_flushes_only() {
    let directory = TempDir::new().unwrap();
    let log = log(300);
    let mut machine = open(directory.path());
    assert_eq!(machine.tables().durable_applied().unwrap(), None);
    apply_all(&mut machine, &log[..100]);
    assert_eq!(machine.tables().durable_applied().unwrap(), None);
    machine.tables().flush().unwrap();
    assert_eq!(index(machine.tables().durable_applied().unwrap()), Some(LogIndex(99)));
    apply_all(&mut machine, &log[100..]);
    assert_eq!(index(machine.tables().durable_applied().unwrap()), Some(LogIndex(99)));
    drop(machine);
    // Closing flushes; what is open anew is durable.
    let reopened = open(directory.path());
    assert_eq!(index(reopened.applied()), Some(LogIndex(299)));
    assert_eq!(index(reopened.tables().durable_applied().unwrap()), Some(LogIndex(299)));
}

#[test]
fn a_checkpoint_is_a_state_of_its_own() {
    let directory = TempDir::new().unwrap();
    let (live, checkpoint) = (directory.path().join("live"), directory.path().join("checkpoint"));
    let log = log(400);
    let mut machine = open(&live);
    apply_all(&mut machine, &log[..250]);
    assert_eq!(index(machine.tables().checkpoint(&checkpoint).unwrap()), Some(LogIndex(249)));
    apply_all(&mut machine, &log[250..]);
    let mut copy = open(&checkpoint);
    assert_eq!(copy.tables().snapshot().state_hash().unwrap().1, hash_of_replay(&log[..250]));
    apply_all(&mut copy, &log[250..]);
    assert_eq!(copy.tables().snapshot().state_hash().unwrap(), machine.tables().snapshot().state_hash().unwrap());
    let error = machine.tables().checkpoint(&checkpoint).unwrap_err();
    assert!(error.to_string().contains("checkpoint"), "{error}");
}

#[test]
fn a_checkpoint_beside_the_writer_is_the_state_where_it_says() {
    let directory = TempDir::new().unwrap();
    let log = log(1_500);
    let mut machine = open(&directory.path().join("live"));
    apply_all(&mut machine, &log[..100]);
    let files = machine.tables().files();
    let path = |number: usize| directory.path().join(format!("copy-{number}"));
    let positions: Vec<Option<Applied>> = std::thread::scope(|scope| {
        let copying = scope.spawn(|| (0..5).map(|number| files.checkpoint(&path(number)).unwrap()).collect());
        apply_all(&mut machine, &log[100..]);
        copying.join().unwrap()
    });
    for (number, position) in positions.into_iter().enumerate() {
        let end = index(position).expect("a hundred entries were applied before").0 as usize + 1;
        let copy = open(&path(number));
        assert!(end >= 100, "{end}");
        assert_eq!(copy.tables().snapshot().state_hash().unwrap(), (position, hash_of_replay(&log[..end])));
    }
    assert_eq!(files.make_durable().unwrap(), machine.applied());
}

#[test]
fn two_groups_share_one_budget() {
    let directory = TempDir::new().unwrap();
    let budget = StoreBudget::new(4 << 20, 1 << 20);
    let log = log(200);
    let mut machines: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| Machine::open(RocksTables::open(&directory.path().join(name), &budget).unwrap()).unwrap())
        .collect();
    for machine in &mut machines {
        apply_all(machine, &log);
    }
    assert!(budget.write_buffer_usage_bytes() > 0);
    // Twelve tables of two groups with a few rows each must not use up the budget by their mere existence.
    assert!(budget.write_buffer_usage_bytes() < 3 << 20, "{}", budget.write_buffer_usage_bytes());
}

#[test]
fn a_directory_of_a_build_with_fewer_tables_opens() {
    let directory = TempDir::new().unwrap();
    let before = ["default", "meta", "catalog", "topics", "consume_queue", "time_index", "leader_epochs", "producers"];
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = rocksdb::DB::open_cf(&options, directory.path(), before).unwrap();
    let applied = Applied { term: Term(3), index: LogIndex(41) };
    db.put_cf(db.cf_handle("meta").unwrap(), keys::APPLIED, codec::encode(&applied)).unwrap();
    drop(db);
    let machine = open(directory.path());
    assert_eq!(machine.applied(), Some(applied));
    for table in TableId::ALL.into_iter().filter(|table| *table != TableId::Meta) {
        assert_eq!(machine.tables().scan(table, b"", None, 1).unwrap(), [], "{}", table.name());
    }
    drop(machine);
    assert_eq!(open(directory.path()).applied(), Some(applied));
}

#[test]
fn damage_is_reported_with_the_directory() {
    let directory = TempDir::new().unwrap();
    let mut machine = open(directory.path());
    apply_all(&mut machine, &log(50));
    machine.tables().flush().unwrap();
    drop(machine);
    for file in fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::write(&file, bytes).unwrap();
        }
    }
    let error = RocksTables::open(directory.path(), &StoreBudget::default()).err().expect("the manifest is damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&directory.path().display().to_string()), "{error}");
}

#[test]
fn a_flipped_bit_is_found_by_verifying_and_the_tables_are_never_opened_again() {
    let directory = TempDir::new().unwrap();
    let mut machine = open(directory.path());
    apply_all(&mut machine, &log(600));
    machine.tables().flush().unwrap();
    drop(machine);
    let verify = || -> Result<usize, StoreError> {
        let tables = RocksTables::open(directory.path(), &StoreBudget::default())?;
        let reader = tables.reader();
        let mut sum = 0;
        for table in TableId::ALL {
            let mut from = Some(Vec::new());
            while let Some(row) = from {
                let (bytes, next) = reader.verify(table, &row, 1_000)?;
                assert!(next.as_ref().is_none_or(|next| *next > row || sum == 0), "it goes on");
                sum += bytes;
                from = next;
            }
        }
        assert_eq!(reader.damage(), None);
        Ok(sum)
    };
    let whole = verify().unwrap();
    assert!(whole > 10_000, "{whole}");
    // A block of data lies at the beginning of the largest file.
    let files = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let largest = tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[100] ^= 1;
    fs::write(&largest, &bytes).unwrap();
    let error = verify().unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { operation: "verify", .. }), "{error:?}");
    // Also when the bit is right again: nobody knows what was read meanwhile.
    bytes[100] ^= 1;
    fs::write(&largest, &bytes).unwrap();
    let error = RocksTables::open(directory.path(), &StoreBudget::default()).err().expect("it was damaged");
    assert!(matches!(error, StoreError::Corrupt { operation: "open", .. }), "{error:?}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidData);
}
