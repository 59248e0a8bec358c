//! A hash of a whole state, to compare replicas at the same applied index.

use crate::StateError;
use crate::reader::for_each;
use crate::tables::{TableId, TableReader};

/// FNV-1a, 64 bits, over all tables in the order of [`TableId::ALL`] and all rows in key order. Each row counts as
/// table id, key length (u32, big endian), key, value length, value. Equal states give equal hashes on every machine.
///
/// Read it from a snapshot: the hash of live tables mixes several states.
///
/// # Errors
/// When the tables fail.
pub fn state_hash(tables: &dyn TableReader) -> Result<u64, StateError> {
    let mut hash = Fnv::default();
    for table in TableId::ALL {
        for_each(tables, table, Vec::new(), None, |key, value| {
            hash.bytes(&[table as u8]);
            hash.sized(key);
            hash.sized(value);
            Ok(())
        })?;
    }
    Ok(hash.0)
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u32).to_be_bytes());
        self.bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{MemoryTables, TableWriter, WriteSet};

    fn hash_of(rows: &[(TableId, &str, &str)]) -> u64 {
        let (mut tables, mut changes) = (MemoryTables::new(), WriteSet::default());
        for (table, key, value) in rows {
            changes.put(*table, key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        tables.write(&changes).unwrap();
        state_hash(&tables).unwrap()
    }

    #[test]
    fn the_hash_sees_table_key_value_and_their_borders() {
        let reference = hash_of(&[(TableId::Topics, "ab", "c")]);
        assert_eq!(reference, hash_of(&[(TableId::Topics, "ab", "c")]));
        for other in [hash_of(&[]), hash_of(&[(TableId::Topics, "a", "bc")]), hash_of(&[(TableId::Groups, "ab", "c")])]
        {
            assert_ne!(reference, other);
        }
    }

    #[test]
    fn an_empty_state_has_the_offset_basis() {
        assert_eq!(hash_of(&[]), 0xcbf2_9ce4_8422_2325);
    }
}
