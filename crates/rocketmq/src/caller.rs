//! Who makes a call, as its metadata says.

use std::time::Duration;

use duolog_broker::message_api::ConnectionId;
use tokio::time::Instant;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};

use crate::errors::Refusal;
use crate::proto::Code;
use crate::signature::{DATE_TIME, Signature};
use crate::stream::Peer;

/// Names the client; every call has it.
const CLIENT_ID: &str = "x-mq-client-id";
/// What a client has told of itself begins with this.
const CLIENT_PREFIX: &str = "x-mq-";
const AUTHORIZATION: &str = "authorization";
const TIMEOUT: &str = "grpc-timeout";
/// Set on calls that come from another node: they are not sent any further.
pub(crate) const FORWARDED: &str = "x-duolog-forwarded";
/// An answer must leave this much before the client's deadline.
const MARGIN: Duration = Duration::from_millis(100);

/// A client, and how long it waits.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Its name: with users that of the user and of the client, so that no user can pass for the clients of another.
    pub(crate) client_id: String,
    /// The IP address that the call came from: the client's, or that of the node that has sent it on.
    pub(crate) host: String,
    /// Whether another node has sent the call here.
    pub(crate) is_forwarded: bool,
    /// The connection that the call came over.
    pub(crate) connection: Option<ConnectionId>,
    /// When the client gives up, if it said so.
    deadline: Option<Instant>,
    /// All that came with the call.
    metadata: MetadataMap,
}

impl Caller {
    pub(crate) fn of(metadata: MetadataMap) -> Self {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        Self {
            client_id: text(CLIENT_ID).unwrap_or_default().to_owned(),
            host: String::new(),
            is_forwarded: metadata.contains_key(FORWARDED),
            connection: None,
            deadline: text(TIMEOUT).and_then(timeout).and_then(|timeout| Instant::now().checked_add(timeout)),
            metadata,
        }
    }

    /// Who makes this call, and what it asks for. `has_users` says that calls are signed.
    pub(crate) fn of_call<R>(request: tonic::Request<R>, has_users: bool) -> (Self, R) {
        let (metadata, extensions, asked) = request.into_parts();
        let peer = extensions.get::<Peer>();
        let mut caller = Self::of(metadata);
        caller.host = peer.map(|peer| peer.address.ip().to_canonical().to_string()).unwrap_or_default();
        caller.connection = peer.map(|peer| peer.connection);
        if has_users && !caller.client_id.is_empty() {
            let signature = caller.authorization().and_then(|text| Signature::parse(text).ok());
            // A user's name has no slash.
            let name = signature.map(|signature| format!("{}/{}", signature.access_key, caller.client_id));
            caller.client_id = name.unwrap_or(caller.client_id);
        }
        (caller, asked)
    }

    /// What the client proves itself with, not checked yet.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.text(AUTHORIZATION)
    }

    /// The text that it has signed.
    pub(crate) fn date_time(&self) -> Option<&str> {
        self.text(DATE_TIME)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }

    /// Refuses a client that does not say who it is.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if !self.client_id.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(Code::ClientIdRequired, format!("the call has no metadata {CLIENT_ID}")))
    }

    /// The end of what may be waited for: in `wait`, or before the client gives up.
    pub(crate) fn deadline(&self, wait: Duration) -> Instant {
        let ours = Instant::now() + wait;
        self.deadline.and_then(|theirs| theirs.checked_sub(MARGIN)).map_or(ours, |theirs| theirs.min(ours))
    }

    /// The same client, whether it waits or not.
    pub(crate) fn patient(&self) -> Self {
        Self { deadline: None, ..self.clone() }
    }

    /// The metadata of the same call to another node.
    pub(crate) fn forwarded(&self) -> MetadataMap {
        let mut metadata = own_words(&self.metadata);
        metadata.insert(FORWARDED, MetadataValue::from_static("1"));
        metadata
    }
}

/// What the client itself has said.
fn own_words(metadata: &MetadataMap) -> MetadataMap {
    let mut own = MetadataMap::new();
    for entry in metadata.iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry
            && (key.as_str().starts_with(CLIENT_PREFIX) || key.as_str() == AUTHORIZATION)
        {
            own.append(key, value.clone());
        }
    }
    own
}

/// gRPC's way to write a time-out: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_clients_when_it_is_earlier() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMEOUT, "2S".parse().unwrap());
        let caller = Caller::of(metadata);
        let now = Instant::now();
        assert!(caller.deadline(Duration::from_secs(9)) < now + Duration::from_secs(2));
        assert!(caller.deadline(Duration::from_secs(1)) > now + Duration::from_millis(900));
        for (text, expected) in [("1H", Some(3_600_000)), ("250m", Some(250)), ("x", None), ("", None), ("9é", None)] {
            assert_eq!(timeout(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn another_node_gets_what_the_client_said_and_a_mark() {
        let mut metadata = MetadataMap::new();
        for (key, value) in [("x-mq-client-id", "c@1"), ("x-mq-language", "JAVA"), ("grpc-timeout", "3S")] {
            metadata.insert(key, value.parse().unwrap());
        }
        let caller = Caller::of(metadata);
        assert_eq!((caller.client_id.as_str(), caller.is_forwarded, caller.check()), ("c@1", false, Ok(())));
        assert_eq!(Caller::of(MetadataMap::new()).check().unwrap_err().code(), Code::ClientIdRequired);
        let forwarded = caller.forwarded();
        assert_eq!(forwarded.get("x-mq-language").unwrap(), "JAVA");
        assert!(!forwarded.contains_key("grpc-timeout"));
        assert!(Caller::of(forwarded).is_forwarded);
    }
}
