//! Heartbeat (12), versions 0–4: keeps a member's session alive. Static members from version 3 on (KIP-345).

use duolog_broker::api::{BrokerApi, HeartbeatRequest as Beat};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::context::Context;
use crate::head::Caller;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{instance_id, member_id};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[field(Kind::String), field(INT32), field(Kind::String), field(Kind::String).from(3)],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    caller: Caller,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let beat = Beat {
        group: context.member_group(&request.group_id, &caller),
        member_id: member_id(&request.member_id).unwrap_or_default(),
        instance_id: instance_id(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let code = match context.broker.heartbeat(beat).await {
        Ok(()) => 0,
        Err(error) => context.failure(&error).0,
    };
    HeartbeatResponse::default().with_error_code(code)
}
