//! The commands over a cluster of real processes: what scripts rely on, that is, JSON, exit codes and sentences.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Cluster, Layout, duolog, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const TABLES: &str = "[log]\nsegment_size_bytes = 1048576\n[broker]\ngroup_initial_rebalance_delay_ms = 100\n";
const USAGE: i32 = 64;

fn start(nodes: u64) -> Cluster {
    Cluster::start(Layout { nodes, broker_groups: 2, tables: TABLES })
}

/// A cluster with its addresses as the commands want them.
struct Commands<'a> {
    bootstrap: String,
    cluster: &'a Cluster,
}

impl<'a> Commands<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        Self { bootstrap: format!("127.0.0.1:{}", cluster.node(0).ports.kafka), cluster }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(common::BINARY);
        command.args(arguments).args(["--bootstrap", &self.bootstrap]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Standard output of a command that must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Standard error of a command that must fail with exit code 1.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(said.contains("duolog: ") && !said.contains("panicked"), "{said}");
        said
    }

    fn produce(&self, arguments: &[&str], lines: &str) -> Output {
        let mut child =
            self.command(&[&["produce"], arguments].concat()).stdin(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("the command reads its input");
        child.wait_with_output().expect("our child ends")
    }

    fn http(&self) -> String {
        format!("127.0.0.1:{}", self.cluster.node(0).ports.http)
    }
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let cluster = start(1);
    let commands = Commands::of(&cluster);
    let created = commands.json(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--durability",
        "sync/async",
        "--config",
        "retention.ms=60000",
    ]);
    assert_eq!(created, json!({"topic": "orders", "partitions": 3, "created": true}));
    assert_eq!(commands.json(&["topic", "create", "orders", "--if-not-exists"])["created"], false);
    // The form that scripts of earlier versions use.
    let output = duolog(&[
        "topic",
        "create",
        "--bootstrap",
        &commands.bootstrap,
        "--config",
        "duolog.flush=async",
        "old",
        "--partitions",
        "1",
        "--if-not-exists",
    ]);
    assert!(output.status.success(), "{output:?}");

    let listed = commands.json(&["topic", "list"]);
    assert_eq!(
        listed,
        json!([
            {"topic": "old", "partitions": 1, "replicas": 1, "durability": "sync/async", "records": 0},
            {"topic": "orders", "partitions": 3, "replicas": 1, "durability": "sync/async", "records": 0},
        ])
    );
    assert!(commands.run(&["topic", "list"]).starts_with("TOPIC"));

    commands.json(&["topic", "alter", "orders", "--durability", "async/sync", "--delete-config", "retention.ms"]);
    let described = commands.json(&["topic", "describe", "orders"]);
    assert_eq!(described["durability"], "async/sync");
    assert_eq!(described["partitions"][2]["leader"], 0);
    assert_eq!(described["partitions"][2]["high_watermark"], 0);
    let config = |name: &str| {
        let configs = described["configs"].as_array().expect("configs");
        configs.iter().find(|config| config["name"] == name).expect("a known config").clone()
    };
    assert_eq!(config("duolog.replication")["source"], "topic");
    assert_eq!(config("retention.ms")["source"], "default");

    assert!(commands.fails(&["topic", "delete", "orders"]).contains("scripts say --yes"));
    assert_eq!(commands.json(&["topic", "delete", "orders", "--yes"]), json!({"deleted": ["orders"]}));
    assert_eq!(commands.json(&["topic", "list"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn wrong_input_is_answered_with_what_was_expected() {
    let cluster = start(1);
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "t", "--partitions", "2"]);
    for (arguments, expected) in [
        (&["topic", "create", "t"][..], "already exists"),
        (&["topic", "create", "no spaces"], "no spaces"),
        (&["topic", "create", "x", "--config", "flush.mss=1"], "did you mean flush.ms"),
        (&["topic", "create", "x", "--config", "flush.ms"], "expected KEY=VALUE"),
        (
            &["topic", "create", "x", "--config", "duolog.flush=sync", "--durability", "sync/sync"],
            "expected one of them",
        ),
        (&["topic", "describe", "nothing"], "topic list"),
        (&["topic", "alter", "t"], "nothing to change"),
        (&["topic", "alter", "t", "--partitions", "1"], "has 2 partitions, expected more"),
        (&["topic", "delete", "nothing", "--yes"], "topic list"),
        (&["consume", "nothing"], "topic list"),
        (&["consume", "t", "--format", "%q"], "%q has no meaning"),
        (&["consume", "t", "--partition", "2"], "partitions 0 to 1"),
        (&["consume", "t", "--offset", "7"], "has offsets 0 to 0"),
        (&["produce", "t", "--partition", "5"], "partitions 0 to 1"),
        (&["produce", "nothing"], "topic list"),
        (&["group", "seek", "g", "--to-time", "yesterday"], "expected a time"),
        (&["topic", "list", "--timeout", "1", "--bootstrap", "127.0.0.1:1"], "cannot connect to 127.0.0.1:1"),
    ] {
        // A later --bootstrap would be a repetition.
        let output = match arguments.contains(&"--bootstrap") {
            true => duolog(arguments),
            false => commands.output(arguments),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(said.contains(expected), "{arguments:?}: expected {expected:?} in {said}");
    }
    for arguments in
        [&["nonsense"][..], &["topic", "create"], &["topic", "alter", "t", "--durability", "fast"], &["consume"]]
    {
        assert_eq!(duolog(arguments).status.code(), Some(USAGE), "{arguments:?}");
    }
    assert_eq!(duolog(&["--help"]).status.code(), Some(0));
}

#[test]
fn what_is_produced_is_consumed_with_keys_headers_and_offsets() {
    let cluster = start(3);
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "t", "--partitions", "4"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: String = (0..200).map(|i| format!("{codec}-{i}:{i}\n")).collect();
        let output = commands.produce(
            &["t", "--key-separator", ":", "--header", "h=1", "--compression", codec, "--output", "json"],
            &lines,
        );
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(answer, json!({"topic": "t", "sent": 200, "acknowledged": 200}));
    }
    assert_eq!(commands.json(&["topic", "list"])[0]["records"], 1000);

    let text = commands.run(&["consume", "t", "--from-beginning", "--until-end", "--format", "%t %k=%v %h\\n"]);
    assert_eq!(text.lines().count(), 1000);
    assert!(text.lines().any(|line| line == "t zstd-199=199 h=1"), "{text}");
    let record = commands.run(&[
        "consume",
        "t",
        "--from-beginning",
        "--partition",
        "1",
        "--max-records",
        "1",
        "--output",
        "json",
    ]);
    let record: Value = serde_json::from_str(&record).expect("one line of JSON");
    assert_eq!((&record["partition"], &record["offset"]), (&json!(1), &json!(0)));
    assert_eq!(record["headers"], json!([{"key": "h", "value": "1"}]));

    // A wrong line ends the command; what came before is stored and counted.
    let output = commands.produce(&["t", "--key-separator", ":", "--partition", "0"], "a:1\nwrong\nb:2\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("acknowledged by topic \"t\": 1 of 1 sent") && said.contains("line 2"), "{said}");
}

