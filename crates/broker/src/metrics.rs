//! What a node shows of its broker groups and topics, as Prometheus text. Names are listed in `docs/metrics.md`.

use std::fmt::Write;

use duolog_replication::DiskState;
use duolog_state::reader;
use duolog_types::BrokerGroupId;

use crate::broker::Broker;

const WATERMARK: &str = "duolog_broker_group_watermark_next_index";
const LEADER: &str = "duolog_broker_group_leader";
const TERM: &str = "duolog_broker_group_term";
const APPLIED: &str = "duolog_broker_group_applied_index";
const SNAPSHOTS: &str = "duolog_broker_group_installed_snapshots_total";
const SCRUBBED: &str = "duolog_broker_group_scrubbed_bytes_total";
const DAMAGED: &str = "duolog_broker_group_damaged_entries_total";
const REPAIRED: &str = "duolog_broker_group_repaired_entries_total";
const AHEAD: &str = "duolog_broker_group_batches_ahead_total";
const PRODUCERS_EXPIRED: &str = "duolog_broker_group_producers_expired_total";
const HIGH_WATERMARK: &str = "duolog_partition_high_watermark";
const LOG_END: &str = "duolog_partition_log_end_offset";
const EXPOSURE_RECORDS: &str = "duolog_topic_exposure_records";
const EXPOSURE_BYTES: &str = "duolog_topic_exposure_bytes";
const EXPOSURE_AGE: &str = "duolog_topic_exposure_age_ms";
const DISK_FREE: &str = "duolog_node_disk_free_bytes";
const DISK_TOTAL: &str = "duolog_node_disk_total_bytes";
const READ_ONLY: &str = "duolog_node_read_only";
const OFFSETS_PULLED_BACK: &str = "duolog_group_offsets_pulled_back_total";
const OFFSETS_EXPIRED: &str = "duolog_group_offsets_expired_total";

impl Broker {
    /// All gauges of this node's broker groups; those of a leader only where this node leads.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        let mut text = String::new();
        self.render_disk(&mut text);
        self.render_groups(&mut text);
        self.render_topics(&mut text);
        self.render_coordinators(&mut text);
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

    fn render_disk(&self, text: &mut String) {
        let space = self.cluster_handle().disk_space();
        for (name, value) in [
            (DISK_FREE, space.usage.free_bytes),
            (DISK_TOTAL, space.usage.total_bytes),
            (READ_ONLY, u64::from(space.state != DiskState::Writable)),
        ] {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
        }
    }

    fn render_groups(&self, text: &mut String) {
        for (name, kind) in [
            (WATERMARK, "gauge"),
            (LEADER, "gauge"),
            (TERM, "gauge"),
            (APPLIED, "gauge"),
            (SNAPSHOTS, "counter"),
            (SCRUBBED, "counter"),
            (DAMAGED, "counter"),
            (REPAIRED, "counter"),
            (AHEAD, "counter"),
            (PRODUCERS_EXPIRED, "counter"),
            (OFFSETS_EXPIRED, "counter"),
        ] {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
        }
        for runtime in self.runtimes() {
            let (group, leadership) = (runtime.id(), runtime.leadership());
            let replica = runtime.group();
            let applied = replica.applied().borrow().map_or(0, |mark| mark.index);
            let _ = writeln!(text, "{LEADER}{{broker_group=\"{group}\"}} {}", u8::from(leadership.is_self));
            let _ = writeln!(text, "{TERM}{{broker_group=\"{group}\"}} {}", leadership.term);
            let _ = writeln!(text, "{APPLIED}{{broker_group=\"{group}\"}} {applied}");
            let _ = writeln!(text, "{SNAPSHOTS}{{broker_group=\"{group}\"}} {}", replica.installed_snapshots());
            let scrubbed = replica.scrub_counts();
            let _ = writeln!(text, "{SCRUBBED}{{broker_group=\"{group}\"}} {}", scrubbed.verified_bytes());
            let _ = writeln!(text, "{DAMAGED}{{broker_group=\"{group}\"}} {}", scrubbed.damaged());
            let _ = writeln!(text, "{REPAIRED}{{broker_group=\"{group}\"}} {}", scrubbed.repaired());
            let _ = writeln!(text, "{AHEAD}{{broker_group=\"{group}\"}} {}", runtime.ahead());
            let _ = writeln!(text, "{PRODUCERS_EXPIRED}{{broker_group=\"{group}\"}} {}", runtime.expired_producers());
            let _ = writeln!(text, "{OFFSETS_EXPIRED}{{broker_group=\"{group}\"}} {}", runtime.expired_offsets());
            if leadership.is_self {
                let marks = *replica.watermarks().borrow();
                for (mark, next) in [
                    ("appended", marks.appended_next),
                    ("flushed", marks.flushed_next),
                    ("received", marks.received_next),
                    ("committed", marks.committed_next),
                ] {
                    let _ = writeln!(text, "{WATERMARK}{{broker_group=\"{group}\",watermark=\"{mark}\"}} {next}");
                }
            }
        }
    }

