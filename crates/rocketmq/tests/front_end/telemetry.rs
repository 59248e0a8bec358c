//! What clients and nodes tell each other over the telemetry stream.

use std::time::Duration;

use crate::support::{Client, FakeBroker, start};
use bytes::Bytes;
use duolog_broker::message_api::{HiddenHandle, Orphan};
use duolog_record::Record;
use duolog_rocketmq::proto::settings::PubSub;
use duolog_rocketmq::proto::telemetry_command::Command;
use duolog_rocketmq::proto::*;
use duolog_types::{GroupConfig, LogIndex, NodeId, Offset, TimestampMs, TopicId, TopicPartition};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const LIMIT: Duration = Duration::from_secs(10);

struct Stream {
    to_node: mpsc::Sender<TelemetryCommand>,
    from_node: Streaming<TelemetryCommand>,
}

impl Stream {
    async fn open(client: &mut Client) -> Self {
        let (to_node, commands) = mpsc::channel(4);
        let from_node = client.telemetry(ReceiverStream::new(commands)).await.unwrap().into_inner();
        Self { to_node, from_node }
    }

    async fn next(&mut self) -> Option<TelemetryCommand> {
        tokio::time::timeout(LIMIT, self.from_node.message()).await.expect("in time").unwrap()
    }

    async fn ask(&mut self, settings: Settings) -> TelemetryCommand {
        let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        self.to_node.send(command).await.unwrap();
        self.next().await.expect("an answer")
    }
}

fn topic(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn producer(topics: &[&str]) -> Settings {
    let topics = topics.iter().map(|name| topic(name)).collect();
    let publishing = Publishing { topics, ..Publishing::default() };
    let mut settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
    settings.set_client_type(ClientType::Producer);
    settings
}

fn consumer(topics: &[&str]) -> Settings {
    let entry = |name: &&str| SubscriptionEntry { topic: Some(topic(name)), expression: None };
    let subscriptions = topics.iter().map(entry).collect();
    let subscription = Subscription { group: Some(topic("g")), subscriptions, ..Subscription::default() };
    let mut settings = Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() };
    settings.set_client_type(ClientType::PushConsumer);
    settings
}

fn settings(command: TelemetryCommand) -> Settings {
    assert_eq!(command.status.unwrap().code(), Code::Ok);
    let Some(Command::Settings(settings)) = command.command else { panic!("settings") };
    settings
}

#[tokio::test]
async fn settings_are_answered_for_each_kind_of_client() {
    let broker = FakeBroker::new().with_topic("n", "NORMAL", &[0]).with_topic("f", "FIFO", &[0]);
    let node = start(&[broker]).await.pop().unwrap();
    let mut client = node.client("c@1").await;
    let mut stream = Stream::open(&mut client).await;
    let told = settings(stream.ask(producer(&["n"])).await);
    assert_eq!(told.backoff_policy.unwrap().max_attempts, 3);
    for (topics, is_fifo) in [(&["f"][..], true), (&["f", "n"], false), (&["n"], false), (&["none"], false)] {
        let told = settings(stream.ask(consumer(topics)).await);
        let Some(PubSub::Subscription(subscription)) = told.pub_sub else { panic!("a subscription") };
        assert_eq!(subscription.fifo, Some(is_fifo), "{topics:?}");
        assert_eq!(told.backoff_policy.unwrap().max_attempts, 17);
    }
    let refused = stream.ask(Settings::default()).await;
    assert_eq!(refused.status.unwrap().code(), Code::BadRequest);
    let again = settings(stream.ask(producer(&["n"])).await);
    assert_eq!(again.client_type(), ClientType::Producer, "a refusal does not end the stream");
    node.stop().await;
    assert!(!matches!(stream.from_node.message().await, Ok(Some(_))), "the stream ends with the node");
}

#[tokio::test]
async fn a_client_without_a_name_is_told_so() {
    let node = start(&[FakeBroker::new()]).await.pop().unwrap();
    let mut client = node.client("").await;
    let mut stream = Stream::open(&mut client).await;
    assert_eq!(stream.next().await.unwrap().status.unwrap().code(), Code::ClientIdRequired);
    assert_eq!(stream.next().await, None);
}

/// A half message of a topic's partition that nobody has ended.
fn orphan(broker: &FakeBroker) -> HiddenHandle {
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
    let record = Record {
        offset: Offset(-1),
        timestamp: TimestampMs(1),
        key: None,
        value: Some(Bytes::from_static(b"half")),
        headers: Vec::new(),
    };
    let handle = HiddenHandle { partition, index: LogIndex(3), slot: 0, term: duolog_types::Term(1) };
    let mut state = broker.state.lock();
    state.hidden.push((handle, record.clone()));
    state.orphans.push(Orphan { handle, topic: "tx".to_owned(), record, checks: 0 });
    handle
}

