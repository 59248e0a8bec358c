//! A RocketMQ client: it calls any node that answers, goes to the next one upon an error, and keeps a telemetry stream to each node.

use std::time::Duration;

use duolog_rocketmq::proto::messaging_service_client::MessagingServiceClient;
use duolog_rocketmq::proto::telemetry_command::Command;
use duolog_rocketmq::proto::{Code, RecoverOrphanedTransactionCommand, Settings, Status, TelemetryCommand};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};

use crate::history::messages::Outcome;

pub type Stub = MessagingServiceClient<Channel>;

/// Where questions about open transactions go.
pub type Questions = mpsc::UnboundedSender<RecoverOrphanedTransactionCommand>;

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// The broker waits three seconds for a leader, then it answers.
pub const CALL_LIMIT: Duration = Duration::from_secs(4);
/// Before a stream is opened again, or a call is tried again.
pub const PAUSE: Duration = Duration::from_millis(200);

pub struct Client {
    id: String,
    nodes: Vec<Node>,
    /// The node that is called.
    current: usize,
    /// The telemetry streams; they end with the client.
    streams: JoinSet<()>,
}

struct Node {
    port: u16,
    stub: Option<Stub>,
}

/// A call without an answer.
#[derive(Debug)]
pub enum Failure {
    /// No node took it.
    NotSent,
    /// It may have happened.
    Lost(String),
}

impl Client {
    /// `first`: which node is called first.
    pub fn new(id: String, ports: &[u16], first: usize) -> Client {
        let nodes = ports.iter().map(|port| Node { port: *port, stub: None }).collect();
        Client { id, nodes, current: first % ports.len(), streams: JoinSet::new() }
    }

    /// Tells each node these settings, again whenever it has forgotten.
    pub fn describe(&mut self, settings: &Settings, questions: Option<&Questions>) {
        for node in &self.nodes {
            let (id, port, settings, questions) = (self.id.clone(), node.port, settings.clone(), questions.cloned());
            self.streams.spawn(async move {
                loop {
                    // A stream that breaks is opened again: the node was killed.
                    let _ = follow(&id, port, &settings, questions.as_ref()).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// One attempt of a call, at one node.
    ///
    /// # Errors
    /// There is no answer. The next attempt goes to the next node.
    pub async fn call<R, A, F>(
        &mut self,
        request: R,
        limit: Duration,
        call: impl FnOnce(Stub, Request<R>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, tonic::Status>>,
    {
        let Some(stub) = self.stub().await else {
            self.turn();
            return Err(Failure::NotSent);
        };
        let request = named(&self.id, request, limit);
        let error = match tokio::time::timeout(limit, call(stub, request)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(_) => format!("no answer in {limit:?}"),
        };
        self.nodes[self.current].stub = None;
        self.turn();
        Err(Failure::Lost(error))
    }

    /// From now on the next node is called.
    pub fn turn(&mut self) {
        self.current = (self.current + 1) % self.nodes.len();
    }

    async fn stub(&mut self) -> Option<Stub> {
        let node = &mut self.nodes[self.current];
        if node.stub.is_none() {
            node.stub = connect(node.port).await;
        }
        node.stub.clone()
    }
}

/// How an answered call or its part ended.
pub fn outcome(status: Option<&Status>) -> Outcome {
    let unknown = Status::default();
    let status = status.unwrap_or(&unknown);
    let text = format!("{}: {}", status.code().as_str_name(), status.message);
    match status.code() {
        Code::Ok => Outcome::Ok,
        Code::RequestTimeout | Code::TooManyRequests => Outcome::Open(text),
        code if (40_000..50_000).contains(&i32::from(code)) => Outcome::Refused(text),
        _ => Outcome::Open(text),
    }
}

/// A refusal that may come of an earlier attempt, which used the handle up.
pub fn perhaps_done(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(text) => Outcome::Open(text),
        other => other,
    }
}

async fn connect(port: u16) -> Option<Stub> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address of loopback");
    let channel = endpoint.connect_timeout(CONNECT_LIMIT).tcp_nodelay(true).connect().await.ok()?;
    Some(MessagingServiceClient::new(channel))
}

fn named<R>(id: &str, request: R, limit: Duration) -> Request<R> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-mq-client-id", id.parse().expect("ids are plain text"));
    request.set_timeout(limit);
    request
}

/// One stream, as long as it lasts.
async fn follow(id: &str, port: u16, settings: &Settings, questions: Option<&Questions>) -> Option<()> {
    let mut stub = connect(port).await?;
    let (to_node, commands) = mpsc::channel(4);
    let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings.clone())) };
    to_node.send(command).await.ok()?;
    let mut request = Request::new(ReceiverStream::new(commands));
    request.metadata_mut().insert("x-mq-client-id", id.parse().expect("ids are plain text"));
    let opened = tokio::time::timeout(CALL_LIMIT, stub.telemetry(request)).await;
    let mut from_node = opened.ok()?.ok()?.into_inner();
    while let Ok(Some(told)) = from_node.message().await {
        if let (Some(Command::RecoverOrphanedTransactionCommand(question)), Some(questions)) = (told.command, questions)
        {
            questions.send(question).ok()?;
        }
    }
    Some(())
}
