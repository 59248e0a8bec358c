//! One connection: requests in, answers out in the order of the requests.
//!
//! ```text
//!            reader                                bounded queue            writer
//! read n ─▶ dispatch ─▶ poll once ─┬─ ready ──────▶ │ n │ ─▶ ───────────────▶ write n
//! read n+1 ◀───────────────────────┴─ pending: a task of its own ─▶ │ n+1 │ ─▶ await ─▶ write n+1
//! ```
//!
//! - A request's future is polled once before the next request is read: Produce is enqueued in that poll, so the produce
//!   requests of a connection keep their order without waiting for one another's acknowledgement.
//! - What is not ready then goes on in a task of its own: a long poll or a slow reader holds back no computation, only the
//!   writing of later answers.
//! - A fetch is computed when the fetch answer before it is written: see `answers`.
//! - The queue is bounded; when it is full the connection is not read any further.
//! - When the connection ends, the tasks of its unanswered requests are aborted. A produce that was enqueued stays so.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use duolog_broker::RequestBudget;
use duolog_broker::api::BrokerApi;
use futures_util::poll;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::answers::{FetchPlace, FetchPlaceTaken};
use crate::context::Context;
use crate::dispatch::{Pending, dispatch};
use crate::frame::{self, FrameError};
use crate::head::Head;
use crate::metrics::KafkaMetrics;
use crate::response::{Answer, CloseReason};

/// Bytes that one read asks for while frames are small.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// How long answers to earlier requests are still written after a request that closes the connection.
const DRAIN_AFTER_ERROR: Duration = Duration::from_secs(1);

/// A place in the queue of answers.
enum Slot {
    Ready(Result<Computed, CloseReason>),
    Pending(AbortOnDropHandle<Result<Computed, CloseReason>>),
}

/// An answer, and for a fetch the connection's place for it.
struct Computed {
    answer: Answer,
    place: Option<FetchPlaceTaken>,
}

/// Why no more requests are read.
enum End {
    /// The server stops: pending answers are still written.
    Stopped,
    /// The client closed the connection or was idle for too long: nobody waits for answers.
    NoMoreRequests,
}

/// Why a connection ended before the client ended it.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error("answer could not be written: {0}")]
    Write(io::Error),
}

/// Serves a connection until the client closes it, breaks the protocol, or `stop` is cancelled; then pending answers are
/// still written, for as long as the caller lets it run.
pub(crate) async fn run<B: BrokerApi>(
    context: Context<B>,
    budget: RequestBudget,
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    let (input, output) = stream.into_split();
    let (slots, queue) = mpsc::channel(context.config.pending_responses_max.max(1));
    let reader = read_requests(&context, &budget, peer.ip(), input, slots, &stop);
    let writer = write_answers(&context, output, queue);
    tokio::pin!(reader, writer);
    let result = tokio::select! {
        read = &mut reader => match read {
            Ok(End::Stopped) => writer.await,
            Ok(End::NoMoreRequests) => Ok(()),
            Err(error) => {
                // Answers to what came before the error are still due, those that come soon.
                let _ = timeout(DRAIN_AFTER_ERROR, writer).await;
                Err(error)
            }
        },
        written = &mut writer => written,
    };
    if let Err(error) = result {
        log_end(&context, peer, &error);
    }
}

async fn read_requests<B: BrokerApi, R: AsyncRead + Unpin>(
    context: &Context<B>,
    budget: &RequestBudget,
    peer: IpAddr,
    input: R,
    slots: mpsc::Sender<Slot>,
    stop: &CancellationToken,
) -> Result<End, ConnectionError> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, input);
    let fetch_place = FetchPlace::new();
    loop {
        // Only a place in the queue allows to read: this is where a client that does not read is held.
        let place = tokio::select! {
            place = slots.reserve() => place,
            () = stop.cancelled() => return Ok(End::Stopped),
        };
        let Ok(place) = place else { return Ok(End::NoMoreRequests) };
        let begins = tokio::select! {
            begins = next_request(context, &mut reader, &slots) => begins?,
            () = stop.cancelled() => return Ok(End::Stopped),
        };
        if !begins {
            return Ok(End::NoMoreRequests);
        }
        let frame = tokio::select! {
            frame = frame::read_frame(&mut reader, budget, context.config.frame_bytes_max, context.config.frame_timeout_ms) => frame?,
            () = stop.cancelled() => return Ok(End::Stopped),
        };
        context.metrics.count_received(4 + frame.bytes.len());
        place.send(begin(context, peer, &fetch_place, frame).await?);
    }
}

