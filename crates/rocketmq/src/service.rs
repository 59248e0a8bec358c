//! The protocol's trait: counts, refuses calls of clients that do not say who they are or may not make them, hands over to `api`.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use duolog_broker::message_api::MessageApi;
use tokio_stream::{Stream, iter};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::access::{Guarded, admit};
use crate::answer::Answer;
use crate::api;
use crate::caller::Caller;
use crate::context::Context;
use crate::delivery::Delivery;
use crate::errors::{Refusal, ok};
use crate::metrics::Call;
use crate::proto::messaging_service_server::MessagingService;
use crate::proto::*;
use crate::unread::Unread;

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service on one broker.
pub(crate) struct Service<B> {
    context: Context<B>,
}

impl<B: MessageApi> Service<B> {
    pub(crate) fn new(context: Context<B>) -> Self {
        Self { context }
    }

    fn caller<R>(&self, request: Request<R>) -> (Caller, R) {
        Caller::of_call(request, self.context.config.access.authentication_enabled)
    }

    /// Answers a call with one answer. Every outcome is a status in it: clients take gRPC's own errors for a broken connection.
    async fn answer<R, A, F>(
        &self,
        call: Call,
        request: Request<R>,
        handle: impl FnOnce(Context<B>, Caller, R) -> F,
    ) -> Result<Response<A>, Status>
    where
        R: Guarded,
        A: Answer,
        F: Future<Output = Result<A, Refusal>>,
    {
        let began = Instant::now();
        self.context.metrics.count_request(call);
        let (caller, request) = self.caller(request);
        let answer = match admit(&self.context, &caller, &request) {
            Ok(()) => handle(self.context.clone(), caller, request).await,
            Err(refusal) => Err(refusal),
        };
        let mut answer = answer.unwrap_or_else(|refusal| A::refused(&refusal));
        if answer.status().is_none() {
            answer.set_status(ok());
        }
        self.context.metrics.count_answer(answer.code());
        self.context.metrics.count_took(call, began.elapsed());
        Ok(Response::new(answer))
    }

    /// Answers a call that is not implemented.
    async fn refuse<R: Guarded, A: Answer>(
        &self,
        call: Call,
        request: Request<R>,
        what: &str,
    ) -> Result<Response<A>, Status> {
        self.answer(call, request, |_, _, _| async { Err(api::not_implemented(what)) }).await
    }
}

#[async_trait]
impl<B: MessageApi> MessagingService for Service<B> {
    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Result<Response<QueryRouteResponse>, Status> {
        self.answer(Call::QueryRoute, request, api::query_route::handle).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        self.answer(Call::Heartbeat, request, api::heartbeat::handle).await
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        self.answer(Call::SendMessage, request, api::send_message::handle).await
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Result<Response<QueryAssignmentResponse>, Status> {
        self.answer(Call::QueryAssignment, request, api::query_assignment::handle).await
    }

    type ReceiveMessageStream = Items<ReceiveMessageResponse>;

    async fn receive_message(
        &self,
        request: Request<ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        let (began, metrics) = (Instant::now(), &self.context.metrics);
        metrics.count_request(Call::ReceiveMessage);
        let (caller, request) = self.caller(request);
        let group = request.group.clone();
        let received = match admit(&self.context, &caller, &request) {
            Ok(()) => api::receive_message::handle(self.context.clone(), caller.clone(), request).await,
            Err(refusal) => Err(refusal),
        };
        let (status, messages) = match received {
            Ok(messages) if messages.is_empty() => (api::receive_message::nothing(), messages),
            Ok(messages) => (ok(), messages),
            Err(refusal) => (refusal.status(), Vec::new()),
        };
        metrics.count_answer(status.code());
        metrics.count_took(Call::ReceiveMessage, began.elapsed());
        let delivery = Delivery::new(self.context.clone(), caller, group, status, messages);
        Ok(Response::new(Box::pin(delivery)))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Result<Response<AckMessageResponse>, Status> {
        self.answer(Call::AckMessage, request, api::ack_message::handle).await
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<ForwardMessageToDeadLetterQueueResponse>, Status> {
        self.answer(Call::ForwardMessageToDeadLetterQueue, request, api::forward_to_dead_letter_queue::handle).await
    }

    type PullMessageStream = Items<PullMessageResponse>;

    async fn pull_message(
        &self,
        request: Request<PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        let (began, metrics) = (Instant::now(), &self.context.metrics);
        metrics.count_request(Call::PullMessage);
        let (caller, request) = self.caller(request);
        let pulled = match admit(&self.context, &caller, &request) {
            Ok(()) => api::pull_message::handle(self.context.clone(), caller, request).await,
            Err(refusal) => Err(refusal),
        };
        metrics.count_answer(pulled.as_ref().map_or_else(Refusal::code, |_| Code::Ok));
        metrics.count_took(Call::PullMessage, began.elapsed());
        let contents = pulled.unwrap_or_else(|refusal| vec![pull_message_response::Content::Status(refusal.status())]);
        let unread = Unread::new(&self.context.answers, contents, drop);
        let contents = std::iter::from_fn(move || unread.next().transpose());
        let items = contents.map(|item| item.map(|content| PullMessageResponse { content: Some(content) }));
        Ok(Response::new(Box::pin(iter(items))))
    }

    async fn update_offset(
        &self,
        request: Request<UpdateOffsetRequest>,
    ) -> Result<Response<UpdateOffsetResponse>, Status> {
        self.answer(Call::UpdateOffset, request, api::update_offset::handle).await
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Result<Response<GetOffsetResponse>, Status> {
        self.answer(Call::GetOffset, request, api::get_offset::handle).await
    }

    async fn query_offset(
        &self,
        request: Request<QueryOffsetRequest>,
    ) -> Result<Response<QueryOffsetResponse>, Status> {
        self.answer(Call::QueryOffset, request, api::query_offset::handle).await
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Result<Response<EndTransactionResponse>, Status> {
        self.answer(Call::EndTransaction, request, api::end_transaction::handle).await
    }

    type TelemetryStream = Items<TelemetryCommand>;

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        self.context.metrics.count_request(Call::Telemetry);
        let (caller, request) = self.caller(request);
        let answers = api::telemetry::handle(self.context.clone(), caller, request);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<NotifyClientTerminationRequest>,
    ) -> Result<Response<NotifyClientTerminationResponse>, Status> {
        self.answer(Call::NotifyClientTermination, request, api::notify_client_termination::handle).await
    }

    async fn change_invisible_duration(
        &self,
        request: Request<ChangeInvisibleDurationRequest>,
    ) -> Result<Response<ChangeInvisibleDurationResponse>, Status> {
        self.answer(Call::ChangeInvisibleDuration, request, api::change_invisible_duration::handle).await
    }

    async fn recall_message(
        &self,
        request: Request<RecallMessageRequest>,
    ) -> Result<Response<RecallMessageResponse>, Status> {
        self.answer(Call::RecallMessage, request, api::recall_message::handle).await
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Result<Response<SyncLiteSubscriptionResponse>, Status> {
        self.refuse(Call::SyncLiteSubscription, request, "SyncLiteSubscription").await
    }
}
