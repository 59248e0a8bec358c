//! `up` and `down`: a cluster on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process::{self, NodeFiles};
use crate::{build, http, native, node_config};

const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const NODE_COUNT_MAX: u16 = 3;

/// One topic per durability mode: name, `duolog.replication`, `duolog.flush`.
const TOPICS: [(&str, &str, &str); 4] = [
    ("sync-sync", "sync", "sync"),
    ("sync-async", "sync", "async"),
    ("async-sync", "async", "sync"),
    ("async-async", "async", "async"),
];

#[derive(Args)]
pub struct UpOptions {
    /// 1 or 3.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Delete the data of earlier runs first.
    #[arg(long)]
    fresh: bool,
    /// Return when every node answers, and print the process ids.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub struct DownOptions {
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Place {
    /// Where the nodes keep data, configuration and logs. Default: duolog/up in the user's data directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

pub fn up(options: &UpOptions) -> Result<()> {
    ensure!(matches!(options.nodes, 1 | 3), "--nodes is 1 or 3, not {}", options.nodes);
    let dir = options.place.dir()?;
    let all = nodes_in(&dir, NODE_COUNT_MAX);
    let running = all.iter().filter(|node| node.pid().is_some()).count();
    ensure!(!options.fresh || running == 0, "a cluster runs in {}: stop it first (cargo xtask down)", dir.display());
    if options.fresh && dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot delete {}", dir.display()))?;
    }
    check_node_count(&dir, options.nodes)?;
    let nodes = nodes_in(&dir, options.nodes);
    if running == nodes.len() {
        println!("already running:");
        return print_endpoints(&nodes);
    }
    native::ensure()?;
    let binary = build::server()?;
    interrupt::listen();
    let mut started = Vec::new();
    for (id, node) in (0..).zip(&nodes) {
        if node.pid().is_none() {
            node_config::write(node, id, options.nodes)?;
            node.start(&binary)?;
            started.push(node.clone());
        }
    }
    let ready = wait_ready(&nodes).and_then(|()| create_topics(&binary, options.nodes));
    if let Err(error) = ready {
        process::stop(&started, STOP_LIMIT)?;
        return Err(error);
    }
    print_endpoints(&nodes)?;
    if options.detach {
        println!("stop with: cargo xtask down");
        return Ok(());
    }
    println!("stop with Ctrl-C; the data stays in {}", dir.display());
    stay(&nodes)
}

pub fn down(options: &DownOptions) -> Result<()> {
    let dir = options.place.dir()?;
    match process::stop(&nodes_in(&dir, NODE_COUNT_MAX), STOP_LIMIT)? {
        0 => println!("nothing runs in {}", dir.display()),
        count => println!("stopped {count} nodes; the data stays in {}", dir.display()),
    }
    Ok(())
}

impl Place {
    fn dir(&self) -> Result<PathBuf> {
        let dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => build::user_dir("XDG_DATA_HOME", ".local/share")?.join("duolog/up"),
        };
        // The path identifies our processes, so it must not depend on the current directory.
        Ok(std::path::absolute(dir)?)
    }
}

fn nodes_in(dir: &Path, node_count: u16) -> Vec<NodeFiles> {
    (0..node_count).map(|id| NodeFiles { dir: dir.join(format!("node-{id}")) }).collect()
}

/// A cluster keeps its size: its data names its members.
fn check_node_count(dir: &Path, node_count: u16) -> Result<()> {
    let file = dir.join("node-count");
    match fs::read_to_string(&file) {
        Ok(text) if text.trim() == node_count.to_string() => Ok(()),
        Ok(text) => bail!(
            "{} holds a cluster of {} nodes, not {node_count}: use --nodes {}, --fresh, or another --data-dir",
            dir.display(),
            text.trim(),
            text.trim()
        ),
        Err(_) => {
            fs::create_dir_all(dir)?;
            Ok(fs::write(file, node_count.to_string())?)
        }
    }
}