/// Waits for the first byte of a request; `false` at the end of the stream or after too long an idleness.
async fn next_request<B: BrokerApi, R: AsyncRead + Unpin>(
    context: &Context<B>,
    reader: &mut BufReader<R>,
    slots: &mpsc::Sender<Slot>,
) -> Result<bool, FrameError> {
    loop {
        match timeout(Duration::from_millis(context.config.idle_timeout_ms), frame::next_begins(reader)).await {
            Ok(begins) => return Ok(begins?),
            // One place is ours; if any other is taken, the client waits for us.
            Err(_) if slots.capacity() + 1 < slots.max_capacity() => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Begins a request: its future is polled once, here.
async fn begin<B: BrokerApi>(
    context: &Context<B>,
    peer: IpAddr,
    fetch_place: &FetchPlace,
    frame: frame::Frame,
) -> Result<Slot, CloseReason> {
    let is_fetch = Head::read(&frame.bytes).is_some_and(|head| head.api_key == ApiKey::Fetch as i16);
    let mut share = Some(frame.admission);
    let (api, answer) = dispatch(context, peer, frame.bytes, &mut share)?;
    let answer = timed(context.metrics.clone(), api, answer);
    let place = is_fetch.then(|| fetch_place.clone());
    let mut answer = Box::pin(compute(context.clone(), answer, place));
    // Not constrained by tokio's cooperative budget: with it used up, a broker's channel would give Pending without having
    // taken the batch, and the order of produces would be lost.
    Ok(match poll!(unconstrained(&mut answer)) {
        Poll::Ready(answer) => Slot::Ready(answer),
        Poll::Pending => Slot::Pending(AbortOnDropHandle::new(tokio::spawn(async move {
            let answer = answer.await;
            drop(share);
            answer
        }))),
    })
}

/// Counts how long an answer took.
async fn timed(metrics: Arc<KafkaMetrics>, api: usize, answer: Pending) -> Result<Answer, CloseReason> {
    let began = Instant::now();
    let answer = answer.await;
    metrics.count_took(api, began.elapsed());
    answer
}

async fn compute<B: BrokerApi>(
    context: Context<B>,
    answer: impl Future<Output = Result<Answer, CloseReason>>,
    place: Option<FetchPlace>,
) -> Result<Computed, CloseReason> {
    let Some(place) = place else { return Ok(Computed { answer: answer.await?, place: None }) };
    let mut place = place.take().await;
    let answer = answer.await?;
    if let Answer::Frame(pieces) = &answer {
        place.holds(&context.unwritten, pieces.bytes());
    }
    Ok(Computed { answer, place: Some(place) })
}

async fn write_answers<B: BrokerApi, W: AsyncWrite + Unpin>(
    context: &Context<B>,
    mut output: W,
    mut queue: mpsc::Receiver<Slot>,
) -> Result<(), ConnectionError> {
    while let Some(slot) = queue.recv().await {
        let Computed { answer, place } = match slot {
            Slot::Ready(answer) => answer?,
            Slot::Pending(task) => task.await.map_err(|error| CloseReason(format!("a handler ended: {error}")))??,
        };
        if let Some(pieces) = answer.now()? {
            context.metrics.count_sent(pieces.bytes());
            pieces.write_to(&mut output, context.config.write_timeout_ms).await.map_err(ConnectionError::Write)?;
        }
        drop(place);
    }
    Ok(())
}

fn log_end<B: BrokerApi>(context: &Context<B>, peer: SocketAddr, error: &ConnectionError) {
    match error {
        // A client that goes away is everyday life.
        ConnectionError::Frame(FrameError::Socket(error)) | ConnectionError::Write(error)
            if error.kind() != io::ErrorKind::TimedOut =>
        {
            tracing::debug!(%peer, %error, "connection ended");
        }
        error => {
            context.metrics.connection_broken();
            tracing::warn!(%peer, %error, "connection closed");
        }
    }
}
