//! The properties of single messages: what RocketMQ clients were promised. One file per property, as for the others.

mod after_ack;
mod attempts;
mod contents;
mod copies;
mod counts;
mod dead_letters;
mod delays;
mod drained;
mod enough;
mod filtered;
mod invisible;
mod lost;
mod order;
mod recalls;
mod transactions;
mod view;

pub use counts::MessageCounts;

use super::{Findings, Violation};
use crate::history::History;
use crate::history::messages::Spot;
use view::MessageView;

/// Runs every checker, if the run had RocketMQ clients.
pub fn check(history: &History, findings: &mut Findings) {
    if history.message_topics.is_empty() {
        return;
    }
    let view = MessageView::new(history);
    counts::count(&view, findings);
    contents::check(&view, findings);
    lost::check(&view, findings);
    after_ack::check(&view, findings);
    attempts::check(&view, findings);
    invisible::check(&view, findings);
    order::check(&view, findings);
    transactions::check(&view, findings);
    delays::check(&view, findings);
    recalls::check(&view, findings);
    dead_letters::check(&view, findings);
    filtered::check(&view, findings);
    copies::check(&view, findings);
    drained::check(&view, findings);
    enough::check(&view, findings);
}

impl Findings {
    fn of_message(&mut self, property: &'static str, view: &MessageView, topic: u16, text: String) {
        let text = format!("topic {}: {text}", view.topics[usize::from(topic)].name);
        self.violations.push(Violation { property, topic: None, text });
    }

    fn at_spot(&mut self, property: &'static str, view: &MessageView, spot: Spot, text: String) {
        let text = format!("partition {}, offset {}: {text}", spot.partition, spot.offset);
        self.of_message(property, view, spot.topic, text);
    }
}
