//! One node: its files, its process, what it answers over HTTP.
//!
//! Invariant: only the process that this file started is signalled, and it ends with the value.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::client::Client;
use super::wait_for;

pub const BINARY: &str = env!("CARGO_BIN_EXE_duolog");
const HTTP_LIMIT: Duration = Duration::from_secs(5);
const END_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub kafka: u16,
    pub rocketmq: u16,
    pub http: u16,
    pub grpc: u16,
}

/// A node that runs, is paused, or is down.
pub struct Node {
    pub id: u64,
    pub ports: Ports,
    dir: PathBuf,
    /// `node.toml` up to the tables that a test chooses.
    base: String,
    files_max: Option<u64>,
    child: Option<Child>,
}

impl Node {
    /// Writes the files of a node that is down. `base` is its `node.toml`, `tables` what a test adds.
    pub fn new(id: u64, ports: Ports, dir: PathBuf, base: String, tables: &str) -> Self {
        fs::create_dir_all(&dir).expect("a directory for the node");
        let node = Self { id, ports, dir, base, files_max: None, child: None };
        node.set_boot("first boot");
        node.configure(tables);
        node
    }

    /// Replaces the tables of `node.toml`; takes effect at the next start.
    pub fn configure(&self, tables: &str) {
        fs::write(self.config(), format!("{}\n{tables}\n", self.base)).expect("node.toml");
    }

    /// The machine was booted again, as far as the node can see.
    pub fn set_boot(&self, boot_id: &str) {
        fs::write(self.dir.join("boot_id"), boot_id).expect("the boot id");
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Output of all processes so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output_path()).unwrap_or_default()).into_owned()
    }

    fn output_path(&self) -> PathBuf {
        self.dir.join("output")
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let output = OpenOptions::new().create(true).append(true).open(self.output_path()).expect("the output file");
        self.child = Some(spawn(&self.config(), output, self.files_max));
    }

    /// From the next start on the process may have no more files open, sockets included.
    pub fn limit_files(&mut self, files_max: u64) {
        self.files_max = Some(files_max);
    }

    /// Memory of the process that lies in RAM.
    pub fn resident_bytes(&self) -> u64 {
        let child = self.child.as_ref().expect("the node runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of /proc/PID/status");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// SIGKILL; ends a paused process too.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child can be killed");
            child.wait().expect("our child can be waited for");
        }
    }

    /// SIGTERM; gives the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait_for_end()
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let mut status = None;
        wait_for(&format!("end of node {}", self.id), END_LIMIT, || {
            status = child.try_wait().expect("our child can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Whether it was started and not ended by the test.
    pub fn has_started(&self) -> bool {
        self.child.is_some()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("our child can be asked").is_none())
    }

    fn signal(&self, signal: libc::c_int) {
        let child = self.child.as_ref().expect("the node runs");
        // SAFETY: kill has no memory effects; the id is our child's, which was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    }

    pub fn client(&self) -> Client {
        Client::connect(self.ports.kafka).expect("the node accepts connections")
    }

    pub fn is_healthy(&self) -> bool {
        self.get("/health").is_some_and(|(status, _)| status == 200)
    }

    /// Status and body of a GET; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports.http));
        let mut stream = TcpStream::connect_timeout(&address, HTTP_LIMIT).ok()?;
        stream.set_read_timeout(Some(HTTP_LIMIT)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub fn grpc_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.grpc)
    }

    /// `duolog cluster status --json` as this node answers it; `None` when it does not.
    pub fn cluster_status(&self) -> Option<serde_json::Value> {
        let output = duolog(&["cluster", "status", "--json", "--node", &self.grpc_address()]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("the status is JSON"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command of the binary to its end.
pub fn duolog(arguments: &[&str]) -> std::process::Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

fn spawn(config: &Path, output: File, files_max: Option<u64>) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["start", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
    // SAFETY: both calls are async-signal-safe and touch nothing of the parent. The node ends even if the test is killed.
    unsafe {
        command.pre_exec(move || {
            let limit = files_max.map(|files| libc::rlimit { rlim_cur: files, rlim_max: files });
            if limit.is_some_and(|limit| libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0) {
                return Err(std::io::Error::last_os_error());
            }
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command.spawn().expect("the binary starts")
}
