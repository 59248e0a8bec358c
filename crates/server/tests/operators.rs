//! What operators' commands say when their input is wrong: what was expected, what was found, and what to do.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Cluster, Layout, duolog, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const FAILURE: i32 = 1;
const USAGE: i32 = 64;
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

fn said(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[track_caller]
fn ends_with(arguments: &[&str], code: i32, sentences: &[&str]) {
    let output = duolog(arguments);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for sentence in sentences {
        assert!(said.contains(sentence), "{arguments:?}: expected {sentence:?} in {said}");
    }
}

#[test]
fn what_is_no_address_is_wrong_usage() {
    for arguments in [
        &["cluster", "status", "--node", "nowhere"][..],
        &["cluster", "health", "--node", "127.0.0.1:7070,nowhere"],
        &["cluster", "add-node", "--id", "3", "--node", "127.0.0.1:0"],
        &["cluster", "remove-node", "--id", "3", "--node", "127.0.0.1:x"],
        &["cluster", "replace", "--old", "2", "--new", "3", "--node", "127.0.0.1"],
        &["cluster", "drain", "--id", "3", "--node", ":7070"],
        &["cluster", "backup", "--to", "/nowhere", "--node", "http://127.0.0.1:7070"],
        &["cluster", "recover", "--node", "127.0.0.1:7070,127.0.0.1:7071"],
    ] {
        ends_with(arguments, USAGE, &["--node", "expected HOST:PORT"]);
    }
    ends_with(&["message", "query", "t", "--id", ""], USAGE, &["--id"]);
    ends_with(&["message", "query", "t", "--key", "k", "--max", "0"], USAGE, &["--max", "0"]);
}

#[test]
fn a_node_that_does_not_answer_is_named_with_the_reason() {
    let silent = ["127.0.0.1:1 does not answer", "Connection refused", "listen.grpc"];
    for arguments in [
        &["cluster", "status"][..],
        &["cluster", "add-node", "--id", "3"],
        &["cluster", "remove-node", "--id", "3"],
        &["cluster", "replace", "--old", "2", "--new", "3"],
        &["cluster", "drain", "--id", "3"],
        &["cluster", "backup", "--to", "/nowhere"],
        &["cluster", "recover"],
    ] {
        ends_with(&[arguments, &["--node", NOBODY]].concat(), FAILURE, &silent);
    }
    ends_with(&["cluster", "health", "--node", NOBODY], 2, &silent);
    let both = ["127.0.0.1:1 does not answer", "127.0.0.1:2 does not answer"];
    ends_with(&["cluster", "status", "--node", "127.0.0.1:1, 127.0.0.1:2"], FAILURE, &both);
}

#[test]
fn a_data_directory_that_is_none_or_in_use_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let verify = |dir: &std::path::Path, sentence: &str| {
        let dir = dir.display().to_string();
        ends_with(&["verify", "--data-dir", &dir], FAILURE, &[&dir, sentence]);
    };
    verify(&place.path().join("missing"), "found no directory");
    verify(place.path(), "found no node.json");

    let mut cluster = Cluster::down(Layout { nodes: 3, broker_groups: 1, tables: "" });
    cluster.node_mut(0).start();
    wait_for("the node runs", LIMIT, || cluster.node(0).get("/live").is_some());
    verify(&cluster.node(0).data(), "a process uses it");
    // It waits for the others, so there is nothing that could be equal.
    let http = format!("127.0.0.1:{}", cluster.node(0).ports.http);
    ends_with(&["verify", "--http", &http], FAILURE, &["node 0 answers, but knows no member"]);
    // Neither of the ports speaks the other one's protocol.
    ends_with(&["cluster", "status", "--node", &http], FAILURE, &["no node answers", "listen.grpc"]);
    ends_with(&["topic", "list", "--timeout", "1", "--bootstrap", &http], FAILURE, &["is this its Kafka port?"]);
}

#[test]
fn a_message_that_is_not_there_is_an_error_that_says_what_is() {
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables: "" });
    let bootstrap = format!("127.0.0.1:{}", cluster.node(0).ports.kafka);
    let at = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().copied().chain(["--bootstrap", bootstrap.as_str()]).map(str::to_owned).collect()
    };
    let created = at(&["topic", "create", "t", "--partitions", "2"]);
    assert!(duolog(&created.iter().map(String::as_str).collect::<Vec<_>>()).status.success());
    let mut producing = Command::new(common::BINARY)
        .args(at(&["produce", "t", "--partition", "0", "--key-separator", ":"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    producing.stdin.take().expect("a pipe").write_all(b"a:1\nb:2\nc:3\n").expect("the command reads its input");
    assert!(producing.wait().expect("our child ends").success());

    let id = "01A1B2C3D4E5F60007055A3B0000000001";
    for (arguments, code, sentences) in [
        (&["message", "query", "t", "--key", "b"][..], 0, &["1 message in"][..]),
        (&["message", "query", "t", "--key", "d"], FAILURE, &["has no message with the key \"d\"", "compared whole"]),
        (&["message", "query", "t", "--key", "d", "--output", "json"], FAILURE, &["[]", "has no message"]),
        (&["message", "query", "t", "--id", "01A"], FAILURE, &["the id \"01A\"", "34 hexadecimal digits"]),
        (&["message", "query", "t", "--id", id], FAILURE, &["--since TIME begins earlier"]),
        (&["message", "query", "nothing", "--key", "d"], FAILURE, &["\"nothing\"", "topic list"]),
        (
            &["message", "query", "t", "--key", "b", "--since", "2000", "--until", "1000"],
            FAILURE,
            &["--since 1970-01-01T00:00:02", "expected the earlier time first"],
        ),
        (&["message", "query", "t", "--key", "b", "--since", "now"], FAILURE, &["--since", "expected a time"]),
        (&["message", "trace", "t", "--id", id], FAILURE, &["has no message with the id", "--since TIME"]),
        (&["message", "trace", "nothing", "--key", "b"], FAILURE, &["\"nothing\"", "topic list"]),
        (
            &["message", "resend", "t", "--partition", "2", "--offset", "0"],
            FAILURE,
            &["--partition 2", "partitions 0 to 1"],
        ),
        (
            &["message", "resend", "t", "--partition", "0", "--offset", "3"],
            FAILURE,
            &["--offset 3", "holds offsets 0 to 2"],
        ),
        (&["message", "resend", "t", "--partition", "1", "--offset", "0"], FAILURE, &["holds no records"]),
        (
            &["message", "resend", "t", "--partition", "0", "--offset", "0", "--to", "nothing"],
            FAILURE,
            &["--to names another one", "topic list"],
        ),
        (
            &["message", "resend", "nothing", "--partition", "0", "--offset", "0"],
            FAILURE,
            &["\"nothing\"", "topic list"],
        ),
    ] {
        let arguments = at(arguments);
        ends_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, sentences);
    }
}
