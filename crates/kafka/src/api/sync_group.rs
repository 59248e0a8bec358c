//! SyncGroup (14), versions 0–5: the leader's assignments in, a member's assignment out. KIP-345 (3), KIP-559 (5).

use bytes::Bytes;
use duolog_broker::Admission;
use duolog_broker::api::{BrokerApi, GroupError, SyncRequest};
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::context::Context;
use crate::errors::sync_error;
use crate::head::Caller;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{instance_id, member_id, string};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[
        field(Kind::String),
        field(INT32),
        field(Kind::String),
        field(Kind::String).from(3),
        field(Kind::String).from(5),
        field(Kind::String).from(5),
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Bytes)]))),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    caller: Caller,
    request: SyncGroupRequest,
    share: Option<Admission>,
) -> SyncGroupResponse {
    let synced = match translated(&context, version, caller, request) {
        Ok(request) => context.broker.sync_group(request, share).await,
        Err(error) => Err(error.into()),
    };
    match synced {
        Ok(reply) => SyncGroupResponse::default()
            .with_protocol_type(reply.protocol_type.map(string))
            .with_protocol_name(reply.protocol_name.map(string))
            .with_assignment(reply.assignment),
        Err(error) => {
            let (code, _) = context.refusal(sync_error(&error), error.to_string());
            SyncGroupResponse::default().with_error_code(code)
        }
    }
}

/// Takes whatever is a part of the frame: nothing keeps that in memory while the member waits. Assignments are copied, for the
/// coordinator keeps them for as long as their generation lasts.
fn translated<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    caller: Caller,
    request: SyncGroupRequest,
) -> Result<SyncRequest, GroupError> {
    // Nullable on the wire, and yet required (KIP-559).
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    let assignments = request
        .assignments
        .into_iter()
        .map(|a| (member_id(&a.member_id).unwrap_or_default(), Bytes::copy_from_slice(&a.assignment)));
    Ok(SyncRequest {
        group: context.member_group(&request.group_id, &caller),
        member_id: member_id(&request.member_id).unwrap_or_default(),
        instance_id: instance_id(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|text| text.to_string()),
        protocol_name: request.protocol_name.map(|text| text.to_string()),
        assignments: assignments.collect(),
    })
}
