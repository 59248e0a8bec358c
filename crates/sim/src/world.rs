//! The simulation of one seed: a cluster, its clients, and faults; then calm, and the verdict.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use duolog_chaos::check::{self, Findings};
use duolog_chaos::history::{History, Run, Sync, Topic};
use duolog_chaos::recorder::Recorder;
use turmoil::{Builder, Sim};

use crate::cluster::SimCluster;
use crate::faults::reach::Reach;
use crate::faults::{Ending, LATENCY_MIN, Members, Skew};
use crate::interpose;
use crate::net::Links;
use crate::node::{NODES, NODES_MAX, SimNode, host};
use crate::plant::Plant;
use crate::process::Process;
use crate::random::Random;
use crate::workload::{self, Clients, Phase};

const PARTITIONS: i32 = 2;
const CLIENT: &str = "client";
const TICK: Duration = Duration::from_millis(1);
/// Faults begin after this time.
const CALM: Duration = Duration::from_secs(3);
/// Longest simulated time; reached only when something never ends.
const LIMIT: Duration = Duration::from_secs(600);

/// Steps of this process's simulation so far, a millisecond each.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// For whoever watches that there is progress.
pub fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// How a seed ended.
pub struct Outcome {
    pub history: History,
    pub findings: Findings,
    /// What no checker could know.
    pub errors: Vec<String>,
    /// How often each kind of fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was done to the cluster, in order.
    pub told: Vec<String>,
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
    let (latency_max, skew, links) = (random.ms(2..20), Skew::choose(&mut random), Links::default());
    let mut sim = Builder::new()
        .epoch(SystemTime::UNIX_EPOCH)
        .rng_seed(random.next())
        .tick_duration(TICK)
        .simulation_duration(LIMIT)
        .min_message_latency(LATENCY_MIN)
        .max_message_latency(latency_max)
        .tcp_capacity(1 << 16)
        .enable_random_order()
        .build();
    let nodes: Vec<Arc<SimNode>> = (0..NODES_MAX)
        .map(|id| SimNode::new(id, home, random.fork(), links.clone(), plan.plant))
        .map(Arc::new)
        .collect();
    for node in &nodes[..NODES as usize] {
        let node = node.clone();
        sim.host(host(node.id), move || node.clone().run_machine());
    }
    let message_topics = workload::message_topics(&mut random);
    let cluster =
        SimCluster { nodes: Arc::new(nodes), topics: Arc::new(topics()), message_topics: Arc::new(message_topics) };
    let clients = Clients::new(cluster.clone(), recorder.clone(), skew.max);
    let mut world = World {
        sim,
        processes: BTreeMap::new(),
        clients,
        random,
        links,
        reach: Reach::new(NODES, NODES_MAX),
        members: Members::default(),
        is_draining: Rc::default(),
        skew,
        latency_max,
        endings: Vec::new(),
        power_lost_at: None,
        round: 0,
        faults: BTreeMap::new(),
        told: RefCell::default(),
        broken: Vec::new(),
        load: (0, 0),
    };
    (0..NODES).for_each(|node| world.start_process(node));
    let mut errors: Vec<String> = world.live(plan.load).err().map(|error| error.to_string()).into_iter().collect();
    let World { load, broken, faults, told, clients, .. } = world;
    errors.extend(broken);
    errors.extend(clients.take_broken());
    let run = Run {
        seed: plan.seed,
        node_count: NODES,
        faults: Vec::new(),
        without_faults: false,
        load_begin_ms: load.0,
        load_end_ms: load.1.max(load.0 + 1),
    };
    let (topics, message_topics) = (cluster.topics.to_vec(), cluster.message_topics.to_vec());
    let history = History { run, topics, message_topics, events: recorder.take() };
    let findings = check::check(&history);
    Outcome { history, findings, errors, faults, told: told.into_inner() }
}

/// What happens, and when.
pub struct World {
    pub sim: Sim<'static>,
    /// Of nodes that are up.
    pub processes: BTreeMap<u32, Process>,
    pub clients: Clients,
    pub random: Random,
    pub links: Links,
    pub reach: Reach,
    pub members: Members,
    /// Whether a node is drained, or may be any moment.
    pub is_draining: Rc<Cell<bool>>,
    pub skew: Skew,
    pub latency_max: Duration,
    /// Faults that are under way, and until when.
    pub endings: Vec<(Duration, Ending)>,
    pub power_lost_at: Option<Duration>,
    pub round: u32,
    /// How often each kind of fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was done to the cluster, in order.
    pub told: RefCell<Vec<String>>,
    /// Promises that only the world can see broken.
    pub broken: Vec<String>,
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
        let (clients, random) = (self.clients.clone(), self.random.fork());
        self.sim.client(CLIENT, workload::run(clients, random));
        self.for_time(CALM)?;
        let end = self.sim.elapsed() + load;
        while self.sim.elapsed() < end {
            self.fault();
            let pause = self.random.ms(200..4_000);
            self.for_time(pause)?;
        }
        self.heal();
        self.for_time(Duration::from_secs(2))?;
        self.finish_change()?;
        self.finish_drain()?;
        self.load.1 = self.now_ms();
        self.clients.phase.set(Phase::Drain);
        let is_read = Rc::new(Cell::new(false));
        let (read, clients) = (is_read.clone(), self.clients.clone());
        self.sim.client("reader", async move {
            workload::final_read(&clients).await;
            read.set(true);
            Ok(())
        });
        self.steps(|_| !is_read.get())?;
        self.check_members()
    }

    pub fn now_ms(&self) -> u64 {
        self.clients.recorder.now_ms()
    }

    /// Goes on while the condition holds.
    pub fn steps(&mut self, go_on: impl Fn(&Self) -> bool) -> turmoil::Result {
        while go_on(self) {
            self.step()?;
        }
        Ok(())
    }

    fn for_time(&mut self, time: Duration) -> turmoil::Result {
        let end = self.sim.elapsed() + time;
        self.steps(|world| world.sim.elapsed() < end)
    }

    /// Each process for as long as a step takes, in some order.
    fn run_processes(&mut self) {
        let mut nodes: Vec<u32> = self.processes.keys().copied().collect();
        while !nodes.is_empty() {
            let node = nodes.swap_remove(self.random.below(nodes.len() as u64) as usize);
            self.processes[&node].go_on(TICK);
        }
    }

    pub fn step(&mut self) -> turmoil::Result {
        interpose::set_now(self.sim.elapsed());
        STEPS.fetch_add(1, Ordering::Relaxed);
        self.sim.step()?;
        self.run_processes();
        if self.sim.elapsed() >= LIMIT {
            return Err("the simulated time is over".into());
        }
        self.bury();
        self.end_faults();
        Ok(())
    }
}