fn wait_ready(nodes: &[NodeFiles]) -> Result<()> {
    let begin = Instant::now();
    for (id, node) in (0..).zip(nodes) {
        eprint!("waiting for node {id} … ");
        while !http::is_healthy(node_config::http_port(id)) {
            process::reap();
            ensure!(!interrupt::is_wanted(), "interrupted");
            ensure!(
                node.pid().is_some(),
                "node {id} ended; the end of {}:\n{}",
                node.log().display(),
                node.last_log_lines(20)
            );
            ensure!(
                begin.elapsed() < READY_LIMIT,
                "node {id} is not ready after {} s; the end of {}:\n{}",
                READY_LIMIT.as_secs(),
                node.log().display(),
                node.last_log_lines(20)
            );
            sleep(Duration::from_millis(100));
        }
        eprintln!("ready after {:.1} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn create_topics(binary: &Path, node_count: u16) -> Result<()> {
    for (name, replication, flush) in TOPICS {
        let status = Command::new(binary)
            .args(["topic", "create", "--bootstrap", &node_config::bootstrap(node_count), "--if-not-exists", name])
            .args(["--partitions", "4"])
            .args(["--config", &format!("duolog.replication={replication}")])
            .args(["--config", &format!("duolog.flush={flush}")])
            .status()?;
        ensure!(status.success(), "cannot create topic {name} ({status})");
    }
    Ok(())
}

fn print_endpoints(nodes: &[NodeFiles]) -> Result<()> {
    let bootstrap = node_config::bootstrap(nodes.len() as u16);
    println!();
    for (id, node) in (0..).zip(nodes) {
        let pid = node.pid().with_context(|| format!("node {id} ended; see {}", node.log().display()))?;
        let (kafka, rocketmq) = (node_config::kafka_port(id), node_config::rocketmq_port(id));
        let http = node_config::http_port(id);
        println!(
            "node {id}  pid {pid:<8} Kafka 127.0.0.1:{kafka}  RocketMQ 127.0.0.1:{rocketmq}  HTTP http://127.0.0.1:{http} (/health, /metrics)"
        );
    }
    let names: Vec<&str> = TOPICS.iter().map(|(name, ..)| *name).collect();
    let victim = nodes[nodes.len() / 2].pid().context("a node ended")?;
    println!(
        "\ntopics (replication-flush): {}\n\ntry:\n  \
         seq 1 1000 | kcat -P -b {bootstrap} -t sync-sync\n  \
         kcat -b {bootstrap} -G my-group sync-sync\n  \
         kill -9 {victim}    # and go on; `cargo xtask up --detach` starts it again\n",
        names.join(" ")
    );
    Ok(())
}

/// Waits for Ctrl-C, and tells when a node ends meanwhile.
fn stay(nodes: &[NodeFiles]) -> Result<()> {
    let mut ran = vec![true; nodes.len()];
    while !interrupt::is_wanted() {
        sleep(Duration::from_millis(200));
        process::reap();
        for (id, (node, ran)) in nodes.iter().zip(&mut ran).enumerate() {
            let runs = node.pid().is_some();
            if *ran && !runs {
                println!(
                    "node {id} ended; start it again with `cargo xtask up --detach` (log: {})",
                    node.log().display()
                );
            }
            if !*ran && runs {
                println!("node {id} runs again");
            }
            *ran = runs;
        }
        if ran.iter().all(|runs| !runs) {
            println!("no node runs any more");
            return Ok(());
        }
    }
    println!("\nstopping");
    process::stop(nodes, STOP_LIMIT)?;
    Ok(())
}

/// Ctrl-C and SIGTERM as a flag.
mod interrupt {
    use super::{AtomicBool, Ordering};

    static WANTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn on_signal(_: libc::c_int) {
        WANTED.store(true, Ordering::Relaxed);
    }

    pub fn listen() {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the handler only stores into an atomic.
            unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
        }
    }

    pub fn is_wanted() -> bool {
        WANTED.load(Ordering::Relaxed)
    }
}
