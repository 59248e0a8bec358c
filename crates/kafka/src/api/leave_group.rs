//! LeaveGroup (13), versions 0–5: one member up to version 2, several from 3 on (KIP-345).

use duolog_broker::api::{BrokerApi, LeaveRequest, LeavingMember};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::context::Context;
use crate::head::Caller;
use crate::shape::{Kind, Shape, field};
use crate::translate::{instance_id, member_id};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[
        field(Kind::String),
        field(Kind::String).until(2),
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::String), field(Kind::String).from(5)])))
            .from(3),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    caller: Caller,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let members = if version >= 3 {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id).with_group_instance_id(None)]
    };
    let leaving = members.iter().map(|member| LeavingMember {
        member_id: member_id(&member.member_id),
        instance_id: instance_id(member.group_instance_id.as_ref()),
    });
    let leave = LeaveRequest { group: context.member_group(&request.group_id, &caller), members: leaving.collect() };
    let results = match context.broker.leave_group(leave).await {
        Ok(results) => results,
        Err(error) => return LeaveGroupResponse::default().with_error_code(context.failure(&error).0),
    };
    let mut codes = results.into_iter().map(|result| result.map_or_else(|error| context.failure(&error).0, |()| 0));
    if version < 3 {
        return LeaveGroupResponse::default().with_error_code(codes.next().unwrap_or(0));
    }
    let left = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(left.collect())
}
