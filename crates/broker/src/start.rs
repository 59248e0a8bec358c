//! Starts what a broker is made of: the replicas, and the tasks around them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::groups::GroupConfig;
use duolog_replication::testing::Hooks;
use duolog_replication::{Cluster, ClusterOptions, EntryTap, StartError, StateFactory};
use duolog_state_store::StoreBudget;
use duolog_types::{BrokerGroupId, NodeId};
use tokio::sync::mpsc;

use crate::access::create_first_user;
use crate::backend::{Factory, RocksStore, StateSink, StateStore};
use crate::broker::{Broker, Settings, watch_failure, watch_liveness};
use crate::groups::{self, Coordinator};
use crate::hook::Hook;
use crate::pop::Submitted;
use crate::runtime::GroupRuntime;
use crate::sequencer_task::SequencerQueues;
use crate::trace::Traces;
use crate::{hidden, pop, producer_expiry, reconcile, retention, sequencer_task, state_scrub, trace};

/// What exists before the replicas are open.
struct Parts {
    own_id: NodeId,
    data_dir: PathBuf,
    runtimes: BTreeMap<BrokerGroupId, Arc<GroupRuntime>>,
    queues: Vec<(Arc<GroupRuntime>, SequencerQueues, mpsc::UnboundedReceiver<Submitted>)>,
}

impl Parts {
    fn new(options: &ClusterOptions) -> Self {
        let mut runtimes = BTreeMap::new();
        let mut queues = Vec::new();
        for id in (0..options.broker_groups).map(BrokerGroupId) {
            let (runtime, queue, submitted) = GroupRuntime::new(id, options.node_id);
            queues.push((runtime.clone(), queue, submitted));
            runtimes.insert(id, runtime);
        }
        Self { own_id: options.node_id, data_dir: options.data_dir.clone(), runtimes, queues }
    }

    fn factory(&self, store: impl StateStore) -> Arc<dyn StateFactory> {
        let sinks = self.runtimes.clone();
        let sink = Arc::new(move |id| sinks.get(&id).expect("a runtime per group").clone() as Arc<dyn StateSink>);
        Arc::new(Factory { store, sink })
    }

    fn taps(&self) -> impl Fn(BrokerGroupId) -> Arc<dyn EntryTap> + use<> {
        let taps = self.runtimes.clone();
        move |id| Arc::new(Hook(taps.get(&id).expect("a runtime per group").clone()))
    }
}

impl Broker {
    /// Starts the node's part in the cluster, and everything that serves clients, on the current runtime. Blocks while
    /// logs are recovered; must not be called on an async worker.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        settings: Settings,
        options: ClusterOptions,
        handle: &tokio::runtime::Handle,
    ) -> Result<Self, StartError> {
        let parts = Parts::new(&options);
        let store = RocksStore(StoreBudget::new(settings.write_buffer_bytes, settings.block_cache_bytes));
        let cluster = Cluster::start(options, parts.factory(store), parts.taps())?;
        Ok(Self::assemble(settings, parts, cluster, handle))
    }

    /// As [`Broker::start`], on the runtime of the caller and with a store of its own: for a simulation, in which nothing may run
    /// beside.
    ///
    /// # Errors
    /// See [`StartError`].
    #[doc(hidden)]
    pub async fn join_here(
        settings: Settings,
        options: ClusterOptions,
        store: impl StateStore,
        hooks: Hooks,
    ) -> Result<Self, StartError> {
        let parts = Parts::new(&options);
        let cluster = Cluster::join_here(options, parts.factory(store), parts.taps(), hooks).await?;
        Ok(Self::assemble(settings, parts, cluster, &tokio::runtime::Handle::current()))
    }

    fn assemble(settings: Settings, parts: Parts, cluster: Cluster, handle: &tokio::runtime::Handle) -> Self {
        let Parts { own_id, data_dir, runtimes, queues } = parts;
        for (id, runtime) in &runtimes {
            runtime.attach(cluster.group(*id).expect("a replica per group").clone());
        }
        let group_config = GroupConfig {
            initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
            ..GroupConfig::default()
        };
        let coordinators = runtimes
            .iter()
            .map(|(id, runtime)| (*id, Coordinator::start(runtime.clone(), group_config.clone(), handle)))
            .collect();
        let (traces, events) = Traces::new();
        let broker = Self::of(settings, (own_id, data_dir), cluster, runtimes, coordinators, traces);
        for (runtime, queue, submitted) in queues {
            handle.spawn(sequencer_task::run(runtime.clone(), queue));
            handle.spawn(pop::propose(runtime.clone(), submitted));
            handle.spawn(pop::publish(broker.clone(), runtime.clone()));
            handle.spawn(sequencer_task::release(runtime.clone()));
            handle.spawn(watch_failure(broker.clone(), runtime.clone()));
            handle.spawn(state_scrub::watch(runtime.clone()));
            handle.spawn(state_scrub::verify(runtime.clone()));
            broker.spawn_expiry(&runtime, handle);
            handle.spawn(hidden::deliver(broker.clone(), runtime.clone()));
            handle.spawn(hidden::forget(runtime.clone()));
            handle.spawn(reconcile::reconcile(broker.clone(), runtime));
        }
        handle.spawn(reconcile::follow_catalog(broker.clone()));
        handle.spawn(reconcile::initialize_catalog(broker.clone()));
        handle.spawn(watch_liveness(broker.clone()));
        handle.spawn(trace::run(broker.clone(), events));
        if let Some(first) = broker.settings().first_user.clone() {
            handle.spawn(create_first_user(broker.clone(), first));
        }
        broker
    }

    /// Everything that goes by age: records, idle producers, committed offsets.
    fn spawn_expiry(&self, runtime: &Arc<GroupRuntime>, handle: &tokio::runtime::Handle) {
        let settings = self.settings();
        let every = |interval_ms: u64| Duration::from_millis(interval_ms.max(1));
        let age = |age_ms: u64| i64::try_from(age_ms).unwrap_or(i64::MAX);
        let interval = every(settings.retention_check_interval_ms);
        handle.spawn(retention::run(self.clone(), runtime.clone(), interval));
        let interval = every(settings.producer_id_expiration_check_interval_ms);
        let expiration_ms = age(settings.producer_id_expiration_ms);
        handle.spawn(producer_expiry::run(self.clone(), runtime.clone(), interval, expiration_ms));
        let interval = every(settings.offsets_retention_check_interval_ms);
        let retention_ms = age(settings.offsets_retention_ms);
        let coordinator = self.coordinator(runtime.id()).expect("a coordinator per group");
        handle.spawn(groups::expire(self.clone(), coordinator, interval, retention_ms));
    }
}
