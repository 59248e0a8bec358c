//! What happens between the nodes. Clients reach every node all the time: one that is cut off must not answer them as if it were not.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;

use super::Scene;
use crate::history::Fault;
use crate::net::Link;

/// From less than an election time-out to longer than a connection is kept without an answer.
const CUT_MS: Range<u64> = 300..7_500;
const SLOW_MS: Range<u64> = 1_500..5_000;
/// Added to each direction; election time-outs begin at 250 ms.
const DELAY_MS: Range<u64> = 10..250;
const RESETS: Range<u64> = 3..15;
const BETWEEN_RESETS_MS: Range<u64> = 30..400;

pub fn partition(scene: &mut Scene) -> Result<()> {
    if scene.chance(1, 5) {
        let (all, links) = (scene.slots(), ordered_pairs(scene));
        return cut(scene, &all, &links, "all apart");
    }
    let node = scene.victim();
    let links = ordered_pairs(scene).into_iter().filter(|(from, to)| *from == node || *to == node).collect::<Vec<_>>();
    cut(scene, &[node], &links, "alone")
}

pub fn one_way(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let is_deaf = scene.chance(1, 2);
    let is_cut = |(from, to): &(u32, u32)| if is_deaf { *to == node } else { *from == node };
    let links = ordered_pairs(scene).into_iter().filter(is_cut).collect::<Vec<_>>();
    cut(scene, &[node], &links, if is_deaf { "hears nobody" } else { "is heard by nobody" })
}

pub fn ring(scene: &mut Scene) -> Result<()> {
    let nodes = scene.shuffled_slots();
    let next = |node: u32| {
        let place = nodes.iter().position(|other| *other == node).expect("one of the nodes");
        nodes[(place + 1) % nodes.len()]
    };
    let links = ordered_pairs(scene).into_iter().filter(|(from, to)| next(*from) != *to).collect::<Vec<_>>();
    cut(scene, &nodes, &links, &format!("each hears only the one before it in {nodes:?}"))
}

/// Each may keep, lose or win leadership at any moment as long as it lasts: the third node hears both.
pub fn pair(scene: &mut Scene) -> Result<()> {
    let slots = scene.shuffled_slots();
    let (one, other) = (slots[0], slots[1]);
    let nodes = [scene.node_at(one), scene.node_at(other)];
    for (node, peer) in [(nodes[0], nodes[1]), (nodes[1], nodes[0])] {
        scene.begin(node, Fault::Links, &format!("does not reach node {peer}"));
    }
    hold(scene, &[(one, other), (other, one)])?;
    nodes.iter().for_each(|node| scene.end(*node));
    Ok(())
}

pub fn delay(scene: &mut Scene) -> Result<()> {
    let delay = scene.millis(DELAY_MS);
    let slots = if scene.chance(1, 3) { scene.slots() } else { vec![scene.victim()] };
    let nodes: Vec<u32> = slots.iter().map(|slot| scene.node_at(*slot)).collect();
    for node in &nodes {
        scene.begin(*node, Fault::Links, &format!("{} ms more on each way", delay.as_millis()));
    }
    for (from, to) in ordered_pairs(scene) {
        if slots.contains(&from) || slots.contains(&to) {
            scene.cluster.network().set(from, to, Link::Slow(delay));
        }
    }
    let length = scene.millis(SLOW_MS);
    scene.wait(length)?;
    scene.cluster.network().heal();
    nodes.iter().for_each(|node| scene.end(*node));
    Ok(())
}

pub fn reset(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let count = scene.millis(RESETS).as_millis();
    scene.begin(node, Fault::Links, &format!("{count} resets of all connections with its peers"));
    for _ in 0..count {
        for peer in scene.slots().into_iter().filter(|peer| *peer != node) {
            scene.cluster.network().reset(node, peer);
        }
        let pause = scene.millis(BETWEEN_RESETS_MS);
        scene.wait(pause)?;
    }
    scene.end(node);
    Ok(())
}

/// Who has these places reaches no quorum.
fn cut(scene: &mut Scene, slots: &[u32], links: &[(u32, u32)], detail: &str) -> Result<()> {
    let nodes: Vec<u32> = slots.iter().map(|slot| scene.node_at(*slot)).collect();
    for node in &nodes {
        scene.begin(*node, Fault::CutOff, detail);
    }
    hold(scene, links)?;
    nodes.iter().for_each(|node| scene.end(*node));
    Ok(())
}

/// Half of the time connections do not survive it, so that what waited on them never arrives.
fn hold(scene: &mut Scene, links: &[(u32, u32)]) -> Result<()> {
    let length = scene.millis(CUT_MS);
    let is_reset = scene.chance(1, 2);
    for (from, to) in links {
        scene.cluster.network().set(*from, *to, Link::Held);
    }
    scene.wait(length)?;
    if is_reset {
        links.iter().for_each(|(from, to)| scene.cluster.network().reset(*from, *to));
        scene.wait(Duration::from_millis(20))?;
    }
    scene.cluster.network().heal();
    Ok(())
}

fn ordered_pairs(scene: &Scene) -> Vec<(u32, u32)> {
    let slots = scene.slots();
    let pairs = slots.iter().flat_map(|from| slots.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}
