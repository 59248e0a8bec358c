//! The four watermarks of a broker group on its leader.
//!
//! ```text
//!   appended  ≥ received        written to the page cache: of the leader / of a quorum
//!   appended  ≥ flushed         on the disk of the leader
//!   received  ≥ committed       on the disks of a quorum
//! ```
//!
//! Invariants: a watermark never goes back within a term; `received` counts a mark only if its term is the leader's own
//! (Raft §5.4.2: an entry of an earlier term says nothing until an entry of this term follows it); the quorum is that of the
//! effective membership, joint configurations included, learners never.

use std::collections::{BTreeMap, BTreeSet};

/// How far the log of the leader has come, as the *next* log index: everything below it has reached the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// The leader's term; 0 when this node does not lead.
    pub term: u64,
    /// Written to the leader's log.
    pub appended_next: u64,
    /// Flushed by the leader.
    pub flushed_next: u64,
    /// Written to the log of a quorum.
    pub received_next: u64,
    /// Flushed by a quorum: Raft's commit index.
    pub committed_next: u64,
}

/// A position in a log: term and index of its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The entry's term.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
}

/// What a majority of the voters of every configuration has reached at least; `T::default()` where there is none.
///
/// More than one configuration while the membership changes. Who is in none, a learner, does not count.
pub(crate) fn quorum_of<T: Ord + Copy + Default>(configurations: &[BTreeSet<u64>], reached: impl Fn(u64) -> T) -> T {
    let of_voters = |voters: &BTreeSet<u64>| {
        let mut values: Vec<T> = voters.iter().map(|id| reached(*id)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        // The majority's smallest: with three voters the second largest.
        values.get(voters.len() / 2).copied().unwrap_or_default()
    };
    configurations.iter().map(of_voters).min().unwrap_or_default()
}

/// The next index that a quorum of every configuration has received in `term`; 0 when there is none.
///
/// `marks` holds the last mark of each member, the leader's own included.
#[must_use]
pub fn quorum_received_next(configurations: &[BTreeSet<u64>], marks: &BTreeMap<u64, Mark>, term: u64) -> u64 {
    quorum_of(configurations, |id| marks.get(&id).filter(|mark| mark.term == term).map_or(0, |mark| mark.index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts for every index whether a majority of each configuration has it.
    fn naive(configurations: &[BTreeSet<u64>], marks: &BTreeMap<u64, Mark>, term: u64) -> u64 {
        let has = |id: &u64, index: u64| marks.get(id).is_some_and(|m| m.term == term && m.index >= index);
        (0..12u64)
            .take_while(|index| {
                !configurations.is_empty()
                    && configurations
                        .iter()
                        .all(|voters| voters.iter().filter(|id| has(id, *index)).count() * 2 > voters.len())
            })
            .count() as u64
    }

    #[test]
    fn the_quorum_is_the_naive_one_for_every_small_case() {
        let configurations: Vec<Vec<BTreeSet<u64>>> = vec![
            vec![BTreeSet::from([0])],
            vec![BTreeSet::from([0, 1])],
            vec![BTreeSet::from([0, 1, 2])],
            vec![BTreeSet::from([0, 1, 2]), BTreeSet::from([1, 2, 3])],
            vec![BTreeSet::from([0, 1, 2, 3])],
        ];
        let mut random = 88_172_645_463_325_252_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..20_000 {
            let configuration = &configurations[draw(configurations.len() as u64) as usize];
            let mut marks = BTreeMap::new();
            for id in 0..5 {
                if draw(4) > 0 {
                    marks.insert(id, Mark { term: 6 + draw(2), index: draw(10) });
                }
            }
            assert_eq!(
                quorum_received_next(configuration, &marks, 7),
                naive(configuration, &marks, 7),
                "{configuration:?} {marks:?}"
            );
        }
    }

    #[test]
    fn a_mark_of_another_term_does_not_count() {
        let voters = [BTreeSet::from([0, 1, 2])];
        let marks = BTreeMap::from([
            (0, Mark { term: 7, index: 9 }),
            (1, Mark { term: 6, index: 9 }),
            (2, Mark { term: 6, index: 9 }),
        ]);
        assert_eq!(quorum_received_next(&voters, &marks, 7), 0);
    }

    #[test]
    fn a_learner_never_counts() {
        let voters = [BTreeSet::from([0, 1, 2])];
        let marks = BTreeMap::from([(0, Mark { term: 7, index: 4 }), (9, Mark { term: 7, index: 4 })]);
        assert_eq!(quorum_received_next(&voters, &marks, 7), 0);
    }
}
