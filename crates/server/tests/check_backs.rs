//! A producer that is connected to a node which does not lead is asked how its transaction ends, and a question that nobody gets
//! does not count. Three real nodes.

mod common;

use std::time::Duration;

use common::{Cluster, Layout, Node};
use duolog_rocketmq::proto::messaging_service_client::MessagingServiceClient;
use duolog_rocketmq::proto::settings::PubSub;
use duolog_rocketmq::proto::telemetry_command::Command;
use duolog_rocketmq::proto::{
    Code, EndTransactionRequest, Message, MessageType, Publishing, RecoverOrphanedTransactionCommand, Resource,
    SendMessageRequest, Settings, SystemProperties, TelemetryCommand, TransactionResolution,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

const TOPIC: &str = "transactions";
const LIMIT: Duration = Duration::from_secs(40);

#[derive(Clone)]
struct Named(&'static str);

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("x-mq-client-id", MetadataValue::from_static(self.0));
        Ok(request)
    }
}

type Client = MessagingServiceClient<InterceptedService<Channel, Named>>;

async fn client(node: &Node, id: &'static str) -> Client {
    let address = format!("http://127.0.0.1:{}", node.ports.rocketmq);
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("a connection");
    MessagingServiceClient::with_interceptor(channel, Named(id))
}

fn topic() -> Resource {
    Resource { resource_namespace: String::new(), name: TOPIC.to_owned() }
}

/// A producer as clients make them: it describes itself and listens.
struct Producer {
    client: Client,
    _to_node: mpsc::Sender<TelemetryCommand>,
    from_node: Streaming<TelemetryCommand>,
}

impl Producer {
    async fn connect(node: &Node) -> Self {
        let mut client = client(node, "producer@1").await;
        let publishing = Publishing { topics: vec![topic()], ..Publishing::default() };
        let settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
        let (to_node, commands) = mpsc::channel(4);
        let told = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        to_node.send(told).await.expect("room for one");
        let from_node = client.telemetry(ReceiverStream::new(commands)).await.expect("a stream").into_inner();
        let mut producer = Self { client, _to_node: to_node, from_node };
        assert!(matches!(producer.next(LIMIT).await, Some(Command::Settings(_))));
        producer
    }

    async fn next(&mut self, limit: Duration) -> Option<Command> {
        let next = tokio::time::timeout(limit, self.from_node.message()).await.ok()?;
        next.expect("the stream holds").expect("it does not end").command
    }

    async fn question(&mut self) -> RecoverOrphanedTransactionCommand {
        match self.next(LIMIT).await {
            Some(Command::RecoverOrphanedTransactionCommand(question)) => question,
            other => panic!("{other:?}"),
        }
    }

    async fn commit(&mut self, transaction_id: String) -> Code {
        let mut request = EndTransactionRequest { topic: Some(topic()), transaction_id, ..Default::default() };
        request.set_resolution(TransactionResolution::Commit);
        self.client.end_transaction(request).await.expect("an answer").into_inner().status.expect("a status").code()
    }
}

/// Sends a half message whose producer is asked after a second.
async fn send_half(node: &Node, id: &str) {
    let mut system = SystemProperties {
        message_id: id.to_owned(),
        orphaned_transaction_recovery_duration: Some("1s".parse().expect("a duration")),
        ..SystemProperties::default()
    };
    system.set_message_type(MessageType::Transaction);
    let message = Message {
        topic: Some(topic()),
        system_properties: Some(system),
        body: format!("body of {id}").into(),
        ..Message::default()
    };
    // Another client than the producer's: it is no producer that could be asked.
    let mut client = client(node, "sender@1").await;
    let sent = client.send_message(SendMessageRequest { messages: vec![message] }).await.expect("an answer");
    assert_eq!(sent.into_inner().status.expect("a status").code(), Code::Ok);
}

/// How often producers were asked about each open half message, as the nodes say that lead.
fn checks<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<u64> {
    let of = |node: &Node| {
        let (status, report) = node.get("/transactions").expect("an answer");
        assert_eq!(status, 200, "{report}");
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let rows = report["transactions"].as_array().expect("a list");
        rows.iter().filter_map(|row| row["checks"].as_u64()).collect::<Vec<_>>()
    };
    nodes.into_iter().flat_map(of).collect()
}

#[test]
fn a_producer_is_asked_through_the_node_that_it_is_connected_to() {
    let mut cluster = Cluster::start(Layout { nodes: 3, broker_groups: 2, tables: "" });
    let mut kafka = cluster.node(0).client();
    kafka.create_topic(TOPIC, &[("message.type", "TRANSACTION")]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");

    runtime.block_on(async {
        send_half(cluster.node(0), "01A").await;
        // Nobody is there when the first question is due, and when it is due again.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(checks((0..3).map(|id| cluster.node(id))), [0]);
        let leader = kafka.leader(TOPIC).expect("a leader");
        let other = (0..3).find(|id| *id != leader).expect("three nodes");
        let mut producer = Producer::connect(cluster.node(other)).await;
        let question = producer.question().await;
        assert_eq!(question.message.expect("the message").body, "body of 01A");
        common::wait_for("the question counts", LIMIT, || checks([cluster.node(leader)]) == [1]);
        assert_eq!(producer.commit(question.transaction_id).await, Code::Ok);

        // The same when another node leads.
        cluster.node_mut(leader).kill();
        send_half(cluster.node(other), "01B").await;
        let question = producer.question().await;
        assert_eq!(question.message.expect("the message").body, "body of 01B");
        assert_eq!(producer.commit(question.transaction_id).await, Code::Ok);
    });
}
