//! The two brokers that are compared, started and stopped the same way.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::super::duolog::{Duolog, Durability};
use super::super::script::Script;

/// RocketMQ's proxy takes plaintext and TLS on this port.
pub const PROXY_PORT: u16 = 28_081;

/// When a RocketMQ broker flushes: its `flushDiskType`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// After the acknowledgement: RocketMQ's default.
    Async,
    /// Before it.
    Sync,
}

/// A topic takes one type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    Normal,
    Fifo,
    Delay,
    Transaction,
}

impl MessageType {
    pub fn name(self) -> &'static str {
        match self {
            MessageType::Normal => "normal",
            MessageType::Fifo => "fifo",
            MessageType::Delay => "delay",
            MessageType::Transaction => "transaction",
        }
    }

    /// The value of `message.type`, the same on both sides.
    fn config(self) -> &'static str {
        match self {
            MessageType::Normal => "NORMAL",
            MessageType::Fifo => "FIFO",
            MessageType::Delay => "DELAY",
            MessageType::Transaction => "TRANSACTION",
        }
    }
}

/// A topic as each side makes it, with the consumer group of the same name.
#[derive(Clone)]
pub struct Topic {
    pub name: String,
    pub message_type: MessageType,
    pub partitions: u32,
    /// Only Duolog's: RocketMQ has it per broker.
    pub durability: Durability,
}

pub enum Side {
    Duolog(Duolog),
    /// The environment of the script says how its brokers flush.
    RocketMq {
        script: Script,
        nodes: u16,
    },
}

impl Side {
    /// Three RocketMQ brokers replicate under a controller and acknowledge what every replica in sync has.
    pub fn rocketmq(script: &Script, flush: Flush, nodes: u16) -> Side {
        let flush = match flush {
            Flush::Async => "ASYNC_FLUSH",
            Flush::Sync => "SYNC_FLUSH",
        };
        let script = script.clone().with("FLUSH", flush).with("REPL", "controller").with("ACKS", "all");
        Side::RocketMq { script, nodes }
    }

    /// An empty cluster.
    pub fn start(&self) -> Result<()> {
        match self {
            Side::RocketMq { script, nodes } => {
                script.call(&["stop"])?;
                script.call_unread(&["start", &nodes.to_string()])
            }
            Side::Duolog(cluster) => cluster.start(),
        }
    }

    /// RocketMQ's next start deletes the data.
    pub fn stop(&self) -> Result<()> {
        match self {
            Side::RocketMq { script, .. } => script.call(&["stop"]).map(drop),
            Side::Duolog(cluster) => cluster.stop(),
        }
    }

    pub fn endpoints(&self) -> String {
        match self {
            Side::RocketMq { .. } => format!("127.0.0.1:{PROXY_PORT}"),
            Side::Duolog(cluster) => cluster.endpoints(),
        }
    }

    pub fn create_topics(&self, topics: &[Topic]) -> Result<()> {
        match self {
            Side::RocketMq { script, .. } => create_at_rocketmq(script, topics),
            // Groups need no creation.
            Side::Duolog(cluster) => topics.iter().try_for_each(|topic| {
                let config = format!("message.type={}", topic.message_type.config());
                cluster.create_topic(&topic.name, topic.partitions, topic.durability, &[&config])
            }),
        }
    }

    pub fn pids(&self) -> Result<Vec<u32>> {
        match self {
            Side::RocketMq { script, .. } => Ok(pids(&script.call(&["usage"])?)),
            Side::Duolog(cluster) => Ok(cluster.pids()),
        }
    }

    /// The process that leads the topic's first partition; RocketMQ's one master leads all.
    pub fn leader_pid(&self, topic: &str) -> Result<u32> {
        match self {
            Side::RocketMq { script, .. } => {
                let name = script.call(&["leader"])?;
                let pid = script.call(&["pid", name.trim()])?;
                pid.trim().parse().with_context(|| format!("not a process id: {pid}"))
            }
            Side::Duolog(cluster) => cluster.pid(cluster.leader(topic)?),
        }
    }
}

/// One JVM for all: each call of RocketMQ's administration starts one.
fn create_at_rocketmq(script: &Script, topics: &[Topic]) -> Result<()> {
    let mut child = script
        .command()
        .arg("setup")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run rocketmq.sh")?;
    let mut input = child.stdin.take().context("the input is piped")?;
    for topic in topics {
        let Topic { name, message_type, partitions, .. } = topic;
        writeln!(input, "topic {name} {} {partitions}\ngroup {name}", message_type.config())?;
    }
    drop(input);
    let output = child.wait_with_output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "rocketmq.sh setup failed ({}): {text}{errors}", output.status);
    Ok(())
}

/// From lines `broker-0 pid=123 cpu_s=…`.
fn pids(usage: &str) -> Vec<u32> {
    usage.split_whitespace().filter_map(|word| word.strip_prefix("pid=")?.parse().ok()).collect()
}
