//! Who can be a leader: a node that reaches no majority is cut off, whichever fault did it. What such a node has acknowledged with
//! asynchronous replication within its last lease may be lost.

use std::collections::BTreeMap;

/// Which nodes run, and which directions are cut.
pub struct Reach {
    up: Vec<bool>,
    /// Several faults may cut the same direction.
    cuts: BTreeMap<(u32, u32), Cuts>,
    /// What each node reached at the last look: surely, and if every doubtful connection is dead.
    reached: Vec<[bool; 2]>,
    /// The sets of voters that may count: two while they are being changed.
    configurations: Vec<Vec<u32>>,
}

#[derive(Default)]
struct Cuts {
    sure: u32,
    /// Nothing is lost any more, but a connection that has lost something may not be given up yet.
    doubtful: u32,
}

/// A node's way to a majority has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Lost(u32),
    Found(u32),
}

impl Reach {
    /// The first `voters` of so many nodes are up.
    pub fn new(voters: u32, nodes: u32) -> Self {
        Self {
            up: (0..nodes).map(|node| node < voters).collect(),
            cuts: BTreeMap::new(),
            reached: vec![[true; 2]; nodes as usize],
            configurations: vec![(0..voters).collect()],
        }
    }

    pub fn set_configurations(&mut self, configurations: Vec<Vec<u32>>) {
        self.configurations = configurations;
    }

    pub fn set_up(&mut self, node: u32, is_up: bool) {
        self.up[node as usize] = is_up;
    }

    pub fn is_up(&self, node: u32) -> bool {
        self.up[node as usize]
    }

    pub fn cut(&mut self, from: u32, to: u32) {
        self.cuts.entry((from, to)).or_default().sure += 1;
    }

    pub fn mend(&mut self, from: u32, to: u32) {
        self.cuts.entry((from, to)).or_default().sure -= 1;
    }

    pub fn doubt(&mut self, from: u32, to: u32) {
        self.cuts.entry((from, to)).or_default().doubtful += 1;
    }

    pub fn trust(&mut self, from: u32, to: u32) {
        self.cuts.entry((from, to)).or_default().doubtful -= 1;
    }

    /// Whether a node that is up reaches a majority, itself included, in both directions, of every set of voters that may count.
    fn reaches(&self, node: u32, is_cut: impl Fn(&Cuts) -> bool) -> bool {
        let is_open = |from, to| !self.cuts.get(&(from, to)).is_some_and(&is_cut);
        let is_reached =
            |other: u32| other == node || (self.is_up(other) && is_open(node, other) && is_open(other, node));
        let has_majority =
            |voters: &Vec<u32>| voters.iter().filter(|voter| is_reached(**voter)).count() > voters.len() / 2;
        self.configurations.iter().all(has_majority)
    }

    /// What has changed since the last call, of nodes that are up.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for node in 0..self.up.len() as u32 {
            let surely = self.reaches(node, |cuts| cuts.sure > 0);
            let at_worst = self.reaches(node, |cuts| cuts.sure + cuts.doubtful > 0);
            let before = std::mem::replace(&mut self.reached[node as usize], [surely, at_worst]);
            if !self.is_up(node) {
                continue;
            }
            if (before[0] && !surely) || (before[1] && !at_worst) {
                changes.push(Change::Lost(node));
            } else if !before[1] && at_worst {
                changes.push(Change::Found(node));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_whose_followers_go_is_cut_off() {
        let mut reach = Reach::new(3, 3);
        reach.set_up(1, false);
        assert_eq!(reach.changes(), []);
        reach.cut(2, 0);
        assert_eq!(reach.changes(), [Change::Lost(0), Change::Lost(2)]);
        reach.cut(2, 0);
        reach.mend(2, 0);
        assert_eq!(reach.changes(), []);
        reach.mend(2, 0);
        assert_eq!(reach.changes(), [Change::Found(0), Change::Found(2)]);
    }

    #[test]
    fn one_link_of_three_may_fail() {
        let mut reach = Reach::new(3, 3);
        reach.cut(0, 1);
        reach.cut(1, 0);
        assert_eq!(reach.changes(), []);
        reach.cut(0, 2);
        assert_eq!(reach.changes(), [Change::Lost(0)]);
    }

    #[test]
    fn while_the_voters_change_both_majorities_count() {
        let mut reach = Reach::new(3, 4);
        reach.set_configurations(vec![vec![0, 1, 2], vec![0, 1, 2, 3]]);
        reach.set_up(2, false);
        assert_eq!(reach.changes(), [Change::Lost(0), Change::Lost(1)]);
        reach.set_up(3, true);
        // The new one counts as having lost nothing: it has led nothing yet.
        assert_eq!(reach.changes(), [Change::Found(0), Change::Found(1)]);
        reach.set_configurations(vec![vec![0, 1]]);
        assert_eq!(reach.changes(), []);
    }

    #[test]
    fn a_cut_counts_though_an_earlier_one_may_not_be_over() {
        let mut reach = Reach::new(3, 3);
        let (cut, lost) = ([(0, 1), (0, 2)], [Change::Lost(0)]);
        cut.iter().for_each(|(from, to)| reach.cut(*from, *to));
        assert_eq!(reach.changes(), lost);
        for (from, to) in cut {
            reach.mend(from, to);
            reach.doubt(from, to);
        }
        assert_eq!(reach.changes(), []);
        cut.iter().for_each(|(from, to)| reach.cut(*from, *to));
        assert_eq!(reach.changes(), lost);
        for (from, to) in cut {
            reach.mend(from, to);
            reach.trust(from, to);
        }
        assert_eq!(reach.changes(), [Change::Found(0)]);
    }
}
