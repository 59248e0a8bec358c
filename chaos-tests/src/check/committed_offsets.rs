//! A group's committed offset never goes back and never vanishes, except by a reported pull-back, and every record
//! below it was given to a member.
//!
//! A commit whose fate is unknown may still take effect later: an answer that equals such a commit is not held against the
//! broker.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, View};
use crate::history::{Event, Place};

/// Everything about one group's offset in one partition, in the order of recording.
#[derive(Default)]
struct Partition {
    /// (time from which it binds, offset): promised commits and answers.
    known: Vec<(u64, i64)>,
    unknown_commits: BTreeSet<i64>,
    pull_backs: Vec<(u64, i64)>,
    answers: Vec<Answer>,
    greatest_commit: i64,
    delivered: BTreeSet<i64>,
}

struct Answer {
    asked_ms: u64,
    time_ms: u64,
    offset: Option<i64>,
    what: &'static str,
}

pub fn check(view: &View, findings: &mut Findings) {
    for (place, partition) in collect(view) {
        for answer in &partition.answers {
            check_answer(findings, place, &partition, answer);
        }
        let missed: Vec<i64> =
            (0..partition.greatest_commit).filter(|offset| !partition.delivered.contains(offset)).collect();
        if let Some(first) = missed.first() {
            let text = format!(
                "{} records below the committed offset {} were given to no member, the first at offset {first}",
                missed.len(),
                partition.greatest_commit
            );
            findings.at("committed_offsets", place, text);
        }
    }
}

fn check_answer(findings: &mut Findings, place: Place, partition: &Partition, answer: &Answer) {
    let pulled_back = partition.pull_backs.iter().filter(|(time_ms, _)| *time_ms <= answer.time_ms).max();
    let binding = |time_ms: u64| time_ms < answer.asked_ms && pulled_back.is_none_or(|(at_ms, _)| time_ms > *at_ms);
    let promised = partition.known.iter().filter(|(time_ms, _)| binding(*time_ms)).max_by_key(|(_, offset)| *offset);
    let Some(&(promised_ms, promised)) = promised else { return };
    let kept = answer.offset.is_some_and(|offset| offset >= promised || partition.unknown_commits.contains(&offset));
    if !kept {
        let text = format!(
            "{} {:?} at {} ms, though offset {promised} was committed at {promised_ms} ms",
            answer.what, answer.offset, answer.time_ms
        );
        findings.at("committed_offsets", place, text);
    }
}

fn collect(view: &View) -> BTreeMap<Place, Partition> {
    let mut partitions: BTreeMap<Place, Partition> = BTreeMap::new();
    // A member's assignment, until its first record shows where it began.
    let mut beginning: BTreeMap<(u32, Place), u64> = BTreeMap::new();
    let mut members = BTreeSet::new();
    for event in &view.history.events {
        match *event {
            Event::CommitAcked { time_ms, place, offset, .. } => {
                let partition = partitions.entry(place).or_default();
                partition.known.push((time_ms, offset));
                partition.greatest_commit = partition.greatest_commit.max(offset);
            }
            Event::CommitUnknown { place, offset, .. } => {
                partitions.entry(place).or_default().unknown_commits.insert(offset);
            }
            Event::CommittedRead { asked_ms, time_ms, place, offset } => {
                let partition = partitions.entry(place).or_default();
                partition.known.extend(offset.map(|offset| (time_ms, offset)));
                partition.answers.push(Answer { asked_ms, time_ms, offset, what: "the broker answered" });
            }
            Event::PulledBack { time_ms, place, offset } => {
                partitions.entry(place).or_default().pull_backs.push((time_ms, offset));
            }
            Event::Assigned { time_ms, reader, place } => {
                members.insert(reader);
                beginning.insert((reader, place), time_ms);
            }
            Event::Seen { time_ms, reader, place, offset, .. } if members.contains(&reader) => {
                let partition = partitions.entry(place).or_default();
                partition.delivered.insert(offset);
                if let Some(asked_ms) = beginning.remove(&(reader, place)) {
                    let what = "a member began at";
                    partition.answers.push(Answer { asked_ms, time_ms, offset: Some(offset), what });
                }
            }
            _ => {}
        }
    }
    partitions
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{MEMBER, Plant, SYNC, finds, passes};
    use crate::history::{Event, Place};

    const PLACE: Place = Place { topic: SYNC, partition: 0 };

    fn with(events: impl IntoIterator<Item = Event>) -> Plant {
        let mut plant = Plant::clean();
        plant.history.events.extend(events);
        plant
    }

    fn committed(time_ms: u64, offset: i64) -> Event {
        Event::CommitAcked { asked_ms: time_ms - 10, time_ms, place: PLACE, offset }
    }

    fn read(time_ms: u64, offset: Option<i64>) -> Event {
        Event::CommittedRead { asked_ms: time_ms - 10, time_ms, place: PLACE, offset }
    }

    #[test]
    fn a_committed_offset_that_goes_back() {
        finds(&with([committed(20_000, 200), read(20_100, Some(199))]), "committed_offsets");
        finds(&with([read(20_000, Some(200)), read(20_100, Some(199))]), "committed_offsets");
    }

    #[test]
    fn a_committed_offset_that_vanishes() {
        finds(&with([committed(20_000, 200), read(20_100, None)]), "committed_offsets");
    }

    #[test]
    fn a_member_that_begins_below_the_committed_offset() {
        let value = Plant::clean().final_at(SYNC, 0, 150);
        let assigned = Event::Assigned { time_ms: 20_100, reader: MEMBER, place: PLACE };
        let seen = Event::Seen { time_ms: 20_200, reader: MEMBER, place: PLACE, offset: 150, value };
        finds(&with([committed(20_000, 200), assigned, seen]), "committed_offsets");
    }

    #[test]
    fn a_commit_past_records_that_no_member_was_given() {
        let mut plant = with([committed(20_000, 200)]);
        plant.unsee(MEMBER, SYNC, 0, 150);
        finds(&plant, "committed_offsets");
    }

    #[test]
    fn overlaps_unknown_commits_and_reported_pull_backs_are_fine() {
        passes(&with([committed(20_000, 200), read(20_005, Some(120)), read(20_100, Some(201))]));
        let error = "timed out".to_string();
        let unknown = Event::CommitUnknown { asked_ms: 19_000, time_ms: 20_000, place: PLACE, offset: 190, error };
        passes(&with([unknown, committed(20_010, 200), read(20_100, Some(190))]));
        let pulled_back = Event::PulledBack { time_ms: 20_050, place: PLACE, offset: 180 };
        passes(&with([committed(20_000, 200), pulled_back, read(20_100, Some(180))]));
    }
}
