//! Faults of the network.

use std::time::Duration;

use super::{Ending, World};
use crate::node::host;

/// A one-way delay from which on a link counts as cut: an answer takes longer than a lease.
const DELAY_MS: std::ops::Range<u64> = 40..300;
/// Beyond the end of a fault that loses segments: connections that lost one are given up after seven seconds without a sign of life.
const STALE: Duration = Duration::from_millis(8_000);

/// What is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Nobody hears it, it hears nobody.
    Node(u32),
    /// Nobody hears it.
    Mute(u32),
    /// It hears nobody.
    Deaf(u32),
    /// Two nodes; both reach the third.
    Pair(u32, u32),
    /// One of two does not hear the other.
    OneWay(u32, u32),
    /// Only the next one hears it.
    Ring,
}

impl World {
    /// The directions of a cut, or of a part of the network.
    fn directions(&self, cut: Cut) -> Vec<(u32, u32)> {
        let nodes = self.present();
        let all = nodes.iter().flat_map(|from| nodes.iter().filter(move |to| from != *to).map(move |to| (*from, *to)));
        let next_of = |node: u32| nodes.iter().find(|other| **other > node).or(nodes.first()).copied();
        let is_cut = |(from, to): &(u32, u32)| match cut {
            Cut::Node(node) => *from == node || *to == node,
            Cut::Mute(node) => *from == node,
            Cut::Deaf(node) => *to == node,
            Cut::Pair(a, b) => (*from == a && *to == b) || (*from == b && *to == a),
            Cut::OneWay(a, b) => *from == a && *to == b,
            Cut::Ring => next_of(*from) != Some(*to),
        };
        all.filter(is_cut).collect()
    }

    fn some_pair(&mut self) -> (u32, u32) {
        let mut nodes = self.present();
        let a = self.some_of(&nodes);
        nodes.retain(|node| *node != a);
        (a, self.some_of(&nodes))
    }

    fn some_cut(&mut self) -> Cut {
        let (a, b) = self.some_pair();
        match self.random.below(10) {
            0..4 => Cut::Node(a),
            4 => Cut::Mute(a),
            5 => Cut::Deaf(a),
            6..8 => Cut::Pair(a, b),
            8 => Cut::OneWay(a, b),
            _ => Cut::Ring,
        }
    }

    /// One cut at a time: what is sent waits, or is lost.
    pub(super) fn cut(&mut self) {
        if self.is_under_way(|ending| matches!(ending, Ending::Held(_) | Ending::Lossy(_))) {
            return;
        }
        let cut = self.some_cut();
        let directions = self.directions(cut);
        let time = self.random.ms(100..5_000);
        if self.random.one_in(3) {
            self.count("fault: lossy cut");
            self.lose_sent(cut, directions, time);
        } else {
            self.count("fault: cut");
            self.tell(&format!("holds what is sent: {cut:?} for {time:?}"));
            for (from, to) in &directions {
                self.links.hold(*from, *to);
                self.reach.cut(*from, *to);
            }
            self.end_after(time, Ending::Held(directions));
        }
    }

    fn lose_sent(&mut self, cut: Cut, directions: Vec<(u32, u32)>, time: Duration) {
        self.tell(&format!("loses what is sent: {cut:?} for {time:?}"));
        for (from, to) in &directions {
            self.sim.partition_oneway(host(*from), host(*to));
            self.reach.cut(*from, *to);
        }
        self.end_after(time, Ending::Lossy(directions));
    }

    /// What is sent to a node is lost for a while.
    pub(super) fn make_deaf(&mut self, node: u32, time: Duration) {
        let cut = Cut::Deaf(node);
        self.lose_sent(cut, self.directions(cut), time);
    }

    pub(super) fn release(&mut self, directions: &[(u32, u32)]) {
        for (from, to) in directions {
            self.links.release(*from, *to);
            self.reach.mend(*from, *to);
        }
    }

    pub(super) fn repair(&mut self, directions: Vec<(u32, u32)>) {
        for (from, to) in &directions {
            self.sim.repair_oneway(host(*from), host(*to));
            self.reach.mend(*from, *to);
            self.reach.doubt(*from, *to);
        }
        self.end_after(STALE, Ending::Stale(directions));
    }

    pub(super) fn trust(&mut self, directions: &[(u32, u32)]) {
        for (from, to) in directions {
            self.reach.trust(*from, *to);
        }
    }

    /// The connections of two nodes break.
    pub(super) fn reset(&mut self) {
        let node = self.some_node();
        for other in self.present().into_iter().filter(|other| *other != node) {
            if self.random.one_in(2) {
                self.tell(&format!("resets {node} and {other}"));
                self.links.reset(node, other);
                self.count("fault: reset");
            }
        }
    }

    /// One link is slow.
    pub(super) fn delay(&mut self) {
        if self.is_under_way(|ending| matches!(ending, Ending::Delayed(..))) {
            return;
        }
        let (a, b) = self.some_pair();
        let (delay, time) = (self.random.ms(DELAY_MS), self.random.ms(500..5_000));
        self.tell(&format!("{a} and {b} are {delay:?} apart for {time:?}"));
        self.count("fault: slow link");
        self.sim.set_link_latency(host(a), host(b), delay);
        self.reach.cut(a, b);
        self.end_after(time, Ending::Delayed(a, b));
    }

    pub(super) fn undelay(&mut self, a: u32, b: u32) {
        self.sim.set_link_latency(host(a), host(b), super::LATENCY_MIN);
        self.sim.set_link_max_message_latency(host(a), host(b), self.latency_max);
        self.reach.mend(a, b);
    }
}
