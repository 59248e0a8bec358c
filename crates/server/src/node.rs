//! Runs a node: wires the parts, serves until a signal or a failure, stops cleanly.

use std::time::Duration;

use anyhow::Context;
use duolog_broker::api::BrokerConfigValue;
use duolog_broker::{Broker, FirstUser, Settings};
use duolog_commit_log::LogOptions;
use duolog_kafka::{KafkaConfig, KafkaServer};
use duolog_replication::{ClusterOptions, NodeAddress, RaftTimes, ScrubOptions};
use duolog_rocketmq::{AccessConfig, CertificateFiles, RocketmqConfig, RocketmqNode, RocketmqServer};
use duolog_types::NodeId;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{FromEnvironment, Loaded, LogFormat, Node, NodeConfig};
use crate::http_listener::LimitedListener;
use crate::open_files::ConnectionLimits;
use crate::{http, private_files, testing};

/// What is logged without `RUST_LOG`.
const LOG_FILTER: &str =
    "info,openraft=error,openraft::raft::raft_inner=off,openraft::core::heartbeat=off,h2=warn,hyper=warn,tonic=warn";

/// Runs until a signal asks to stop, or the node cannot go on.
pub fn run(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, environment, warnings } = loaded;
    log_to_stdout(config.logging.format);
    for FromEnvironment { key, variable, .. } in environment {
        tracing::info!(key, variable, "config from the environment");
    }
    for warning in warnings.into_iter().chain(private_files::warning(&config.data_dir)) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("client").build()?;
    RocketmqConfig { certificate: certificate(&config), ..RocketmqConfig::default() }.check_certificate()?;
    let listeners = runtime.block_on(Listeners::bind(&config))?;
    let broker = Broker::start(settings(&config), cluster_options(&config), runtime.handle())?;
    let result = runtime.block_on(serve(&config, broker.clone(), listeners));
    match result {
        Ok(()) => {
            broker.stop().context("stopping")?;
            tracing::info!("stopped cleanly");
            Ok(())
        }
        // Nothing may be promised any more: end at once, without flushing.
        Err(error) => {
            tracing::error!(reason = %error, "this node cannot go on");
            Err(error)
        }
    }
}

fn log_to_stdout(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| LOG_FILTER.into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

struct Listeners {
    kafka: TcpListener,
    rocketmq: Option<TcpListener>,
    http: TcpListener,
}

impl Listeners {
    async fn bind(config: &NodeConfig) -> anyhow::Result<Self> {
        let bind = |what: &'static str, address| async move {
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (listen.{what} in node.toml): is another process using it, or is it no address of this machine?"))
        };
        let rocketmq = match config.listen.rocketmq {
            Some(address) => Some(bind("rocketmq", address).await?),
            None => None,
        };
        let (kafka, http) = (bind("kafka", config.listen.kafka).await?, bind("http", config.listen.http).await?);
        Ok(Self { kafka, rocketmq, http })
    }
}

async fn serve(config: &NodeConfig, broker: Broker, listeners: Listeners) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let limits = ConnectionLimits::of_this_process();
    let kafka_config = KafkaConfig {
        request_budget_bytes: config.memory.connection_bytes,
        connections_max: limits.kafka,
        ..KafkaConfig::default()
    };
    let kafka = KafkaServer::new(broker.clone(), kafka_config);
    let rocketmq = match listeners.rocketmq {
        Some(listener) => Some((RocketmqServer::new(broker.clone(), rocketmq_config(config, limits))?, listener)),
        None => None,
    };
    let http = {
        let metrics = http::FrontEndMetrics {
            kafka: kafka.metrics(),
            rocketmq: rocketmq.as_ref().map(|(rocketmq, _)| rocketmq.metrics()),
        };
        let (config, broker) = (config.clone(), broker.clone());
        let listener = LimitedListener::new(listeners.http, limits.http);
        tokio::spawn(async move { http::serve(listener, &config, broker, metrics).await })
    };
    let shutdown = || {
        let mut stopped = stopped.clone();
        async move {
            // The sender lives as long as the node.
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    let mut serving = JoinSet::new();
    let (kafka_listener, kafka_shutdown) = (listeners.kafka, shutdown());
    serving.spawn(async move { kafka.serve(kafka_listener, kafka_shutdown).await });
    if let Some((rocketmq, listener)) = rocketmq {
        let shutdown = shutdown();
        serving.spawn(async move { rocketmq.serve(listener, shutdown).await });
    }
    let rocketmq_listen = config.listen.rocketmq.map(|address| address.to_string());
    tracing::info!(node_id = config.node_id, kafka = %config.listen.kafka, rocketmq = rocketmq_listen, http = %config.listen.http, grpc = %config.listen.grpc, "node started");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut fatal = broker.fatal();
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        reason = fatal.wait_for(Option::is_some) => {
            Err(anyhow::anyhow!(reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()))
        }
    };
    stop.send_replace(true);
    http.abort();
    if outcome.is_ok() {
        // Connections that do not end in time are cut.
        let _ = tokio::time::timeout(Duration::from_secs(5), serving.join_all()).await;
    }
    outcome
}

