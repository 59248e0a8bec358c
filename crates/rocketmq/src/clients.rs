//! The clients that are connected to this node: what they are, when they were last heard of, and how to tell them something.
//!
//! Deliberately absent: clients of other nodes. A client connects to every node that leads a queue of its topics.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use duolog_record::group::GroupId;
use parking_lot::Mutex;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::errors::Refusal;
use crate::proto::settings::PubSub;
use crate::proto::{ClientType, Code, Settings, TelemetryCommand};

/// What is sent over a client's telemetry stream.
pub(crate) type Commands = Sender<Result<TelemetryCommand, tonic::Status>>;

/// Topics of one producer that are remembered.
const TOPICS_MAX: usize = 10_000;

/// The registry.
pub(crate) struct Clients {
    known: Mutex<HashMap<String, Client>>,
    clients_max: usize,
    expiration: Duration,
}

/// What a client's settings say that it does; its rights were checked for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It has told nothing yet.
    Unknown,
    Publishes,
    Subscribes,
}

/// A telemetry stream.
struct Stream {
    number: u64,
    /// Who has opened it.
    caller: Arc<Caller>,
    commands: Commands,
}

struct Client {
    seen: Instant,
    kind: ClientType,
    role: Role,
    /// What a producer publishes to, or a consumer subscribes to.
    topics: HashSet<String>,
    /// What a consumer has told, if it did.
    attempts_max: Option<u32>,
    /// The group of a consumer, and the topics that it subscribes to.
    group: Option<GroupId>,
    /// Telemetry streams, the newest last: a client has one for each address that it knows this node by.
    streams: Vec<Stream>,
    next_stream: u64,
}

impl Client {
    fn new() -> Self {
        Self {
            seen: Instant::now(),
            kind: ClientType::Unspecified,
            role: Role::Unknown,
            topics: HashSet::new(),
            attempts_max: None,
            group: None,
            streams: Vec::new(),
            next_stream: 0,
        }
    }

    fn is_producer_of(&self, topic: &str) -> bool {
        self.role == Role::Publishes && self.topics.contains(topic)
    }

    fn plays(&mut self, role: Role) {
        // What it subscribes to is told anew each time, and is never what it publishes to.
        if [self.role, role].contains(&Role::Subscribes) {
            self.topics.clear();
        }
        self.role = role;
    }

    fn add(&mut self, topic: String) {
        if self.topics.len() < TOPICS_MAX {
            self.topics.insert(topic);
        }
    }
}

impl Clients {
    pub(crate) fn new(clients_max: usize, expiration: Duration) -> Self {
        Self { known: Mutex::default(), clients_max, expiration }
    }