#[test]
fn members_of_a_group_share_the_partitions_and_go_on_where_they_were() {
    let cluster = start(1);
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "t", "--partitions", "2"]);
    for partition in ["0", "1"] {
        let lines: String = (0..100).map(|i| format!("{partition}-{i}\n")).collect();
        assert!(commands.produce(&["t", "--partition", partition], &lines).status.success());
    }
    let consume = |records: &'static str| {
        commands.run(&["consume", "t", "--group", "g", "--from-beginning", "--max-records", records])
    };
    let mut values: Vec<String> = [consume("30"), consume("170")]
        .iter()
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 200, "every record came once");

    // Two members at a time: records come to both, and SIGINT ends both cleanly.
    let mut members: Vec<Child> = (0..2)
        .map(|_| commands.command(&["consume", "t", "--group", "pair", "--from-beginning"]).spawn().expect("it runs"))
        .collect();
    let printed: Vec<Arc<AtomicUsize>> = members.iter_mut().map(count_lines).collect();
    wait_for("both members print records", LIMIT, || {
        for partition in ["0", "1"] {
            assert!(commands.produce(&["t", "--partition", partition], "more\n").status.success());
        }
        printed.iter().all(|lines| lines.load(Ordering::Relaxed) > 0)
    });
    for member in &members {
        // SAFETY: kill has no memory effects; the id is our child's, which was not waited for.
        assert_eq!(unsafe { libc::kill(member.id() as libc::pid_t, libc::SIGINT) }, 0);
    }
    for member in members {
        let output = member.wait_with_output().expect("our child ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

/// Counts the lines that a child prints, as long as it runs.
fn count_lines(child: &mut Child) -> Arc<AtomicUsize> {
    let lines = Arc::new(AtomicUsize::new(0));
    let (output, counter) = (child.stdout.take().expect("a pipe"), lines.clone());
    std::thread::spawn(move || {
        for _ in BufReader::new(output).lines() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    lines
}

#[test]
fn groups_are_listed_described_moved_and_deleted() {
    let cluster = start(1);
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "t", "--partitions", "2"]);
    for partition in ["0", "1"] {
        let lines: String = (0..100).map(|i| format!("{i}\n")).collect();
        assert!(commands.produce(&["t", "--partition", partition], &lines).status.success());
    }
    commands.run(&["consume", "t", "--group", "g", "--from-beginning", "--max-records", "200"]);
    let listed = commands.output(&["group", "list", "--output", "json"]);
    assert!(listed.status.success(), "{listed:?}");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed, json!([{"group": "g", "state": "Empty", "protocol_type": "consumer"}]));
    let offsets = |group: &str| -> Vec<(i64, i64)> {
        let described = commands.json(&["group", "describe", group]);
        let rows = described["offsets"].as_array().expect("offsets").clone();
        rows.iter()
            .map(|row| (row["committed"].as_i64().expect("a number"), row["lag"].as_i64().expect("a number")))
            .collect()
    };
    assert_eq!(offsets("g"), [(100, 0), (100, 0)]);

    let seek = commands.json(&["group", "seek", "g", "--by", "-30"]);
    assert_eq!(seek["executed"], false);
    assert_eq!(seek["offsets"][1], json!({"topic": "t", "partition": 1, "old": 100, "new": 70}));
    assert_eq!(offsets("g"), [(100, 0), (100, 0)], "a dry run changes nothing");
    commands.run(&["group", "seek", "g", "--topic", "t", "--partition", "1", "--to-offset", "5", "--execute"]);
    assert_eq!(offsets("g"), [(100, 0), (5, 95)]);
    commands.run(&["group", "seek", "g", "--to-time", "2020-01-01T00:00:00Z", "--execute"]);
    assert_eq!(offsets("g"), [(0, 100), (0, 100)]);
    commands.run(&["group", "seek", "g", "--to-latest", "--execute"]);
    commands.run(&["group", "seek", "new", "--topic", "t", "--to-earliest", "--execute"]);
    assert_eq!((offsets("g"), offsets("new")), (vec![(100, 0); 2], vec![(0, 100); 2]));

    let mut member = commands.command(&["consume", "t", "--group", "g"]).spawn().expect("it runs");
    wait_for("the member has its partitions", LIMIT, || {
        let described = commands.json(&["group", "describe", "g"]);
        described["members"][0]["partitions"] == json!({"t": [0, 1]})
    });
    assert!(commands.fails(&["group", "seek", "g", "--to-earliest", "--execute"]).contains("has 1 member"));
    assert!(commands.fails(&["group", "delete", "g", "--yes"]).contains("has members"));
    // SAFETY: kill has no memory effects; the id is our child's, which was not waited for.
    assert_eq!(unsafe { libc::kill(member.id() as libc::pid_t, libc::SIGTERM) }, 0);
    assert!(member.wait().expect("our child ends").success());
    commands.json(&["group", "delete", "g", "new", "--yes"]);
    assert_eq!(commands.json(&["group", "list"]), json!([]));
    for arguments in [["group", "describe", "g"], ["group", "seek", "g"]] {
        let arguments = [&arguments[..], if arguments[1] == "seek" { &["--to-latest"] } else { &[] }].concat();
        commands.fails(&arguments);
    }
    assert!(commands.fails(&["group", "delete", "g", "--yes"]).contains("group list"));
}

#[test]
fn a_closed_pipe_ends_every_command_silently() {
    let cluster = start(1);
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "t", "--partitions", "1"]);
    let lines: String = (0..20_000).map(|i| format!("value {i}\n")).collect();
    assert!(commands.produce(&["t"], &lines).status.success());
    let node = cluster.node(0).grpc_address();
    let http = commands.http();
    let with_bootstrap = |arguments: &[&str]| commands.command(arguments);
    let without = |arguments: &[&str]| {
        let mut command = Command::new(common::BINARY);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    for mut command in [
        with_bootstrap(&["consume", "t", "--from-beginning"]),
        with_bootstrap(&["topic", "describe", "t", "--all-configs"]),
        with_bootstrap(&["topic", "list"]),
        without(&["cluster", "status", "--node", &node]),
        without(&["cluster", "health", "--node", &node]),
        without(&["durability", "--http", &http, "--watch"]),
        without(&["config", "doc"]),
        without(&["completion", "bash"]),
    ] {
        let mut child = command.spawn().expect("it runs");
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        let status = child.wait().expect("our child ends");
        assert!(status.success() && said.is_empty(), "{command:?}: {status}: {said}");
    }
    // One that has nothing more to print notices it too.
    let mut child = with_bootstrap(&["consume", "t", "--from-beginning"]).spawn().expect("it runs");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    for _ in 0..20_000 {
        reader.read_line(&mut String::new()).expect("a line");
    }
    drop(reader);
    assert!(child.wait().expect("our child ends").success());
}