fn rocketmq_config(config: &NodeConfig, limits: ConnectionLimits) -> RocketmqConfig {
    let nodes = config.nodes.iter().filter(|node| node.rocketmq_port > 0);
    let node = |node: &Node| RocketmqNode { id: NodeId(node.id), host: node.host.clone(), port: node.rocketmq_port };
    let auth = &config.auth;
    RocketmqConfig {
        nodes: nodes.map(node).collect(),
        connections_max: limits.rocketmq,
        access: AccessConfig {
            authentication_enabled: auth.authentication_enabled,
            authorization_enabled: auth.authorization_enabled,
            signature_age_ms_max: auth.signature_max_age_ms,
            any_time_zone: auth.signature_any_time_zone,
            ..AccessConfig::default()
        },
        certificate: certificate(config),
        request_budget_bytes: config.memory.rocketmq_request_bytes,
        ..RocketmqConfig::default()
    }
}

fn certificate(config: &NodeConfig) -> Option<CertificateFiles> {
    let (chain, key) = (config.listen.rocketmq_certificate_path.clone(), config.listen.rocketmq_key_path.clone());
    chain.zip(key).map(|(chain, key)| CertificateFiles { chain, key })
}

fn first_user(config: &NodeConfig) -> Option<FirstUser> {
    let name = config.auth.init_user.clone();
    name.zip(config.auth.init_user_secret.clone()).map(|(name, secret)| FirstUser { name, secret })
}

fn settings(config: &NodeConfig) -> Settings {
    Settings {
        num_partitions: config.broker.num_partitions,
        auto_create_topics: config.broker.auto_create_topics_enable,
        retention_check_interval_ms: config.broker.retention_check_interval_ms,
        offsets_retention_ms: config.broker.offsets_retention_ms,
        offsets_retention_check_interval_ms: config.broker.offsets_retention_check_interval_ms,
        producer_id_expiration_ms: config.broker.producer_id_expiration_ms,
        producer_id_expiration_check_interval_ms: config.broker.producer_id_expiration_check_interval_ms,
        consumer_offset_interval_ms: config.broker.consumer_offset_interval_ms,
        renew_max_ms: config.broker.renew_max_ms,
        write_buffer_bytes: config.memory.write_buffer_bytes,
        block_cache_bytes: config.memory.block_cache_bytes,
        group_initial_rebalance_delay_ms: u32::try_from(config.broker.group_initial_rebalance_delay_ms)
            .unwrap_or(u32::MAX),
        broker_configs: broker_configs(config),
        first_user: first_user(config),
    }
}

