//! Nodes that die, stop, lose their leadership or their disk.

use std::sync::Arc;
use std::time::Duration;

use duolog_chaos::history::{Event, Fault};
use duolog_types::{BrokerGroupId, NodeId};

use super::{Ending, World};
use crate::node::{BROKER_GROUPS, Crash, REMOVED, SimNode, Standing, host};
use crate::process::Process;

const DOWN_MS: std::ops::Range<u64> = 20..3_000;
const PAUSED_MS: std::ops::Range<u64> = 50..4_000;
/// Two losses of power within the time that a flush may wait and take are one of both machines.
const POWER_LOSSES_APART: Duration = Duration::from_millis(1_000);

impl World {
    fn node(&self, node: u32) -> &Arc<SimNode> {
        &self.clients.cluster.nodes[node as usize]
    }

    pub(super) fn kill(&mut self, node: u32) {
        if self.reach.is_up(node) {
            self.crash(node, Crash::Kill);
        }
    }

    /// Not when another one is down: a loss of two machines may take what a topic with asynchronous flush has acknowledged.
    pub(super) fn lose_power(&mut self, node: u32) {
        if self.may_lose_power() && self.reach.is_up(node) {
            self.crash(node, Crash::PowerLoss);
        }
    }

    pub(super) fn may_lose_power(&self) -> bool {
        let all_up = self.present().into_iter().chain(self.members.voters()).all(|node| self.reach.is_up(node));
        all_up && self.power_lost_at.is_none_or(|at| at + POWER_LOSSES_APART <= self.sim.elapsed())
    }

    pub(super) fn crash(&mut self, node: u32, how: Crash) {
        let time = self.random.ms(DOWN_MS);
        self.crash_for(node, how, time);
    }

    pub(super) fn crash_for(&mut self, node: u32, how: Crash, time: Duration) {
        self.tell(&format!("{how:?} of node {node}"));
        self.record_begin(node, Fault::Kill);
        self.count(if how == Crash::Kill { "fault: kill" } else { "fault: loss of power" });
        if how == Crash::PowerLoss {
            self.power_lost_at = Some(self.sim.elapsed());
        }
        self.take_down(node, how);
        self.end_after(time, Ending::Start(node));
    }

    /// A node finds the state of a broker group damaged when it starts again.
    pub(super) fn damage_state(&mut self, node: u32) {
        if self.reach.is_up(node) {
            let group = self.some_broker_group();
            self.tell(&format!("the state of broker group {group} of node {node} is damaged"));
            self.count("fault: damaged state");
            self.crash(node, Crash::Kill);
            self.node(node).damage_state(group);
        }
    }

    fn some_broker_group(&mut self) -> BrokerGroupId {
        BrokerGroupId(self.random.below(u64::from(BROKER_GROUPS)) as u32)
    }

    pub(super) fn take_down(&mut self, node: u32, how: Crash) {
        self.node(node).crash(how);
        drop(self.processes.remove(&node));
        self.sim.crash(host(node));
        self.reach.set_up(node, false);
    }

    /// Unless it is gone for good.
    pub(super) fn start(&mut self, node: u32) {
        if !self.node(node).is_present() {
            return;
        }
        self.power_on(node);
        self.reach.set_up(node, true);
        self.record_end(node);
    }

    fn power_on(&mut self, node: u32) {
        self.node(node).renew_machine();
        self.sim.bounce(host(node));
        self.start_process(node);
    }

    /// A node's process begins, on a machine that is up.
    pub fn start_process(&mut self, node: u32) {
        self.processes.insert(node, Process::start(host(node), self.node(node).clone().run()));
    }

    /// The process stands still for a while (SIGSTOP), and its machine does not.
    pub(super) fn pause(&mut self, node: u32) {
        if !self.reach.is_up(node) {
            return;
        }
        let time = self.random.ms(PAUSED_MS);
        self.tell(&format!("node {node} stands still for {time:?}"));
        self.count("fault: paused process");
        self.record_begin(node, Fault::Pause);
        let now = self.sim.elapsed();
        if let Some(process) = self.processes.get_mut(&node) {
            process.pause(now);
        }
        self.reach.set_up(node, false);
        self.end_after(time, Ending::Resume(node));
    }

