//! Users and ACLs over a real node: made with the commands, proved by RocketMQ's signatures, seen by Kafka's calls.

mod common;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{BINARY, Cluster, Layout, wait_for};
use duolog_rocketmq::proto::messaging_service_client::MessagingServiceClient;
use duolog_rocketmq::proto::{Code, Message, Resource, SendMessageRequest, Status, SystemProperties};
use ring::hmac;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

const LIMIT: Duration = Duration::from_secs(30);
const ADMIN_SECRET: &str = "the-first-secret";
const TABLES: &str = "[auth]\nauthentication_enabled = true\nauthorization_enabled = true\ninit_user = \"admin\"\n\
                      init_user_secret = \"the-first-secret\"\n";

struct Commands<'a>(&'a Cluster);

impl Commands<'_> {
    fn output(&self, arguments: &[&str]) -> Output {
        let ports = self.0.node(0).ports;
        let address = match arguments[0] {
            "user" => ["--http".to_owned(), format!("127.0.0.1:{}", ports.http)],
            _ => ["--bootstrap".to_owned(), format!("127.0.0.1:{}", ports.kafka)],
        };
        let mut command = Command::new(BINARY);
        command.args(arguments).args(address).args(["--output", "json"]).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Standard error of a command that must fail.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The time as clients for Java write it.
fn date_time() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%dT%H%M%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn sign(user: &str, secret: &str, date_time: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let digits = hmac::sign(&key, date_time.as_bytes());
    let hex: String = digits.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    format!("MQv2-HMAC-SHA1 Credential={user}, SignedHeaders=x-mq-date-time, Signature={hex}")
}

fn send(cluster: &Cluster, proof: Option<(&str, &str)>, topic: &str) -> Status {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = format!("http://127.0.0.1:{}", cluster.node(0).ports.rocketmq);
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let message = Message {
            topic: Some(Resource { resource_namespace: String::new(), name: topic.to_owned() }),
            system_properties: Some(SystemProperties { message_id: "01A".to_owned(), ..SystemProperties::default() }),
            body: "body".into(),
            ..Message::default()
        };
        let mut request = tonic::Request::new(SendMessageRequest { messages: vec![message] });
        request.metadata_mut().insert("x-mq-client-id", "c@1".parse().unwrap());
        if let Some((user, secret)) = proof {
            let date_time = date_time();
            request.metadata_mut().insert("authorization", sign(user, secret, &date_time).parse().unwrap());
            request.metadata_mut().insert("x-mq-date-time", date_time.parse().unwrap());
        }
        let answer = MessagingServiceClient::new(channel).send_message(request).await.unwrap();
        answer.into_inner().status.unwrap()
    })
}

