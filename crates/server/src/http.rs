//! HTTP for people and machines: `/health`, `/metrics`, `/debug/state-hash`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use duolog_broker::Broker;
use duolog_kafka::KafkaMetrics;
use tokio::net::TcpListener;

#[derive(Clone)]
struct Parts {
    broker: Broker,
    kafka: Arc<KafkaMetrics>,
}

/// Serves until it is aborted.
pub async fn serve(listener: TcpListener, broker: Broker, kafka: Arc<KafkaMetrics>) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/debug/state-hash", get(state_hash))
        .with_state(Parts { broker, kafka });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP server has ended");
    }
}

async fn health(State(parts): State<Parts>) -> (StatusCode, &'static str) {
    if parts.broker.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for every broker group to have a leader\n")
    }
}

async fn metrics(State(parts): State<Parts>) -> String {
    parts.broker.render_metrics() + &parts.kafka.render()
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
