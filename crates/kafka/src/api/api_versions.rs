//! ApiVersions (18), versions 0–4: what this server speaks. KIP-35, KIP-511.

use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::dispatch::supported_apis;
use crate::shape::{Kind, Shape, field};

pub(crate) const SHAPE: Shape =
    Shape { flexible_from: 3, fields: &[field(Kind::String).from(3), field(Kind::String).from(3)] };

/// `kafka-features describe` wants to be told of one feature. The level says which Kafka's catalog this one is like, and nothing
/// hangs on it; features that clients act upon (`transaction.version`, `group.version`, …) are absent until they are there.
const METADATA_VERSION: StrBytes = StrBytes::from_static_str("metadata.version");
/// 3.3-IV3, the lowest that Kafka 4 knows.
const METADATA_LEVEL_MIN: i16 = 7;
/// 4.0-IV3.
const METADATA_LEVEL: i16 = 25;

pub(crate) async fn handle<B: BrokerApi>(_: Context<B>, _version: i16, _: ApiVersionsRequest) -> ApiVersionsResponse {
    response()
}

/// The answer to a version that is not supported; to be encoded as version 0, from which the client learns what is.
pub(crate) fn unsupported_version<B: BrokerApi>(context: &Context<B>) -> ApiVersionsResponse {
    let code = ResponseError::UnsupportedVersion.code();
    context.metrics.count_error(code);
    response().with_error_code(code)
}

fn response() -> ApiVersionsResponse {
    let api_keys = supported_apis()
        .iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key as i16)
                .with_min_version(api.version_min)
                .with_max_version(api.version_max_inclusive)
        })
        .collect();
    let supported = SupportedFeatureKey::default()
        .with_name(METADATA_VERSION)
        .with_min_version(METADATA_LEVEL_MIN)
        .with_max_version(METADATA_LEVEL);
    let finalized = FinalizedFeatureKey::default()
        .with_name(METADATA_VERSION)
        .with_min_version_level(METADATA_LEVEL)
        .with_max_version_level(METADATA_LEVEL);
    ApiVersionsResponse::default()
        .with_api_keys(api_keys)
        .with_supported_features(vec![supported])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![finalized])
}
