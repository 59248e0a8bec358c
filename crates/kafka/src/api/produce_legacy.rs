//! Produce (0), versions 0–2: advertised because librdkafka's feature detection wants them, and refused with
//! UNSUPPORTED_FOR_MESSAGE_FORMAT, since they carry record formats 0 and 1. kafka-protocol has no code for them.
//!
//! ```text
//! request   acks i16, timeout i32, [topic string, [partition i32, records bytes]]
//! answer    [topic string, [partition i32, error i16, base offset i64, (2: log append time i64)]], (1: throttle i32)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;

use crate::context::Context;
use crate::dispatch::Pending;
use crate::head::Head;
use crate::response::{self, Answer, CloseReason, Pieces};

/// First version that is really served.
pub(crate) const VERSIONS_END: i16 = 3;

/// Answers a body that was checked against the shape.
pub(crate) fn refuse<B: BrokerApi>(context: &Context<B>, head: Head, body: &Bytes) -> Result<Pending, CloseReason> {
    let short = |error| CloseReason(format!("Produce version {}: {error}", head.version));
    let mut body = body.clone();
    let acks = body.try_get_i16().map_err(|error| short(error.to_string()))?;
    if acks == 0 {
        return Err(CloseReason(format!(
            "Produce version {} with acks = 0: record formats 0 and 1 are not supported",
            head.version
        )));
    }
    let mut answer = response::begin(head, 0);
    copy_topics(context, head.version, &mut body, &mut answer).map_err(|error| short(error.to_string()))?;
    if head.version >= 1 {
        answer.put_i32(0);
    }
    Ok(Box::pin(std::future::ready(Pieces::framed(answer, []).map(Answer::Frame))))
}

fn copy_topics<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    body: &mut Bytes,
    answer: &mut BytesMut,
) -> Result<(), bytes::TryGetError> {
    let _timeout_ms = body.try_get_i32()?;
    let topics = body.try_get_i32()?;
    answer.put_i32(topics.max(0));
    for _ in 0..topics {
        let name_bytes = body.try_get_i16()?;
        let name = body.split_to(usize::try_from(name_bytes).unwrap_or(0));
        answer.put_i16(name_bytes.max(0));
        answer.put_slice(&name);
        let partitions = body.try_get_i32()?;
        answer.put_i32(partitions.max(0));
        for _ in 0..partitions {
            answer.put_i32(body.try_get_i32()?);
            let records_bytes = body.try_get_i32()?;
            body.advance(usize::try_from(records_bytes).unwrap_or(0));
            answer.put_i16(context.refusal(ResponseError::UnsupportedForMessageFormat, "").0);
            answer.put_i64(-1);
            if version >= 2 {
                answer.put_i64(-1);
            }
        }
    }
    Ok(())
}
