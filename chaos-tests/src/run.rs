//! One chaos run, top to bottom: start, load and faults, recovery, final read, verdict.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::check::{self, Findings, Verdict};
use crate::cluster::{Cluster, Plan};
use crate::faults::{self, Kind, Scene};
use crate::history::{Event, History, Run};
use crate::observe::{self, Leaders};
use crate::recorder::{Recorder, wait_until};
use crate::report::Remarks;
use crate::workload::messages::{self, Messages};
use crate::workload::topics::ConfigNames;
use crate::workload::{Shared, Threads, final_read, group, probe, producer, tail, topics};

/// A cluster's first start: elections of all groups, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const REPLICAS_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// So long the readers may take, after the load, to be given what was acknowledged.
const CATCH_UP: Duration = Duration::from_secs(2);

const PRODUCERS_PER_TOPIC: u32 = 2;
const MEMBERS_PER_GROUP: u32 = 2;
/// Ids of the producers that only probe, apart from the others.
const PROBE_PRODUCER_BASE: u32 = 9_000;

pub struct Settings {
    pub binary: PathBuf,
    /// What the nodes run at first; None: `binary`, too.
    pub upgrade_from: Option<PathBuf>,
    /// Empty or absent.
    pub dir: PathBuf,
    pub duration: Duration,
    pub seed: u64,
    pub node_count: u32,
    pub with_groups: bool,
    /// RocketMQ clients, too.
    pub with_messages: bool,
    pub config_names: ConfigNames,
    /// Modes to test, as `sync-async`; empty: all.
    pub modes: Vec<String>,
    pub records_per_second: u32,
    /// The faults to choose from; not empty.
    pub faults: Vec<Kind>,
    pub keep: bool,
}

pub struct Outcome {
    pub history: History,
    pub findings: Findings,
    pub remarks: Remarks,
}

/// `progress` is told what happens, `on_fault` each fault.
pub fn run(settings: &Settings, progress: &dyn Fn(&str), on_fault: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    fs::create_dir_all(&settings.dir)?;
    progress(&format!("starting {} nodes in {}", settings.node_count, settings.dir.display()));
    let plan = Plan {
        relays: settings.faults.iter().any(|kind| kind.needs_network()),
        disk_space: settings.faults.contains(&Kind::FullDisk),
        preload: settings.faults.iter().any(|kind| kind.needs_preload()),
    };
    let (binary, older) = (&settings.binary, settings.upgrade_from.as_deref());
    let mut cluster = Cluster::start(binary, older, &settings.dir, settings.node_count, plan)?;
    cluster.wait_healthy(START_LIMIT)?;
    let shared = Arc::new(Shared {
        bootstrap: cluster.bootstrap(),
        topics: topics::of_modes(&settings.modes, settings.with_groups),
        message_topics: if settings.with_messages { messages::topics::all() } else { Vec::new() },
        recorder: Recorder::start(),
    });
    topics::create(&shared.bootstrap, &shared.topics, settings.config_names, &shared.message_topics)?;
    for topic in shared.message_topics.iter().filter(|topic| topic.broadcast_members > 0) {
        cluster.make_broadcasting(&topic.broadcasting_group())?;
    }

    progress(&format!("load and faults for {:?}", settings.duration));
    let readers = start_readers(&shared)?;
    let leaders = Arc::new(Leaders::default());
    let observers = start_observers(&shared, &leaders);
    let producers = start_producers(&shared, settings.records_per_second);
    let messages = settings.with_messages.then(|| Messages::start(&shared, cluster.rocketmq_ports())).transpose()?;
    let load_begin_ms = shared.recorder.now_ms();
    let mut scene = Scene::new(&shared, &leaders, &mut cluster, settings.seed, progress, on_fault);
    faults::run(&mut scene, &settings.faults, settings.duration)?;
    let load_end_ms = shared.recorder.now_ms();

    progress("the faults are over: recovery");
    messages.iter().for_each(Messages::end_load);
    let recovered = recover(&shared, &mut cluster, producers, messages);
    readers.join()?;
    observers.join()?;
    recovered?;

    progress("reading everything back");
    let mut remarks = Remarks::default();
    read_back(&shared, settings.with_groups, &mut remarks);
    if let Err(error) = messages::read_back(&shared) {
        remarks.notes.push(format!("topics of messages cannot be read: {error:#}"));
    }
    if let Err(why) = observe::compare_replicas(&shared, cluster.nodes(), REPLICAS_LIMIT) {
        remarks.notes.push(format!("replicas are not compared: {why}"));
    }
    cluster.notice_exits(&shared.recorder)?;
    for node in cluster.stop(STOP_LIMIT)? {
        remarks.notes.push(format!("node {node} did not stop within {STOP_LIMIT:?} of SIGTERM and was killed"));
    }
    remarks.error_lines = cluster.read_logs(&shared.recorder)?;

    let Settings { seed, node_count, .. } = *settings;
    let faults = settings.faults.iter().map(|kind| kind.name()).collect();
    let run = Run { seed, node_count, faults, without_faults: false, load_begin_ms, load_end_ms };
    let (topics, message_topics) = (shared.topics.clone(), shared.message_topics.clone());
    let history = History { run, topics, message_topics, events: shared.recorder.take() };
    let findings = check::check(&history);
    if settings.keep || findings.verdict() != Verdict::Passed {
        store(&history, &settings.dir.join("history.jsonl"))?;
        remarks.kept = Some(settings.dir.clone());
    } else {
        fs::remove_dir_all(&settings.dir)?;
    }
    Ok(Outcome { history, findings, remarks })
}

