//! The simulation of one seed: a cluster, its clients, and faults; then calm, and the verdict.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use duolog_chaos::check::{self, Findings};
use duolog_chaos::history::{Event, Fault, History, Run, Sync, Topic};
use duolog_chaos::recorder::Recorder;
use turmoil::{Builder, Sim};

use crate::cluster::SimCluster;
use crate::interpose;
use crate::node::{Crash, Plant, SimNode, host};
use crate::random::Random;
use crate::workload::{self, Clients, Phase};

const NODES: u32 = 3;
const PARTITIONS: i32 = 2;
const CLIENT: &str = "client";
const TICK: Duration = Duration::from_millis(1);
/// Faults begin after this time.
const CALM: Duration = Duration::from_secs(3);
/// Longest simulated time; reached only when something never ends.
const LIMIT: Duration = Duration::from_secs(600);

/// How a seed ended.
pub struct Outcome {
    pub history: History,
    pub findings: Findings,
    /// The simulation itself went wrong.
    pub error: Option<String>,
}

/// What a run consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub load: Duration,
    pub plant: Option<Plant>,
}

fn topics() -> Vec<Topic> {
    let topic = |replication: Sync, flush: Sync| Topic {
        name: format!("{}-{}", replication.as_str(), flush.as_str()),
        replication,
        flush,
        partition_count: PARTITIONS,
        has_group: true,
    };
    vec![
        topic(Sync::Sync, Sync::Sync),
        topic(Sync::Sync, Sync::Async),
        topic(Sync::Async, Sync::Sync),
        topic(Sync::Async, Sync::Async),
    ]
}

/// Runs a seed. Takes the thread, which must be new: its clock and its chance belong to the simulation from now on.
pub fn run(plan: Plan, home: &Path) -> Outcome {
    interpose::begin(plan.seed);
    let mut random = Random::new(plan.seed);
    let recorder = Arc::new(Recorder::start());
    let mut sim = Builder::new()
        .epoch(SystemTime::UNIX_EPOCH)
        .rng_seed(random.next())
        .tick_duration(TICK)
        .simulation_duration(LIMIT)
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(random.ms(2..20))
        .tcp_capacity(1 << 16)
        .enable_random_order()
        .build();
    let nodes: Vec<Arc<SimNode>> = (0..NODES)
        .map(|id| SimNode::new((id, NODES), home, random.fork(), recorder.clone(), plan.plant))
        .map(Arc::new)
        .collect();
    for node in &nodes {
        let node = node.clone();
        sim.host(host(node.id), move || node.clone().run());
    }
    let message_topics = workload::message_topics(&mut random);
    let cluster =
        SimCluster { nodes: Arc::new(nodes), topics: Arc::new(topics()), message_topics: Arc::new(message_topics) };
    let clients = Clients::new(cluster.clone(), recorder.clone());
    let mut world = World { sim, clients, random, down: Vec::new(), cut_off: None, round: 0, load: (0, 0) };
    let error = world.live(plan.load).err().map(|error| error.to_string());
    let World { load, .. } = world;
    let run = Run {
        seed: plan.seed,
        node_count: NODES,
        only_pauses: false,
        load_begin_ms: load.0,
        load_end_ms: load.1.max(load.0 + 1),
    };
    let (topics, message_topics) = (cluster.topics.to_vec(), cluster.message_topics.to_vec());
    let history = History { run, topics, message_topics, events: recorder.take() };
    let findings = check::check(&history);
    Outcome { history, findings, error }
}

/// What happens, and when.
struct World {
    sim: Sim<'static>,
    clients: Clients,
    random: Random,
    /// Nodes that are down, and until when.
    down: Vec<(u32, Duration)>,
    /// A node that hears nobody, and until when.
    cut_off: Option<(u32, Duration)>,
    round: u32,
    load: (u64, u64),
}

