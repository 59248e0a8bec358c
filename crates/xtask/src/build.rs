//! Calls of cargo, all with the same profile, the same features and the same target directory.
//!
//! Every build selects `--workspace`, even where only one binary is wanted: cargo unites the features of what is selected,
//! and another selection could compile RocksDB again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

/// The repository that `cargo xtask` was called in: the binary may have been built in another one.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).ancestors().nth(2).expect("xtask lies in crates/xtask of the repository").to_path_buf()
}

/// `$CARGO_TARGET_DIR`, else `duolog/target` in the user's cache directory, so that all checkouts share RocksDB.
pub fn target_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("CARGO_TARGET_DIR") {
        return Ok(root().join(dir));
    }
    Ok(user_dir("XDG_CACHE_HOME", ".cache")?.join("duolog/target"))
}

/// A directory of the XDG base directory specification.
pub fn user_dir(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = env::var_os(variable).filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let home = env::var_os("HOME").with_context(|| format!("neither {variable} nor HOME is set"))?;
    Ok(Path::new(&home).join(below_home))
}

/// Lets the target directory serve this checkout.
///
/// Cargo tells what is stale by modification times relative to the workspace, so what another checkout built could pass
/// for ours: where the last user was another one, the workspace's own crates are removed. The dependencies stay.
fn adopt_target_dir() -> Result<()> {
    let (root, marker) = (root(), target_dir()?.join("last-checkout"));
    let root = root.to_str().with_context(|| format!("{} is not UTF-8", root.display()))?;
    let last = fs::read_to_string(&marker).ok();
    if last.as_deref() == Some(root) {
        return Ok(());
    }
    if target_dir()?.join("release").exists() {
        let members = members()?;
        let packages = members.iter().flat_map(|name| ["--package", name.as_str()]);
        let status = cargo_command()?.args(["clean", "--quiet", "--release"]).args(packages).status()?;
        ensure!(status.success(), "`cargo clean` failed ({status})");
    }
    fs::create_dir_all(target_dir()?)?;
    fs::write(&marker, root).with_context(|| format!("cannot write {}", marker.display()))
}

/// Names of the workspace's packages.
fn members() -> Result<Vec<String>> {
    let output = cargo_command()?.args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str()).map(str::to_string).collect())
}

/// Runs cargo in the repository, its output shown.
pub fn cargo(fixed: &[&str], rest: &[String]) -> Result<()> {
    adopt_target_dir()?;
    let mut command = cargo_command()?;
    command.args(fixed).args(rest);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo {}` failed ({status})", fixed.join(" "));
    Ok(())
}

pub fn cargo_command() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env("CARGO_TARGET_DIR", target_dir()?);
    // `cargo run` describes xtask to us; a build script must not take that for itself.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    Ok(command)
}

/// Builds the server and returns the binary's path.
pub fn server() -> Result<PathBuf> {
    let target = target_dir()?;
    if !target.join("release/duolog").exists() {
        eprintln!("building Duolog; RocksDB alone takes about 15 minutes the first time, in {}", target.display());
    }
    cargo(&["build", "--release", "--workspace", "--bin", "duolog"], &[])?;
    Ok(target.join("release/duolog"))
}

/// Builds the fuzz targets and returns the directory that they lie in.
///
/// Cargo keeps what was built through a wrapper apart from the rest, and calls the wrapper for our own crates only: the
/// dependencies are those of every other build.
pub fn fuzz_targets() -> Result<PathBuf> {
    adopt_target_dir()?;
    let mut command = cargo_command()?;
    command.env("RUSTC_WORKSPACE_WRAPPER", root().join("crates/fuzz/instrument.sh"));
    command.args(["build", "--release", "--workspace", "--features", "duolog-fuzz/libfuzzer"]);
    command.args(["--bin", "fuzz_frame", "--bin", "fuzz_batch", "--bin", "fuzz_recovery"]);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the fuzz targets could not be built ({status})");
    Ok(target_dir()?.join("release"))
}

/// Builds the chaos runner and returns the binary's path.
pub fn chaos() -> Result<PathBuf> {
    cargo(&["build", "--release", "--workspace", "--bin", "duolog-chaos"], &[])?;
    Ok(target_dir()?.join("release/duolog-chaos"))
}

/// The simulation is a workspace of its own: it needs a feature of tokio that must not get into the server.
pub const SIM_MANIFEST: &str = "crates/sim/Cargo.toml";

/// Builds the simulation and returns the binary's path.
pub fn sim() -> Result<PathBuf> {
    cargo(&["build", "--release", "--manifest-path", SIM_MANIFEST, "--bin", "duolog-sim"], &[])?;
    Ok(target_dir()?.join("release/duolog-sim"))
}
