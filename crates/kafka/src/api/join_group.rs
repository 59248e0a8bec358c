//! JoinGroup (11), versions 0–9: KIP-62, KIP-345 (5), KIP-394 (4), KIP-559 (7), KIP-814 (9).

use bytes::Bytes;
use duolog_broker::Admission;
use duolog_broker::api::{BrokerApi, JoinReply, JoinRequest, MemberId, MemberProtocol};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::head::Caller;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{instance_id, member_id, string};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 6,
    fields: &[
        field(Kind::String),
        field(INT32),
        field(INT32).from(1),
        field(Kind::String),
        field(Kind::String).from(5),
        field(Kind::String),
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Bytes)]))),
        field(Kind::String).from(8),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    caller: Caller,
    request: JoinGroupRequest,
    share: Option<Admission>,
) -> JoinGroupResponse {
    let request = translated(&context, version, caller, request);
    match context.broker.join_group(request, share).await {
        Ok(reply) => joined(version, reply),
        Err(refusal) => JoinGroupResponse::default()
            .with_error_code(context.failure(&refusal.error).0)
            .with_protocol_name(protocol_name(version, None))
            .with_member_id(text(refusal.member_id)),
    }
}

/// Takes whatever is a part of the frame: nothing keeps that in memory while the member waits.
fn translated<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    caller: Caller,
    request: JoinGroupRequest,
) -> JoinRequest {
    // A negative time is as good as none.
    let milliseconds = |ms: i32| u32::try_from(ms).unwrap_or(0);
    let rebalance_timeout_ms = if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    JoinRequest {
        group: context.member_group(&request.group_id, &caller),
        member_id: member_id(&request.member_id),
        instance_id: instance_id(request.group_instance_id.as_ref()),
        client_id: caller.client_id(),
        client_host: caller.host(),
        session_timeout_ms: milliseconds(request.session_timeout_ms),
        rebalance_timeout_ms: milliseconds(rebalance_timeout_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: kept(request.protocols),
        uuid: String::new(),
        requires_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
    }
}

/// Copies: the coordinator keeps a member's metadata for as long as the member lives, and a slice would keep the frame.
fn kept(protocols: Vec<JoinGroupRequestProtocol>) -> Vec<MemberProtocol> {
    let copied = protocols
        .into_iter()
        .map(|p| MemberProtocol { name: p.name.to_string(), metadata: Bytes::copy_from_slice(&p.metadata) });
    copied.collect()
}

fn joined(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let members = reply.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(string(member.member_id.0))
            .with_group_instance_id(member.instance_id.map(|id| string(id.0)))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.map(string))
        .with_protocol_name(protocol_name(version, reply.protocol_name))
        .with_leader(string(reply.leader.0))
        .with_skip_assignment(reply.skip_assignment)
        .with_member_id(string(reply.member_id.0))
        .with_members(members.collect())
}

/// No protocol is null from version 7 on, and empty before.
fn protocol_name(version: i16, name: Option<String>) -> Option<StrBytes> {
    match name {
        None if version >= 7 => None,
        name => Some(string(name.unwrap_or_default())),
    }
}

fn text(id: Option<MemberId>) -> StrBytes {
    string(id.unwrap_or_default().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_metadata_is_no_part_of_the_frame() {
        let frame = Bytes::from(vec![7_u8; 100]);
        let asked = JoinGroupRequestProtocol::default().with_name(string("range")).with_metadata(frame.slice(10..20));
        let kept = kept(vec![asked]);
        assert_eq!((kept[0].name.as_str(), &kept[0].metadata[..]), ("range", &[7; 10][..]));
        assert!(frame.is_unique(), "the member keeps the frame");
    }
}
