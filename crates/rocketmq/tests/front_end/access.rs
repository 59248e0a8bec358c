//! Users and rights: what each call must prove, at the node that it reaches and at the one that it is sent on to.

use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_broker::message_api::{HiddenHandle, Orphan};
use duolog_record::Record;
use duolog_rocketmq::proto::*;
use duolog_rocketmq::{AccessConfig, RocketmqConfig};
use duolog_types::{
    Acl, AclOperation, AclPermission, AclResourceType, LogIndex, Offset, PatternType, Secret, Term, TimestampMs,
    TopicId, TopicPartition, User, UserStatus, UserType,
};
use tonic::metadata::MetadataMap;

use crate::support::{Credentials, FakeBroker, Node, message, plain, signing, start_with};

const SECRET: &str = "a-good-secret";

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn user(user_type: UserType, status: UserStatus) -> User {
    User { secret: Secret::new(SECRET).unwrap(), user_type, status }
}

fn allow(resource_type: AclResourceType, pattern: PatternType, name: &str, operation: AclOperation) -> Acl {
    Acl {
        resource_type,
        pattern,
        name: name.to_owned(),
        principal: Acl::principal_of("ann"),
        host: Acl::WILDCARD.to_owned(),
        operation,
        permission: AclPermission::Allow,
    }
}

/// Two nodes; the second leads topics `t-there` and `secret-there`. Ann may write and read `t-…` and read group `g`.
async fn cluster(access: AccessConfig) -> Vec<Node> {
    let broker = FakeBroker::new()
        .with_topic("t-here", "NORMAL", &[0])
        .with_topic("t-there", "NORMAL", &[1])
        .with_topic("secret-here", "NORMAL", &[0])
        .with_topic("secret-there", "NORMAL", &[1]);
    {
        let mut state = broker.state.lock();
        state.users.insert("root".to_owned(), user(UserType::Super, UserStatus::Enabled));
        state.users.insert("ann".to_owned(), user(UserType::Normal, UserStatus::Enabled));
        state.users.insert("gone".to_owned(), user(UserType::Super, UserStatus::Disabled));
        state.acls.extend([
            allow(AclResourceType::Topic, PatternType::Prefixed, "t-", AclOperation::Write),
            allow(AclResourceType::Topic, PatternType::Prefixed, "t-", AclOperation::Read),
            allow(AclResourceType::Group, PatternType::Literal, "g", AclOperation::Read),
        ]);
    }
    let config = RocketmqConfig { access, shutdown_grace_ms: 500, ..RocketmqConfig::default() };
    start_with(&[broker.clone(), broker.node(1)], config).await
}

fn both() -> AccessConfig {
    AccessConfig { authentication_enabled: true, authorization_enabled: true, ..AccessConfig::default() }
}

async fn send(node: &Node, credentials: Credentials, topic: &str) -> Status {
    let mut client = signing(node.port, "c@1", credentials).await;
    let request = SendMessageRequest { messages: vec![message(topic, "01A", 0)] };
    client.send_message(request).await.unwrap().into_inner().status.unwrap()
}

