//! What the records of a batch may hold, in twice 64 bits: whoever wants a few tags, or one message, passes over batches unread.
//!
//! Both are Bloom filters. They are stored: neither the hash nor what is looked into may change.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use duolog_types::Offset;
use serde::{Deserialize, Serialize};

use crate::record::RecordIter;
use crate::{Compression, Record, RecordBatch, RecordHeader};

/// Name of the record header that holds the tag of a message.
pub const TAG_HEADER: &str = "TAGS";
/// Name of the record header that holds the id of a message, as its producer made it.
pub const MESSAGE_ID_HEADER: &str = "UNIQ_KEY";
/// Name of the record header that holds the keys of a message, with spaces between them.
pub const KEYS_HEADER: &str = "KEYS";

/// Batches of more records are not looked into: their tags would fill the filter.
const RECORDS_MAX: i32 = 64;
/// The same of ids and keys, of which each record has its own.
const NAMED_RECORDS_MAX: i32 = 16;
/// Records of a batch that is looked into, in bytes, at most.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The tags of some records, two bits for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagFilter(pub u64);

/// The ids and keys of some records, four bits for each: message ids, the words of [`KEYS_HEADER`], and records' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFilter(pub u64);

/// What is known of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFilter {
    /// Its tags.
    pub tags: TagFilter,
    /// Its ids and keys.
    pub names: NameFilter,
}

impl TagFilter {
    /// Any tag.
    pub const ANY: Self = Self(u64::MAX);
    /// No tag.
    pub const NONE: Self = Self(0);

    /// The filter of one tag.
    #[must_use]
    pub fn of_tag(tag: &[u8]) -> Self {
        let hash = fnv(tag);
        Self(1 << (hash & 63) | 1 << (hash >> 32 & 63))
    }

    /// Whether something with one of these tags may be there: `wanted` is the filter of one tag.
    #[must_use]
    pub fn may_hold(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

impl NameFilter {
    /// Any name.
    pub const ANY: Self = Self(u64::MAX);
    /// No name.
    pub const NONE: Self = Self(0);

    /// The filter of one id or key.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let hash = fnv(name);
        Self([0, 16, 32, 48].into_iter().fold(0, |bits, shift| bits | 1 << (hash >> shift & 63)))
    }

    /// Whether something of that name may be there: `wanted` is the filter of one name.
    #[must_use]
    pub fn may_hold(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

impl BatchFilter {
    /// Nothing is known.
    pub const ANY: Self = Self { tags: TagFilter::ANY, names: NameFilter::ANY };

    /// Of a batch; [`BatchFilter::ANY`] for one that is compressed, large, or damaged.
    #[must_use]
    pub fn of_batch(batch: &RecordBatch) -> Self {
        let view = batch.view();
        let is_plain = view.compression() == Ok(Compression::None) && !view.is_control();
        if !is_plain || view.record_count() > RECORDS_MAX || batch.size_bytes() > BATCH_BYTES_MAX {
            return Self::ANY;
        }
        let has_names = view.record_count() <= NAMED_RECORDS_MAX;
        batch.records(BATCH_BYTES_MAX).ok().and_then(|records| of_records(records, has_names)).unwrap_or(Self::ANY)
    }
}

fn of_records(records: RecordIter, has_names: bool) -> Option<BatchFilter> {
    let names = if has_names { NameFilter::NONE } else { NameFilter::ANY };
    let mut found = BatchFilter { tags: TagFilter::NONE, names };
    for record in records {
        let record = record.ok()?;
        let tag = record.headers.iter().find(|header| header.key == TAG_HEADER.as_bytes());
        let tag = tag.and_then(|tag| tag.value.as_deref());
        found.tags.0 |= tag.map_or(0, |tag| TagFilter::of_tag(tag).0);
        if has_names {
            add_names(&record, &mut found.names);
        }
    }
    Some(found)
}

fn add_names(record: &Record, names: &mut NameFilter) {
    let is_named =
        |header: &&RecordHeader| [KEYS_HEADER, MESSAGE_ID_HEADER].iter().any(|name| header.key == name.as_bytes());
    let values = record.headers.iter().filter(is_named).filter_map(|header| header.value.as_ref());
    let words = values.flat_map(|value| value.split(|byte| *byte == b' ')).filter(|word| !word.is_empty());
    for name in words.chain(record.key.as_deref()) {
        names.0 |= NameFilter::of_name(name).0;
    }
}

/// FNV-1a with 64 bits, its high bits folded in: those of short inputs differ little.
fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ hash >> 29
}

/// A question to a partition's leader that travels as a tagged field of Kafka's ListOffsets: from where on something of a name may lie.
/// Other brokers do not know the field and pass over it.
///
/// ```text
/// from: i64, the offset to begin at │ names: u64, the filter of the name      big endian
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameSearch {
    /// The offset to begin at.
    pub from: Offset,
    /// The filter of the name.
    pub name: NameFilter,
}

impl NameSearch {
    /// The tag of the field in a partition of the request.
    pub const FIELD: i32 = 10_117;
    const BYTES: usize = 16;

    /// The field.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::BYTES);
        bytes.put_i64(self.from.0);
        bytes.put_u64(self.name.0);
        bytes.freeze()
    }

    /// Reads the field; `None` when it is none.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let is_whole = bytes.len() == Self::BYTES;
        is_whole.then(|| Self { from: Offset(bytes.get_i64()), name: NameFilter(bytes.get_u64()) })
    }
}

