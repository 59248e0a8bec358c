//! DeleteGroups (42), versions 0–2: groups without members go, with their committed offsets. KIP-229.

use std::collections::BTreeSet;

use duolog_broker::api::BrokerApi;
use futures_util::future::join_all;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use crate::context::Context;
use crate::shape::{Kind, Shape, field};
use crate::translate::group_id;

pub(crate) const SHAPE: Shape = Shape { flexible_from: 2, fields: &[field(Kind::Array(&Kind::String))] };

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut seen = BTreeSet::new();
    // A group that is named twice is deleted once, as in Kafka.
    let named = request.groups_names.into_iter().filter(|group| seen.insert(group.0.clone()));
    let results = named.map(|group| delete(&context, group));
    DeleteGroupsResponse::default().with_results(join_all(results).await)
}

async fn delete<B: BrokerApi>(context: &Context<B>, group: GroupId) -> DeletableGroupResult {
    let deleted = context.broker.delete_group(group_id(&group.0)).await;
    let code = deleted.map_or_else(|error| context.failure(&error).0, |()| 0);
    DeletableGroupResult::default().with_group_id(group).with_error_code(code)
}
