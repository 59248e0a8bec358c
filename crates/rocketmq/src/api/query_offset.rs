//! QueryOffset: the first offset of a queue, its end, or the first message of a time.

use duolog_broker::api::{EpochCheck, OffsetQuery, TopicRef};
use duolog_broker::message_api::MessageApi;

use super::queue::Queue;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::place::at_leader;
use crate::proto::{Code, QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse};
use crate::time::from_timestamp;

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: QueryOffsetRequest,
) -> Result<QueryOffsetResponse, Refusal> {
    let queue = Queue::find(&context, request.message_queue.as_ref())?;
    let query = query(&request)?;
    let list = |query| {
        let topic = TopicRef::Id(queue.topic.id);
        context.broker.list_offset(topic, queue.id, query, EpochCheck::default())
    };
    let here = || async {
        let mut found = list(query).await?;
        if found.offset.0 < 0 {
            // Nothing is that late: as in RocketMQ, the end.
            found = list(OffsetQuery::Latest).await?;
        }
        Ok(QueryOffsetResponse { status: None, offset: found.offset.0 })
    };
    at_leader(&context, &caller, queue.partition, request, here).await
}

fn query(request: &QueryOffsetRequest) -> Result<OffsetQuery, Refusal> {
    match request.query_offset_policy() {
        QueryOffsetPolicy::Beginning => Ok(OffsetQuery::Earliest),
        QueryOffsetPolicy::End => Ok(OffsetQuery::Latest),
        QueryOffsetPolicy::Timestamp => {
            let time = request.timestamp.as_ref().map(from_timestamp);
            let time = time.ok_or_else(|| Refusal::new(Code::BadRequest, "there is no timestamp"))?;
            Ok(OffsetQuery::AtOrAfter(time))
        }
    }
}
