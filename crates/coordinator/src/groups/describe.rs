//! Read-only views for DescribeGroups and ListGroups.

use bytes::Bytes;
use duolog_record::group::{GroupId, InstanceId, MemberId};

use super::group::{Group, Phase};

/// A group as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// Its state.
    pub phase: Phase,
    /// Completed rebalances.
    pub generation: i32,
    /// Empty before the first member.
    pub protocol_type: String,
    /// The assignor; empty outside of Stable, as in Kafka.
    pub protocol_name: String,
    /// The member that assigns.
    pub leader: Option<MemberId>,
    /// Ordered by member id.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: MemberId,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its subscription; empty outside of Stable.
    pub metadata: Bytes,
    /// Its assignment; empty outside of Stable.
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// Empty before the first member.
    pub protocol_type: String,
    /// Its state.
    pub phase: Phase,
}

impl Group {
    pub fn describe(&self) -> GroupDescription {
        let stable = self.phase == Phase::Stable;
        let protocol_name = self.protocol_name.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.values().map(|m| MemberDescription {
            member_id: m.durable.member_id.clone(),
            instance_id: m.durable.instance_id.clone(),
            client_id: m.durable.client_id.clone(),
            client_host: m.durable.client_host.clone(),
            metadata: if stable { m.metadata(&protocol_name) } else { Bytes::new() },
            assignment: if stable { m.durable.assignment.clone() } else { Bytes::new() },
        });
        GroupDescription {
            group: self.id.clone(),
            phase: self.phase,
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol_name,
            leader: self.leader.clone(),
        }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            phase: self.phase,
        }
    }
}