    /// A client was heard of.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn heard(&self, id: &str, kind: ClientType) -> Result<(), Refusal> {
        self.change(id, |client| {
            if kind != ClientType::Unspecified {
                client.kind = kind;
            }
        })
    }

    /// A client has described itself; `topics` are those that it publishes or subscribes to, as its settings say.
    ///
    /// # Errors
    /// As [`Clients::heard`].
    pub(crate) fn described(
        &self,
        id: &str,
        settings: &Settings,
        topics: Vec<String>,
        group: Option<GroupId>,
    ) -> Result<(), Refusal> {
        self.change(id, |client| {
            client.kind = settings.client_type();
            match settings.pub_sub {
                Some(PubSub::Publishing(_)) => client.plays(Role::Publishes),
                Some(PubSub::Subscription(_)) => client.plays(Role::Subscribes),
                None => {}
            }
            client.group = group;
            topics.into_iter().for_each(|topic| client.add(topic));
            if let Some(PubSub::Subscription(_)) = settings.pub_sub {
                let told = settings.backoff_policy.as_ref().and_then(|policy| u32::try_from(policy.max_attempts).ok());
                client.attempts_max = told.filter(|attempts| *attempts > 0);
            }
        })
    }

    /// A client has a telemetry stream. Gives the stream's number.
    ///
    /// # Errors
    /// As [`Clients::heard`].
    pub(crate) fn attach(&self, caller: &Arc<Caller>, commands: Commands) -> Result<u64, Refusal> {
        self.change(&caller.client_id, |client| {
            client.next_stream += 1;
            let number = client.next_stream;
            client.streams.push(Stream { number, caller: caller.clone(), commands });
            number
        })
    }

    /// A telemetry stream has ended.
    pub(crate) fn detach(&self, id: &str, stream: u64) {
        if let Some(client) = self.known.lock().get_mut(id) {
            client.streams.retain(|open| open.number != stream);
            client.seen = Instant::now();
        }
    }

    /// A producer that is known sends transactional messages to a topic.
    pub(crate) fn publishes(&self, id: &str, topic: &str) {
        if let Some(client) = self.known.lock().get_mut(id)
            && client.role != Role::Subscribes
            && !client.topics.contains(topic)
        {
            client.add(topic.to_owned());
        }
    }

    /// A client ends.
    pub(crate) fn remove(&self, id: &str) {
        self.known.lock().remove(id);
    }

    /// How often a message is delivered to a consumer at most, if it has told.
    pub(crate) fn attempts_max(&self, id: &str) -> Option<u32> {
        self.known.lock().get(id)?.attempts_max
    }

    /// Whether a client is known to receive without an assignment of queues.
    pub(crate) fn is_simple_consumer(&self, id: &str) -> bool {
        self.kind(id) == Some(ClientType::SimpleConsumer)
    }

    /// Whether a client is known to ask each node by itself, as its assignment says.
    pub(crate) fn is_push_consumer(&self, id: &str) -> bool {
        self.kind(id) == Some(ClientType::PushConsumer)
    }

    fn kind(&self, id: &str) -> Option<ClientType> {
        self.known.lock().get(id).map(|client| client.kind)
    }

    /// The consumers of a group that subscribe to a topic and are connected, in order; the caller counts in any case.
    pub(crate) fn consumers(&self, group: &GroupId, topic: &str, caller: &str) -> Vec<String> {
        let known = self.known.lock();
        let is_one = |client: &Client| {
            client.group.as_ref() == Some(group) && client.topics.contains(topic) && !client.streams.is_empty()
        };
        let others = known.iter().filter(|(_, client)| is_one(client)).map(|(id, _)| id.clone());
        let consumers: BTreeSet<String> = others.chain([caller.to_owned()]).collect();
        consumers.into_iter().collect()
    }

    /// The address that a client's newest telemetry stream comes from.
    pub(crate) fn host(&self, id: &str) -> Option<String> {
        self.known.lock().get(id)?.streams.last().map(|stream| stream.caller.host.clone())
    }

    /// Whether there is a producer of a topic that could be asked how a transaction ends. `may` says whether who opened a stream may know.
    pub(crate) fn has_producer(&self, topic: &str, may: impl Fn(&Caller) -> bool) -> bool {
        let mut streams = self.streams_of_producers(topic, 0).into_iter();
        streams.any(|(caller, commands)| !commands.is_closed() && may(&caller))
    }

    /// Sends a command to one of the producers of a topic, to another one in each turn. Whether there was one that took it. `may` as for
    /// [`Clients::has_producer`].
    pub(crate) fn ask_producer(
        &self,
        topic: &str,
        turn: u32,
        command: &TelemetryCommand,
        may: impl Fn(&Caller) -> bool,
    ) -> bool {
        let mut streams = self.streams_of_producers(topic, turn).into_iter();
        streams.any(|(caller, commands)| may(&caller) && commands.try_send(Ok(command.clone())).is_ok())
    }

    /// The streams of a topic's producers, beginning with another producer in each turn, and of each producer with the newest. They are copies:
    /// rights take their time and are looked at without the lock, for which every call waits.
    fn streams_of_producers(&self, topic: &str, turn: u32) -> Vec<(Arc<Caller>, Commands)> {
        let known = self.known.lock();
        let mut producers: Vec<(&String, &Client)> =
            known.iter().filter(|(_, client)| client.is_producer_of(topic)).collect();
        producers.sort_by_key(|(id, _)| *id);
        let first = (turn as usize).checked_rem(producers.len()).unwrap_or(0);
        producers.rotate_left(first);
        let streams = producers.iter().flat_map(|(_, client)| client.streams.iter().rev());
        streams.map(|stream| (stream.caller.clone(), stream.commands.clone())).collect()
    }

    /// Forgets who has been silent for too long. A client with an open stream is not silent.
    pub(crate) fn expire(&self) {
        self.known.lock().retain(|_, client| {
            client.streams.retain(|stream| !stream.commands.is_closed());
            !client.streams.is_empty() || client.seen.elapsed() < self.expiration
        });
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().len()
    }

    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Client) -> T) -> Result<T, Refusal> {
        let mut known = self.known.lock();
        if !known.contains_key(id) && known.len() >= self.clients_max {
            let sentence = format!("this node knows {} clients, which is its limit", known.len());
            return Err(Refusal::new(Code::TooManyRequests, sentence));
        }
        let client = known.entry(id.to_owned()).or_insert_with(Client::new);
        client.seen = Instant::now();
        Ok(change(client))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tonic::metadata::MetadataMap;

    use super::*;
    use crate::proto::{Publishing, RetryPolicy, Subscription};

    fn clients() -> Clients {
        Clients::new(3, Duration::from_secs(120))
    }

    fn caller(id: &str) -> Arc<Caller> {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-mq-client-id", id.parse().unwrap());
        Arc::new(Caller::of(metadata))
    }

    fn anybody(_: &Caller) -> bool {
        true
    }

    fn producer() -> Settings {
        let pub_sub = Some(PubSub::Publishing(Publishing::default()));
        let mut settings = Settings { pub_sub, ..Settings::default() };
        settings.set_client_type(ClientType::Producer);
        settings
    }

    #[test]
    fn a_producer_of_the_topic_is_asked_in_turn() {
        let clients = clients();
        let command = TelemetryCommand::default();
        assert!(!clients.ask_producer("t", 0, &command, anybody));
        let mut asked = Vec::new();
        for id in ["a", "b"] {
            let (sender, receiver) = mpsc::channel(4);
            clients.described(id, &producer(), vec!["t".to_owned()], None).unwrap();
            clients.attach(&caller(id), sender).unwrap();
            asked.push(receiver);
        }
        assert!(clients.has_producer("t", anybody) && !clients.has_producer("other", anybody));
        assert!(clients.ask_producer("t", 0, &command, anybody) && clients.ask_producer("t", 1, &command, anybody));
        assert!(!clients.ask_producer("other", 0, &command, anybody));
        assert!(asked.iter_mut().all(|receiver| receiver.try_recv().is_ok() && receiver.try_recv().is_err()));
        drop(asked.remove(0));
        assert!(clients.ask_producer("t", 0, &command, anybody), "the other one is there");
        clients.remove("b");
        assert!(!clients.ask_producer("t", 0, &command, anybody));
    }

    #[test]
    fn a_stream_that_ended_leaves_the_older_one() {
        let clients = clients();
        let (older, mut received) = mpsc::channel(4);
        let (newer, _gone) = mpsc::channel(4);
        clients.described("a", &producer(), vec!["t".to_owned()], None).unwrap();
        clients.attach(&caller("a"), older).unwrap();
        let newer = clients.attach(&caller("a"), newer).unwrap();
        clients.detach("a", newer);
        assert!(clients.ask_producer("t", 0, &TelemetryCommand::default(), anybody));
        assert!(received.try_recv().is_ok());
    }

    #[test]
    fn only_who_publishes_and_may_is_asked() {
        let clients = clients();
        let subscription =
            Settings { pub_sub: Some(PubSub::Subscription(Subscription::default())), ..Settings::default() };
        let (sender, mut received) = mpsc::channel(4);
        clients.attach(&caller("a"), sender).unwrap();
        let ask = |may: &dyn Fn(&Caller) -> bool| {
            let asked = clients.ask_producer("t", 0, &TelemetryCommand::default(), may);
            assert_eq!(clients.has_producer("t", may), asked);
            asked
        };
        clients.publishes("a", "t");
        assert!(!ask(&anybody), "its settings are not known yet");
        // Without a group.
        clients.described("a", &subscription, vec!["t".to_owned()], None).unwrap();
        clients.publishes("a", "t");
        assert!(!ask(&anybody), "it subscribes");
        clients.described("a", &producer(), vec!["other".to_owned()], None).unwrap();
        assert!(!ask(&anybody), "it has subscribed once, but publishes to another topic");
        clients.publishes("a", "t");
        assert!(!ask(&|caller| caller.client_id != "a"));
        assert!(received.try_recv().is_err());
        assert!(ask(&anybody) && received.try_recv().is_ok());
    }

    #[test]
    fn rights_are_checked_without_the_lock() {
        let clients = clients();
        let (sender, mut received) = mpsc::channel(4);
        clients.described("a", &producer(), vec!["t".to_owned()], None).unwrap();
        clients.attach(&caller("a"), sender).unwrap();
        let is_free = |_: &Caller| clients.known.try_lock().is_some();
        assert!(clients.has_producer("t", is_free));
        assert!(clients.ask_producer("t", 0, &TelemetryCommand::default(), is_free) && received.try_recv().is_ok());
    }

    #[test]
    fn a_consumer_may_say_how_often_it_wants_a_message() {
        let clients = clients();
        assert_eq!(clients.attempts_max("c"), None);
        let mut settings = Settings {
            pub_sub: Some(PubSub::Subscription(Subscription::default())),
            backoff_policy: Some(RetryPolicy { max_attempts: 5, strategy: None }),
            ..Settings::default()
        };
        settings.set_client_type(ClientType::SimpleConsumer);
        let group = GroupId("g".to_owned());
        clients.described("c", &settings, vec!["t".to_owned()], Some(group.clone())).unwrap();
        assert_eq!(clients.consumers(&group, "t", "b"), ["b"], "c has no stream");
        let (sender, _receiver) = mpsc::channel(1);
        clients.attach(&caller("c"), sender).unwrap();
        assert_eq!(clients.consumers(&group, "t", "b"), ["b", "c"]);
        assert_eq!(clients.consumers(&group, "other", "b"), ["b"]);
        assert!(
            !clients.has_producer("t", anybody) && !clients.ask_producer("t", 0, &TelemetryCommand::default(), anybody)
        );
        assert_eq!(clients.attempts_max("c"), Some(5));
        assert!(clients.is_simple_consumer("c") && !clients.is_simple_consumer("d"));
        clients.heard("p", ClientType::PushConsumer).unwrap();
        assert!(clients.is_push_consumer("p") && !clients.is_push_consumer("c"));
    }

    #[test]
    fn there_is_a_limit_and_silence_ends_it() {
        let clients = Clients::new(2, Duration::ZERO);
        let (sender, receiver) = mpsc::channel(1);
        clients.attach(&caller("a"), sender).unwrap();
        clients.heard("b", ClientType::Producer).unwrap();
        assert_eq!(clients.heard("c", ClientType::Producer).unwrap_err().code(), Code::TooManyRequests);
        clients.heard("a", ClientType::Producer).unwrap();
        clients.expire();
        assert_eq!(clients.count(), 1, "the one with a stream stays");
        drop(receiver);
        clients.expire();
        assert_eq!(clients.count(), 0);
    }
}
