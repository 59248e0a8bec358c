//! What the fake broker tells of its groups.

use bytes::Bytes;
use duolog_broker::api::{GroupDescription, GroupId, GroupListing, InstanceId, MemberDescription, MemberId, Phase};

/// Of every group.
pub(super) fn group_listings() -> Vec<GroupListing> {
    let listing = |group: &str, protocol_type: &str, phase| GroupListing {
        group: GroupId(group.to_owned()),
        protocol_type: protocol_type.to_owned(),
        phase,
    };
    vec![listing("g", "consumer", Phase::Stable), listing("offsets", "", Phase::Empty)]
}

/// Of a group with one member.
pub(super) fn group_description(group: GroupId) -> GroupDescription {
    let member = MemberDescription {
        member_id: MemberId("m-1".to_owned()),
        instance_id: Some(InstanceId("i".to_owned())),
        client_id: "c".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        metadata: Bytes::from_static(b"topics"),
        assignment: Bytes::from_static(b"partitions"),
    };
    GroupDescription {
        group,
        phase: Phase::Stable,
        generation: 5,
        protocol_type: "consumer".to_owned(),
        protocol_name: "range".to_owned(),
        leader: Some(member.member_id.clone()),
        members: vec![member],
    }
}
