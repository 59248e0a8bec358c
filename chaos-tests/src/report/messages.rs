//! The table of what RocketMQ clients did.

use std::fmt::Write;

use crate::check::messages::MessageCounts;
use crate::history::History;
use crate::history::messages::Kind;

/// Nothing for a run without RocketMQ clients.
pub fn table(history: &History, counts: &[MessageCounts]) -> String {
    let mut text = String::new();
    if counts.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:<27} {:>7} {:>6} {:>8} {:>10} {:>7} {:>7} {:>11}  besides",
        "RocketMQ clients", "sent", "open", "refused", "delivered", "again", "acked", "no ack, ms"
    );
    for (topic, counts) in history.message_topics.iter().zip(counts) {
        let MessageCounts { acked, open, refused, delivered, redelivered, settled, longest_no_ack_ms, .. } = counts;
        let _ = writeln!(
            text,
            "{:<27} {acked:>7} {open:>6} {refused:>8} {delivered:>10} {redelivered:>7} {settled:>7} {longest_no_ack_ms:>11}  {}",
            topic.name,
            besides(topic.kind, counts)
        );
    }
    text
}

pub fn besides(kind: Kind, counts: &MessageCounts) -> String {
    let MessageCounts { committed, rolled_back, asked, recalled, recalled_late, dead_letters, .. } = counts;
    match kind {
        Kind::Normal | Kind::Fifo | Kind::Filtered => String::new(),
        Kind::Delay => format!("{} delayed, {recalled} taken back, {recalled_late} too late", counts.delayed),
        Kind::Transaction => format!("{committed} committed, {rolled_back} rolled back, {asked} of them asked about"),
        Kind::Letters => format!("{dead_letters} dead letters"),
    }
}
