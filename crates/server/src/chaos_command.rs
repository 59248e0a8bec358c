//! `duolog chaos`: hands over to the program `duolog-chaos`, which lies beside this one.
//!
//! A program of its own, because it needs Kafka's C client, which a broker should not carry.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;
use duolog_cli::Exit;

const PROGRAM: &str = "duolog-chaos";

/// Hurts a throw-away cluster under load and checks what clients saw; or checks your own cluster under load.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  duolog chaos --duration 10m --report chaos.html
  duolog chaos --faults kill,partition,power --duration 5m
  duolog chaos --target 10.0.0.1:9092,10.0.0.2:9092 --duration 60s
  duolog chaos --help"
)]
pub struct ChaosCommand {
    /// Options of duolog-chaos; see `duolog chaos --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl ChaosCommand {
    /// Becomes `duolog-chaos`; returns only if that cannot be done.
    pub fn run(self) -> anyhow::Result<Exit> {
        let own = std::env::current_exe().context("cannot find out where this program is")?;
        let beside = own.parent().unwrap_or(Path::new(".")).join(PROGRAM);
        let Some(program) = find(&beside, std::env::var_os("PATH")) else {
            bail!(
                "duolog chaos is the program {PROGRAM}: expected it at {} or in PATH, found it in neither; copy it there, or build it with \
                 `cargo build --release --workspace --bin {PROGRAM}`",
                beside.display()
            );
        };
        // Nodes of the throw-away cluster run this very binary, unless the options say otherwise.
        let error = Command::new(&program).env("DUOLOG_BINARY", &own).args(self.options).exec();
        Err(error).with_context(|| format!("cannot run {}", program.display()))
    }
}

fn find(beside: &Path, path: Option<OsString>) -> Option<PathBuf> {
    let in_path = path.iter().flat_map(std::env::split_paths).map(|dir| dir.join(PROGRAM)).collect::<Vec<_>>();
    std::iter::once(beside.to_owned()).chain(in_path).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_beside_goes_before_one_in_the_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let (beside, path) = (dir.path().join("beside"), dir.path().join("path"));
        let found = || find(&beside.join(PROGRAM), Some(path.clone().into_os_string()));
        for at in [&beside, &path] {
            std::fs::create_dir(at).expect("a directory");
        }
        assert_eq!(found(), None);
        for at in [&path, &beside] {
            std::fs::write(at.join(PROGRAM), "").expect("a file");
            assert_eq!(found(), Some(at.join(PROGRAM)));
        }
    }
}