#[cfg(test)]
mod tests {
    use duolog_types::TimestampMs;

    use super::*;
    use crate::{BATCH_HEADER_BYTES, BatchBuilder};

    type Headers<'a> = &'a [(&'static str, &'a str)];

    fn batch(compression: Compression, records: &[(Option<&str>, Headers<'_>)]) -> RecordBatch {
        let mut builder = BatchBuilder::new().compression(compression);
        for (key, headers) in records {
            let headers: Vec<_> = headers.iter().map(|(name, value)| RecordHeader::text(name, *value)).collect();
            builder.push_with_headers(TimestampMs(1), key.map(str::as_bytes), Some(b"value"), &headers).unwrap();
        }
        builder.build().unwrap()
    }

    fn of(records: &[(Option<&str>, Headers<'_>)]) -> BatchFilter {
        BatchFilter::of_batch(&batch(Compression::None, records))
    }

    #[test]
    fn a_batch_may_hold_what_it_holds_and_seldom_another_tag() {
        assert_eq!(of(&[(None, &[]), (None, &[])]).tags, TagFilter::NONE);
        let found = of(&[(None, &[("TAGS", "a")]), (None, &[]), (None, &[("TAGS", "b")])]).tags;
        assert!(found.may_hold(TagFilter::of_tag(b"a")) && found.may_hold(TagFilter::of_tag(b"b")));
        let others = (0..1_000).filter(|n| found.may_hold(TagFilter::of_tag(format!("tag-{n}").as_bytes()))).count();
        assert!(others < 30, "{others} of 1000");
    }

    #[test]
    fn a_batch_may_hold_its_ids_and_keys_and_seldom_another_name() {
        assert_eq!(of(&[(None, &[("TAGS", "a")])]).names, NameFilter::NONE);
        let found = of(&[
            (Some("group"), &[("UNIQ_KEY", "01A1B2C3D4E5F60007055A3B0000000001"), ("KEYS", "order-7 customer-9")]),
            (None, &[("UNIQ_KEY", "01A1B2C3D4E5F60007055A3B0000000002")]),
        ]);
        let names = [
            "group",
            "order-7",
            "customer-9",
            "01A1B2C3D4E5F60007055A3B0000000001",
            "01A1B2C3D4E5F60007055A3B0000000002",
        ];
        for name in names {
            assert!(found.names.may_hold(NameFilter::of_name(name.as_bytes())), "{name}");
        }
        let is_there = |n: &u32| found.names.may_hold(NameFilter::of_name(format!("order-{n}00").as_bytes()));
        let others = (0..10_000).filter(is_there).count();
        assert!(others < 200, "{others} of 10000");
    }

    #[test]
    fn what_is_not_looked_into_may_hold_anything() {
        let many = vec![(None, [].as_slice()); RECORDS_MAX as usize + 1];
        assert_eq!(of(&many), BatchFilter::ANY);
        let fewer = of(&many[..=NAMED_RECORDS_MAX as usize]);
        assert_eq!(fewer, BatchFilter { tags: TagFilter::NONE, names: NameFilter::ANY });
        assert_eq!(BatchFilter::of_batch(&batch(Compression::Lz4, &many[..1])), BatchFilter::ANY);
        let mut damaged = batch(Compression::None, &many[..1]).into_bytes().to_vec();
        damaged[BATCH_HEADER_BYTES] = 0xff;
        assert_eq!(BatchFilter::of_batch(&RecordBatch::parse(damaged.into()).unwrap()), BatchFilter::ANY);
        assert!(
            TagFilter::ANY.may_hold(TagFilter::of_tag(b"a")) && NameFilter::ANY.may_hold(NameFilter::of_name(b"a"))
        );
    }

    /// They are stored.
    #[test]
    fn the_filter_of_a_tag_or_name_never_changes() {
        assert_eq!(TagFilter::of_tag(b""), TagFilter(0x4_0000_0002));
        assert_eq!(TagFilter::of_tag(b"order"), TagFilter(0x2_0008_0000_0000));
        assert_eq!(NameFilter::of_name(b"order"), NameFilter(0x2_0048_0100_0000));
    }

    #[test]
    fn a_search_is_read_as_it_was_written_and_nothing_else_is_one() {
        let search = NameSearch { from: Offset(42), name: NameFilter::of_name(b"order") };
        assert_eq!(NameSearch::decode(&search.encode()), Some(search));
        assert_eq!(NameSearch::decode(&search.encode()[1..]), None);
        assert_eq!(NameSearch::decode(&[0; 17]), None);
    }
}
