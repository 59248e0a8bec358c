//! Kafka's own load tools, through `kafka.sh`, against any broker.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::report::Figures;
use super::super::script::Script;

const FAILOVER_RECORDS_PER_SECOND: u64 = 500;

#[derive(Clone)]
pub struct Tools {
    script: Script,
}

impl Tools {
    pub fn new(script: Script) -> Tools {
        Tools { script }
    }

    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The figures of ProducerPerformance without its first `warm_up` records: those of its own start and connects.
    /// Without a rate as fast as it can.
    pub fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        records: u64,
        warm_up: u64,
        record_bytes: u64,
        rate: Option<u32>,
    ) -> Result<Figures> {
        // At a fixed rate latency is asked for, so nothing lingers.
        let linger = if rate.is_some() { "linger.ms=0" } else { "linger.ms=5" };
        let rate = rate.map_or("-1".to_string(), |rate| rate.to_string());
        let (all, warm_up) = ((warm_up + records).to_string(), warm_up.to_string());
        let record_bytes = record_bytes.to_string();
        let fixed = ["produce-perf", bootstrap, topic, &all, &record_bytes, &rate];
        let settings = ["acks=all", linger, "batch.size=65536", "--warmup-records", &warm_up];
        let text = self.script.call(&[&fixed[..], &settings].concat())?;
        let last =
            text.lines().rev().find(|line| line.contains("99.9th")).with_context(|| format!("no result in {text}"))?;
        parse_result(last).with_context(|| format!("this result is not understood: {last}"))
    }

    /// The figures of ConsumerPerformance, without the time of the group's join.
    pub fn consume(&self, bootstrap: &str, topic: &str, records: u64) -> Result<Figures> {
        let text = self.script.call(&["consume-perf", bootstrap, topic, &records.to_string(), "--hide-header"])?;
        let last = text.lines().last().unwrap_or_default();
        let fields: Vec<&str> = last.split(',').map(str::trim).collect();
        let field = |at: usize| -> Option<f64> { fields.get(at)?.parse().ok() };
        let (consumed, rate) = (field(4), field(9));
        let consumed = consumed.with_context(|| format!("no result in {text}"))?;
        ensure!(consumed >= records as f64, "expected {records} records, consumed {consumed}");
        Ok(Figures::from([("records_per_s", rate.with_context(|| format!("no result in {text}"))?)]))
    }

    /// The figures of EndToEndLatency: one record at a time.
    pub fn end_to_end(&self, bootstrap: &str, topic: &str, records: u64, record_bytes: u64) -> Result<Figures> {
        let (records, record_bytes) = (records.to_string(), record_bytes.to_string());
        let text = self.script.call(&["e2e-latency", bootstrap, topic, &records, "all", &record_bytes])?;
        parse_end_to_end(&text).with_context(|| format!("no result in {text}"))
    }

    /// Node id of the leader of partition 0.
    pub fn leader(&self, bootstrap: &str, topic: &str) -> Result<u32> {
        let text = self.script.call(&["topics", bootstrap, "--describe", "--topic", topic])?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let leader = words.windows(2).find(|pair| pair[0] == "Leader:").and_then(|pair| pair[1].parse().ok());
        leader.with_context(|| format!("no leader in {text}"))
    }

    /// A retrying idempotent producer at a low rate; `kill` is called in the middle. Figures: `no_ack_ms`, `errors`.
    pub fn produce_through_kill(
        &self,
        bootstrap: &str,
        topic: &str,
        run: Duration,
        kill_after: Duration,
        kill: impl FnOnce() -> Result<()>,
    ) -> Result<Figures> {
        let config = std::env::temp_dir().join(format!("duolog-bench-{}.properties", std::process::id()));
        // The tool's own default is no retry.
        fs::write(&config, "retries=2147483647\nenable.idempotence=true\nlinger.ms=0\n")?;
        let rate = FAILOVER_RECORDS_PER_SECOND.to_string();
        let records = (FAILOVER_RECORDS_PER_SECOND * run.as_secs()).to_string();
        let mut child = self
            .script
            .command()
            .args(["verifiable-producer", bootstrap, "--topic", topic, "--throughput", &rate])
            .args(["--max-messages", &records, "--acks", "-1", "--command-config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().context("the tool's output is piped")?;
        let (mut kill, mut killed_at) = (Some(kill), None);
        let (mut first, mut last, mut longest, mut errors) = (None, Instant::now(), Duration::ZERO, 0u32);
        for line in BufReader::new(output).lines() {
            let (line, now) = (line?, Instant::now());
            if line.contains("producer_send_error") {
                errors += 1;
            }
            if !line.contains("producer_send_success") {
                continue;
            }
            if killed_at.is_some() {
                longest = longest.max(now - last);
            }
            last = now;
            let first = *first.get_or_insert(now);
            if now - first >= kill_after
                && let Some(kill) = kill.take()
            {
                kill()?;
                killed_at = Some(now);
            }
        }
        child.wait()?;
        fs::remove_file(&config)?;
        ensure!(killed_at.is_some(), "the producer ended before the kill");
        Ok(Figures::from([("no_ack_ms", longest.as_secs_f64() * 1e3), ("errors", f64::from(errors))]))
    }
}

/// `1000 steady state records sent, 999.1 records/sec (0.95 MB/sec), 1.2 ms avg latency, 9.0 ms max latency, 1 ms 50th, 2 ms 95th, …`
fn parse_result(line: &str) -> Option<Figures> {
    let mut figures = Figures::new();
    for part in line.split(", ") {
        let number: f64 = part.split_whitespace().next()?.parse().ok()?;
        let name = match part {
            part if part.contains("records/sec") => "records_per_s",
            part if part.contains("avg latency") => "avg_ms",
            part if part.contains("max latency") => "max_ms",
            part if part.contains("99.9th") => "p999_ms",
            part if part.contains("99th") => "p99_ms",
            part if part.contains("95th") => "p95_ms",
            part if part.contains("50th") => "p50_ms",
            _ => continue,
        };
        figures.insert(name, number);
    }
    figures.contains_key("records_per_s").then_some(figures)
}

/// `Avg latency: 1.2345 ms`, then `Percentiles: 50th = 1, 99th = 9, 99.9th = 40`.
fn parse_end_to_end(text: &str) -> Option<Figures> {
    let number = |after: &str| -> Option<f64> {
        let rest = text.split(after).nth(1)?.trim_start();
        rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok()
    };
    Some(Figures::from([
        ("avg_ms", number("Avg latency:")?),
        ("p50_ms", number("50th =")?),
        ("p99_ms", number(" 99th =")?),
        ("p999_ms", number("99.9th =")?),
    ]))
}

#[cfg(test)]
mod tests {
    use super::{parse_end_to_end, parse_result};

    #[test]
    fn a_result_of_end_to_end_latency() {
        let text = "0\t12.5\nAvg latency: 1.5312 ms\n\nPercentiles: 50th = 1, 99th = 9, 99.9th = 40\n";
        let figures = parse_end_to_end(text).expect("understood");
        assert_eq!(figures["avg_ms"], 1.5312);
        assert_eq!((figures["p50_ms"], figures["p99_ms"], figures["p999_ms"]), (1.0, 9.0, 40.0));
        assert!(parse_end_to_end("nothing").is_none());
    }

    #[test]
    fn a_result_of_producer_performance() {
        let line = "60000 steady state records sent, 2999.5 records/sec (2.93 MB/sec), 1.34 ms avg latency, 88.00 ms max latency, \
                    1 ms 50th, 3 ms 95th, 9 ms 99th, 40 ms 99.9th.";
        let figures = parse_result(line).expect("understood");
        assert_eq!(figures["records_per_s"], 2999.5);
        assert_eq!((figures["p50_ms"], figures["p99_ms"], figures["p999_ms"]), (1.0, 9.0, 40.0));
        assert!(parse_result("nothing").is_none());
    }
}
