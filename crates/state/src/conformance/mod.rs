//! The contract of [`TableReader`] and [`TableWriter`] as checks that every implementation runs.
//!
//! Not behind a feature: little code, which only tests and the simulation call. [`SampleLog`] gives them a log to apply.

mod sample_log;

pub use sample_log::{ModelPartition, SampleLog};

use crate::StateError;
use crate::tables::{Row, TableId, TableReader, TableWriter, WriteSet};

const TABLE: TableId = TableId::ConsumeQueue;

/// Runs all checks on tables that `empty` makes.
///
/// # Panics
/// When the implementation breaks the contract; the message says where.
///
/// # Errors
/// When the tables fail.
pub fn check<T: TableWriter>(mut empty: impl FnMut() -> T) -> Result<(), StateError> {
    reads_of_an_empty_table(&empty())?;
    rows_are_ordered_as_bytes(&mut empty())?;
    tables_are_apart(&mut empty())?;
    deletions_come_before_puts(&mut empty())?;
    a_range_ends_before_its_end(&mut empty())?;
    scans_stop_at_limit_and_end(&mut empty())
}

fn put(tables: &mut impl TableWriter, keys: &[&[u8]]) -> Result<(), StateError> {
    let mut changes = WriteSet::default();
    for key in keys {
        changes.put(TABLE, key.to_vec(), [b"value of ", *key].concat());
    }
    tables.write(&changes)
}

fn row(key: &[u8]) -> Row {
    (key.to_vec(), [b"value of ", key].concat())
}

fn all(tables: &impl TableReader) -> Result<Vec<Vec<u8>>, StateError> {
    Ok(tables.scan(TABLE, b"", None, 1_000)?.into_iter().map(|(key, _)| key).collect())
}

fn reads_of_an_empty_table(tables: &impl TableReader) -> Result<(), StateError> {
    assert_eq!(tables.get(TABLE, b"a")?, None);
    assert_eq!(tables.before(TABLE, b"a")?, None);
    assert_eq!(tables.prev_or_equal(TABLE, b"a")?, None);
    assert_eq!(tables.scan(TABLE, b"", None, 10)?, []);
    Ok(())
}

fn rows_are_ordered_as_bytes(tables: &mut impl TableWriter) -> Result<(), StateError> {
    put(tables, &[&[0xff], &[1, 0], &[1], &[0x80], &[]])?;
    let sorted: [&[u8]; 5] = [&[], &[1], &[1, 0], &[0x80], &[0xff]];
    assert_eq!(all(tables)?, sorted);
    for (key, before, prev_or_equal) in [
        (&[1_u8][..], Some(row(&[])), Some(row(&[1]))),
        (&[], None, Some(row(&[]))),
        (&[1, 0, 0], Some(row(&[1, 0])), Some(row(&[1, 0]))),
        (&[0xff, 0xff], Some(row(&[0xff])), Some(row(&[0xff]))),
        (&[0x7f], Some(row(&[1, 0])), Some(row(&[1, 0]))),
    ] {
        assert_eq!(tables.before(TABLE, key)?, before, "before {key:?}");
        assert_eq!(tables.prev_or_equal(TABLE, key)?, prev_or_equal, "at or before {key:?}");
    }
    Ok(())
}

fn tables_are_apart(tables: &mut impl TableWriter) -> Result<(), StateError> {
    let mut changes = WriteSet::default();
    for table in TableId::ALL {
        changes.put(table, b"key".to_vec(), table.name().as_bytes().to_vec());
    }
    tables.write(&changes)?;
    for table in TableId::ALL {
        let expected = (b"key".to_vec(), table.name().as_bytes().to_vec());
        assert_eq!(tables.get(table, b"key")?.as_ref(), Some(&expected.1), "{}", table.name());
        assert_eq!(tables.scan(table, b"", None, 10)?, [expected], "{}", table.name());
        assert_eq!(tables.before(table, b"key")?, None, "{}", table.name());
    }
    Ok(())
}

fn deletions_come_before_puts(tables: &mut impl TableWriter) -> Result<(), StateError> {
    put(tables, &[b"a", b"b", b"c"])?;
    let mut changes = WriteSet::default();
    changes.put(TABLE, b"aa".to_vec(), b"put before the range was deleted".to_vec());
    changes.delete_range(TABLE, b"a".to_vec(), b"c".to_vec());
    changes.put(TABLE, b"b".to_vec(), b"again".to_vec());
    changes.delete(TABLE, b"c".to_vec());
    changes.delete(TABLE, b"never there".to_vec());
    tables.write(&changes)?;
    assert_eq!(all(tables)?, [b"b".to_vec()]);
    assert_eq!(tables.get(TABLE, b"b")?, Some(b"again".to_vec()));
    assert_eq!(tables.get(TABLE, b"a")?, None);
    assert_eq!(tables.before(TABLE, b"b")?, None);
    Ok(())
}

fn a_range_ends_before_its_end(tables: &mut impl TableWriter) -> Result<(), StateError> {
    put(tables, &[b"a", b"b", b"c", b"d"])?;
    let mut changes = WriteSet::default();
    changes.delete_range(TABLE, b"b".to_vec(), b"d".to_vec());
    changes.delete_range(TABLE, b"d".to_vec(), b"d".to_vec());
    tables.write(&changes)?;
    assert_eq!(all(tables)?, [b"a".to_vec(), b"d".to_vec()]);
    assert_eq!(tables.before(TABLE, b"d")?, Some(row(b"a")));
    Ok(())
}

fn scans_stop_at_limit_and_end(tables: &mut impl TableWriter) -> Result<(), StateError> {
    put(tables, &[b"a", b"b", b"c", b"d"])?;
    assert_eq!(tables.scan(TABLE, b"b", Some(b"d"), 10)?, [row(b"b"), row(b"c")]);
    assert_eq!(tables.scan(TABLE, b"aa", None, 2)?, [row(b"b"), row(b"c")]);
    assert_eq!(tables.scan(TABLE, b"d", Some(b"d"), 10)?, []);
    assert_eq!(tables.scan(TABLE, b"x", Some(b"b"), 10)?, []);
    assert_eq!(tables.scan(TABLE, b"a", None, 0)?, []);
    Ok(())
}