    pub(super) fn resume(&mut self, node: u32) {
        let now = self.sim.elapsed();
        if let Some(process) = self.processes.get_mut(&node).filter(|process| process.is_paused()) {
            process.resume(now);
            self.reach.set_up(node, true);
            self.record_end(node);
        }
    }

    /// A planned stop and a start. It is no excuse for anything: whoever is acknowledged is kept.
    pub(super) fn stop(&mut self, node: u32) {
        if self.reach.is_up(node) && self.node(node).stop() {
            self.tell(&format!("node {node} stops"));
            self.count("fault: planned stop");
        }
    }

    /// A broker group's leader hands over to somebody.
    pub(super) fn transfer(&mut self, to: u32) {
        let group = self.some_broker_group();
        self.tell(&format!("whoever leads broker group {group} hands over to node {to}"));
        let nodes = self.clients.cluster.nodes.iter();
        if nodes.filter(|node| node.transfer(group, NodeId(u64::from(to)))).count() > 0 {
            self.count("fault: transfer of leadership");
        }
    }

    /// A node starts with an empty disk, as if somebody had mounted the wrong one.
    pub(super) fn swap_disk(&mut self, node: u32) {
        if !self.reach.is_up(node) {
            return;
        }
        self.tell(&format!("node {node} gets an empty disk"));
        self.count("fault: empty disk");
        let is_waiting = self.node(node).has_taken_part() == Some(false);
        self.record_begin(node, Fault::Kill);
        self.take_down(node, Crash::Kill);
        self.node(node).use_empty_disk();
        // It counts as down: it must not take part.
        self.power_on(node);
        let time = self.random.ms(500..4_000);
        self.end_after(time, Ending::OwnDisk { node, is_waiting });
    }

    /// `is_waiting`: it had not been let in yet, so that it may have been with the empty disk.
    pub(super) fn own_disk(&mut self, node: u32, is_waiting: bool) {
        let has_taken_part = self.node(node).has_taken_part() == Some(true);
        self.take_down(node, Crash::Kill);
        if has_taken_part && is_waiting {
            self.tell(&format!("node {node} was let in with the empty disk and keeps it"));
            self.node(node).keep_disk();
        } else {
            if has_taken_part {
                self.broken.push(format!("node {node} took part with an empty disk, at {} ms", self.now_ms()));
            }
            self.node(node).use_own_disk();
        }
        self.start(node);
    }

    /// Whether a node was taken out, or may be any moment.
    fn is_leaving(&self, node: u32) -> bool {
        self.node(node).standing() == Standing::Leaving || self.members.is_going(node)
    }

    /// Nodes that have ended by themselves.
    pub fn bury(&mut self) {
        for node in 0..self.node_count() {
            let Some(end) = self.node(node).take_end() else { continue };
            self.tell(&format!("node {node} has ended: {end:?}"));
            match end {
                crate::node::End::Stopped => {
                    self.take_down(node, Crash::Kill);
                    let time = self.random.ms(DOWN_MS);
                    self.end_after(time, Ending::Start(node));
                }
                crate::node::End::Failed { reason, .. } if self.is_leaving(node) && reason.contains(REMOVED) => {
                    self.take_down(node, Crash::Kill);
                    self.node(node).set_standing(Standing::Gone);
                }
                crate::node::End::Failed { reason, is_expected } => {
                    self.count("a node ended by itself");
                    if !is_expected {
                        let time_ms = self.now_ms();
                        self.clients.recorder.record(Event::NodeExited { time_ms, node, status: reason });
                    }
                    // A node with a foreign disk waits for its own.
                    if !self.reach.is_up(node) {
                        self.take_down(node, Crash::Kill);
                    } else {
                        let power = self.may_lose_power() && self.random.one_in(3);
                        self.crash(node, if power { Crash::PowerLoss } else { Crash::Kill });
                    }
                }
            }
        }
    }
}
