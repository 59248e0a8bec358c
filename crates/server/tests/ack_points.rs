//! The four durability modes show their ack points over real processes: one node's disk is slow, or two are, and what
//! waits for that disk waits, and nothing else does. `DESIGN.md`, section 4.
//!
//! ```text
//!                                     s/s       s/a       a/s       a/a
//!                                     committed received  flushed   appended
//!   leader slow                       fast      fast      >= 250    fast
//!   both followers slow               >= 250    fast      fast      fast
//!   the same, their marks dropped     >= 250    >= 250    fast      fast
//! ```

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster, Layout, Produced, duolog, show, wait_for};

const MODES: [&str; 4] = ["sync-sync", "sync-async", "async-sync", "async-async"];
const FAST_MAX: Duration = Duration::from_millis(50);
const SLOW_MIN: Duration = Duration::from_millis(250);
const RECORD_INTERVAL: Duration = Duration::from_millis(100);
const RECORDS: usize = 24;
/// The system group's first choice.
const LEADER: u64 = 0;

/// A candidate must flush its vote well within an election time-out.
const TIMES: &str =
    "[raft]\nheartbeat_interval_ms = 100\nelection_timeout_min_ms = 1500\nelection_timeout_max_ms = 2000\n";
const QUICK: &str = "";
const SLOW: &str = "[testing]\nflush_delay_ms = 300\n";
const SLOW_AND_SILENT: &str = "[testing]\nflush_delay_ms = 300\ndrop_received_marks = true\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speed {
    Fast,
    Slow,
}
use Speed::{Fast, Slow};

impl Speed {
    fn fits(self, p50: Duration) -> bool {
        match self {
            Fast => p50 < FAST_MAX,
            Slow => p50 >= SLOW_MIN,
        }
    }
}

struct Case {
    name: &'static str,
    leader: &'static str,
    followers: &'static str,
    expected: [Speed; 4],
}

const CASES: [Case; 3] = [
    Case { name: "leader slow", leader: SLOW, followers: QUICK, expected: [Fast, Fast, Slow, Fast] },
    Case { name: "both followers slow", leader: QUICK, followers: SLOW, expected: [Slow, Fast, Fast, Fast] },
    Case {
        name: "followers slow, marks dropped",
        leader: QUICK,
        followers: SLOW_AND_SILENT,
        expected: [Slow, Slow, Fast, Fast],
    },
];

