//! One process: start, signals, and what became of it.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::config::{Files, Ports};
use crate::http;
use crate::preload::Control;
use crate::recorder::wait_until;

/// How a node is started: `duolog start --config node.toml`. `xtask` has the same words.
const SERVE: [&str; 2] = ["start", "--config"];

const HEALTH_LIMIT: Duration = Duration::from_millis(400);

pub struct Node {
    pub id: u32,
    pub ports: Ports,
    /// How often the process was started before.
    pub incarnation: u32,
    pub(super) binary: PathBuf,
    pub(super) files: Files,
    pub(super) control: Control,
    state: State,
}

enum State {
    Running(Child),
    Paused(Child),
    Down,
}

impl Node {
    pub(super) fn new(id: u32, binary: PathBuf, ports: Ports, files: Files, control: Control) -> Node {
        Node { id, ports, incarnation: 0, binary, files, control, state: State::Down }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub fn is_healthy(&self) -> bool {
        self.is_running()
            && http::get(self.ports.http, "/health", HEALTH_LIMIT).is_ok_and(|answer| answer.status == 200)
    }

    /// None: it is down.
    pub fn process(&self) -> Option<u32> {
        match &self.state {
            State::Running(child) | State::Paused(child) => Some(child.id()),
            State::Down => None,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused(_))
    }

    /// `preload`: the library, where the node runs with it.
    pub(super) fn spawn(&mut self, preload: Option<&Path>) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.files.log)?;
        let mut command = Command::new(&self.binary);
        command.args(SERVE).arg(&self.files.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library).env("DUOLOG_CHAOS_CONTROL", &self.files.control);
            command.env("DUOLOG_CHAOS_DATA", &self.files.data).env("DUOLOG_CHAOS_SHADOW", &self.files.shadow);
        }
        // A group of its own: Ctrl-C is for the runner, which then ends the nodes.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.state = State::Running(child);
        Ok(())
    }

    /// Some: it runs no more, though nobody has ended it. It counts as down from then on.
    pub(super) fn take_exit(&mut self) -> Result<Option<ExitStatus>> {
        let State::Running(child) = &mut self.state else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.state = State::Down;
        }
        Ok(status)
    }

    /// SIGTERM, to a node that runs.
    pub(super) fn terminate(&self) -> Result<()> {
        match &self.state {
            State::Running(child) => signal(child, libc::SIGTERM),
            State::Paused(_) | State::Down => Ok(()),
        }
    }

    /// Waits until the process has ended. None: it has not within `limit`. Some(None): there was none.
    pub(super) fn wait_end(&mut self, limit: Duration) -> Option<Option<ExitStatus>> {
        let State::Running(child) = &mut self.state else { return Some(None) };
        let mut status = None;
        wait_until(limit, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        if status.is_some() {
            self.state = State::Down;
        }
        status.map(Some)
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        if let State::Running(child) | State::Paused(child) = &mut self.state {
            child.kill()?;
            child.wait()?;
        }
        self.state = State::Down;
        Ok(())
    }

    pub(super) fn pause(&mut self) -> Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Running(child) => {
                signal(&child, libc::SIGSTOP)?;
                State::Paused(child)
            }
            other => other,
        };
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Paused(child) => {
                signal(&child, libc::SIGCONT)?;
                State::Running(child)
            }
            other => other,
        };
        Ok(())
    }
}

fn signal(child: &Child, signal: libc::c_int) -> Result<()> {
    // SAFETY: the child was not waited for yet, so the id is still its own.
    let result = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    ensure!(result == 0, "cannot signal process {}: {}", child.id(), std::io::Error::last_os_error());
    Ok(())
}
