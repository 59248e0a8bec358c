//! Node processes that outlive xtask: started in a session of their own, found again by a pid file.
//!
//! A pid file may outlive its process and the id may be given to another one, so a process counts as ours only when its
//! command line names our configuration file.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How a node is started: `duolog start --config node.toml`. The chaos runner has the same words.
const SERVE: [&str; 2] = ["start", "--config"];

/// Where one node keeps everything.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    pub dir: PathBuf,
}

impl NodeFiles {
    pub fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("duolog.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// The node's process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        // A zombie's command line is empty.
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.config();
        cmdline
            .split(|byte| *byte == 0)
            .any(|argument| argument == config.as_os_str().as_encoded_bytes())
            .then_some(pid)
    }

    pub fn start(&self, binary: &Path) -> Result<u32> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(binary);
        command.args(SERVE).arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        fs::write(self.pid_file(), child.id().to_string())?;
        Ok(child.id())
    }

    pub fn last_log_lines(&self, count: usize) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// SIGTERM to all that run, SIGKILL to those that are left after `limit`. Returns how many ran.
pub fn stop(nodes: &[NodeFiles], limit: Duration) -> Result<usize> {
    let running = || nodes.iter().filter_map(NodeFiles::pid).collect::<Vec<_>>();
    let first = running();
    for pid in &first {
        signal(*pid, libc::SIGTERM)?;
    }
    let end = Instant::now() + limit;
    while !running().is_empty() && Instant::now() < end {
        reap();
        sleep(Duration::from_millis(50));
    }
    for pid in running() {
        eprintln!("process {pid} did not end within {} s of SIGTERM: SIGKILL", limit.as_secs());
        signal(pid, libc::SIGKILL)?;
    }
    while !running().is_empty() {
        reap();
        sleep(Duration::from_millis(50));
    }
    for node in nodes {
        // Absent where the node never started.
        let _ = fs::remove_file(node.pid_file());
    }
    Ok(first.len())
}

pub fn signal(pid: u32, signal: libc::c_int) -> Result<()> {
    // SAFETY: kill has no memory effects; the caller took the id from `NodeFiles::pid`.
    let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
    let error = std::io::Error::last_os_error();
    // It may have ended since it was looked up.
    ensure!(result == 0 || error.raw_os_error() == Some(libc::ESRCH), "cannot signal process {pid}: {error}");
    Ok(())
}

/// Collects ended children, so that they do not stay as zombies.
pub fn reap() {
    // SAFETY: a null status pointer is allowed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}
