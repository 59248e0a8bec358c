//! Which tags the messages of a batch have, in 64 bits: a consumer that wants a few tags passes over batches without reading them.

use crate::record::RecordIter;
use crate::{Compression, RecordBatch};

/// Name of the record header that holds the tag of a message.
pub const TAG_HEADER: &str = "TAGS";
/// Batches of more records are not looked into: their tags would fill the filter.
const RECORDS_MAX: i32 = 64;
/// Records of a batch that is looked into, in bytes, at most.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A Bloom filter of tags, with two bits for each.
///
/// It is stored: neither the hash nor what is looked into may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagFilter(pub u64);

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

    /// The tags of a batch; [`TagFilter::ANY`] for one that is compressed, large, or damaged.
    #[must_use]
    pub fn of_batch(batch: &RecordBatch) -> Self {
        let view = batch.view();
        let is_plain = view.compression() == Ok(Compression::None) && !view.is_control();
        if !is_plain || view.record_count() > RECORDS_MAX || batch.size_bytes() > BATCH_BYTES_MAX {
            return Self::ANY;
        }
        batch.records(BATCH_BYTES_MAX).ok().and_then(of_records).unwrap_or(Self::ANY)
    }

    /// Whether something with one of these tags may be there: `wanted` is the filter of one tag.
    #[must_use]
    pub fn may_hold(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

fn of_records(records: RecordIter) -> Option<TagFilter> {
    let mut found = TagFilter::NONE;
    for record in records {
        let headers = record.ok()?.headers;
        let tag =
            headers.iter().find(|header| header.key == TAG_HEADER.as_bytes()).and_then(|tag| tag.value.as_deref());
        found.0 |= tag.map_or(0, |tag| TagFilter::of_tag(tag).0);
    }
    Some(found)
}

/// FNV-1a with 64 bits, its high bits folded in: those of short inputs differ little.
fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duolog_types::TimestampMs;

    use super::*;
    use crate::{BatchBuilder, RecordHeader};

    fn batch(compression: Compression, tags: &[Option<&str>]) -> RecordBatch {
        let mut builder = BatchBuilder::new().compression(compression);
        for tag in tags {
            let header =
                |tag: &&str| RecordHeader { key: TAG_HEADER.into(), value: Some(Bytes::from((*tag).to_owned())) };
            let headers: Vec<RecordHeader> = tag.iter().map(header).collect();
            builder.push_with_headers(TimestampMs(1), None, Some(b"value"), &headers).unwrap();
        }
        builder.build().unwrap()
    }

    #[test]
    fn a_batch_may_hold_what_it_holds_and_seldom_anything_else() {
        let of = |tags: &[Option<&str>]| TagFilter::of_batch(&batch(Compression::None, tags));
        assert_eq!(of(&[None, None]), TagFilter::NONE);
        let found = of(&[Some("a"), None, Some("b")]);
        assert!(found.may_hold(TagFilter::of_tag(b"a")) && found.may_hold(TagFilter::of_tag(b"b")));
        let others = (0..1_000).filter(|n| found.may_hold(TagFilter::of_tag(format!("tag-{n}").as_bytes()))).count();
        assert!(others < 30, "{others} of 1000");
    }

    #[test]
    fn what_is_not_looked_into_may_hold_anything() {
        let many = vec![None; RECORDS_MAX as usize + 1];
        assert_eq!(TagFilter::of_batch(&batch(Compression::None, &many)), TagFilter::ANY);
        assert_eq!(TagFilter::of_batch(&batch(Compression::Lz4, &[None])), TagFilter::ANY);
        let mut damaged = batch(Compression::None, &[Some("a")]).into_bytes().to_vec();
        damaged[crate::BATCH_HEADER_BYTES] = 0xff;
        assert_eq!(TagFilter::of_batch(&RecordBatch::parse(damaged.into()).unwrap()), TagFilter::ANY);
        assert!(TagFilter::ANY.may_hold(TagFilter::of_tag(b"a")));
    }

    /// It is stored.
    #[test]
    fn the_filter_of_a_tag_never_changes() {
        assert_eq!(TagFilter::of_tag(b""), TagFilter(0x4_0000_0002));
        assert_eq!(TagFilter::of_tag(b"order"), TagFilter(0x2_0008_0000_0000));
    }
}
