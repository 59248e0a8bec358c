//! A node that an operator drains: it gives away what it leads, and leads nothing until that is taken back. A restart keeps it.

use std::time::Duration;

use duolog_replication::admin::{AdminReply, AdminRequest};
use tokio::time::{sleep, timeout};

use super::World;
use crate::node::{SimNode, Standing};

const DRAINED_MS: std::ops::Range<u64> = 1_000..8_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(300);
/// How long it may take to take it back when there are no faults any more.
const LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// One node at a time: of three, two more must be able to lead. It excuses nothing.
    pub(super) fn drain(&mut self, node: u32) {
        if !self.reach.is_up(node) || self.is_draining.get() {
            return;
        }
        self.tell(&format!("node {node} is drained"));
        self.count("fault: drained node");
        self.is_draining.set(true);
        let (is_draining, time) = (self.is_draining.clone(), self.random.ms(DRAINED_MS));
        let of = self.clients.cluster.nodes[node as usize].clone();
        self.sim.client(format!("drain-{}", self.round), async move {
            // A command that fails or is given up has done it, or has not.
            set_drained(&of, true).await;
            sleep(time).await;
            while of.standing() != Standing::Gone && !set_drained(&of, false).await {
                sleep(AGAIN).await;
            }
            is_draining.set(false);
            Ok(())
        });
    }

    /// Waits, without faults, until no node is drained.
    pub fn finish_drain(&mut self) -> turmoil::Result {
        let end = self.sim.elapsed() + LIMIT;
        self.steps(|world| world.is_draining.get() && world.sim.elapsed() < end)?;
        if self.is_draining.get() {
            self.broken.push(format!("a node is drained {LIMIT:?} after the faults"));
        }
        Ok(())
    }
}

/// Whether the node has done it.
async fn set_drained(node: &SimNode, on: bool) -> bool {
    let call = node.call(|broker| async move { broker.admin(AdminRequest::Drain { on }).await });
    matches!(timeout(CALL_TIMEOUT, call).await, Ok(Some(Ok(AdminReply::Done { .. }))))
}
