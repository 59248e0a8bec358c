//! What members of a consumer group tell each other through the coordinator: Kafka's ConsumerProtocol, version 0.
//!
//! ```text
//! subscription   version i16 │ count i32 { topic: length i16, bytes } │ user data: length i32 (−1: none), bytes │ …
//! assignment     version i16 │ count i32 { topic: length i16, bytes │ count i32 { partition i32 } } │ user data │ …
//! ```
//! Later versions only add fields at the end, so that the beginning is read of any version. Bytes of other clients are
//! not trusted: lengths are checked, and nothing is allocated by a length that is claimed.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The assignment strategy that this client knows, by Kafka's name.
pub(crate) const STRATEGY: &str = "range";

const VERSION: i16 = 0;
const NO_USER_DATA: i32 = -1;

/// A subscription to topics.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        put_string(&mut out, topic);
    }
    out.put_i32(NO_USER_DATA);
    out.freeze()
}

/// The topics of a subscription.
///
/// # Errors
/// The bytes are no subscription.
pub(super) fn subscribed_topics(mut bytes: Bytes) -> anyhow::Result<Vec<String>> {
    let count = head(&mut bytes).context("not a subscription")?;
    (0..count).map(|_| take_string(&mut bytes).context("not a subscription")).collect()
}

/// An assignment of partitions, by topic.
pub(super) fn assignment(partitions: &BTreeMap<String, Vec<i32>>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    out.put_i32(partitions.len() as i32);
    for (topic, partitions) in partitions {
        put_string(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    out.put_i32(NO_USER_DATA);
    out.freeze()
}

/// The partitions of an assignment, by topic. No bytes are an empty one, as members have it before the first.
///
/// # Errors
/// The bytes are no assignment.
pub(crate) fn assigned_partitions(mut bytes: Bytes) -> anyhow::Result<BTreeMap<String, Vec<i32>>> {
    let mut assigned = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(assigned);
    }
    let count = head(&mut bytes).context("not an assignment")?;
    for _ in 0..count {
        let topic = take_string(&mut bytes).context("not an assignment")?;
        let partitions: anyhow::Result<Vec<i32>> = (0..take_i32(&mut bytes)?).map(|_| take_i32(&mut bytes)).collect();
        assigned.insert(topic, partitions.context("not an assignment")?);
    }
    Ok(assigned)
}

fn head(bytes: &mut Bytes) -> anyhow::Result<i32> {
    ensure!(bytes.remaining() >= 2, "it is cut");
    let version = bytes.get_i16();
    ensure!(version >= 0, "version {version}: expected 0 or more");
    take_i32(bytes)
}

fn take_i32(bytes: &mut Bytes) -> anyhow::Result<i32> {
    ensure!(bytes.remaining() >= 4, "it is cut");
    Ok(bytes.get_i32())
}

fn take_string(bytes: &mut Bytes) -> anyhow::Result<String> {
    ensure!(bytes.remaining() >= 2, "it is cut");
    let length = bytes.get_i16();
    let length = usize::try_from(length).with_context(|| format!("a name of {length} bytes"))?;
    ensure!(bytes.remaining() >= length, "it is cut");
    Ok(String::from_utf8(bytes.split_to(length).to_vec())?)
}

fn put_string(out: &mut BytesMut, text: &str) {
    // Names of topics have at most 249 bytes; a longer one is cut and then names no topic.
    let bytes = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    out.put_i16(bytes.len() as i16);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(subscribed_topics(subscription(&["a", "bc"])).unwrap(), ["a", "bc"]);
        let partitions = BTreeMap::from([("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])]);
        assert_eq!(assigned_partitions(assignment(&partitions)).unwrap(), partitions);
        assert!(assigned_partitions(Bytes::new()).unwrap().is_empty());
    }

    /// A Java client's subscription of version 3: owned partitions, generation and rack follow.
    #[test]
    fn later_versions_are_read() {
        let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 1, b't'];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(subscribed_topics(bytes.into()).unwrap(), ["t"]);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = subscribed_topics(Bytes::from(bytes.clone()));
            let _ = assigned_partitions(Bytes::from(bytes));
        }

        #[test]
        fn a_cut_assignment_is_an_error(end in 0_usize..22) {
            let whole = assignment(&BTreeMap::from([("ab".to_owned(), vec![0, 1])]));
            let cut = whole.slice(..end.min(whole.len() - 5));
            prop_assert!(cut.is_empty() || assigned_partitions(cut).is_err());
        }
    }
}
