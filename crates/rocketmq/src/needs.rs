//! The rights that each call needs, as RocketMQ 5.5 asks for them: who sends writes the topic, who consumes reads the topic and the
//! group.
//!
//! A receipt or the name of a hidden message says itself which topic it belongs to, so that topic counts as well as the one that the
//! request names.

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::MessageApi;
use duolog_types::{AclOperation, AclResourceType, TopicId};

use crate::access::{Guarded, Need};
use crate::context::Context;
use crate::errors::Refusal;
use crate::proto::settings::PubSub;
use crate::proto::{
    AckMessageRequest, ChangeInvisibleDurationRequest, EndTransactionRequest, ForwardMessageToDeadLetterQueueRequest,
    GetOffsetRequest, HeartbeatRequest, MessageQueue, NotifyClientTerminationRequest, PullMessageRequest,
    QueryAssignmentRequest, QueryOffsetRequest, QueryRouteRequest, RecallMessageRequest, ReceiveMessageRequest,
    Resource, SendMessageRequest, Settings, SyncLiteSubscriptionRequest, UpdateOffsetRequest,
};
use crate::{handles, names};

type Needs = Result<Vec<Need>, Refusal>;

const PUB: &[AclOperation] = &[AclOperation::Write];
const SUB: &[AclOperation] = &[AclOperation::Read];
const PUB_OR_SUB: &[AclOperation] = &[AclOperation::Write, AclOperation::Read];

fn topic(any_of: &'static [AclOperation], resource: Option<&Resource>) -> Result<Need, Refusal> {
    Ok(Need { any_of, resource_type: AclResourceType::Topic, name: names::topic(resource)? })
}

/// Who publishes to a topic, and so may know its half messages.
pub(crate) fn publishing(topic: &str) -> Need {
    Need { any_of: PUB, resource_type: AclResourceType::Topic, name: topic.to_owned() }
}

fn group(resource: Option<&Resource>) -> Result<Need, Refusal> {
    Ok(Need { any_of: SUB, resource_type: AclResourceType::Group, name: names::group(resource)?.0 })
}

/// Producers name no group.
fn if_named(named: Option<&Resource>) -> Needs {
    named.into_iter().filter(|named| !named.name.is_empty()).map(|named| group(Some(named))).collect()
}

/// The topic that a handle belongs to.
fn topic_of<B: MessageApi>(
    context: &Context<B>,
    any_of: &'static [AclOperation],
    id: TopicId,
) -> Result<Need, Refusal> {
    let name = context.broker.topic(&TopicRef::Id(id))?.name;
    Ok(Need { any_of, resource_type: AclResourceType::Topic, name })
}

fn queue(queue: Option<&MessageQueue>) -> Result<Need, Refusal> {
    topic(SUB, queue.and_then(|queue| queue.topic.as_ref()))
}

/// Who consumes: the group, the topic that is named, and those of the receipts. What is no receipt is refused later.
fn consuming<'a, B: MessageApi>(
    context: &Context<B>,
    group: Option<&Resource>,
    named: Option<&Resource>,
    receipts: impl Iterator<Item = &'a str>,
) -> Needs {
    let mut needs = vec![self::group(group)?];
    if named.is_some() {
        needs.push(topic(SUB, named)?);
    }
    let mut topics: Vec<TopicId> =
        receipts.filter_map(|text| Some(handles::read_receipt(text).ok()?.partition.topic)).collect();
    topics.sort_unstable();
    topics.dedup();
    for id in topics {
        needs.push(topic_of(context, SUB, id)?);
    }
    Ok(needs)
}

/// Who ends or recalls what was sent.
fn sent<B: MessageApi>(context: &Context<B>, named: Option<&Resource>, handle: &str) -> Needs {
    let mut needs = Vec::new();
    if named.is_some() {
        needs.push(topic(PUB, named)?);
    }
    if let Ok((handle, _)) = handles::read_hidden(handle) {
        needs.push(topic_of(context, PUB, handle.partition.topic)?);
    }
    Ok(needs)
}

macro_rules! guarded {
    ($($request:ident: |$self:ident, $context:ident| $needs:expr;)*) => {$(
        impl Guarded for $request {
            fn needs<B: MessageApi>(&self, $context: &Context<B>) -> Needs {
                let $self = self;
                $needs
            }
        }
    )*};
}

guarded! {
    QueryRouteRequest: |request, _context| Ok(vec![topic(PUB_OR_SUB, request.topic.as_ref())?]);
    SendMessageRequest: |request, _context| request.messages.iter().map(|message| topic(PUB, message.topic.as_ref())).collect();
    EndTransactionRequest: |request, context| sent(context, request.topic.as_ref(), &request.transaction_id);
    RecallMessageRequest: |request, context| sent(context, request.topic.as_ref(), &request.recall_handle);
    HeartbeatRequest: |request, _context| if_named(request.group.as_ref());
    NotifyClientTerminationRequest: |request, _context| if_named(request.group.as_ref());
    QueryAssignmentRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, topic(SUB, request.topic.as_ref())?]);
    ReceiveMessageRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, queue(request.message_queue.as_ref())?]);
    PullMessageRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, queue(request.message_queue.as_ref())?]);
    GetOffsetRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, queue(request.message_queue.as_ref())?]);
    UpdateOffsetRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, queue(request.message_queue.as_ref())?]);
    QueryOffsetRequest: |request, _context| Ok(vec![queue(request.message_queue.as_ref())?]);
    SyncLiteSubscriptionRequest: |request, _context| Ok(vec![group(request.group.as_ref())?, topic(SUB, request.topic.as_ref())?]);
    AckMessageRequest: |request, context| {
        let receipts = request.entries.iter().map(|entry| entry.receipt_handle.as_str());
        consuming(context, request.group.as_ref(), request.topic.as_ref(), receipts)
    };
    ChangeInvisibleDurationRequest: |request, context| {
        let receipt = std::iter::once(request.receipt_handle.as_str());
        consuming(context, request.group.as_ref(), request.topic.as_ref(), receipt)
    };
    ForwardMessageToDeadLetterQueueRequest: |request, context| {
        let receipt = std::iter::once(request.receipt_handle.as_str());
        consuming(context, request.group.as_ref(), request.topic.as_ref(), receipt)
    };
    Settings: |told, _context| match &told.pub_sub {
        Some(PubSub::Publishing(publishing)) => publishing.topics.iter().map(|named| topic(PUB, Some(named))).collect(),
        Some(PubSub::Subscription(subscription)) => {
            let groups = subscription.group.iter().map(|named| group(Some(named)));
            groups.chain(subscription.subscriptions.iter().map(|entry| topic(SUB, entry.topic.as_ref()))).collect()
        }
        None => Ok(Vec::new()),
    };
}