/// The node's configs as Kafka names them. None of them can be changed while the node runs.
fn broker_configs(config: &NodeConfig) -> Vec<BrokerConfigValue> {
    const MS_PER_MINUTE: u64 = 60_000;
    let (broker, default) = (&config.broker, crate::config::Broker::default());
    let segment_bytes = crate::config::Log::default().segment_size_bytes;
    let nodes = config.nodes.len().to_string();
    let set = |name, value: u64, default: u64| value_of(name, value.to_string(), Some(default.to_string()));
    let fixed = |name, value: &str| value_of(name, value.to_owned(), Some(value.to_owned()));
    let own = config.nodes.iter().find(|node| node.id == config.node_id);
    let advertised = own.map(|own| format!("PLAINTEXT://{}:{}", own.host, own.kafka_port)).unwrap_or_default();
    let auto_create = (broker.auto_create_topics_enable, default.auto_create_topics_enable);
    vec![
        value_of("advertised.listeners", advertised, None),
        value_of("broker.id", config.node_id.to_string(), None),
        value_of("auto.create.topics.enable", auto_create.0.to_string(), Some(auto_create.1.to_string())),
        fixed("default.replication.factor", &nodes),
        set(
            "group.initial.rebalance.delay.ms",
            broker.group_initial_rebalance_delay_ms,
            default.group_initial_rebalance_delay_ms,
        ),
        value_of("listeners", format!("PLAINTEXT://{}", config.listen.kafka), None),
        value_of("log.dirs", config.data_dir.display().to_string(), None),
        set("log.retention.check.interval.ms", broker.retention_check_interval_ms, default.retention_check_interval_ms),
        fixed("log.retention.ms", "604800000"),
        set("log.segment.bytes", config.log.segment_size_bytes, segment_bytes),
        fixed("max.incremental.fetch.session.cache.slots", &KafkaConfig::default().fetch_sessions_max.to_string()),
        fixed("message.max.bytes", "1048588"),
        fixed("min.insync.replicas", "2"),
        set("num.partitions", u64::from(broker.num_partitions), u64::from(default.num_partitions)),
        set(
            "offsets.retention.check.interval.ms",
            broker.offsets_retention_check_interval_ms,
            default.offsets_retention_check_interval_ms,
        ),
        set(
            "offsets.retention.minutes",
            broker.offsets_retention_ms.div_ceil(MS_PER_MINUTE),
            default.offsets_retention_ms / MS_PER_MINUTE,
        ),
        set(
            "producer.id.expiration.check.interval.ms",
            broker.producer_id_expiration_check_interval_ms,
            default.producer_id_expiration_check_interval_ms,
        ),
        set("producer.id.expiration.ms", broker.producer_id_expiration_ms, default.producer_id_expiration_ms),
    ]
}

fn value_of(name: &'static str, value: String, default: Option<String>) -> BrokerConfigValue {
    BrokerConfigValue { name, value, default }
}

pub fn cluster_options(config: &NodeConfig) -> ClusterOptions {
    let groups = usize::try_from(config.broker_groups).unwrap_or(1).max(1);
    let log = LogOptions {
        segment_size_bytes: config.log.segment_size_bytes,
        flush_bytes: config.log.flush_bytes,
        // openraft answers only after a flush, and the leader's lease must not lapse.
        flush_delay_ms_max: u32::try_from(config.raft.election_timeout_min_ms / 4).unwrap_or(u32::MAX),
        tail_cache_bytes: config.memory.log_tail_bytes / groups,
        allocation_step_bytes: config.log.segment_size_bytes.min(64 << 20),
        ..LogOptions::default()
    };
    ClusterOptions {
        cluster_name: config.cluster_name.clone(),
        node_id: NodeId(config.node_id),
        data_dir: config.data_dir.clone(),
        broker_groups: config.broker_groups,
        boot_id_path: config.boot_id_path.clone(),
        grpc_listen: config.listen.grpc,
        nodes: config
            .nodes
            .iter()
            .map(|node| NodeAddress {
                id: NodeId(node.id),
                host: node.host.clone(),
                grpc_port: node.grpc_port,
                kafka_port: node.kafka_port,
                rocketmq_port: node.rocketmq_port,
                http_port: node.http_port,
            })
            .collect(),
        log,
        disk: testing::disk(&config.testing),
        disk_free_bytes_min: config.log.disk_free_bytes_min,
        scrub: ScrubOptions {
            bytes_per_second: config.log.scrub_bytes_per_second,
            interval_ms: config.log.scrub_interval_ms,
        },
        times: RaftTimes {
            heartbeat_interval_ms: config.raft.heartbeat_interval_ms,
            election_timeout_min_ms: config.raft.election_timeout_min_ms,
            election_timeout_max_ms: config.raft.election_timeout_max_ms,
        },
        drop_received_marks: config.testing.drop_received_marks,
    }
}
