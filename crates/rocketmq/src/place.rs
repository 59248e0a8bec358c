//! Which node a call belongs to, and what is tried again while nobody leads.
//!
//! ```text
//! items ─┬─ led here ────▶ broker ───┐
//!        ├─ led by 1 ────▶ node 1 ───┼─▶ results in order; what did not happen for lack of a leader: again, after a pause,
//!        └─ led by 2 ────▶ node 2 ───┘   until the deadline
//! ```
//!
//! A call that another node has sent here is done here or refused; that node tries again.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use duolog_broker::BrokerError;
use duolog_broker::api::{PartitionView, TopicView};
use duolog_broker::message_api::MessageApi;
use duolog_types::{NodeId, TopicPartition};
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::peers::Forward;

/// Pauses while there is no leader: from the first, twice as long each time, up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_millis(200);

/// Where something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leader {
    Here,
    There(NodeId),
}

/// The pauses of a call.
pub(crate) struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    /// A forwarded call has none.
    pub(crate) fn new(caller: &Caller, deadline: Instant) -> Self {
        let deadline = if caller.is_forwarded { Instant::now() } else { deadline };
        Self { deadline, pause: PAUSE_FIRST }
    }

    /// Waits before the next attempt; `false` when there is no time for one.
    pub(crate) async fn wait(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_LONGEST);
        true
    }
}

/// Who leads a partition.
pub(crate) fn leader_of<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    partition: TopicPartition,
) -> Result<Leader, Refusal> {
    if caller.is_forwarded {
        return Ok(Leader::Here);
    }
    let leader = context.broker.leader(partition)?;
    leader.map(|node| node_of(context, node)).ok_or_else(|| BrokerError::LeaderNotAvailable.into())
}

/// A node as seen from this one.
pub(crate) fn node_of<B: MessageApi>(context: &Context<B>, node: NodeId) -> Leader {
    if node == context.broker.node_id() { Leader::Here } else { Leader::There(node) }
}

/// A partition of a topic.
pub(crate) fn partition_view(topic: &TopicView, partition: u32) -> Result<&PartitionView, Refusal> {
    topic.partitions.get(partition as usize).ok_or_else(|| {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        BrokerError::UnknownPartition { topic: topic.name.clone(), partition }.into()
    })
}

/// Does something about partitions where they are led: `here` by the broker, `there` by the same call to another node. Both give
/// the results of their items in order.
pub(crate) async fn scatter<B, I, O, H, HF, T, TF>(
    context: &Context<B>,
    caller: &Caller,
    deadline: Instant,
    items: &[(TopicPartition, I)],
    here: H,
    there: T,
) -> Vec<Result<O, Refusal>>
where
    B: MessageApi,
    I: Clone + Send + Sync,
    O: Send,
    H: Fn(Vec<I>) -> HF + Send + Sync,
    HF: Future<Output = Vec<Result<O, Refusal>>> + Send,
    T: Fn(NodeId, Vec<I>) -> TF + Send + Sync,
    TF: Future<Output = Vec<Result<O, Refusal>>> + Send,
{
    let mut results: Vec<Option<Result<O, Refusal>>> = items.iter().map(|_| None).collect();
    let mut pending: Vec<usize> = (0..items.len()).collect();
    let mut patience = Patience::new(caller, deadline);
    loop {
        let mut led: BTreeMap<Leader, Vec<usize>> = BTreeMap::new();
        for at in pending {
            match leader_of(context, caller, items[at].0) {
                Ok(leader) => led.entry(leader).or_default().push(at),
                Err(refusal) => results[at] = Some(Err(refusal)),
            }
        }
        let of = |places: &[usize]| -> Vec<I> { places.iter().map(|at| items[*at].1.clone()).collect() };
        let own = led.remove(&Leader::Here).unwrap_or_default();
        let own_results = async { if own.is_empty() { Vec::new() } else { here(of(&own)).await } };
        let elsewhere = led.into_iter().filter_map(|(leader, places)| match leader {
            Leader::There(node) => Some((there(node, of(&places)), places)),
            Leader::Here => None,
        });
        let elsewhere = elsewhere.map(|(call, places)| async move { (places, call.await) });
        let (own_results, others) = join(own_results, join_all(elsewhere)).await;
        for (places, of_places) in std::iter::once((own, own_results)).chain(others) {
            for (at, result) in places.into_iter().zip(of_places) {
                results[at] = Some(result);
            }
        }
        let is_pending = |at: &usize| match &results[*at] {
            Some(Err(refusal)) => refusal.is_transient(),
            Some(Ok(_)) => false,
            None => false,
        };
        pending = (0..items.len()).filter(is_pending).collect();
        if pending.is_empty() || !patience.wait().await {
            break;
        }
    }
    let missing = || Err(BrokerError::RequestTimedOut("an entry was not answered".to_owned()).into());
    results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
}

/// Does something about one partition where it is led: `here`, or by the same request to another node.
pub(crate) async fn at_leader<B, R, H, HF>(
    context: &Context<B>,
    caller: &Caller,
    partition: TopicPartition,
    request: R,
    here: H,
) -> Result<R::Answer, Refusal>
where
    B: MessageApi,
    R: Forward,
    H: Fn() -> HF + Send + Sync,
    HF: Future<Output = Result<R::Answer, Refusal>> + Send,
{
    at_node(context, caller, || leader_of(context, caller, partition), request, here).await
}

/// Does something about a consumer group's offsets where they are coordinated: `here`, or by the same request to another node.
pub(crate) async fn at_coordinator<B, R, H, HF>(
    context: &Context<B>,
    caller: &Caller,
    group: &str,
    request: R,
    here: H,
) -> Result<R::Answer, Refusal>
where
    B: MessageApi,
    R: Forward,
    H: Fn() -> HF + Send + Sync,
    HF: Future<Output = Result<R::Answer, Refusal>> + Send,
{
    let coordinator = || match caller.is_forwarded {
        true => Ok(Leader::Here),
        false => Ok(node_of(context, context.broker.find_group_coordinator(group)?.id)),
    };
    at_node(context, caller, coordinator, request, here).await
}

async fn at_node<B, R, H, HF>(
    context: &Context<B>,
    caller: &Caller,
    find: impl Fn() -> Result<Leader, Refusal>,
    request: R,
    here: H,
) -> Result<R::Answer, Refusal>
where
    B: MessageApi,
    R: Forward,
    H: Fn() -> HF,
    HF: Future<Output = Result<R::Answer, Refusal>>,
{
    let deadline = caller.deadline(context.retry());
    let mut patience = Patience::new(caller, deadline);
    loop {
        let result = match find() {
            Ok(Leader::Here) => here().await,
            Ok(Leader::There(node)) => context.peers.forward(node, caller, request.clone(), deadline).await,
            Err(refusal) => Err(refusal),
        };
        match result {
            Err(refusal) if refusal.is_transient() && patience.wait().await => {}
            result => return result,
        }
    }
}