/// All nodes up, the load's records settled, a probe per topic, messages delivered. What does not recover is recorded, not an error.
fn recover(shared: &Arc<Shared>, cluster: &mut Cluster, producers: Threads, messages: Option<Messages>) -> Result<()> {
    cluster.raise_all()?;
    let mut unhealthy = Vec::new();
    wait_until(RECOVERY_LIMIT, || {
        unhealthy = cluster.unhealthy();
        unhealthy.is_empty()
    });
    for node in unhealthy {
        shared.recorder.record(Event::NodeNotReady { node, waited_ms: RECOVERY_LIMIT.as_millis() as u64 });
    }
    settle(shared, producers)?;
    messages.map_or(Ok(()), Messages::drain)
}

/// The load's records settled, and a probe per topic; then readers are given time.
pub fn settle(shared: &Arc<Shared>, producers: Threads) -> Result<()> {
    producers.join()?;
    for topic in 0..shared.topics.len() as u16 {
        probe::run(shared, topic, PROBE_PRODUCER_BASE + u32::from(topic))?;
    }
    std::thread::sleep(CATCH_UP);
    Ok(())
}

/// Every topic from the start to the end, and what its group has committed.
pub fn read_back(shared: &Shared, with_groups: bool, remarks: &mut Remarks) {
    for topic in 0..shared.topics.len() as u16 {
        if let Err(error) = final_read::run(shared, topic) {
            remarks.notes.push(format!("{error:#}"));
        }
        if with_groups && let Err(error) = group::ask_once(shared, topic) {
            remarks.notes.push(format!("committed offsets of {} cannot be read: {error:#}", shared.name(topic)));
        }
    }
}

pub fn start_producers(shared: &Arc<Shared>, records_per_second: u32) -> Threads {
    let mut threads = Threads::default();
    for topic in 0..shared.topics.len() as u16 {
        for i in 0..PRODUCERS_PER_TOPIC {
            let producer = u32::from(topic) * PRODUCERS_PER_TOPIC + i;
            let settings =
                producer::Settings { topic, producer, records_per_second: records_per_second / PRODUCERS_PER_TOPIC };
            let shared = Arc::clone(shared);
            threads.spawn(format!("producer {producer}"), move |stop| producer::run(&shared, &settings, stop));
        }
    }
    threads
}

/// Tail readers, and the members of the groups.
pub fn start_readers(shared: &Arc<Shared>) -> Result<Threads> {
    let mut threads = Threads::default();
    let mut reader = 0;
    let mut next_reader = || {
        reader += 1;
        reader
    };
    for topic in 0..shared.topics.len() as u16 {
        let (of_tail, id) = (Arc::clone(shared), next_reader());
        threads.spawn(format!("tail reader {id}"), move |stop| tail::run(&of_tail, topic, id, stop));
        if !shared.topics[usize::from(topic)].has_group {
            continue;
        }
        for _ in 0..MEMBERS_PER_GROUP {
            let (of_member, id) = (Arc::clone(shared), next_reader());
            threads.spawn(format!("member {id}"), move |stop| group::run_member(&of_member, topic, id, stop));
        }
        let of_asker = Arc::clone(shared);
        threads.spawn(format!("asker of {topic}"), move |stop| group::run_asker(&of_asker, topic, stop));
    }
    Ok(threads)
}

fn start_observers(shared: &Arc<Shared>, leaders: &Arc<Leaders>) -> Threads {
    let mut threads = Threads::default();
    let (of_leaders, leaders) = (Arc::clone(shared), Arc::clone(leaders));
    threads.spawn("leader observer".into(), move |stop| observe::follow_leaders(&of_leaders, &leaders, stop));
    let of_watermarks = Arc::clone(shared);
    threads.spawn("watermark observer".into(), move |stop| observe::follow_watermarks(&of_watermarks, stop));
    threads
}

fn store(history: &History, file: &Path) -> Result<()> {
    let mut to = BufWriter::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?);
    history.write(&mut to)?;
    Ok(to.flush()?)
}