#[tokio::test]
async fn only_a_good_signature_of_an_enabled_user_is_let_in() {
    let nodes = cluster(AccessConfig { authentication_enabled: true, ..AccessConfig::default() }).await;
    let good = Credentials::new("ann", SECRET);
    for (credentials, code, expected) in [
        (Credentials::none(), Code::Unauthorized, "not signed"),
        (Credentials::new("ann", "another-secret"), Code::Unauthorized, "another one"),
        (Credentials::new("nobody", SECRET), Code::Unauthorized, "does not exist"),
        (Credentials::new("gone", SECRET), Code::Unauthorized, "disabled"),
        (Credentials::new("gone", "another-secret"), Code::Unauthorized, "another one"),
        (good.clone().at("20200101T000000Z"), Code::Unauthorized, "clocks"),
        (good.clone().at("yesterday"), Code::Unauthorized, "clocks"),
        (good.clone().with_authorization("Basic YTpi"), Code::Unauthorized, "MQv2-HMAC-SHA1"),
        (good.clone(), Code::Ok, ""),
        (Credentials::new("ann//Rocketmq", SECRET), Code::Ok, ""),
    ] {
        for (node, topic) in [(&nodes[0], "t-here"), (&nodes[0], "t-there"), (&nodes[1], "secret-there")] {
            let status = send(node, credentials.clone(), topic).await;
            assert_eq!(status.code(), code, "{credentials:?} {topic}: {status:?}");
            assert!(status.message.contains(expected) && !status.message.contains(SECRET), "{status:?}");
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn old_signatures_are_good_when_the_age_does_not_count() {
    let access = AccessConfig { authentication_enabled: true, signature_age_ms_max: 0, ..AccessConfig::default() };
    let nodes = cluster(access).await;
    let old = Credentials::new("ann", SECRET).at("whenever");
    assert_eq!(send(&nodes[0], old, "t-there").await.code(), Code::Ok);
}

#[tokio::test]
async fn acls_decide_about_topics_and_groups() {
    let nodes = cluster(both()).await;
    let ann = || Credentials::new("ann", SECRET);
    for (topic, code) in [
        ("t-here", Code::Ok),
        ("t-there", Code::Ok),
        ("secret-here", Code::Forbidden),
        ("secret-there", Code::Forbidden),
    ] {
        let status = send(&nodes[0], ann(), topic).await;
        assert_eq!(status.code(), code, "{topic}: {status:?}");
        assert_eq!(send(&nodes[0], Credentials::new("root", SECRET), topic).await.code(), Code::Ok, "{topic}");
    }
    let mut client = signing(nodes[0].port, "c@1", ann()).await;
    for (topic, group, code) in [
        ("t-here", "g", Code::Ok),
        ("t-there", "g", Code::Ok),
        ("t-here", "other", Code::Forbidden),
        ("secret-there", "g", Code::Forbidden),
    ] {
        let queue = MessageQueue { topic: resource(topic), id: -1, ..MessageQueue::default() };
        let request = ReceiveMessageRequest {
            group: resource(group),
            message_queue: Some(queue),
            batch_size: 1,
            invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..ReceiveMessageRequest::default()
        };
        let mut items = client.receive_message(request).await.unwrap().into_inner();
        let first = items.message().await.unwrap().unwrap().content.unwrap();
        let receive_message_response::Content::Status(status) = first else { panic!("{first:?}") };
        assert_eq!(status.code(), code, "{topic} {group}: {status:?}");
        let assigned = QueryAssignmentRequest { topic: resource(topic), group: resource(group), endpoints: None };
        let answer = client.query_assignment(assigned).await.unwrap().into_inner();
        assert_eq!(answer.status.unwrap().code(), code, "{topic} {group}");
    }
    for (topic, code) in [("t-there", Code::Ok), ("secret-there", Code::Forbidden)] {
        let route = QueryRouteRequest { topic: resource(topic), endpoints: None };
        assert_eq!(client.query_route(route).await.unwrap().into_inner().status.unwrap().code(), code);
    }
    for (group, code) in [(resource("g"), Code::Ok), (resource("other"), Code::Forbidden), (None, Code::Ok)] {
        let beat = HeartbeatRequest { group, ..HeartbeatRequest::default() };
        assert_eq!(client.heartbeat(beat).await.unwrap().into_inner().status.unwrap().code(), code);
    }
    drop(client);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_receipt_of_another_topic_needs_the_rights_for_that_one() {
    let nodes = cluster(both()).await;
    let mut root = signing(nodes[0].port, "root@1", Credentials::new("root", SECRET)).await;
    let request = SendMessageRequest { messages: vec![message("secret-here", "01A", 0)] };
    assert_eq!(root.send_message(request).await.unwrap().into_inner().status.unwrap().code(), Code::Ok);
    let request = ReceiveMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue { topic: resource("secret-here"), id: -1, ..MessageQueue::default() }),
        batch_size: 1,
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..ReceiveMessageRequest::default()
    };
    let mut items = root.receive_message(request).await.unwrap().into_inner();
    let mut receipt = None;
    while let Some(item) = items.message().await.unwrap() {
        if let Some(receive_message_response::Content::Message(message)) = item.content {
            receipt = message.system_properties.unwrap().receipt_handle;
        }
    }
    let entry = AckMessageEntry { receipt_handle: receipt.expect("a message"), ..AckMessageEntry::default() };
    // Ann names a topic that she may read.
    let request = AckMessageRequest { group: resource("g"), topic: resource("t-here"), entries: vec![entry] };
    let mut ann = signing(nodes[0].port, "ann@1", Credentials::new("ann", SECRET)).await;
    let refused = ann.ack_message(request.clone()).await.unwrap().into_inner().status.unwrap();
    assert_eq!(refused.code(), Code::Forbidden, "{refused:?}");
    assert!(refused.message.contains("secret-here") && refused.message.contains("READ"), "{refused:?}");
    assert_eq!(root.ack_message(request).await.unwrap().into_inner().status.unwrap().code(), Code::Ok);
}

#[tokio::test]
async fn no_user_passes_for_the_client_of_another() {
    let nodes = cluster(AccessConfig { authentication_enabled: true, ..AccessConfig::default() }).await;
    for user in ["ann", "root"] {
        let mut client = signing(nodes[0].port, "c@1", Credentials::new(user, SECRET)).await;
        assert_eq!(
            client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner().status.unwrap().code(),
            Code::Ok
        );
    }
    let renewed: Vec<String> = nodes[0].broker.state.lock().renewed.iter().map(|(_, client)| client.clone()).collect();
    assert_eq!(renewed, ["ann/c@1", "root/c@1"]);
}

#[tokio::test]
async fn the_mark_of_a_forwarded_call_gives_no_right() {
    let nodes = cluster(both()).await;
    let mut client = plain(nodes[0].port, "c@1").await;
    let mut request = tonic::Request::new(SendMessageRequest { messages: vec![message("t-here", "01A", 0)] });
    request.metadata_mut().insert("x-duolog-forwarded", "1".parse().unwrap());
    let status = client.send_message(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.code(), Code::Unauthorized);
    let mut ann = signing(nodes[0].port, "c@1", Credentials::new("ann", SECRET)).await;
    let mut request = tonic::Request::new(SendMessageRequest { messages: vec![message("secret-here", "01A", 0)] });
    let metadata: &mut MetadataMap = request.metadata_mut();
    metadata.insert("x-duolog-forwarded", "1".parse().unwrap());
    let status = ann.send_message(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.code(), Code::Forbidden);
}

#[tokio::test]
async fn telemetry_is_refused_as_other_calls_are() {
    let nodes = cluster(both()).await;
    for (credentials, topic, code) in [
        (Credentials::none(), "t-here", Code::Unauthorized),
        (Credentials::new("ann", SECRET), "secret-here", Code::Forbidden),
        (Credentials::new("ann", SECRET), "t-here", Code::Ok),
    ] {
        let mut client = signing(nodes[0].port, "c@1", credentials).await;
        let publishing = Publishing { topics: resource(topic).into_iter().collect(), ..Publishing::default() };
        let told = Settings { pub_sub: Some(settings::PubSub::Publishing(publishing)), ..Settings::default() };
        let command = TelemetryCommand { status: None, command: Some(telemetry_command::Command::Settings(told)) };
        let (sender, commands) = tokio::sync::mpsc::channel(1);
        sender.send(command).await.unwrap();
        let commands = tokio_stream::wrappers::ReceiverStream::new(commands);
        let mut answers = client.telemetry(commands).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.status.unwrap().code(), code, "{topic}");
        assert_eq!(answer.command.is_some(), code == Code::Ok);
    }
}

#[tokio::test]
async fn a_user_that_is_disabled_loses_its_stream() {
    let nodes = cluster(AccessConfig { stream_check_interval_ms: 50, ..both() }).await;
    let mut client = signing(nodes[0].port, "c@1", Credentials::new("ann", SECRET)).await;
    let (_open, commands) = tokio::sync::mpsc::channel(1);
    let commands = tokio_stream::wrappers::ReceiverStream::new(commands);
    let mut answers = client.telemetry(commands).await.unwrap().into_inner();
    let silent = tokio::time::timeout(std::time::Duration::from_millis(300), answers.message()).await;
    assert!(silent.is_err(), "nothing is said while all is well: {silent:?}");
    let disabled = user(UserType::Normal, UserStatus::Disabled);
    nodes[0].broker.state.lock().users.insert("ann".to_owned(), disabled);
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.status.unwrap().code(), Code::Unauthorized);
    assert!(answers.message().await.unwrap().is_none(), "the stream ends");
}

