//! The load tool on RocketMQ's official Java client for gRPC, through `rocketmq.sh grpc`, in plaintext against any server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::report::Figures;
use super::super::script::Script;
use super::cases::{CONSUMED_MESSAGES_MAX, Consumer, MESSAGE_BYTES};
use super::side::MessageType;

/// A client that gets no answers gives up by itself long before.
const LIMIT: Duration = Duration::from_secs(240);
/// More than any broker takes here; the run ends after its seconds.
const MESSAGES_PER_SECOND_MAX: u32 = 100_000;
const KILL_MESSAGES_PER_SECOND: u32 = 500;
const KILL_SECONDS: u32 = 40;
const KILL_AFTER: Duration = Duration::from_secs(6);

pub struct Tool {
    script: Script,
    endpoints: String,
}

impl Tool {
    pub fn new(script: &Script, endpoints: &str) -> Tool {
        Tool { script: script.clone(), endpoints: endpoints.to_owned() }
    }

    /// Sends for so many seconds, twice in one JVM; the figures are those of the second time. With the messages of both.
    pub fn send(&self, topic: &str, message_type: MessageType, in_flight: u32, seconds: u32) -> Result<(u64, Figures)> {
        let mode = match message_type {
            MessageType::Normal => "normal",
            MessageType::Fifo => "fifo",
            MessageType::Delay => "delay",
            MessageType::Transaction => "tx",
        };
        let text = self.call(
            "produce",
            &[
                ("topic", topic),
                ("mode", mode),
                ("size", &MESSAGE_BYTES.to_string()),
                ("inflight", &in_flight.to_string()),
                ("n", &(MESSAGES_PER_SECOND_MAX * seconds).to_string()),
                ("seconds", &seconds.to_string()),
                ("repeat", "2"),
            ],
        )?;
        let last = results(&text).last().with_context(|| format!("no result in {text}"))?;
        let figures = Figures::from([
            ("messages_per_s", last.number("msg_s")?),
            ("failed", last.number("errors")?),
            ("avg_ms", last.number("mean_ms")?),
            ("p50_ms", last.number("p50_ms")?),
            ("p99_ms", last.number("p99_ms")?),
            ("p999_ms", last.number("p99.9_ms")?),
            ("max_ms", last.number("max_ms")?),
        ]);
        let answered = results(&text).map(|result| result.number::<u64>("ok")).sum::<Result<u64>>()?;
        Ok((answered, figures))
    }

    /// Sends what a consumer case receives, and returns how many messages that is.
    pub fn fill(&self, topic: &str, seconds_max: u32) -> Result<u64> {
        let text = self.call(
            "produce",
            &[
                ("topic", topic),
                ("size", &MESSAGE_BYTES.to_string()),
                ("inflight", "256"),
                ("n", &CONSUMED_MESSAGES_MAX.to_string()),
                ("seconds", &seconds_max.to_string()),
            ],
        )?;
        let sent = results(&text).last().with_context(|| format!("no result in {text}"))?;
        ensure!(sent.number::<u64>("errors")? == 0, "not all messages were taken: {text}");
        sent.number("ok")
    }

    /// Receives and acknowledges the messages of a topic, with the group of its name.
    pub fn consume(&self, consumer: Consumer, topic: &str, messages: u64) -> Result<(u64, Figures)> {
        let (verb, rate) = match consumer {
            Consumer::Push => ("push", "msg_s"),
            Consumer::Simple => ("simple", "acked_s"),
        };
        let messages_text = messages.to_string();
        let settings = [("topic", topic), ("group", topic), ("n", &messages_text), ("unique", "true")];
        let text = self.call(verb, &settings)?;
        let result = results(&text).last().with_context(|| format!("no result in {text}"))?;
        let (received, distinct) = (result.number::<u64>("received")?, result.number::<u64>("unique")?);
        ensure!(received >= messages, "expected {messages} messages, received {received}: {text}");
        let mut figures =
            Figures::from([("messages_per_s", result.number(rate)?), ("again", (received - distinct) as f64)]);
        if consumer == Consumer::Simple {
            figures.insert("ack_failed", result.number("ack_failed")?);
            figures.insert("receive_failed", result.number("receive_failed")?);
        }
        Ok((received, figures))
    }

