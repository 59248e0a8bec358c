//! HTTP for people and machines: `/health`, `/live`, `/metrics`, `/durability`, `/transactions`, `/users`, `/debug/state-hash`.

mod transactions;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use duolog_broker::api::{BrokerApi, NodeView};
use duolog_broker::{Broker, Exposure, TopicDurability};
use duolog_cli::report::{self, NodeHttp, NodeReport, TopicReport};
use duolog_kafka::KafkaMetrics;
use duolog_rocketmq::RocketmqMetrics;

use crate::config::NodeConfig;
use crate::http_listener::LimitedListener;

#[derive(Clone)]
struct Parts {
    broker: Broker,
    front_ends: FrontEndMetrics,
    node_id: u64,
    configured: Arc<Vec<NodeHttp>>,
}

impl Parts {
    /// Where the members of the cluster serve HTTP: as they joined with, or as this node's config says.
    fn nodes(&self) -> Vec<NodeHttp> {
        let configured = |id: u64| self.configured.iter().find(|node| node.node_id == id).cloned();
        let members = self.broker.cluster().nodes.into_iter();
        let nodes = members.filter_map(|NodeView { id, host, http_port, .. }| match http_port {
            0 => configured(id.0),
            port => Some(NodeHttp { node_id: id.0, http: format!("{host}:{port}") }),
        });
        nodes.collect()
    }
}

/// Counters of the front ends that the node has.
#[derive(Clone)]
pub struct FrontEndMetrics {
    pub kafka: Arc<KafkaMetrics>,
    pub rocketmq: Option<Arc<RocketmqMetrics>>,
}

/// Serves until it is aborted.
pub async fn serve(listener: LimitedListener, config: &NodeConfig, broker: Broker, front_ends: FrontEndMetrics) {
    let known = config.nodes.iter().filter(|node| node.http_port > 0);
    let nodes = known.map(|node| NodeHttp { node_id: node.id, http: format!("{}:{}", node.host, node.http_port) });
    let (node_id, configured) = (config.node_id, Arc::new(nodes.collect()));
    let router = Router::new()
        .route("/health", get(health))
        .route("/live", get(live))
        .route("/metrics", get(metrics))
        .route("/durability", get(durability))
        .route("/transactions", get(transactions::list))
        .route("/transactions/{id}", get(transactions::describe))
        .route("/transactions/{id}/commit", post(transactions::commit))
        .route("/transactions/{id}/rollback", post(transactions::rollback))
        .route("/users", get(users::list))
        .route("/users/{name}/create", post(users::create))
        .route("/users/{name}/alter", post(users::alter))
        .route("/users/{name}/delete", post(users::delete))
        .route("/debug/state-hash", get(state_hash))
        .with_state(Parts { broker, front_ends, node_id, configured });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP server has ended");
    }
}

/// Whether clients are served: for a load balancer, or an orchestrator's readiness probe.
async fn health(State(parts): State<Parts>) -> (StatusCode, String) {
    match parts.broker.unready() {
        reasons if reasons.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

/// Whether the process answers: an orchestrator must not end a node because others are down.
async fn live() -> &'static str {
    "alive\n"
}

async fn metrics(State(parts): State<Parts>) -> (StatusCode, String) {
    let render = move || {
        let rocketmq = parts.front_ends.rocketmq.map(|metrics| metrics.render()).unwrap_or_default();
        parts.broker.render_metrics() + &parts.front_ends.kafka.render() + &rocketmq
    };
    // Clients' tasks must not wait for the disk.
    match tokio::task::spawn_blocking(render).await {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// JSON for `duolog durability`.
async fn durability(State(parts): State<Parts>) -> String {
    let topics = parts.broker.topic_durability().into_iter().map(topic_report).collect();
    let report = NodeReport { node_id: parts.node_id, nodes: parts.nodes(), topics };
    serde_json::to_string(&report).expect("a report is plain data")
}

fn topic_report(topic: TopicDurability) -> TopicReport {
    let exposure = |Exposure { records, bytes, age_ms }| report::Exposure { records, bytes, age_ms };
    TopicReport {
        topic: topic.topic,
        durability: topic.durability.to_string(),
        flush_ms: topic.flush_ms,
        replicas: topic.replicas,
        partitions: topic.partitions,
        partitions_led: topic.led.partitions,
        leader_loss: exposure(topic.led.leader_loss),
        power_loss: exposure(topic.led.power_loss),
    }
}

async fn state_hash(State(parts): State<Parts>) -> (StatusCode, String) {
    match tokio::task::spawn_blocking(move || parts.broker.state_hashes()).await {
        Ok(Ok(hashes)) => {
            let groups: serde_json::Map<String, serde_json::Value> = hashes
                .into_iter()
                .map(|(group, applied, hash)| {
                    (group.to_string(), serde_json::json!({"applied": applied, "hash": format!("{hash:016x}")}))
                })
                .collect();
            (StatusCode::OK, serde_json::json!({ "groups": groups }).to_string())
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