#[test]
fn health_has_three_exit_codes_and_says_why() {
    let mut cluster = start(3);
    let node = |cluster: &Cluster| cluster.node(0).grpc_address();
    let health = |cluster: &Cluster| {
        let output = duolog(&["cluster", "health", "--node", &node(cluster), "--output", "json"]);
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code(), answer)
    };
    wait_for("the cluster is healthy", LIMIT, || health(&cluster).0 == Some(0));
    assert_eq!(health(&cluster).1, json!({"health": "healthy", "reasons": []}));

    cluster.node_mut(2).kill();
    wait_for("a silent node is a degraded cluster", LIMIT, || health(&cluster).0 == Some(1));
    let (_, answer) = health(&cluster);
    assert_eq!(answer["health"], "degraded");
    assert!(answer["reasons"][0].as_str().is_some_and(|reason| reason.contains("node 2")), "{answer}");

    cluster.node_mut(1).kill();
    wait_for("two silent nodes are no cluster", LIMIT, || health(&cluster).0 == Some(2));
    assert!(health(&cluster).1["reasons"].to_string().contains("1 of 3 voters answer"));

    cluster.node_mut(0).kill();
    assert_eq!(health(&cluster).0, Some(2), "nobody answers");
}

#[test]
fn durability_shows_modes_promises_and_live_exposure() {
    let mut cluster = Cluster::down(Layout { nodes: 3, broker_groups: 1, tables: "" });
    // Followers that say nothing before their slow flush: what the leader acknowledges alone stays exposed for a while.
    const TIMES: &str =
        "[raft]\nheartbeat_interval_ms = 100\nelection_timeout_min_ms = 1500\nelection_timeout_max_ms = 2000\n";
    for id in 0..3 {
        let slow = if id == 0 { "" } else { "[testing]\nflush_delay_ms = 300\ndrop_received_marks = true\n" };
        cluster.node(id).configure(&format!("{TIMES}{slow}"));
        cluster.node_mut(id).start();
    }
    cluster.wait_ready();
    let commands = Commands::of(&cluster);
    commands.run(&["topic", "create", "safe", "--partitions", "1"]);
    commands.run(&["topic", "create", "fast", "--partitions", "1", "--durability", "async/async"]);
    let durability = |topics: &[&str]| -> Value {
        let output = duolog(&[&["durability", "--http", &commands.http(), "--output", "json"], topics].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    wait_for("node 0 leads", LIMIT, || cluster.node(0).client().leader("fast") == Some(0));
    let seen = durability(&["safe"]);
    let safe = &seen["topics"][0];
    assert_eq!((&safe["durability"], &safe["partitions_seen"]), (&json!("sync/sync"), &json!(1)));
    assert_eq!(safe["promise"]["ack_point"], "committed");
    assert_eq!(safe["exposure"]["power_loss"], json!({"records": 0, "bytes": 0, "age_ms": 0}));

    wait_for("an acknowledged record that only the leader has is shown", LIMIT, || {
        assert!(commands.produce(&["fast"], "exposed\n").status.success());
        let seen = durability(&["fast"]);
        let fast = &seen["topics"][0];
        fast["exposure"]["leader_loss"]["records"].as_u64() > Some(0)
            && fast["exposure"]["leader_loss"]["bytes"].as_u64() > Some(0)
            && fast["lost_with"] == json!(["node 0", "the power of all machines"])
            && fast["leaders"][0]["node_id"] == 0
    });
    wait_for("the exposure passes", LIMIT, || durability(&["fast"])["topics"][0]["lost_with"] == json!([]));

    let output = duolog(&["durability", "--http", &commands.http(), "nothing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("topic list"), "{output:?}");
    let table = duolog(&["durability", "--http", &commands.http()]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("in the leader's page cache") && table.contains("sync/sync"), "{table}");
}

#[test]
fn a_config_may_come_from_the_environment() {
    let mut cluster = Cluster::down(Layout { nodes: 1, broker_groups: 1, tables: "" });
    let file = cluster.node(0).config();
    let check = |variables: &[(&str, &str)]| {
        let mut command = Command::new(common::BINARY);
        command.args(["config", "check", "--output", "json"]).arg(&file).stdin(Stdio::null());
        command.envs(variables.iter().copied()).output().expect("the binary runs")
    };
    let output = check(&[("DUOLOG_BROKER_NUM_PARTITIONS", "7"), ("DUOLOG_NODES_0_HOST", "localhost")]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(
        answer["environment"][0],
        json!({"key": "nodes[0].host", "value": "localhost", "variable": "DUOLOG_NODES_0_HOST"})
    );
    assert_eq!(answer["environment"][1]["variable"], "DUOLOG_BROKER_NUM_PARTITIONS");
    let output = check(&[("DUOLOG_LISTEN_HTTP", "nowhere")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DUOLOG_LISTEN_HTTP=\"nowhere\""), "{output:?}");

    cluster.node(0).configure("[logging]\nformat = \"json\"\n");
    cluster.node_mut(0).start();
    cluster.wait_ready();
    let log = cluster.node(0).output();
    let line: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = duolog(&["completion", shell]);
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        for command in ["topic", "produce", "consume", "group", "cluster", "durability", "config", "completion"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
