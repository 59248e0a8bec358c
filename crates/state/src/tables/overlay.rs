//! The changes of one applied run, buffered over the tables so that the run's own reads see them.
//!
//! A range deletion removes what the tables hold *and* what the run has put so far; a later put in the range lives.
//! Therefore a write set is written in this order: first all range deletions, then all puts and deletions.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Row, TableId, TableReader};
use crate::StateError;

/// What one applied run changes: range deletions first, then puts (`Some`) and deletions (`None`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteSet {
    ranges: Vec<(TableId, Vec<u8>, Vec<u8>)>,
    rows: BTreeMap<(TableId, Vec<u8>), Option<Vec<u8>>>,
}

impl WriteSet {
    /// Range deletions `from .. to_exclusive`, to be written before [`WriteSet::rows`].
    #[must_use]
    pub fn ranges(&self) -> &[(TableId, Vec<u8>, Vec<u8>)] {
        &self.ranges
    }

    /// Puts and deletions, in key order.
    pub fn rows(&self) -> impl Iterator<Item = (TableId, &[u8], Option<&[u8]>)> {
        self.rows.iter().map(|((table, key), value)| (*table, key.as_slice(), value.as_deref()))
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.rows.is_empty()
    }

    /// Number of puts and deletions; for the benchmark of apply.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Puts a row.
    pub fn put(&mut self, table: TableId, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert((table, key), Some(value));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: TableId, key: Vec<u8>) {
        self.rows.insert((table, key), None);
    }

    /// Deletes the rows of `from .. to_exclusive`, those put before included.
    pub fn delete_range(&mut self, table: TableId, from: Vec<u8>, to_exclusive: Vec<u8>) {
        if from >= to_exclusive {
            return;
        }
        let dropped: Vec<_> =
            self.rows.range((table, from.clone())..(table, to_exclusive.clone())).map(|(key, _)| key.clone()).collect();
        for key in dropped {
            self.rows.remove(&key);
        }
        self.ranges.push((table, from, to_exclusive));
    }

    /// The start of a deleted range that holds `key`.
    fn deleted_from(&self, table: TableId, key: &[u8]) -> Option<&[u8]> {
        self.ranges
            .iter()
            .find(|(id, from, to)| *id == table && from.as_slice() <= key && key < to.as_slice())
            .map(|(_, from, _)| from.as_slice())
    }
}

/// Reads through a [`WriteSet`] into the tables below.
pub struct Overlay<'a> {
    base: &'a dyn TableReader,
    changes: WriteSet,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes.
    #[must_use]
    pub fn new(base: &'a dyn TableReader) -> Self {
        Self { base, changes: WriteSet::default() }
    }

    /// Puts a row.
    pub fn put(&mut self, table: TableId, key: Vec<u8>, value: Vec<u8>) {
        self.changes.put(table, key, value);
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: TableId, key: Vec<u8>) {
        self.changes.delete(table, key);
    }

    /// Deletes the rows of `from .. to_exclusive`.
    pub fn delete_range(&mut self, table: TableId, from: Vec<u8>, to_exclusive: Vec<u8>) {
        self.changes.delete_range(table, from, to_exclusive);
    }

    /// The changes, to be written at once.
    #[must_use]
    pub fn into_changes(self) -> WriteSet {
        self.changes
    }

    /// The greatest row of the base below `key_exclusive` that the run has neither deleted nor overwritten.
    fn base_before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        let mut below = key_exclusive.to_vec();
        while let Some((key, value)) = self.base.before(table, &below)? {
            if let Some(from) = self.changes.deleted_from(table, &key) {
                below = from.to_vec();
            } else if self.changes.rows.contains_key(&(table, key.clone())) {
                below = key;
            } else {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// The greatest row below `key_exclusive` that the run has put.
    fn put_before(&self, table: TableId, key_exclusive: &[u8]) -> Option<Row> {
        let (from, to) = ((table, Vec::new()), (table, key_exclusive.to_vec()));
        self.changes
            .rows
            .range((Bound::Included(from), Bound::Excluded(to)))
            .rev()
            .find_map(|((_, key), value)| value.as_ref().map(|value| (key.clone(), value.clone())))
    }
}

impl TableReader for Overlay<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(value) = self.changes.rows.get(&(table, key.to_vec())) {
            return Ok(value.clone());
        }
        if self.changes.deleted_from(table, key).is_some() {
            return Ok(None);
        }
        self.base.get(table, key)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        let (put, base) = (self.put_before(table, key_exclusive), self.base_before(table, key_exclusive)?);
        Ok(match (put, base) {
            (Some(put), Some(base)) => Some(if put.0 > base.0 { put } else { base }),
            (put, base) => put.or(base),
        })
    }

    /// Merges a page of the base with the changes, page by page, until `limit` rows are found.
    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::new();
        let mut next = from.to_vec();
        while rows.len() < limit {
            let page = self.base.scan(table, &next, to_exclusive, limit)?;
            let is_last = page.len() < limit;
            // What the run has put is merged up to the page's last key, or to the end after the last page.
            let page_end = if is_last { None } else { page.last().map(|(key, _)| key.clone()) };
            self.merge(table, &next, page_end.as_deref(), to_exclusive, page, &mut rows);
            match page_end {
                Some(mut last) => {
                    last.push(0);
                    next = last;
                }
                None => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

impl Overlay<'_> {
    fn merge(
        &self,
        table: TableId,
        from: &[u8],
        through_inclusive: Option<&[u8]>,
        to_exclusive: Option<&[u8]>,
        page: Vec<Row>,
        rows: &mut Vec<Row>,
    ) {
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> =
            page.into_iter().filter(|(key, _)| self.changes.deleted_from(table, key).is_none()).collect();
        let changed = self.changes.rows.range((table, from.to_vec())..).take_while(|((id, key), _)| {
            *id == table
                && through_inclusive.is_none_or(|end| key.as_slice() <= end)
                && to_exclusive.is_none_or(|end| key.as_slice() < end)
        });
        for ((_, key), value) in changed {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        rows.extend(merged);
    }
}
