//! Half messages for `duolog transaction`: those of the partitions that this node leads.

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use duolog_broker::message_api::{HiddenHandle, MessageApi, Resolution};
use duolog_broker::{BrokerError, Transaction, TransactionState};
use duolog_cli::transaction_report::{State as Fate, TransactionDetails, TransactionReport, TransactionRow};
use duolog_rocketmq::{parts_of, read_transaction_id, transaction_id};

use super::Parts;

/// Half messages in one answer, at most.
const LIMIT_MAX: usize = 10_000;

type Refused = (StatusCode, String);

pub(super) async fn list(State(parts): State<Parts>, RawQuery(query): RawQuery) -> Result<String, Refused> {
    let query = query.unwrap_or_default();
    let find = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    // Of what must be escaped only this is in names of topics.
    let topic = find("topic").map(|topic| topic.replace("%25", "%"));
    let limit = match find("limit").map(str::parse::<usize>) {
        Some(Ok(limit)) => limit.min(LIMIT_MAX),
        Some(Err(_)) => return Err((StatusCode::BAD_REQUEST, "limit: expected a number\n".to_owned())),
        None => LIMIT_MAX,
    };
    let found = parts.broker.transactions(topic.as_deref(), limit).map_err(refused)?;
    let transactions = found.iter().map(row).collect();
    Ok(json(&TransactionReport { node_id: parts.node_id, nodes: parts.nodes(), transactions }))
}

pub(super) async fn describe(State(parts): State<Parts>, Path(id): Path<String>) -> Result<String, Refused> {
    let found = parts.broker.transaction(handle(&id)?).map_err(refused)?.ok_or_else(|| unknown(&id))?;
    let value = found.record.value.as_deref().unwrap_or_default();
    let said = parts_of(&found.record, found.handle.partition, false);
    Ok(json(&TransactionDetails {
        transaction: row(&found),
        keys: said.keys,
        tag: said.tag,
        born_host: said.born_host,
        properties: said.properties,
        body_bytes: value.len(),
        body: std::str::from_utf8(value).ok().map(str::to_owned),
    }))
}

pub(super) async fn commit(State(parts): State<Parts>, Path(id): Path<String>) -> Result<&'static str, Refused> {
    end(&parts, &id, Resolution::Commit).await
}

pub(super) async fn rollback(State(parts): State<Parts>, Path(id): Path<String>) -> Result<&'static str, Refused> {
    end(&parts, &id, Resolution::Rollback).await
}

async fn end(parts: &Parts, id: &str, resolution: Resolution) -> Result<&'static str, Refused> {
    parts.broker.end_transaction(handle(id)?, resolution).await.map_err(refused)?;
    tracing::info!(transaction = id, ?resolution, "an operator has ended a transaction");
    Ok("done\n")
}

fn json(report: &impl serde::Serialize) -> String {
    serde_json::to_string(report).expect("a report is plain data")
}

fn row(transaction: &Transaction) -> TransactionRow {
    let said = parts_of(&transaction.record, transaction.handle.partition, false);
    TransactionRow {
        id: transaction_id(&transaction.handle, &said.message_id),
        topic: transaction.topic.clone(),
        partition: transaction.handle.partition.partition,
        message_id: said.message_id,
        born_ms: said.born_ms,
        state: match transaction.state {
            TransactionState::Open { checks, next_check } => Fate::Open { checks, next_check_ms: next_check.0 },
            TransactionState::GivenUp { kept_until } => Fate::GivenUp { kept_until_ms: kept_until.0 },
            TransactionState::RolledBack { kept_until } => Fate::RolledBack { kept_until_ms: kept_until.0 },
        },
    }
}

fn handle(id: &str) -> Result<HiddenHandle, Refused> {
    read_transaction_id(id).ok_or_else(|| (StatusCode::BAD_REQUEST, format!("{id:?} is no id of a transaction\n")))
}

fn unknown(id: &str) -> Refused {
    (StatusCode::NOT_FOUND, format!("transaction {id} is committed, or was never there, or is forgotten\n"))
}

fn refused(error: BrokerError) -> Refused {
    let status = match &error {
        BrokerError::NotLeader { .. } => StatusCode::MISDIRECTED_REQUEST,
        BrokerError::LeaderNotAvailable | BrokerError::RequestTimedOut(_) => StatusCode::SERVICE_UNAVAILABLE,
        BrokerError::UnknownTopic(_) => StatusCode::NOT_FOUND,
        BrokerError::InvalidReceipt(_) => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n"))
}
