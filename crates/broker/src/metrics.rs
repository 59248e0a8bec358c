//! What a node shows of its broker groups and topics, as Prometheus text. Names are listed in `docs/metrics.md`.

use std::collections::HashMap;
use std::fmt::{Display, Write};

use duolog_replication::DiskState;
use duolog_state::reader;
use duolog_types::{BrokerGroupId, Offset, TopicPartition};

use crate::broker::Broker;
use crate::catalog::{Catalog, Topic};
use crate::consumers;
use crate::prometheus::{label_value, metric_head};
use crate::runtime::GroupRuntime;

/// Bytes of all lags, at most: whoever commits an offset makes a group, and its name may be long.
const LAG_BYTES_MAX: usize = 8 << 20;

/// A metric: its name, its type, and what it says.
struct Metric(&'static str, &'static str, &'static str);

/// A metric with one value per broker group.
struct OfGroup(Metric, fn(&GroupRuntime) -> u64);

const BUILD_INFO: Metric = Metric("duolog_build_info", "gauge", "1, with the version of the binary.");
const DISK_FREE: Metric = Metric("duolog_node_disk_free_bytes", "gauge", "Free bytes of the data directory's disk.");
const DISK_TOTAL: Metric = Metric("duolog_node_disk_total_bytes", "gauge", "Size of the data directory's disk.");
const READ_ONLY: Metric = Metric("duolog_node_read_only", "gauge", "1 while the disk is too full for more records.");
const DRAINED: Metric = Metric("duolog_node_drained", "gauge", "1 while the node gives its leaderships away.");
const GUARDED: Metric = Metric("duolog_broker_group_guarded", "gauge", "1 while the power-loss guard holds.");
const WATERMARK: Metric = Metric(
    "duolog_broker_group_watermark_next_index",
    "gauge",
    "Of the leader: the first log index that has not reached the watermark in this term.",
);
const HIGH_WATERMARK: Metric =
    Metric("duolog_partition_high_watermark", "gauge", "First offset that consumers may not see yet.");
const LOG_END: Metric = Metric("duolog_partition_log_end_offset", "gauge", "Next offset to be given.");
const EXPOSURE_RECORDS: Metric =
    Metric("duolog_topic_exposure_records", "gauge", "Acknowledged records that a loss would take.");
const EXPOSURE_BYTES: Metric =
    Metric("duolog_topic_exposure_bytes", "gauge", "Bytes of record batches that a loss would take.");
const EXPOSURE_AGE: Metric =
    Metric("duolog_topic_exposure_age_ms", "gauge", "Milliseconds since the oldest of them was appended.");
const OFFSETS_PULLED_BACK: Metric = Metric(
    "duolog_group_offsets_pulled_back_total",
    "counter",
    "Committed offsets that were pulled back after an allowed loss.",
);
const LAG: Metric =
    Metric("duolog_consumer_group_lag", "gauge", "Records from a committed offset to the high watermark.");
const LAG_CUT: Metric = Metric("duolog_consumer_group_lag_cut", "gauge", "1 while there are more lags than are told.");

const OF_GROUPS: &[OfGroup] = &[
    OfGroup(Metric("duolog_broker_group_leader", "gauge", "1 where this node leads."), |runtime| {
        u64::from(runtime.leadership().is_self)
    }),
    OfGroup(Metric("duolog_broker_group_term", "gauge", "The newest Raft term that this node knows."), |runtime| {
        runtime.leadership().term.0
    }),
    OfGroup(Metric("duolog_broker_group_applied_index", "gauge", "Log index of the last applied entry."), |runtime| {
        runtime.group().applied().borrow().map_or(0, |mark| mark.index)
    }),
    OfGroup(
        Metric("duolog_broker_group_installed_snapshots_total", "counter", "Snapshots that were installed."),
        |runtime| runtime.group().installed_snapshots(),
    ),
    OfGroup(
        Metric("duolog_broker_group_scrubbed_bytes_total", "counter", "Bytes that the scrubber has verified."),
        |runtime| runtime.group().scrub_counts().verified_bytes(),
    ),
    OfGroup(
        Metric("duolog_broker_group_damaged_entries_total", "counter", "Log entries that were found damaged."),
        |runtime| runtime.group().scrub_counts().damaged(),
    ),
    OfGroup(
        Metric("duolog_broker_group_repaired_entries_total", "counter", "Damaged log entries that were put back."),
        |runtime| runtime.group().scrub_counts().repaired(),
    ),
    OfGroup(
        Metric(
            "duolog_broker_group_batches_ahead_total",
            "counter",
            "Batches taken ahead of the replicated sequence after an allowed loss.",
        ),
        GroupRuntime::ahead,
    ),
    OfGroup(
        Metric(
            "duolog_broker_group_unreadable_batches_total",
            "counter",
            "Batches passed over: they cannot be unpacked.",
        ),
        GroupRuntime::unreadable,
    ),
    OfGroup(
        Metric("duolog_broker_group_producers_expired_total", "counter", "Idle idempotent producers forgotten."),
        GroupRuntime::expired_producers,
    ),
    OfGroup(
        Metric("duolog_group_offsets_expired_total", "counter", "Committed offsets that expired."),
        GroupRuntime::expired_offsets,
    ),
];

impl Metric {
    fn head(&self, text: &mut String) {
        let Self(name, kind, help) = self;
        metric_head(text, name, kind, help);
    }

    fn line(&self, text: &mut String, labels: &str, value: impl Display) {
        let name = self.0;
        // Writing to a string does not fail.
        let _ = match labels {
            "" => writeln!(text, "{name} {value}"),
            labels => writeln!(text, "{name}{{{labels}}} {value}"),
        };
    }
}

impl Broker {
    /// All gauges of this node's broker groups; those of a leader only where this node leads. Reads committed offsets from the disk.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        let mut text = String::new();
        self.render_node(&mut text);
        self.render_groups(&mut text);
        self.render_partitions(&mut text);
        self.render_exposure(&mut text);
        self.render_coordinators(&mut text);
        self.render_lags(&mut text);
        text
    }

    /// The applied index and state hash of every broker group, for comparing replicas.
    ///
    /// # Errors
    /// A state cannot be read.
    pub fn state_hashes(&self) -> Result<Vec<(BrokerGroupId, u64, u64)>, String> {
        let mut hashes = Vec::new();
        for runtime in self.runtimes() {
            let (applied, hash) = runtime.tables().state_hash().map_err(|error| error.to_string())?;
            hashes.push((runtime.id(), applied.map_or(0, |applied| applied.index.0), hash));
        }
        Ok(hashes)
    }

    fn render_node(&self, text: &mut String) {
        BUILD_INFO.head(text);
        BUILD_INFO.line(text, concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        let cluster = self.cluster_handle();
        let space = cluster.disk_space();
        for (metric, value) in [
            (DISK_FREE, space.usage.free_bytes),
            (DISK_TOTAL, space.usage.total_bytes),
            (READ_ONLY, u64::from(space.state != DiskState::Writable)),
            (DRAINED, u64::from(cluster.is_drained())),
        ] {
            metric.head(text);
            metric.line(text, "", value);
        }
    }

    fn render_groups(&self, text: &mut String) {
        for OfGroup(metric, value) in OF_GROUPS {
            metric.head(text);
            for runtime in self.runtimes() {
                metric.line(text, &of_group(runtime.id()), value(runtime));
            }
        }
        GUARDED.head(text);
        for runtime in self.runtimes() {
            let is_guarded = self.cluster_handle().guard().is_guarded(runtime.id());
            GUARDED.line(text, &of_group(runtime.id()), u8::from(is_guarded));
        }
        WATERMARK.head(text);
        for runtime in self.runtimes().filter(|runtime| runtime.leadership().is_self) {
            let marks = *runtime.group().watermarks().borrow();
            for (mark, next) in [
                ("appended", marks.appended_next),
                ("flushed", marks.flushed_next),
                ("received", marks.received_next),
                ("committed", marks.committed_next),
            ] {
                WATERMARK.line(text, &format!("{},watermark=\"{mark}\"", of_group(runtime.id())), next);
            }
        }
    }

    fn render_partitions(&self, text: &mut String) {
        let (mut high_watermarks, mut log_ends) = (String::new(), String::new());
        let catalog = self.catalog();
        for (topic, partition, (high_watermark, log_end)) in self.led_partitions(&catalog) {
            let labels = format!("topic=\"{}\",partition=\"{}\"", topic.row.name, partition.partition);
            HIGH_WATERMARK.line(&mut high_watermarks, &labels, high_watermark);
            LOG_END.line(&mut log_ends, &labels, log_end);
        }
        for (metric, lines) in [(HIGH_WATERMARK, high_watermarks), (LOG_END, log_ends)] {
            metric.head(text);
            text.push_str(&lines);
        }
    }

    fn render_exposure(&self, text: &mut String) {
        let (mut records, mut bytes, mut ages) = (String::new(), String::new(), String::new());
        for topic in self.catalog().topics() {
            let led = self.led_exposure(topic);
            if led.partitions == 0 {
                continue;
            }
            for (loss, exposure) in [("leader", led.leader_loss), ("power", led.power_loss)] {
                let labels = format!("topic=\"{}\",loss=\"{loss}\"", topic.row.name);
                EXPOSURE_RECORDS.line(&mut records, &labels, exposure.records);
                EXPOSURE_BYTES.line(&mut bytes, &labels, exposure.bytes);
                EXPOSURE_AGE.line(&mut ages, &labels, exposure.age_ms);
            }
        }
        for (metric, lines) in [(EXPOSURE_RECORDS, records), (EXPOSURE_BYTES, bytes), (EXPOSURE_AGE, ages)] {
            metric.head(text);
            text.push_str(&lines);
        }
    }

    fn render_coordinators(&self, text: &mut String) {
        OFFSETS_PULLED_BACK.head(text);
        for (group, coordinator) in self.coordinators() {
            OFFSETS_PULLED_BACK.line(text, &of_group(*group), coordinator.pulled_back());
        }
    }

    /// Each lag is told by the partition's leader, which alone knows what consumers can see. The committed offset is that of its own
    /// replica of the coordinator's state: when the coordinator is another node, the newest commits may be missing for a moment.
    fn render_lags(&self, text: &mut String) {
        let catalog = self.catalog();
        let led = self.led_partitions(&catalog).map(|(topic, at, (high_watermark, _))| (at, (topic, high_watermark)));
        let led: HashMap<TopicPartition, (&Topic, Offset)> = led.collect();
        let mut lags = String::new();
        let is_cut = !led.is_empty() && self.render_lags_in(&catalog, &led, &mut lags);
        LAG.head(text);
        text.push_str(&lags);
        LAG_CUT.head(text);
        LAG_CUT.line(text, "", u8::from(is_cut));
    }

    /// Whether there are more than there is room for.
    fn render_lags_in(
        &self,
        catalog: &Catalog,
        led: &HashMap<TopicPartition, (&Topic, Offset)>,
        lags: &mut String,
    ) -> bool {
        for runtime in self.runtimes() {
            let tables = runtime.tables();
            // A state that cannot be read stops its replica elsewhere.
            let groups = reader::groups_with_offsets(&*tables).unwrap_or_default();
            // In broadcasting each client is a group: clients come and go, and metrics are not labelled with them.
            for group in groups.iter().filter(|group| consumers::broadcasting(catalog, group).is_none()) {
                let name = label_value(&group.0);
                for (at, committed) in reader::committed_offsets(&*tables, group).unwrap_or_default() {
                    let Some((topic, high_watermark)) = led.get(&at) else { continue };
                    if lags.len() >= LAG_BYTES_MAX {
                        return true;
                    }
                    let labels =
                        format!("group=\"{name}\",topic=\"{}\",partition=\"{}\"", topic.row.name, at.partition);
                    // After an allowed loss a committed offset may lie beyond the end until it is pulled back.
                    LAG.line(lags, &labels, high_watermark.0.saturating_sub(committed.offset.0).max(0));
                }
            }
        }
        false
    }

    /// The partitions that this node leads, with their topics, high watermarks and log ends.
    fn led_partitions<'a>(
        &'a self,
        catalog: &'a Catalog,
    ) -> impl Iterator<Item = (&'a Topic, TopicPartition, (Offset, Offset))> {
        catalog.topics().flat_map(move |topic| {
            topic.row.partitions.iter().zip(0_u32..).filter_map(move |(group, number)| {
                let partition = TopicPartition { topic: topic.id, partition: number };
                let ends = self.runtime(*group).ok()?.ends(partition).ok()??;
                Some((&**topic, partition, ends))
            })
        })
    }

    /// Partitions that this node's replica of a group hosts.
    pub(crate) fn hosted_partitions(&self, group: BrokerGroupId) -> Vec<TopicPartition> {
        let Ok(runtime) = self.runtime(group) else { return Vec::new() };
        let Ok(topics) = reader::hosted_topics(&*runtime.tables()) else { return Vec::new() };
        topics
            .into_iter()
            .flat_map(|(topic, row)| match row {
                duolog_state::rows::TopicRow::Live { partitions, .. } => {
                    partitions.into_iter().map(|partition| TopicPartition { topic, partition }).collect::<Vec<_>>()
                }
                duolog_state::rows::TopicRow::Deleted { .. } => Vec::new(),
            })
            .collect()
    }
}

fn of_group(group: BrokerGroupId) -> String {
    format!("broker_group=\"{group}\"")
}
