//! What the members of a group of consumers subscribe to, as far as it must be known here: whose offsets are still needed.
//!
//! The metadata of protocol type `consumer` is Kafka's ConsumerProtocolSubscription; every version begins alike:
//!
//! ```text
//! version i16 │ topics: count i32, then each: length i16, UTF-8 │ … not read
//! ```

use std::collections::BTreeSet;

use super::group::Group;

/// The protocol type of Kafka's consumers.
const CONSUMER: &str = "consumer";

/// Topics of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subscription {
    /// These, by name.
    Topics(BTreeSet<String>),
    /// Consumers whose subscription cannot be read: it may be any topic.
    Unknown,
}

impl Subscription {
    pub fn includes(&self, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Unknown => true,
        }
    }
}

impl Group {
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// What all members together subscribe to; a group of another protocol type subscribes to no topic.
    pub fn subscription(&self) -> Subscription {
        if !self.is_of_consumers() || self.members.is_empty() {
            return Subscription::Topics(BTreeSet::new());
        }
        let Some(protocol) = &self.protocol_name else { return Subscription::Unknown };
        let of_members = self.members.values().map(|member| topics(&member.metadata(protocol)));
        let all: Option<Vec<_>> = of_members.collect();
        all.map_or(Subscription::Unknown, |all| Subscription::Topics(all.into_iter().flatten().collect()))
    }
}

/// The topics of a member's subscription; `None` when the bytes are none.
fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (_version, rest) = metadata.split_at_checked(2)?;
    let (count, mut rest) = rest.split_at_checked(4)?;
    let count = i32::from_be_bytes(count.try_into().ok()?);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, after) = rest.split_at_checked(2)?;
        let length = usize::try_from(i16::from_be_bytes(length.try_into().ok()?)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.insert(String::from_utf8(name.to_vec()).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_damage_is_none() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc and more";
        assert_eq!(topics(bytes), Some(["a", "bc"].map(str::to_owned).into()));
        assert_eq!(topics(b"\0\0\0\0\0\0"), Some(BTreeSet::new()));
        for end in 0..13 {
            assert_eq!(topics(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(topics(b"\0\0\x7f\xff\xff\xff\0\x01a"), None);
    }
}
