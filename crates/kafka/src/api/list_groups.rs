//! ListGroups (16), versions 0–5: consumer groups that this node coordinates. States from version 4 on (KIP-518), types
//! from 5 on (KIP-848).

use std::collections::BTreeSet;

use duolog_broker::api::BrokerApi;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::shape::{Kind, Shape, field};
use crate::translate::{group_state, string};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 3,
    fields: &[field(Kind::Array(&Kind::String)).from(4), field(Kind::Array(&Kind::String)).from(5)],
};

/// The only type of group that there is yet.
const TYPE_CLASSIC: &str = "classic";

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let groups = match context.broker.list_groups().await {
        Ok(groups) => groups,
        Err(error) => return ListGroupsResponse::default().with_error_code(context.failure(&error).0),
    };
    let (states, types) = (wanted(&request.states_filter), wanted(&request.types_filter));
    let passes = |filter: &BTreeSet<String>, value: &str| filter.is_empty() || filter.contains(&value.to_lowercase());
    let listed = groups
        .into_iter()
        .filter(|group| passes(&states, group_state(group.phase)) && passes(&types, TYPE_CLASSIC))
        .map(|group| {
            let state = StrBytes::from_static_str(group_state(group.phase));
            let answer = ListedGroup::default()
                .with_group_id(GroupId(string(group.group.0)))
                .with_protocol_type(string(group.protocol_type));
            let answer = if version >= 4 { answer.with_group_state(state) } else { answer };
            if version >= 5 { answer.with_group_type(StrBytes::from_static_str(TYPE_CLASSIC)) } else { answer }
        });
    ListGroupsResponse::default().with_groups(listed.collect())
}

/// Kafka compares without regard to case.
fn wanted(filter: &[StrBytes]) -> BTreeSet<String> {
    filter.iter().map(|value| value.to_lowercase()).collect()
}
