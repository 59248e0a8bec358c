//! ListConfigResources (74), versions 0–1: what has configs. Version 0 was ListClientMetricsResources, of which there are
//! none. KIP-714, KIP-1142.

use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::context::Context;
use crate::shape::{INT8, Kind, Shape, field};
use crate::translate::string;

pub(crate) const SHAPE: Shape = Shape { flexible_from: 0, fields: &[field(Kind::Array(&INT8)).from(1)] };

const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_CLIENT_METRICS: i8 = 16;
/// What Kafka can list. Loggers and client metrics have no configs here, so there are none of them.
const LISTED: [i8; 5] =
    [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let answer = ListConfigResourcesResponse::default();
    if version == 0 {
        return answer;
    }
    if let Some(unknown) = request.resource_types.iter().find(|kind| !LISTED.contains(kind)) {
        let sentence = format!("resource type {unknown} cannot be listed");
        return answer.with_error_code(context.refusal(ResponseError::UnsupportedVersion, sentence).0);
    }
    let is_wanted = |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let named =
        |kind: i8, name: String| ConfigResource::default().with_resource_type(kind).with_resource_name(string(name));
    let mut resources = Vec::new();
    if is_wanted(RESOURCE_TOPIC) {
        resources.extend(context.broker.topics().into_iter().map(|topic| named(RESOURCE_TOPIC, topic.name)));
    }
    if is_wanted(RESOURCE_BROKER) {
        let nodes = context.broker.cluster().nodes;
        resources.extend(nodes.into_iter().map(|node| named(RESOURCE_BROKER, node.id.0.to_string())));
    }
    if is_wanted(RESOURCE_GROUP) {
        resources.extend(context.broker.configured_groups().into_iter().map(|group| named(RESOURCE_GROUP, group.0)));
    }
    answer.with_config_resources(resources)
}
