//! A load that goes on while something else happens.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Cluster, Produced};

/// Ends a load when it is dropped, also by an assertion that fails.
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One record after the other, wherever the leader is. Gives the values that were acknowledged.
pub fn produce_until(cluster: &Cluster, topic: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut client = None;
    for i in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = i.to_string();
        let connected = client.get_or_insert_with(|| {
            let leader = cluster.node(0).client().leader(topic).unwrap_or(0);
            cluster.node(leader).client()
        });
        let produced: io::Result<Produced> = connected.produce(topic, &value);
        match produced {
            Ok(produced) if produced.error_code == 0 => acknowledged.push(value),
            // Leadership moves.
            _ => client = None,
        }
    }
    acknowledged
}