#[test]
fn users_and_rights_of_clients_are_made_and_taken_with_the_commands() {
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 2, tables: TABLES });
    let commands = Commands(&cluster);
    for topic in ["orders-eu", "salaries"] {
        commands.run(&["topic", "create", topic, "--partitions", "1"]);
    }
    let code = |proof: Option<(&str, &str)>, topic: &str| send(&cluster, proof, topic).code();
    let admin = Some(("admin", ADMIN_SECRET));
    wait_for("the first super user", LIMIT, || code(admin, "salaries") == Code::Ok);
    assert_eq!(code(None, "salaries"), Code::Unauthorized);

    let shop = Some(("shop", "a-good-secret"));
    assert_eq!(code(shop, "orders-eu"), Code::Unauthorized);
    commands.run(&["user", "create", "shop", "--secret", "a-good-secret"]);
    assert!(commands.fails(&["user", "create", "shop", "--secret", "a-good-secret"]).contains("already"));
    assert_eq!(
        (code(shop, "orders-eu"), code(Some(("shop", "bad-secret")), "orders-eu")),
        (Code::Forbidden, Code::Unauthorized)
    );

    commands.run(&["acl", "create", "--user", "shop", "--operation", "write", "--topic", "orders-", "--prefixed"]);
    assert_eq!((code(shop, "orders-eu"), code(shop, "salaries")), (Code::Ok, Code::Forbidden));
    let rule = json!([{
        "resource_type": "topic", "pattern": "prefixed", "name": "orders-", "principal": "User:shop", "host": "*",
        "operation": "write", "permission": "allow"
    }]);
    assert_eq!(commands.run(&["acl", "list", "--topic", "orders-eu", "--matching"]), rule);
    assert_eq!(commands.run(&["acl", "list", "--topic", "orders-eu"]), json!([]));
    commands.run(&["acl", "create", "--user", "*", "--operation", "all", "--topic", "orders-eu", "--deny"]);
    let refused = send(&cluster, shop, "orders-eu");
    assert_eq!(refused.code(), Code::Forbidden);
    assert!(refused.message.contains("shop") && refused.message.contains("WRITE"), "{refused:?}");
    assert_eq!(code(admin, "orders-eu"), Code::Ok, "super users are not denied anything");
    commands.run(&["acl", "delete", "--user", "*", "--yes"]);
    assert_eq!(code(shop, "orders-eu"), Code::Ok);

    let users = commands.run(&["user", "list"]);
    let expected = json!([
        {"name": "admin", "type": "super", "status": "enabled", "acls": 0},
        {"name": "shop", "type": "normal", "status": "enabled", "acls": 1}
    ]);
    assert_eq!(users, expected);
    commands.run(&["user", "alter", "shop", "--status", "disabled"]);
    assert_eq!(code(shop, "orders-eu"), Code::Unauthorized);
    commands.run(&["user", "alter", "shop", "--status", "enabled", "--secret", "another-secret"]);
    assert_eq!(
        (code(shop, "orders-eu"), code(Some(("shop", "another-secret")), "orders-eu")),
        (Code::Unauthorized, Code::Ok)
    );
    commands.run(&["user", "delete", "shop", "--yes"]);
    assert!(commands.fails(&["user", "describe", "shop"]).contains("no user"));
    assert_eq!(commands.run(&["acl", "list"]), json!([]), "the rules go with the user");
    for secret in [ADMIN_SECRET, "a-good-secret", "another-secret"] {
        assert!(!cluster.node(0).output().contains(secret), "a secret was logged");
    }
}

#[test]
fn users_outlive_a_restart_and_the_first_one_is_made_once() {
    let mut cluster = Cluster::start(Layout { nodes: 1, broker_groups: 2, tables: TABLES });
    Commands(&cluster).run(&["topic", "create", "t", "--partitions", "1"]);
    wait_for("the first super user", LIMIT, || send(&cluster, Some(("admin", ADMIN_SECRET)), "t").code() == Code::Ok);
    let commands = Commands(&cluster);
    commands.run(&["user", "create", "root", "--type", "super", "--secret", "a-good-secret"]);
    commands.run(&["user", "delete", "admin", "--yes"]);
    cluster.node_mut(0).kill();
    cluster.node_mut(0).start();
    cluster.wait_ready();
    assert_eq!(send(&cluster, Some(("root", "a-good-secret")), "t").code(), Code::Ok);
    assert_eq!(send(&cluster, Some(("admin", ADMIN_SECRET)), "t").code(), Code::Unauthorized);
}

#[test]
fn a_bad_certificate_is_named_at_the_start() {
    let mut cluster = Cluster::down(Layout { nodes: 1, broker_groups: 1, tables: "" });
    let path = cluster.node(0).config();
    let text = std::fs::read_to_string(&path).unwrap();
    let keys = "[listen]\nrocketmq_certificate_path = \"/nowhere/chain.pem\"\nrocketmq_key_path = \"/nowhere/key.pem\"";
    std::fs::write(&path, text.replace("[listen]", keys)).unwrap();
    cluster.node_mut(0).start();
    assert_eq!(cluster.node_mut(0).wait_for_end().code(), Some(1));
    let output = cluster.node(0).output();
    assert!(output.contains("/nowhere/chain.pem") && output.contains("cannot be read"), "{output}");
}
