//! Goal: reads through an overlay equal reads of tables to which its changes were written.
//! Method: random changes over random rows; every read is compared with the tables after the write.

use duolog_state::{MemoryTables, Overlay, TableId, TableReader, TableWriter, WriteSet};
use proptest::prelude::*;

const TABLE: TableId = TableId::Topics;

#[derive(Debug, Clone)]
enum Change {
    Put(u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0_u8..24;
    prop_oneof![
        3 => key.clone().prop_map(Change::Put),
        2 => key.clone().prop_map(Change::Delete),
        1 => (key.clone(), key).prop_map(|(from, to)| Change::DeleteRange(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_overlay_reads_as_if_it_were_written(
        rows in prop::collection::btree_set(0_u8..24, 0..24), changes in prop::collection::vec(change(), 0..16),
    ) {
        let (mut tables, mut before) = (MemoryTables::new(), WriteSet::default());
        for key in rows {
            before.put(TABLE, vec![key], vec![0]);
        }
        // Neighbours must never be seen.
        before.put(TableId::Catalog, vec![5], vec![0]);
        before.put(TableId::ConsumeQueue, vec![5], vec![0]);
        tables.write(&before).unwrap();

        let mut overlay = Overlay::new(&tables);
        for (change, value) in changes.iter().zip(1_u8..) {
            match *change {
                Change::Put(key) => overlay.put(TABLE, vec![key], vec![value]),
                Change::Delete(key) => overlay.delete(TABLE, vec![key]),
                Change::DeleteRange(from, to) => overlay.delete_range(TABLE, vec![from], vec![to]),
            }
        }
        let mut reads = Vec::new();
        for key in 0..25 {
            reads.push((overlay.get(TABLE, &[key]).unwrap(), overlay.before(TABLE, &[key]).unwrap()));
        }
        let mut scans = Vec::new();
        for (from, to, limit) in [(0, None, 100), (0, None, 1), (3, Some(20), 3), (0, Some(24), 2), (7, Some(5), 9)] {
            let to: Option<Vec<u8>> = to.map(|to| vec![to]);
            scans.push(((from, to.clone(), limit), overlay.scan(TABLE, &[from], to.as_deref(), limit).unwrap()));
        }

        let changes = overlay.into_changes();
        tables.write(&changes).unwrap();
        for (key, (get, before)) in (0..25).zip(reads) {
            prop_assert_eq!(get, tables.get(TABLE, &[key]).unwrap());
            prop_assert_eq!(before, tables.before(TABLE, &[key]).unwrap());
        }
        for ((from, to, limit), found) in scans {
            prop_assert_eq!(found, tables.scan(TABLE, &[from], to.as_deref(), limit).unwrap());
        }
    }
}
