//! The script that installs, runs and loads a real broker: `DIR/NAME/NAME.sh`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::build;

#[derive(Clone)]
pub struct Script {
    path: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Script {
    /// With what it needs: Java, and Maven to install.
    pub fn find(name: &str) -> Result<Script> {
        let path = peers_dir().join(name).join(format!("{name}.sh"));
        ensure!(
            path.is_file(),
            "the script that runs the real broker is not at {}: set DUOLOG_PEERS to the directory that holds {name}/{name}.sh",
            path.display()
        );
        for program in ["java", "mvn"] {
            let found = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            ensure!(
                found.is_ok_and(|status| status.success()),
                "`{program}` does not run; {name} needs Java 17 and Maven"
            );
        }
        Ok(Script { path, environment: Vec::new() })
    }

    pub fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Script {
        self.environment.push((variable, value.into()));
        self
    }

    pub fn command(&self) -> Command {
        self.prepared(Command::new(&self.path))
    }

    /// Runs a verb and returns what it printed.
    pub fn call(&self, arguments: &[&str]) -> Result<String> {
        self.output(self.command(), arguments)
    }

    /// The same, but a verb that takes longer is killed with all that it started.
    pub fn call_within(&self, limit: Duration, arguments: &[&str]) -> Result<String> {
        self.output(self.command_within(limit), arguments)
    }

    pub fn command_within(&self, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.as_secs().to_string()]).arg(&self.path);
        self.prepared(command)
    }

    /// For a verb whose servers keep its output open: that must not be a pipe which is read to its end.
    pub fn call_unread(&self, arguments: &[&str]) -> Result<()> {
        let status = self.command().args(arguments).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("cannot run {}", self.path.display()))?;
        ensure!(status.success(), "{} {} failed ({status})", self.path.display(), arguments.join(" "));
        Ok(())
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value))).stdin(Stdio::null());
        command
    }

    fn output(&self, mut command: Command, arguments: &[&str]) -> Result<String> {
        let output = command.args(arguments).output();
        let output = output.with_context(|| format!("cannot run {}", self.path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let failed =
            || format!("{} {} failed ({}): {text}{errors}", self.path.display(), arguments.join(" "), output.status);
        ensure!(output.status.success(), failed());
        Ok(text)
    }
}

/// Where the scripts lie.
fn peers_dir() -> PathBuf {
    match std::env::var_os("DUOLOG_PEERS") {
        Some(dir) => dir.into(),
        None => build::root().join("../shared/peers"),
    }
}
