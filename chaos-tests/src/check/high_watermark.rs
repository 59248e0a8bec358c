//! A partition's high watermark never goes back, and lies above everything that a consumer saw.
//!
//! Two questions may overlap, so an answer is only compared with what was known before it was asked:
//! `asked_ms` of the later one is after `time_ms` of the earlier one.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::{Event, Place, WatermarkSource};

/// An answer or a read that bounds later answers from below.
struct Known {
    time_ms: u64,
    offset: i64,
    how: &'static str,
}

struct Answer {
    asked_ms: u64,
    offset: i64,
}

pub fn check(view: &View, findings: &mut Findings) {
    let mut sequences: BTreeMap<(WatermarkSource, Place), (Vec<Known>, Vec<Answer>)> = BTreeMap::new();
    for event in &view.history.events {
        match *event {
            Event::HighWatermark { asked_ms, time_ms, source, place, offset } => {
                let (known, answers) = sequences.entry((source, place)).or_default();
                known.push(Known { time_ms, offset, how: "was reported" });
                answers.push(Answer { asked_ms, offset });
            }
            Event::Seen { time_ms, place, offset, .. } => {
                let (known, _) = sequences.entry((WatermarkSource::Leader, place)).or_default();
                known.push(Known { time_ms, offset: offset + 1, how: "follows from a read" });
            }
            _ => {}
        }
    }
    for ((source, place), (known, answers)) in sequences {
        check_sequence(findings, source, place, known, answers);
    }
}

fn check_sequence(
    findings: &mut Findings,
    source: WatermarkSource,
    place: Place,
    mut known: Vec<Known>,
    mut answers: Vec<Answer>,
) {
    known.sort_by_key(|known| known.time_ms);
    answers.sort_by_key(|answer| answer.asked_ms);
    let mut known = known.into_iter().peekable();
    let mut greatest: Option<Known> = None;
    for Answer { asked_ms, offset } in answers {
        while let Some(next) = known.next_if(|next| next.time_ms < asked_ms) {
            if greatest.as_ref().is_none_or(|greatest| next.offset > greatest.offset) {
                greatest = Some(next);
            }
        }
        if let Some(before) = greatest.as_ref().filter(|before| before.offset > offset) {
            let text = format!(
                "{source:?} answered {offset} when asked at {asked_ms} ms, though {} {} at {} ms",
                before.offset, before.how, before.time_ms
            );
            findings.at("high_watermark", place, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, SYNC, finds, passes};
    use crate::history::WatermarkSource::{Leader, Node};

    #[test]
    fn a_high_watermark_that_goes_back() {
        for source in [Leader, Node { node: 1, incarnation: 0 }] {
            let mut plant = Plant::clean();
            plant.watermark(source, SYNC, 0, (1_000, 1_010), 3);
            plant.watermark(source, SYNC, 0, (1_020, 1_030), 2);
            finds(&plant, "high_watermark");
        }
    }

    #[test]
    fn a_high_watermark_below_a_record_that_was_seen() {
        let mut plant = Plant::clean();
        plant.watermark(Leader, SYNC, 0, (90_000, 90_010), 1);
        finds(&plant, "high_watermark");
    }

    #[test]
    fn overlapping_questions_and_a_restarted_follower_are_fine() {
        let mut plant = Plant::clean();
        plant.watermark(Leader, SYNC, 0, (10, 1_010), 3);
        plant.watermark(Leader, SYNC, 0, (5, 1_030), 0);
        plant.watermark(Node { node: 1, incarnation: 0 }, SYNC, 0, (1_000, 1_010), 3);
        plant.watermark(Node { node: 1, incarnation: 1 }, SYNC, 0, (1_020, 1_030), 0);
        passes(&plant);
    }
}
