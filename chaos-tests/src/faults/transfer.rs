//! Leadership moves twice under load, without any process lost: a node that is stopped cleanly gives it away, and Kafka's
//! ElectLeaders asks it back. No mode may lose anything by it.

use std::io::{Read, Result as IoResult, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Scene, clean_stop};
use crate::history::Fault;

/// The node must have caught up before it is given leadership.
const READY_LIMIT: Duration = Duration::from_secs(20);
const ASK_LIMIT: Duration = Duration::from_secs(5);
const TIMES: u32 = 3;
const PAUSE_MS: std::ops::Range<u64> = 50..400;

const ELECT_LEADERS: i16 = 43;
/// The first version that can ask for the preferred leaders of all partitions.
const VERSION: i16 = 1;
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub fn transfer(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    clean_stop::one(scene, node)?;
    scene.wait_healthy_within(READY_LIMIT, Instant::now() + READY_LIMIT)?;
    let ports: Vec<u16> = scene.cluster.nodes().iter().map(|node| node.ports.kafka).collect();
    scene.begin(node, Fault::Transfer, "ElectLeaders");
    for _ in 0..TIMES {
        // Whether a leader moves is up to the cluster: a node may be behind, or elections under way.
        let answers = ports.iter().filter_map(|port| elect_preferred(*port).ok()).count();
        if answers == 0 {
            scene.wait(ASK_LIMIT)?;
        }
        let pause = scene.millis(PAUSE_MS);
        scene.wait(pause)?;
    }
    scene.end(node);
    Ok(())
}

/// Asks a node to give every partition to its preferred leader. librdkafka has no call for it in Rust.
fn elect_preferred(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ASK_LIMIT)?;
    stream.set_read_timeout(Some(ASK_LIMIT))?;
    stream.set_write_timeout(Some(ASK_LIMIT))?;
    ask(&mut stream).with_context(|| format!("ElectLeaders at port {port}"))
}

/// ```text
/// request:  length i32 │ api key i16 │ version i16 │ correlation i32 │ client id "chaos" │ election type i8 = 0, preferred
///           │ topics i32 = −1, all │ time-out in ms i32                                          (all big-endian)
/// ```
fn ask(stream: &mut (impl Read + Write)) -> IoResult<()> {
    let mut body = Vec::new();
    body.extend(ELECT_LEADERS.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(5_i16.to_be_bytes());
    body.extend(b"chaos");
    body.push(0);
    body.extend((-1_i32).to_be_bytes());
    body.extend((ASK_LIMIT.as_millis() as i32).to_be_bytes());
    stream.write_all(&(body.len() as i32).to_be_bytes())?;
    stream.write_all(&body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0).min(ANSWER_BYTES_MAX);
    std::io::copy(&mut stream.take(length as u64), &mut std::io::sink())?;
    Ok(())
}