/// The leader is node 0; the producer is connected to it or to another node.
#[tokio::test]
async fn a_producer_is_asked_how_its_transaction_ends_wherever_it_is() {
    for connected_to in [0, 1] {
        let broker = FakeBroker::new().with_topic("tx", "TRANSACTION", &[0]);
        let nodes = start(&[broker.clone(), broker.node(1)]).await;
        let mut client = nodes[connected_to].client("p@1").await;
        let mut stream = Stream::open(&mut client).await;
        settings(stream.ask(producer(&["tx"])).await);
        let handle = orphan(&broker);
        let command = stream.next().await.unwrap().command;
        let Some(Command::RecoverOrphanedTransactionCommand(question)) = command else { panic!("{command:?}") };
        let message = question.message.unwrap();
        assert_eq!((message.body.as_ref(), message.topic), (&b"half"[..], Some(topic("tx"))));
        let mut request = EndTransactionRequest { transaction_id: question.transaction_id, ..Default::default() };
        request.set_resolution(TransactionResolution::Commit);
        request.set_source(TransactionSource::SourceServerCheck);
        let ended = client.end_transaction(request).await.unwrap().into_inner();
        assert_eq!(ended.status.unwrap().code(), Code::Ok);
        assert_eq!(broker.state.lock().ended.len(), 1);
        let begun = std::time::Instant::now();
        while broker.state.lock().asked != [(NodeId(0), handle)] {
            assert!(begun.elapsed() < LIMIT, "the leader counts the question");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for node in nodes {
            node.stop().await;
        }
    }
}

#[tokio::test]
async fn a_question_that_nobody_gets_does_not_count() {
    let broker = FakeBroker::new().with_topic("tx", "TRANSACTION", &[0]).with_topic("other", "TRANSACTION", &[0]);
    let nodes = start(&[broker.clone(), broker.node(1)]).await;
    let mut without_group = consumer(&["tx"]);
    let Some(PubSub::Subscription(subscription)) = &mut without_group.pub_sub else { panic!("a subscription") };
    subscription.group = None;
    let mut open = Vec::new();
    for node in &nodes {
        for (id, told) in [("p@1", producer(&["other"])), ("c@1", consumer(&["tx"])), ("s@1", without_group.clone())] {
            let mut client = node.client(id).await;
            let mut stream = Stream::open(&mut client).await;
            settings(stream.ask(told).await);
            open.push((client, stream));
        }
    }
    orphan(&broker);
    let begun = std::time::Instant::now();
    while !broker.state.lock().orphans.is_empty() {
        assert!(begun.elapsed() < LIMIT, "the leader looks");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for node in nodes {
        node.stop().await;
    }
    assert!(broker.state.lock().asked.is_empty());
}

#[tokio::test]
async fn queues_stay_in_the_machine_room_of_their_node() {
    let broker = FakeBroker::new().with_topic("n", "NORMAL", &[0, 0, 1]);
    {
        let mut state = broker.state.lock();
        state.hosts = vec!["node-0.here".to_owned(), "10.0.0.2".to_owned()];
        let rooms = ("assignment.rooms", "here=127.0.0.0/8,node-0.here; there=10.0.0.0/8");
        state.group_config = GroupConfig::new([("assignment.strategy", "machine-room"), rooms]).unwrap();
    }
    let node = start(&[broker]).await.pop().unwrap();
    let mut streams = Vec::new();
    let mut queues = Vec::new();
    for id in ["c@1", "c@2"] {
        let mut client = node.client(id).await;
        let mut stream = Stream::open(&mut client).await;
        settings(stream.ask(consumer(&["n"])).await);
        streams.push((client, stream));
    }
    for (client, _) in &mut streams {
        let request = QueryAssignmentRequest { topic: Some(topic("n")), group: Some(topic("g")), endpoints: None };
        let answer = client.query_assignment(request).await.unwrap().into_inner();
        let ids = answer.assignments.into_iter().map(|assignment| assignment.message_queue.unwrap().id);
        queues.push(ids.collect::<Vec<_>>());
    }
    // Both are here: they share what node 0 leads, and what node 1 leads, since nobody is there. By averaging the first has 0 and 1.
    assert_eq!(queues, [vec![0, 2], vec![1]]);
    node.stop().await;
}
