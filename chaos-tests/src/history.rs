//! What happened in one run: the topics, and a list of events with their times.
//!
//! All times are milliseconds since the run's start, on one monotonic clock. An event is recorded by the side that can
//! know it: an acknowledgement when the client's delivery report arrives, a fault just before the signal is sent.
//! Deliberately absent: any judgement. [`crate::check`] judges.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

pub mod messages;

use messages::{MessageEvent, MessageTopic};

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub run: Run,
    /// Indexed by [`Place::topic`].
    pub topics: Vec<Topic>,
    /// Indexed by [`messages::Spot::topic`]. Empty in a run without RocketMQ clients.
    pub message_topics: Vec<MessageTopic>,
    /// In the order of recording, which is nearly, not exactly, the order of time.
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub seed: u64,
    pub node_count: u32,
    /// Names of the faults that were chosen from; empty in histories that do not say.
    #[serde(default)]
    pub faults: Vec<String>,
    /// Nobody hurt the cluster: the run is about what it does by itself.
    #[serde(default)]
    pub without_faults: bool,
    /// Load and faults began.
    pub load_begin_ms: u64,
    /// Load and faults ended; recovery and the final read come after it.
    pub load_end_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub replication: Sync,
    pub flush: Sync,
    pub partition_count: i32,
    /// Whether a consumer group read the topic too.
    pub has_group: bool,
}

/// One half of a topic's durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    Sync,
    Async,
}

impl Sync {
    pub fn as_str(self) -> &'static str {
        match self {
            Sync::Sync => "sync",
            Sync::Async => "async",
        }
    }
}

impl Topic {
    /// `replication/flush`, as the documentation writes it.
    pub fn mode(&self) -> String {
        format!("{}/{}", self.replication.as_str(), self.flush.as_str())
    }
}

/// A partition of one of the run's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`History::topics`].
    pub topic: u16,
    pub partition: i32,
}

/// What a record holds, as far as a checker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// The payload that `producer` (unique in the run) sent as its `sequence`-th record, counted from 0, intact.
    Sent { producer: u32, sequence: u64 },
    /// Any other bytes.
    Foreign { digest: u64 },
}

/// Which way a node was hurt. What each may take is said by [`crate::check::lost`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, SIGCONT later.
    Pause,
    /// It reaches no quorum, in one direction at least.
    CutOff,
    /// Some of its links to other nodes are cut, slow or reset: it may lose its leadership at any moment as long as that lasts.
    Links,
    /// SIGTERM, and a new start.
    Stop,
    /// Leadership was asked away from leaders, or back.
    Transfer,
    /// It is told that its disk is full.
    FullDisk,
    /// Its flushes take longer.
    SlowDisk,
    /// Its flushes fail; it ends by itself, and loses what was not flushed.
    FailingDisk,
    /// It is killed and loses what was not flushed.
    PowerLoss,
    /// Its wall clock is wrong.
    Clock,
    /// It joins the cluster, or leaves it.
    Members,
    /// A bit of its log is another one.
    FlippedBit,
}

impl Fault {
    /// As in the history's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Pause => "pause",
            Fault::CutOff => "cut_off",
            Fault::Links => "links",
            Fault::Stop => "stop",
            Fault::Transfer => "transfer",
            Fault::FullDisk => "full_disk",
            Fault::SlowDisk => "slow_disk",
            Fault::FailingDisk => "failing_disk",
            Fault::PowerLoss => "power_loss",
            Fault::Clock => "clock",
            Fault::Members => "members",
            Fault::FlippedBit => "flipped_bit",
        }
    }
}

