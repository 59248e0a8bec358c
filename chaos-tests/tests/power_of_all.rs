//! Goal: all machines lose their power at once, under load. What a topic with synchronous flush acknowledged is there afterwards, all of it, in
//! order and where it was; of asynchronous flush only the last moment is gone. Where all machines return they go on by themselves; where one
//! does not, the others wait until `duolog cluster recover --accept-loss`.
//!
//! Method: real processes, and the loss of power that chaos runs make: of what was not flushed each page and each name is kept or lost by
//! chance. Needs the binary `duolog` of the same build, as `cargo xtask test` makes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use duolog_chaos::client;
use duolog_chaos::cluster::{Cluster, Plan};
use duolog_chaos::history::{Sync, Topic};
use duolog_chaos::recorder::wait_until;
use duolog_chaos::workload::topics::{self, ConfigNames};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const NODES: u32 = 3;
/// The machine that does not return from the second loss.
const GONE: u32 = 2;
const LOAD: Duration = Duration::from_secs(4);
/// Fewer would show nothing.
const ACKS_MIN: usize = 100;
/// Between two records of a topic.
const PAUSE: Duration = Duration::from_millis(2);
/// What was acknowledged so long before the loss has been flushed: entries wait for `flush.ms`, by default 0.1 s, and then for the disk.
const FLUSHED_AFTER: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(60);
/// Some elections long: who has no leader then gets none.
const NOBODY_LEADS: Duration = Duration::from_secs(5);
/// So long a report may be on its way within the client.
const LATE_REPORT: Duration = Duration::from_secs(2);
const READ_LIMIT: Duration = Duration::from_secs(30);

/// A record's number within its topic, where it was acknowledged, and when.
struct Ack {
    number: u64,
    partition: i32,
    offset: i64,
    at: Instant,
}

/// Sends what was acknowledged to whoever collects it.
struct Acks(Sender<Ack>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        if let Ok(message) = result {
            let ack =
                Ack { number: *number, partition: message.partition(), offset: message.offset(), at: Instant::now() };
            // Nobody collects any more after the test has failed.
            let _ = self.0.send(ack);
        }
    }
}

/// Sends numbers to a topic until it is told to stop; gives what was acknowledged.
fn load(bootstrap: &str, topic: &str, first: u64, stop: &AtomicBool) -> Vec<Ack> {
    let (sender, acks) = mpsc::channel();
    let mut config = client::producer(bootstrap);
    config.set("message.timeout.ms", "5000");
    let producer: ThreadedProducer<Acks> = config.create_with_context(Acks(sender)).expect("a producer");
    let mut number = first;
    while !stop.load(Ordering::Relaxed) {
        let payload = number.to_string();
        let record = BaseRecord::<(), str, Box<u64>>::with_opaque_to(topic, Box::new(number)).payload(&payload);
        number += 1;
        // Without power the queue fills up.
        let _ = producer.send(record);
        thread::sleep(PAUSE);
    }
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    let _ = producer.flush(Duration::from_secs(1));
    drop(producer);
    acks.into_iter().collect()
}

/// The records of a topic as (number, offset), by partition.
fn read(bootstrap: &str, topic: &Topic) -> BTreeMap<i32, Vec<(u64, i64)>> {
    let consumer: BaseConsumer = client::reader(bootstrap).create().expect("a consumer");
    let mut ends = BTreeMap::new();
    let mut wanted = TopicPartitionList::new();
    for partition in 0..topic.partition_count {
        let told = wait_until(READ_LIMIT, || {
            let marks = consumer.fetch_watermarks(&topic.name, partition, client::ASK_LIMIT);
            marks.is_ok_and(|(_, end)| ends.insert(partition, end).is_none())
        });
        assert!(told, "nobody tells the end of {} {partition}", topic.name);
        wanted.add_partition_offset(&topic.name, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&wanted).expect("an assignment");
    let mut found: BTreeMap<i32, Vec<(u64, i64)>> = ends.keys().map(|partition| (*partition, Vec::new())).collect();
    let read_all = wait_until(READ_LIMIT, || {
        while let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let payload = std::str::from_utf8(message.payload().expect("a payload")).expect("text");
            let number = payload.parse().expect("a number");
            found.get_mut(&message.partition()).expect("a partition").push((number, message.offset()));
        }
        ends.iter().all(|(partition, end)| found[partition].last().map_or(0, |(_, offset)| offset + 1) >= *end)
    });
    assert!(read_all, "{} cannot be read to its ends {ends:?}", topic.name);
    found
}

