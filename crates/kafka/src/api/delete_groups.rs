//! DeleteGroups (42), versions 0–2: groups without members go, with their committed offsets. KIP-229.

use duolog_broker::api::BrokerApi;
use futures_util::future::join_all;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use crate::bounds::each_once;
use crate::context::Context;
use crate::shape::{Kind, Shape, field};
use crate::translate::group_id;

pub(crate) const SHAPE: Shape = Shape { flexible_from: 2, fields: &[field(Kind::Array(&Kind::String))] };

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    mut request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    // A group that is named twice is deleted once, as in Kafka.
    each_once(&mut request.groups_names, Clone::clone);
    let results = request.groups_names.into_iter().map(|group| delete(&context, group));
    DeleteGroupsResponse::default().with_results(join_all(results).await)
}

async fn delete<B: BrokerApi>(context: &Context<B>, group: GroupId) -> DeletableGroupResult {
    let deleted = context.broker.delete_group(group_id(&group.0)).await;
    let code = deleted.map_or_else(|error| context.failure(&error).0, |()| 0);
    DeletableGroupResult::default().with_group_id(group).with_error_code(code)
}