    /// How much later than asked for messages arrive.
    pub fn delay(&self, topic: &str, per_second: u32, seconds: u32) -> Result<(u64, Figures)> {
        let (rate, messages) = (per_second.to_string(), (per_second * seconds).to_string());
        let settings = [("topic", topic), ("group", topic), ("rate", &rate), ("n", &messages), ("inflight", "256")];
        let text = self.call("delay", &settings)?;
        let result = results(&text).find(|result| result.line.contains("lateness"));
        let result = result.with_context(|| format!("no result in {text}"))?;
        let (sent, received) = (result.number::<u64>("sent")?, result.number::<u64>("received")?);
        let figures = Figures::from([
            ("late_p50_ms", result.number("p50_ms")?),
            ("late_p99_ms", result.number("p99_ms")?),
            ("late_max_ms", result.number("max_ms")?),
            ("early", result.number("early")?),
            ("missing", sent.saturating_sub(received) as f64),
        ]);
        Ok((sent, figures))
    }

    /// A steady rate; `kill` is called in the middle.
    pub fn send_through_kill(&self, topic: &str, kill: impl FnOnce() -> Result<()>) -> Result<Figures> {
        let rate = KILL_MESSAGES_PER_SECOND.to_string();
        let messages = (KILL_MESSAGES_PER_SECOND * KILL_SECONDS).to_string();
        let mut child = self
            .script
            .command_within(LIMIT)
            .args(["grpc", "produce"])
            // Room for all messages: a client that waits for none of them hides no failure.
            .args(self.settings(&[("topic", topic), ("rate", &rate), ("n", &messages), ("inflight", &messages)]))
            .args([format!("size={MESSAGE_BYTES}"), format!("warmup={KILL_MESSAGES_PER_SECOND}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run rocketmq.sh")?;
        let mut lines = BufReader::new(child.stdout.take().context("the output is piped")?).lines();
        let mut text = String::new();
        let mut kill = Some(kill);
        while let Some(line) = lines.next().transpose()? {
            if line.starts_with("warmup")
                && let Some(kill) = kill.take()
            {
                sleep(KILL_AFTER);
                kill()?;
            }
            text = text + &line + "\n";
        }
        let status = child.wait()?;
        ensure!(status.success() && kill.is_none(), "the load tool failed ({status}): {text}");
        show_errors(&text);
        let result = results(&text).last().with_context(|| format!("no result in {text}"))?;
        Ok(Figures::from([
            ("no_ack_ms", result.number("longest_no_ack_ms")?),
            ("failed", result.number("errors")?),
            ("answered", result.number("ok")?),
        ]))
    }

    fn call(&self, verb: &str, settings: &[(&str, &str)]) -> Result<String> {
        let settings = self.settings(settings);
        let arguments: Vec<&str> = ["grpc", verb].into_iter().chain(settings.iter().map(String::as_str)).collect();
        let text = self.script.call_within(LIMIT, &arguments)?;
        show_errors(&text);
        Ok(text)
    }

    fn settings(&self, settings: &[(&str, &str)]) -> Vec<String> {
        let fixed = [("endpoints", self.endpoints.as_str()), ("ssl", "false")];
        fixed.iter().chain(settings).map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// What clients were refused, in the tool's words.
fn show_errors(text: &str) {
    for line in text.lines().filter(|line| line.starts_with("  error") || line.starts_with("  receive")) {
        eprintln!("bench: {}", line.trim());
    }
}

fn results(text: &str) -> impl Iterator<Item = ResultLine<'_>> {
    text.lines().filter(|line| line.starts_with("RESULT")).map(|line| {
        let fields = line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        ResultLine { line, fields }
    })
}

/// `RESULT grpc normal size=1024 inflight=64 sent=100 ok=100 errors=0 …`
struct ResultLine<'a> {
    line: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

impl ResultLine<'_> {
    fn number<T: FromStr>(&self, name: &str) -> Result<T> {
        let value = self.fields.get(name).and_then(|value| value.parse().ok());
        value.with_context(|| format!("no {name} in: {}", self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::results;

    #[test]
    fn result_lines_are_understood() {
        let text = "warmup grpc normal sent=5 ok=5\n\
                    RESULT grpc normal size=1024 inflight=64 sent=9 ok=8 errors=1 msg_s=2.5 p50_ms=4.00 p99.9_ms=27.60\n  \
                    error x1: connect failed\nTOTAL sent=14\n";
        let all: Vec<_> = results(text).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].number::<u64>("ok").expect("a number"), 8);
        assert_eq!(all[0].number::<f64>("p99.9_ms").expect("a number"), 27.6);
        assert!(all[0].number::<f64>("no_samples").is_err());
    }
}