/// Who reported a high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatermarkSource {
    /// Whoever answered ListOffsets as leader: one sequence over all leaders.
    Leader,
    /// A node's own metric: one sequence per process, since a restarted follower may learn it anew.
    Node { node: u32, incarnation: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A producer got a positive delivery report from node `by`. `offset` is None where the broker answered "duplicate"
    /// without one. `sent_ms`: when it was handed to the client; None in histories that do not say.
    Acked {
        #[serde(default)]
        sent_ms: Option<u64>,
        time_ms: u64,
        place: Place,
        offset: Option<i64>,
        value: Value,
        by: Option<u32>,
    },
    /// A producer gave up: the record may or may not be in the log.
    NotAcked {
        time_ms: u64,
        place: Place,
        value: Value,
        error: String,
    },
    /// The producer's client library ended it for good.
    ProducerDied {
        time_ms: u64,
        topic: u16,
        producer: u32,
        error: String,
    },
    /// `producer` handed over the sequences `0..sent`.
    ProducerEnded {
        topic: u16,
        producer: u32,
        sent: u64,
    },

    /// A reader was given a record.
    Seen {
        time_ms: u64,
        reader: u32,
        place: Place,
        offset: i64,
        value: Value,
    },
    /// A reader was told that its position does not exist. It goes on from offset 0.
    ReaderReset {
        time_ms: u64,
        reader: u32,
        place: Place,
        error: String,
    },
    /// A group's member was given the partition; it goes on from the committed offset.
    Assigned {
        time_ms: u64,
        reader: u32,
        place: Place,
    },

    /// The group of the place's topic was promised that `offset` is committed.
    CommitAcked {
        asked_ms: u64,
        time_ms: u64,
        place: Place,
        offset: i64,
    },
    /// A commit whose fate is unknown.
    CommitUnknown {
        asked_ms: u64,
        time_ms: u64,
        place: Place,
        offset: i64,
        error: String,
    },
    /// Somebody asked for the committed offset. None: there is none.
    CommittedRead {
        asked_ms: u64,
        time_ms: u64,
        place: Place,
        offset: Option<i64>,
    },
    /// The broker reported that it pulled the committed offset back to `offset` after a loss that the mode allows.
    PulledBack {
        time_ms: u64,
        place: Place,
        offset: i64,
    },

    /// `leads`: the partitions that the node led, as far as clients could know; for the reader of the history only.
    /// Faults of one `round` belong together. `detail` is for the reader, too.
    FaultBegan {
        time_ms: u64,
        round: u32,
        node: u32,
        fault: Fault,
        leads: Vec<Place>,
        #[serde(default)]
        detail: String,
    },
    /// Everything that hurt the node is over.
    FaultEnded {
        time_ms: u64,
        node: u32,
    },
    /// After the faults the node did not get ready.
    NodeNotReady {
        node: u32,
        waited_ms: u64,
    },
    /// A process ended that nobody had killed.
    NodeExited {
        time_ms: u64,
        node: u32,
        status: String,
    },
    /// A process should have ended by itself and went on.
    NodeNotEnded {
        time_ms: u64,
        node: u32,
        why: String,
    },
    /// A damaged entry of its log was found and not put back from another node.
    NotRepaired {
        time_ms: u64,
        node: u32,
        file: String,
    },
    NodePanicked {
        node: u32,
        line: String,
    },

    HighWatermark {
        asked_ms: u64,
        time_ms: u64,
        source: WatermarkSource,
        place: Place,
        offset: i64,
    },

    /// After the faults: did the topic take a record per partition and serve it?
    Probe {
        topic: u16,
        waited_ms: u64,
        acked: bool,
        seen: bool,
    },
    /// One record of the read from the start to the end, after everything.
    FinalRecord {
        place: Place,
        offset: i64,
        value: Value,
    },
    /// `read_all`: the read reached `high_watermark` in time.
    FinalEnd {
        place: Place,
        log_start_offset: i64,
        high_watermark: i64,
        read_all: bool,
    },
    /// A replica's state at the end. Of several per (node, broker group) the last one counts.
    StateHash {
        node: u32,
        broker_group: u32,
        applied_index: u64,
        hash: String,
    },

    /// Something about single messages; the object has a field `message` beside `kind`.
    Message(MessageEvent),
}

impl History {
    /// One JSON object per line: first the run and its topics, then an event per line.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *to, &self.head())?;
        writeln!(to)?;
        for event in &self.events {
            serde_json::to_writer(&mut *to, event)?;
            writeln!(to)?;
        }
        to.flush()
    }

    /// # Errors
    /// `UnexpectedEof` for an empty file, `InvalidData` for a line that is not what [`History::write`] writes.
    pub fn read(from: impl BufRead) -> io::Result<History> {
        let mut lines = from.lines();
        let head = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let Head { run, topics, message_topics } = serde_json::from_str(&head)?;
        let events = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<io::Result<_>>()?;
        Ok(History { run, topics, message_topics, events })
    }

    fn head(&self) -> Head {
        Head { run: self.run.clone(), topics: self.topics.clone(), message_topics: self.message_topics.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    run: Run,
    topics: Vec<Topic>,
    #[serde(default)]
    message_topics: Vec<MessageTopic>,
}

impl Value {
    /// The bytes of a record: `<producer>:<sequence>:<padding>`, 100 to 200 bytes, all of it a function of the value, so
    /// that a changed byte anywhere is noticed.
    ///
    /// # Panics
    /// For a foreign value: nobody sends one.
    pub fn payload(self) -> Vec<u8> {
        let Value::Sent { producer, sequence } = self else { panic!("only sent values have a payload: {self:?}") };
        let mut text = format!("{producer}:{sequence}:").into_bytes();
        let mut state = fnv1a(&text);
        let length = 100 + (state % 101) as usize;
        while text.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(b'a' + ((state >> 33) % 26) as u8);
        }
        text
    }

    /// The value whose payload these bytes are.
    pub fn of_payload(bytes: &[u8]) -> Value {
        Self::claimed(bytes).filter(|value| value.payload() == bytes).unwrap_or(Value::Foreign { digest: fnv1a(bytes) })
    }

    fn claimed(bytes: &[u8]) -> Option<Value> {
        let mut parts = std::str::from_utf8(bytes).ok()?.splitn(3, ':');
        let producer = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        Some(Value::Sent { producer, sequence })
    }
}

/// FNV-1a with 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_value_and_a_changed_byte_does_not() {
        for sequence in 0..200 {
            let value = Value::Sent { producer: 7, sequence };
            let mut bytes = value.payload();
            assert!((100..=200).contains(&bytes.len()), "length {}", bytes.len());
            assert_eq!(Value::of_payload(&bytes), value);
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert!(matches!(Value::of_payload(&bytes), Value::Foreign { .. }));
        }
        assert!(matches!(Value::of_payload(b""), Value::Foreign { .. }));
    }

    #[test]
    fn a_history_survives_its_file() {
        let history = crate::check::planted::clean();
        let mut file = Vec::new();
        history.write(&mut file).expect("write to memory");
        assert_eq!(History::read(&file[..]).expect("read back"), history);
    }
}
