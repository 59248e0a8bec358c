//! `lint`: the usual tools, and the project's own rules as code.
//!
//! Deliberately not installed here: cargo-deny compiles for many minutes. The rules that matter (who may use what,
//! licences, sources) are checked by [`layering`] and [`dependencies`] in any case; where cargo-deny is installed it runs too.

mod dependencies;
mod layering;
mod metadata;
mod named_tests;
mod sources;

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::{build, docs, native};

pub fn run() -> Result<()> {
    native::ensure()?;
    step("layering", || report(layering::check(&metadata::load()?)))?;
    step("dependencies", || report(dependencies::check(&metadata::load()?)))?;
    step("source files", || report(sources::check(&sources::load()?)))?;
    step("tests that are promised by name", || {
        let lessons = std::fs::read_to_string(build::root().join("docs/lessons.md"))?;
        report(named_tests::check(&sources::load()?, &lessons))
    })?;
    step("format", || build::cargo(&["fmt", "--all", "--check"], &[]))?;
    step("clippy", || {
        build::cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
    })?;
    step("format of the simulation", || {
        build::cargo(&["fmt", "--manifest-path", build::SIM_MANIFEST, "--check"], &[])
    })?;
    step("clippy of the simulation", || {
        let arguments = ["clippy", "--release", "--manifest-path", build::SIM_MANIFEST, "--", "-D", "warnings"];
        build::cargo(&arguments, &[])
    })?;
    if has_cargo_deny()? {
        // The advisories need a database from the network.
        step("cargo deny", || build::cargo(&["deny", "check", "bans", "licenses", "sources"], &[]))?;
    } else {
        eprintln!("lint: cargo-deny is not installed (cargo install cargo-deny --locked): its part is left out");
    }
    step("docs/config.md", docs::check_config_page)
}

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("lint: {name}");
    check().map_err(|error| error.context(format!("lint: {name}")))
}

fn report(problems: Vec<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!("\n  {}", problems.join("\n  "))
}

fn has_cargo_deny() -> Result<bool> {
    let mut command = build::cargo_command()?;
    Ok(quiet(command.args(["deny", "--version"])))
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