#[test]
fn each_mode_waits_for_its_own_ack_point() {
    let [a, b, c, d] = MODES;
    show(&format!(
        "\nack p50 in ms of {RECORDS} records, one per {RECORD_INTERVAL:?}; a slow disk adds 300 ms to a flush"
    ));
    show(&format!("{:<30} {a:>11} {b:>11} {c:>11} {d:>11}", ""));
    let mut wrong = Vec::new();
    for case in &CASES {
        let cluster = start(case);
        let p50 = measure(&cluster);
        let ms: Vec<String> = p50.iter().map(|p50| format!("{:>11.1}", p50.as_secs_f64() * 1e3)).collect();
        show(&format!("{:<30} {}", case.name, ms.join(" ")));
        for ((mode, expected), p50) in MODES.iter().zip(case.expected).zip(p50) {
            if !expected.fits(p50) {
                wrong.push(format!("{}, {mode}: {p50:?} is not {expected:?}", case.name));
            }
        }
        if case.followers == SLOW {
            a_topic_changes_its_mode_while_it_is_used(&cluster);
        }
        if case.followers == SLOW_AND_SILENT {
            an_acknowledged_record_is_invisible_until_a_follower_has_it(&cluster);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A cluster whose leader is where the case wants it, with a topic per mode.
fn start(case: &Case) -> Cluster {
    // One broker group, so that one node leads everything.
    let mut cluster = Cluster::down(Layout { nodes: 3, broker_groups: 1, tables: "" });
    for id in 0..3 {
        let node = cluster.node_mut(id);
        node.configure(&format!("{TIMES}{}", if id == LEADER { case.leader } else { case.followers }));
        node.start();
    }
    cluster.wait_ready();
    let mut client = cluster.node(LEADER).client();
    for mode in MODES {
        let (replication, flush) = mode.split_once('-').expect("two words");
        client.create_topic(mode, &[("duolog.replication", replication), ("duolog.flush", flush)]);
    }
    wait_for("the preferred node leads", Duration::from_secs(30), || leads_everything(&mut client));
    cluster
}

fn leads_everything(client: &mut Client) -> bool {
    MODES.iter().all(|mode| client.leader(mode) == Some(LEADER))
}

/// The p50 of each mode. The modes run side by side: none may make another wait.
fn measure(cluster: &Cluster) -> Vec<Duration> {
    let of_mode = |mode| {
        let mut client = cluster.node(LEADER).client();
        let produced = client.produce_steadily(mode, 0..RECORDS, RECORD_INTERVAL);
        assert!(produced.iter().all(|produced| produced.error_code == 0), "{mode}: {produced:?}");
        median(&produced)
    };
    let p50 = std::thread::scope(|scope| {
        let running = MODES.map(|mode| scope.spawn(move || of_mode(mode)));
        running.map(|thread| thread.join().expect("the mode was measured")).to_vec()
    });
    assert!(leads_everything(&mut cluster.node(LEADER).client()), "leadership moved during the measurement");
    p50
}

fn median(produced: &[Produced]) -> Duration {
    let mut times: Vec<Duration> = produced.iter().map(|produced| produced.took).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The next batch after the change is answered where the new mode says.
fn a_topic_changes_its_mode_while_it_is_used(cluster: &Cluster) {
    const TOPIC: &str = MODES[1];
    let mut client = cluster.node(LEADER).client();
    let address = format!("127.0.0.1:{}", cluster.node(LEADER).ports.kafka);
    for (number, (durability, expected)) in
        [("sync/sync", Slow), ("async/async", Fast), ("sync/sync", Slow)].into_iter().enumerate()
    {
        let altered = duolog(&["topic", "alter", TOPIC, "--durability", durability, "--bootstrap", &address]);
        assert!(altered.status.success(), "{altered:?}");
        let values = RECORDS * (number + 1)..RECORDS * (number + 1) + 5;
        let produced = client.produce_steadily(TOPIC, values, RECORD_INTERVAL);
        assert!(expected.fits(median(&produced)), "{durability}: {produced:?} are not {expected:?}");
    }
    assert_eq!(client.fetch_all(TOPIC).len(), RECORDS + 15, "every change keeps what was there");
}

/// The followers' disks take 300 ms and they say nothing before: a read that was answered within 250 ms of the produce
/// request came before any follower could have told the leader that it has the record.
fn an_acknowledged_record_is_invisible_until_a_follower_has_it(cluster: &Cluster) {
    const TOPIC: &str = MODES[3];
    let mut client = cluster.node(LEADER).client();
    let mut looks = 0;
    wait_for("a look that was quick enough to mean something", Duration::from_secs(10), || {
        let begin = Instant::now();
        let produced = client.produce(TOPIC, "invisible").expect("an answer to Produce");
        assert_eq!(produced.error_code, 0);
        let early = client.fetch(TOPIC, produced.offset, Duration::ZERO).expect("an answer to Fetch");
        let quick = begin.elapsed() < SLOW_MIN;
        if quick {
            looks += 1;
            assert!(early.values.is_empty() && early.high_watermark <= produced.offset, "{early:?} after {produced:?}");
        }
        let late = client.fetch(TOPIC, produced.offset, Duration::from_secs(10)).expect("an answer to Fetch");
        assert_eq!(late.values, ["invisible"], "an acknowledged record becomes visible");
        assert!(begin.elapsed() >= SLOW_MIN, "visible after {:?}, before a follower had it", begin.elapsed());
        looks >= 3
    });
}
