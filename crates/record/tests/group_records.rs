//! Group records survive the codec that the state uses.

use bytes::Bytes;
use duolog_record::group::{
    CommittedOffset, GroupId, GroupMember, GroupMetadata, GroupRecord, GroupState, InstanceId, MemberId,
    MemberProtocol, OffsetCommit,
};
use duolog_types::{LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(record: &T) {
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(record, config).unwrap();
    let (read, used): (T, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
    assert_eq!((&read, used), (record, bytes.len()));
}

#[test]
fn round_trip() {
    let group = GroupId("payments".to_owned());
    check(&GroupRecord::Tombstone(group.clone()));
    check(&GroupRecord::Snapshot(GroupMetadata {
        group: group.clone(),
        state: GroupState::Stable,
        generation: 3,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        leader: Some(MemberId("a-1".to_owned())),
        members: vec![GroupMember {
            member_id: MemberId("a-1".to_owned()),
            instance_id: Some(InstanceId("a".to_owned())),
            client_id: "client".to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"\0\x01") }],
            assignment: Bytes::from_static(b"\xff\0"),
        }],
    }));
    check(&OffsetCommit {
        group,
        offsets: vec![(
            TopicPartition { topic: TopicId([7; 16]), partition: 2 },
            CommittedOffset {
                offset: Offset(9),
                leader_epoch: Some(LeaderEpoch(1)),
                metadata: "note".to_owned(),
                commit_timestamp: TimestampMs(1_000),
            },
        )],
    });
}
