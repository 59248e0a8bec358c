//! DescribeGroups (15), versions 0–6: state, members and assignments. Static members from version 4 on (KIP-345); from
//! version 6 on an unknown group is an error, before it is a dead one (KIP-1043).

use duolog_broker::api::{BrokerApi, GroupDescription, MemberDescription};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::bounds::{AnswerRoom, a_few_at_a_time, each_once};
use crate::context::Context;
use crate::shape::{BOOL, Kind, Shape, field};
use crate::translate::{self, GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, group_state, string};

pub(crate) const SHAPE: Shape =
    Shape { flexible_from: 5, fields: &[field(Kind::Array(&Kind::String)), field(BOOL).from(3)] };

const DEAD: StrBytes = StrBytes::from_static_str("Dead");

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    mut request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations = match request.include_authorized_operations {
        true if version >= 3 => GROUP_OPERATIONS,
        _ => OPERATIONS_NOT_ASKED,
    };
    each_once(&mut request.groups, Clone::clone);
    let room = AnswerRoom::default();
    let groups = a_few_at_a_time(request.groups, |group| describe(&context, version, operations, &room, group)).await;
    DescribeGroupsResponse::default().with_groups(groups)
}

async fn describe<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    operations: i32,
    room: &AnswerRoom,
    id: GroupId,
) -> DescribedGroup {
    let answer = DescribedGroup::default()
        .with_group_id(id.clone())
        .with_error_message(None)
        .with_authorized_operations(OPERATIONS_NOT_ASKED);
    if let Some(refusal) = room.refusal(context) {
        return failed(answer, version, refusal);
    }
    let answer = match context.broker.describe_group(translate::group_id(&id.0)).await {
        Ok(Some(group)) => described(answer, version, group).with_authorized_operations(operations),
        Ok(None) if version < 6 => answer.with_group_state(DEAD).with_authorized_operations(operations),
        Ok(None) => {
            let sentence = format!("group {} was not found", id.0);
            failed(answer.with_group_state(DEAD), version, context.refusal(ResponseError::GroupIdNotFound, sentence))
        }
        Err(error) => failed(answer, version, context.failure(&error)),
    };
    room.count(version, &answer);
    answer
}

fn failed(answer: DescribedGroup, version: i16, (code, sentence): (i16, Option<StrBytes>)) -> DescribedGroup {
    answer.with_error_code(code).with_error_message(sentence.filter(|_| version >= 6))
}

fn described(answer: DescribedGroup, version: i16, group: GroupDescription) -> DescribedGroup {
    answer
        .with_group_state(StrBytes::from_static_str(group_state(group.phase)))
        .with_protocol_type(string(group.protocol_type))
        .with_protocol_data(string(group.protocol_name))
        .with_members(group.members.into_iter().map(|member| member_of(version, member)).collect())
}

fn member_of(version: i16, member: MemberDescription) -> DescribedGroupMember {
    let instance = member.instance_id.filter(|_| version >= 4).map(|instance| string(instance.0));
    DescribedGroupMember::default()
        .with_member_id(string(member.member_id.0))
        .with_group_instance_id(instance)
        .with_client_id(string(member.client_id))
        .with_client_host(string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
