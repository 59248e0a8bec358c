//! A node joins the cluster, or leaves it, while other faults go on: a command of the operator is begun, and looked at between the faults.
//! No mode may lose anything by it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scene;
use crate::cluster::Step;
use crate::history::{Event, Fault};

/// How long a change may take when there are no faults any more.
const LIMIT: Duration = Duration::from_secs(60);
/// A node that was taken out ends by itself.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Begins a change, if none is under way.
pub fn change(scene: &mut Scene) -> Result<()> {
    match scene.cluster.guest().map(|guest| (guest.id(), guest.is_member())) {
        None => {
            let node = scene.cluster.invite()?;
            scene.begin(node, Fault::Members, "joins");
        }
        Some((node, true)) => {
            scene.begin(node, Fault::Members, "leaves");
            scene.cluster.guest_mut().expect("it is a member").ask_to_leave();
        }
        Some((_, false)) => {}
    }
    tend(scene).map(|_| ())
}

/// Looks at the change that is under way, if there is one. Whether it has come to its end.
pub fn tend(scene: &mut Scene) -> Result<bool> {
    if scene.cluster.guest().is_some_and(|guest| !guest.is_member()) { look(scene) } else { Ok(false) }
}

/// Waits, after the faults, for the change that is under way.
pub fn finish(scene: &mut Scene) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while let Some(node) = scene.cluster.guest().filter(|guest| !guest.is_member()).map(|guest| guest.id()) {
        if tend(scene)? {
            continue;
        }
        if Instant::now() >= end {
            let waited_ms = LIMIT.as_millis() as u64;
            scene.shared.recorder.record(Event::NodeNotReady { node, waited_ms });
            break;
        }
        scene.wait(Duration::from_millis(100))?;
    }
    Ok(())
}

fn look(scene: &mut Scene) -> Result<bool> {
    let Some((node, step)) = scene.cluster.guest_step()? else { return Ok(false) };
    match step {
        Step::Waits => return Ok(false),
        Step::Again => {
            scene.note(&format!("the command that changes node {node} failed, and is run again"));
            return Ok(false);
        }
        Step::Joined => {}
        Step::Left => {
            if !scene.cluster.see_off(END_LIMIT)? {
                scene.not_ended(node, "it was removed from the cluster and runs on");
            }
        }
    }
    scene.end(node);
    Ok(true)
}