/// A half message of topic `t-here` that nobody has ended.
fn orphan() -> Orphan {
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
    let handle = HiddenHandle { partition, index: LogIndex(3), slot: 0, term: Term(1) };
    let value = Some(Bytes::from_static(b"half"));
    let record = Record { offset: Offset(-1), timestamp: TimestampMs(1), key: None, value, headers: Vec::new() };
    Orphan { handle, topic: "t-here".to_owned(), record, checks: 0 }
}

/// Its stream stays open: it is looked at seldom.
#[tokio::test]
async fn a_producer_that_lost_its_right_is_not_asked_any_more() {
    for keeps_right in [true, false] {
        let mut nodes = cluster(AccessConfig { stream_check_interval_ms: 3_600_000, ..both() }).await;
        let (there, here) = (nodes.pop().unwrap(), nodes.pop().unwrap());
        // It would look, too.
        there.stop().await;
        let mut client = signing(here.port, "p@1", Credentials::new("ann", SECRET)).await;
        let publishing = Publishing { topics: resource("t-here").into_iter().collect(), ..Publishing::default() };
        let told = Settings { pub_sub: Some(settings::PubSub::Publishing(publishing)), ..Settings::default() };
        let command = TelemetryCommand { status: None, command: Some(telemetry_command::Command::Settings(told)) };
        let (sender, commands) = tokio::sync::mpsc::channel(1);
        sender.send(command).await.unwrap();
        let commands = tokio_stream::wrappers::ReceiverStream::new(commands);
        let mut answers = client.telemetry(commands).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().status.unwrap().code(), Code::Ok);
        let broker = here.broker.clone();
        {
            let mut state = broker.state.lock();
            state.acls.retain(|acl| keeps_right || acl.operation != AclOperation::Write);
            state.orphans.push(orphan());
        }
        let begun = Instant::now();
        while !broker.state.lock().orphans.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the leader looks");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A look that has begun asks before it can be stopped.
        here.stop().await;
        assert_eq!(broker.state.lock().asked.len(), usize::from(keeps_right));
        let question = answers.message().await;
        let is_asked = matches!(
            &question,
            Ok(Some(TelemetryCommand {
                command: Some(telemetry_command::Command::RecoverOrphanedTransactionCommand(_)),
                ..
            }))
        );
        assert_eq!(is_asked, keeps_right, "{question:?}");
    }
}