impl World {
    fn live(&mut self, load: Duration) -> turmoil::Result {
        let is_created = Rc::new(Cell::new(false));
        let created = is_created.clone();
        let cluster = self.clients.cluster.clone();
        self.sim.client("admin", async move {
            cluster.ready(workload::RECOVERY).await;
            cluster.create_topics().await;
            created.set(true);
            Ok(())
        });
        self.steps(|_| !is_created.get())?;
        self.load.0 = self.now_ms();
        self.begin_load();
        self.for_time(CALM)?;
        let end = self.sim.elapsed() + load;
        while self.sim.elapsed() < end {
            self.fault();
            let pause = self.random.ms(200..4_000);
            self.for_time(pause)?;
        }
        self.heal();
        self.for_time(Duration::from_secs(2))?;
        self.load.1 = self.now_ms();
        self.clients.phase.set(Phase::Drain);
        let is_read = Rc::new(Cell::new(false));
        let (read, clients) = (is_read.clone(), self.clients.clone());
        self.sim.client("reader", async move {
            workload::final_read(&clients).await;
            read.set(true);
            Ok(())
        });
        self.steps(|_| !is_read.get())
    }

    fn now_ms(&self) -> u64 {
        self.clients.recorder.now_ms()
    }

    fn begin_load(&mut self) {
        let (clients, random) = (self.clients.clone(), self.random.fork());
        self.sim.client(CLIENT, workload::run(clients, random));
    }

    /// Goes on while the condition holds.
    fn steps(&mut self, go_on: impl Fn(&Self) -> bool) -> turmoil::Result {
        while go_on(self) {
            self.step()?;
        }
        Ok(())
    }

    fn for_time(&mut self, time: Duration) -> turmoil::Result {
        let end = self.sim.elapsed() + time;
        self.steps(|world| world.sim.elapsed() < end)
    }

    fn step(&mut self) -> turmoil::Result {
        interpose::set_now(self.sim.elapsed());
        self.sim.step()?;
        let now = self.sim.elapsed();
        if now >= LIMIT {
            return Err("the simulated time is over".into());
        }
        for (node, _) in self.down.extract_if(.., |(_, until)| *until <= now).collect::<Vec<_>>() {
            self.sim.bounce(host(node));
            self.record_end(node);
        }
        if let Some((node, until)) = self.cut_off
            && until <= now
        {
            self.cut_off = None;
            self.each_link(node, |sim, a, b| sim.release(a, b));
            self.record_end(node);
        }
        Ok(())
    }

    fn record_end(&self, node: u32) {
        self.clients.recorder.record(Event::FaultEnded { time_ms: self.now_ms(), node });
    }

    fn record_begin(&mut self, node: u32, fault: Fault) {
        let (time_ms, round) = (self.now_ms(), self.round);
        self.clients.recorder.record(Event::FaultBegan { time_ms, round, node, fault, leads: Vec::new() });
    }

    fn each_link(&self, node: u32, change: impl Fn(&Sim<'static>, String, String)) {
        for other in (0..NODES).filter(|other| *other != node) {
            change(&self.sim, host(node), host(other));
        }
    }

    /// Hurts a node, or all.
    fn fault(&mut self) {
        self.round += 1;
        let node = self.random.below(u64::from(NODES)) as u32;
        match self.random.below(10) {
            0..4 => self.crash(node, Crash::Kill),
            4..7 => self.crash(node, Crash::PowerLoss),
            // Not without power: a loss of all machines may take what a topic with asynchronous flush has acknowledged.
            7 => (0..NODES).for_each(|node| self.crash(node, Crash::Kill)),
            _ => self.cut_off(node),
        }
    }

    fn crash(&mut self, node: u32, how: Crash) {
        if self.down.iter().any(|(down, _)| *down == node) {
            return;
        }
        // Two machines without power at once are more than a quorum's disks promise.
        if how == Crash::PowerLoss && !self.down.is_empty() {
            return;
        }
        self.record_begin(node, Fault::Kill);
        self.clients.cluster.nodes[node as usize].crash(how);
        self.sim.crash(host(node));
        let until = self.sim.elapsed() + self.random.ms(20..3_000);
        self.down.push((node, until));
    }

    fn cut_off(&mut self, node: u32) {
        if self.cut_off.is_some() {
            return;
        }
        self.record_begin(node, Fault::CutOff);
        self.each_link(node, |sim, a, b| sim.hold(a, b));
        self.cut_off = Some((node, self.sim.elapsed() + self.random.ms(100..5_000)));
    }

    /// All faults end.
    fn heal(&mut self) {
        let now = self.sim.elapsed();
        for (_, until) in &mut self.down {
            *until = now;
        }
        if let Some((_, until)) = &mut self.cut_off {
            *until = now;
        }
    }
}
