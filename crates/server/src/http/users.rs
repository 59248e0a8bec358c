//! Users for operators. Every node takes every call; no answer and no log line has a secret.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use duolog_broker::api::AccessApi;
use duolog_broker::{BrokerError, UserEdit, UserError};
use duolog_cli::user_report::{UserChange, UserReport, UserRow};
use duolog_types::{Acl, AclFilter, User};

use super::Parts;

type Refused = (StatusCode, String);

pub(super) async fn list(State(parts): State<Parts>) -> String {
    let row = |(name, user): (String, User)| {
        let filter = AclFilter { principal: Some(Acl::principal_of(&name)), ..AclFilter::default() };
        let acls = parts.broker.acls(&filter).len();
        UserRow { name, user_type: user.user_type, status: user.status, acls }
    };
    let users = parts.broker.users().into_iter().map(row).collect();
    let report = UserReport { node_id: parts.node_id, nodes: parts.nodes(), users };
    serde_json::to_string(&report).expect("a report is plain data")
}

pub(super) async fn create(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    body: String,
) -> Result<&'static str, Refused> {
    let change = read(&body)?;
    let secret = change.secret.ok_or_else(|| (StatusCode::BAD_REQUEST, "a new user needs a secret\n".to_owned()))?;
    let user =
        User { secret, user_type: change.user_type.unwrap_or_default(), status: change.status.unwrap_or_default() };
    let user_type = user.user_type;
    parts.broker.create_user(&name, user).await.map_err(refused)?;
    tracing::info!(user = name, ?user_type, "an operator has created a user");
    Ok("done\n")
}

pub(super) async fn alter(
    State(parts): State<Parts>,
    Path(name): Path<String>,
    body: String,
) -> Result<&'static str, Refused> {
    let UserChange { secret, user_type, status } = read(&body)?;
    let has_new_secret = secret.is_some();
    parts.broker.alter_user(&name, UserEdit { secret, user_type, status }).await.map_err(refused)?;
    tracing::info!(user = name, ?user_type, ?status, has_new_secret, "an operator has altered a user");
    Ok("done\n")
}

pub(super) async fn delete(State(parts): State<Parts>, Path(name): Path<String>) -> Result<&'static str, Refused> {
    parts.broker.delete_user(&name).await.map_err(refused)?;
    tracing::info!(user = name, "an operator has deleted a user");
    Ok("done\n")
}

/// What is wrong is named by its place alone: the text may hold a secret.
fn read(body: &str) -> Result<UserChange, Refused> {
    serde_json::from_str(body).map_err(|error| {
        let place = format!("the body is not as expected at column {}\n", error.column());
        (StatusCode::BAD_REQUEST, place)
    })
}

fn refused(error: UserError) -> Refused {
    let status = match &error {
        UserError::Unknown(_) => StatusCode::NOT_FOUND,
        UserError::Exists(_) => StatusCode::CONFLICT,
        UserError::Invalid(_) => StatusCode::BAD_REQUEST,
        UserError::Broker(BrokerError::LeaderNotAvailable | BrokerError::RequestTimedOut(_)) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        UserError::Broker(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n"))
}