    fn render_topics(&self, text: &mut String) {
        for name in [HIGH_WATERMARK, LOG_END, EXPOSURE_RECORDS, EXPOSURE_BYTES, EXPOSURE_AGE] {
            let _ = writeln!(text, "# TYPE {name} gauge");
        }
        for topic in self.catalog().topics() {
            let name = &topic.row.name;
            for (group, number) in topic.row.partitions.iter().zip(0_u32..) {
                let Ok(runtime) = self.runtime(*group) else { continue };
                let partition = duolog_types::TopicPartition { topic: topic.id, partition: number };
                let Ok(Some((high_watermark, log_end))) = runtime.ends(partition) else { continue };
                let _ = writeln!(text, "{HIGH_WATERMARK}{{topic=\"{name}\",partition=\"{number}\"}} {high_watermark}");
                let _ = writeln!(text, "{LOG_END}{{topic=\"{name}\",partition=\"{number}\"}} {log_end}");
            }
            let led = self.led_exposure(topic);
            if led.partitions == 0 {
                continue;
            }
            for (loss, exposure) in [("leader", led.leader_loss), ("power", led.power_loss)] {
                let labels = format!("topic=\"{name}\",loss=\"{loss}\"");
                let _ = writeln!(text, "{EXPOSURE_RECORDS}{{{labels}}} {}", exposure.records);
                let _ = writeln!(text, "{EXPOSURE_BYTES}{{{labels}}} {}", exposure.bytes);
                let _ = writeln!(text, "{EXPOSURE_AGE}{{{labels}}} {}", exposure.age_ms);
            }
        }
    }

    fn render_coordinators(&self, text: &mut String) {
        let _ = writeln!(text, "# TYPE {OFFSETS_PULLED_BACK} counter");
        for (group, coordinator) in self.coordinators() {
            let _ = writeln!(text, "{OFFSETS_PULLED_BACK}{{broker_group=\"{group}\"}} {}", coordinator.pulled_back());
        }
    }

    /// Partitions that this node's replica of a group hosts.
    pub(crate) fn hosted_partitions(&self, group: BrokerGroupId) -> Vec<duolog_types::TopicPartition> {
        let Ok(runtime) = self.runtime(group) else { return Vec::new() };
        let Ok(topics) = reader::hosted_topics(&*runtime.tables()) else { return Vec::new() };
        topics
            .into_iter()
            .flat_map(|(topic, row)| match row {
                duolog_state::rows::TopicRow::Live { partitions, .. } => partitions
                    .into_iter()
                    .map(|partition| duolog_types::TopicPartition { topic, partition })
                    .collect::<Vec<_>>(),
                duolog_state::rows::TopicRow::Deleted { .. } => Vec::new(),
            })
            .collect()
    }
}
