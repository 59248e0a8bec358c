//! Bytes of requests in progress, bounded over all connections: what HTTP/2 brings of a call is passed on to who decodes it only when
//! the budget has room for the whole message, and when it has not too many [elements](crate::elements).
//!
//! ```text
//! DATA frames ─▶ length of the message (5 bytes, gRPC) ─▶ its first 16 KiB, or all of it ─▶ share of the budget ─▶ the rest
//!                                                                                          └─ waits; the client is held by
//!                                                                                             HTTP/2's windows
//! ```
//!
//! - A message takes its whole length at once, so that no two calls wait for each other's rest. Whoever announces much and sends
//!   nothing holds nothing, and who stops before a call's message is whole and the call's end is said is given up.
//! - What waits fills the window of its connection, which calls with a share need for their rest. So a wait is shorter than the time
//!   after which those are given up.
//! - The share is given back when the call ends; on the stream of Telemetry, when the message has been read.
//! - Calls that other nodes have sent on have a budget of their own: a call that waits for another node keeps its share, and two nodes
//!   must not wait for each other. Who forges the mark finds a bound all the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::{Admission, RequestBudget};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep, timeout};
use tonic::Status;
use tonic::body::Body as TonicBody;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use crate::caller::FORWARDED;
use crate::config::RocketmqConfig;
use crate::elements::{Shape, Walk};
use crate::metrics::RocketmqMetrics;

/// Before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Bytes of a message that are passed on before it takes its share.
const UNADMITTED_BYTES_MAX: usize = 16 << 10;
/// The end of the path of the one call whose client sends many messages.
const STREAM_PATH_END: &str = "/Telemetry";

/// The budgets of a front end; a clone is a handle.
#[derive(Clone)]
pub(crate) struct Budgets {
    clients: RequestBudget,
    nodes: RequestBudget,
    message_bytes_max: usize,
    stall_max: Duration,
    metrics: Arc<RocketmqMetrics>,
}

impl Budgets {
    pub(crate) fn new(config: &RocketmqConfig, metrics: Arc<RocketmqMetrics>) -> Self {
        Self {
            clients: RequestBudget::new(config.request_budget_bytes),
            nodes: RequestBudget::new(config.request_budget_bytes),
            message_bytes_max: config.message_bytes_max,
            stall_max: Duration::from_millis(config.request_stall_ms_max),
            metrics,
        }
    }
}

/// A service whose requests take their share of a budget.
#[derive(Clone)]
pub(crate) struct Budgeted<S> {
    service: S,
    budgets: Budgets,
}

impl<S> Budgeted<S> {
    pub(crate) fn new(service: S, budgets: Budgets) -> Self {
        Self { service, budgets }
    }
}

impl<S: NamedService> NamedService for Budgeted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, A> Service<http::Request<TonicBody>> for Budgeted<S>
where
    S: Service<http::Request<BudgetedBody<TonicBody>>, Response = A>,
    S::Future: Send + 'static,
{
    type Response = A;
    type Error = S::Error;
    type Future = BoxFuture<A, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<TonicBody>) -> Self::Future {
        let is_forwarded = request.headers().contains_key(FORWARDED);
        let path = request.uri().path();
        let (is_stream, shape) = (path.ends_with(STREAM_PATH_END), Shape::of_path(path));
        let shares = Arc::new(Shares::new(self.budgets.metrics.clone()));
        let budget = if is_forwarded { &self.budgets.nodes } else { &self.budgets.clients };
        let request = request.map(|body| BudgetedBody {
            inner: body,
            budget: budget.clone(),
            metrics: self.budgets.metrics.clone(),
            shares: shares.clone(),
            messages: Messages::new(self.budgets.message_bytes_max, shape),
            is_stream,
            waiting: None,
            stall_max: self.budgets.stall_max,
            stall: None,
        });
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            shares.release();
            answer
        })
    }
}

/// What a call holds of its budget.
struct Shares {
    held: Mutex<Vec<(Admission, usize)>>,
    metrics: Arc<RocketmqMetrics>,
}