/// Lets a node vote again; what it says about that.
fn recover(binary: &Path, grpc_port: u16) -> String {
    let mut command = Command::new(binary);
    command.args(["cluster", "recover", "--accept-loss", "--yes", "--node", &format!("127.0.0.1:{grpc_port}")]);
    let output = command.stdin(Stdio::null()).output().expect("duolog runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

/// All machines lose their power at once.
fn lose_all_power(cluster: &mut Cluster, seed: u64) {
    println!("seed {seed}");
    for node in 0..NODES {
        cluster.kill(node).expect("it is killed");
    }
    for node in 0..NODES {
        let lost = cluster.cut_power(node, seed.wrapping_add(node.into()), true).expect("a cut");
        println!("node {node} lost {} pages and {} names", lost.pages, lost.names);
        assert!(lost.pages > 0, "nothing was lost, so nothing is shown");
    }
}

fn all_return(cluster: &mut Cluster, _: &Path) {
    for node in 0..NODES {
        cluster.restart(node).expect("it starts");
    }
    cluster.wait_healthy(START_LIMIT).expect("all are healthy, by themselves");
}

fn all_but_one_return(cluster: &mut Cluster, binary: &Path) {
    let returned: Vec<u32> = (0..NODES).filter(|node| *node != GONE).collect();
    for node in &returned {
        cluster.restart(*node).expect("it starts");
    }
    thread::sleep(NOBODY_LEADS);
    assert_eq!(cluster.unhealthy(), [0, 1, 2], "what the third one had may be lost, and nobody has accepted that");
    for node in &returned {
        let said = recover(binary, cluster.nodes()[*node as usize].ports.grpc);
        assert!(said.contains("the node votes again"), "{said}");
    }
    assert!(wait_until(START_LIMIT, || cluster.unhealthy() == [GONE]), "unhealthy: {:?}", cluster.unhealthy());
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn what_was_flushed_survives_the_loss_of_all_power() {
    let binary = Path::new(env!("CARGO_BIN_EXE_duolog-chaos")).with_file_name("duolog");
    let dir = std::env::temp_dir().join(format!("duolog-power-of-all-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let scratch = Scratch(dir);
    println!("data and logs: {}", scratch.0.display());
    let plan = Plan { relays: false, disk_space: false, preload: true };
    let mut cluster = Cluster::start(&binary, None, &scratch.0, NODES, plan).expect("a cluster");
    cluster.wait_healthy(START_LIMIT).expect("it is healthy");
    let bootstrap = cluster.bootstrap();
    let modes = topics::of_modes(&[], false);
    topics::create(&bootstrap, &modes, ConfigNames::Duolog, &[]).expect("topics");
    // What every later look must find.
    let mut promised: Vec<Vec<Ack>> = modes.iter().map(|_| Vec::new()).collect();
    let returns: [fn(&mut Cluster, &Path); 2] = [all_return, all_but_one_return];
    for (loss, returns) in (0..).zip(returns) {
        let stop = Arc::new(AtomicBool::new(false));
        let loads: Vec<_> = modes
            .iter()
            .map(|topic| {
                let (bootstrap, name, stop) = (bootstrap.clone(), topic.name.clone(), stop.clone());
                thread::spawn(move || load(&bootstrap, &name, loss << 32, &stop))
            })
            .collect();
        thread::sleep(LOAD);
        let lost_at = Instant::now();
        lose_all_power(&mut cluster, rand::random());
        let off_at = Instant::now();
        stop.store(true, Ordering::Relaxed);
        let loads: Vec<Vec<Ack>> = loads.into_iter().map(|load| load.join().expect("the load ends")).collect();
        returns(&mut cluster, &binary);
        for ((topic, acks), promised) in modes.iter().zip(loads).zip(&mut promised) {
            assert!(acks.len() > ACKS_MIN, "only {} acknowledgements of {}", acks.len(), topic.name);
            assert!(acks.iter().all(|ack| ack.at < off_at + LATE_REPORT), "{}: acknowledged without power", topic.name);
            // Of a topic without synchronous replication the last moment may lie on the machine that does not return.
            let is_kept =
                topic.flush == Sync::Sync && (topic.replication == Sync::Sync || cluster.unhealthy().is_empty());
            let is_certain = |ack: &Ack| is_kept || ack.at + FLUSHED_AFTER < lost_at;
            promised.extend(acks.into_iter().filter(is_certain));
        }
        for (topic, promised) in modes.iter().zip(&promised) {
            check(topic, promised, &read(&bootstrap, topic));
        }
    }
    cluster.stop(START_LIMIT).expect("it stops");
}

/// Everything that was promised is where it was acknowledged, once, and each partition is in order.
fn check(topic: &Topic, promised: &[Ack], found: &BTreeMap<i32, Vec<(u64, i64)>>) {
    for (partition, records) in found {
        assert!(records.windows(2).all(|pair| pair[0].0 < pair[1].0), "{} {partition}: not in order", topic.name);
    }
    let at: BTreeMap<(i32, i64), u64> = found
        .iter()
        .flat_map(|(partition, records)| records.iter().map(|(number, offset)| ((*partition, *offset), *number)))
        .collect();
    let missing: Vec<_> = promised
        .iter()
        .filter(|ack| at.get(&(ack.partition, ack.offset)) != Some(&ack.number))
        .map(|ack| (ack.number, ack.partition, ack.offset, at.get(&(ack.partition, ack.offset))))
        .collect();
    println!("{}: {} promised, {} found", topic.name, promised.len(), at.len());
    assert!(
        missing.is_empty(),
        "{}: {} are gone, the first ones: {:?}",
        topic.name,
        missing.len(),
        &missing[..missing.len().min(5)]
    );
}