impl Shares {
    fn new(metrics: Arc<RocketmqMetrics>) -> Self {
        Self { held: Mutex::new(Vec::new()), metrics }
    }

    fn hold(&self, share: Admission, bytes: usize) {
        self.metrics.request_began(bytes);
        self.held.lock().push((share, bytes));
    }

    /// Gives everything back.
    fn release(&self) {
        for (share, bytes) in self.held.lock().drain(..) {
            self.metrics.request_ended(bytes);
            drop(share);
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.release();
    }
}

/// Gives nothing when there was no room for too long.
type Admitting = Pin<Box<dyn Future<Output = Option<Admission>> + Send>>;

/// The body of a request. Of a call with one message more than one is refused.
pub(crate) struct BudgetedBody<T> {
    inner: T,
    budget: RequestBudget,
    metrics: Arc<RocketmqMetrics>,
    shares: Arc<Shares>,
    messages: Messages,
    is_stream: bool,
    /// A frame that waits for its share, and how many bytes that is.
    waiting: Option<(Frame<Bytes>, Admitting, usize)>,
    stall_max: Duration,
    /// Runs while the client has to send more.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<T> Body for BudgetedBody<T>
where
    T: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((_, admitting, bytes)) = &mut this.waiting {
            let (share, bytes) = (ready!(admitting.as_mut().poll(context)), *bytes);
            let frame = this.waiting.take().map(|(frame, ..)| frame);
            return Poll::Ready(frame.map(|frame| this.admitted(share, bytes, frame)));
        }
        // What was passed on before has been read when more is wanted.
        if this.is_stream && this.messages.is_between() {
            this.shares.release();
        }
        let frame = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(end) => return Poll::Ready(end),
            Poll::Pending => return this.poll_stall(context),
        };
        this.stall = None;
        let bytes = match frame.data_ref().map_or(Ok(0), |data| this.messages.read(data)) {
            Ok(bytes) => bytes,
            Err(refused) => return Poll::Ready(Some(Err(refused))),
        };
        if this.messages.begun > 1 && !this.is_stream {
            return Poll::Ready(Some(Err(Status::invalid_argument("a call with one message has several"))));
        }
        if bytes == 0 {
            return Poll::Ready(Some(Ok(frame)));
        }
        let (budget, wait_max) = (this.budget.clone(), this.stall_max / 2);
        let mut admitting: Admitting = Box::pin(async move { timeout(wait_max, budget.admit(bytes)).await.ok() });
        match admitting.as_mut().poll(context) {
            Poll::Ready(share) => Poll::Ready(Some(this.admitted(share, bytes, frame))),
            Poll::Pending => {
                this.waiting = Some((frame, admitting, bytes));
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<T> BudgetedBody<T> {
    fn admitted(
        &mut self,
        share: Option<Admission>,
        bytes: usize,
        frame: Frame<Bytes>,
    ) -> Result<Frame<Bytes>, Status> {
        let Some(share) = share else {
            self.metrics.request_crowded_out();
            let sentence = "too many bytes of requests are in progress at this node, expected fewer or smaller ones";
            return Err(Status::resource_exhausted(sentence));
        };
        self.shares.hold(share, bytes);
        Ok(frame)
    }

    /// Nothing has come: gives the call up when that takes too long. Only Telemetry may be silent, and only between its messages.
    fn poll_stall(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_stream && self.messages.is_between() {
            return Poll::Pending;
        }
        let stall_max = self.stall_max;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        ready!(stall.as_mut().poll(context));
        self.metrics.request_stalled();
        let sentence = format!("nothing more of the request arrived for {} ms", stall_max.as_millis());
        Poll::Ready(Some(Err(Status::deadline_exceeded(sentence))))
    }
}

/// Where in gRPC's messages a stream of bytes is.
#[derive(Debug, PartialEq, Eq)]
struct Messages {
    bytes_max: usize,
    shape: Shape,
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that were read.
    prefix_read: usize,
    /// Of the message: its length, and what was read of it.
    length: usize,
    read: usize,
    has_share: bool,
    walk: Walk,
    /// Messages of which at least the prefix was read.
    begun: usize,
}

impl Messages {
    fn new(bytes_max: usize, shape: Shape) -> Self {
        Self {
            bytes_max,
            shape,
            prefix: [0; PREFIX_BYTES],
            prefix_read: 0,
            length: 0,
            read: 0,
            has_share: false,
            walk: Walk::new(Shape::Plain, 0),
            begun: 0,
        }
    }

    /// Whether the last message is whole and the next one has not begun.
    fn is_between(&self) -> bool {
        self.prefix_read == 0
    }

    /// Reads on. Gives the bytes of the messages that must take their share before these bytes are passed on: those that are whole
    /// now, and one of which there is enough. One that is too large takes none: it is refused by who decodes it, as is one that is
    /// compressed.
    ///
    /// # Errors
    /// As [`Walk::read`].
    fn read(&mut self, mut bytes: &[u8]) -> Result<usize, Status> {
        let mut wanted = 0;
        while !bytes.is_empty() {
            if self.prefix_read < PREFIX_BYTES {
                let (now, rest) = bytes.split_at(bytes.len().min(PREFIX_BYTES - self.prefix_read));
                self.prefix[self.prefix_read..][..now.len()].copy_from_slice(now);
                self.prefix_read += now.len();
                bytes = rest;
                if self.prefix_read < PREFIX_BYTES {
                    break;
                }
                let [is_compressed, length @ ..] = self.prefix;
                self.length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                let is_decoded = is_compressed == 0 && self.length <= self.bytes_max;
                self.walk = Walk::new(if is_decoded { self.shape } else { Shape::Plain }, self.length);
                self.begun += 1;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.length - self.read));
            self.walk.read(now)?;
            self.read += now.len();
            bytes = rest;
            let is_whole = self.read == self.length;
            let is_enough = is_whole || self.read > UNADMITTED_BYTES_MAX;
            if is_enough && !self.has_share && self.length <= self.bytes_max {
                self.has_share = true;
                wanted += PREFIX_BYTES + self.length;
            }
            if is_whole {
                *self = Self { begun: self.begun, ..Self::new(self.bytes_max, self.shape) };
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.resize(PREFIX_BYTES + length, 7);
        bytes
    }

    /// What is wanted at each frame when the bytes come in frames of this size.
    fn wanted(bytes: &[u8], frame_bytes: usize) -> (Vec<usize>, Messages) {
        let mut messages = Messages::new(1 << 20, Shape::Plain);
        let wanted = bytes.chunks(frame_bytes).map(|frame| messages.read(frame).unwrap());
        (wanted.filter(|wanted| *wanted > 0).collect(), messages)
    }

    #[test]
    fn a_message_takes_its_share_once_however_it_comes() {
        for length in [0, 1, 300, UNADMITTED_BYTES_MAX, UNADMITTED_BYTES_MAX + 1, 70_000] {
            for frame_bytes in [1, 2, 5, 7, 4_096, 1 << 20] {
                let (wanted, messages) = wanted(&message(length), frame_bytes);
                assert_eq!(wanted, [PREFIX_BYTES + length], "{length} in frames of {frame_bytes}");
                assert!(messages.is_between());
            }
        }
        let several = [message(10), message(20), message(0)].concat();
        let (wanted, messages) = wanted(&several, 1 << 20);
        assert_eq!((wanted, messages.begun), (vec![15 + 25 + 5], 3));
    }

    #[test]
    fn what_is_announced_and_not_sent_takes_nothing() {
        let mut messages = Messages::new(1 << 20, Shape::Plain);
        assert_eq!(messages.read(&message(500_000)[..UNADMITTED_BYTES_MAX]).unwrap(), 0);
        assert!(!messages.is_between());
        let mut messages = Messages::new(1 << 20, Shape::SendMessage);
        assert_eq!(messages.read(&message((1 << 20) + 1)).unwrap(), 0, "too large: it is refused");
    }
}
