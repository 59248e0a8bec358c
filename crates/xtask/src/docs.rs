//! `docs/config.md` is what the server prints about its own configuration.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{build, native};

pub fn regenerate() -> Result<()> {
    native::ensure()?;
    let text = generate()?;
    fs::write(config_page(), text).with_context(|| format!("cannot write {}", config_page().display()))?;
    println!("wrote {}", config_page().display());
    Ok(())
}

/// Fails when the page exists and is not what the server prints.
pub fn check_config_page() -> Result<()> {
    let Ok(page) = fs::read_to_string(config_page()) else {
        return Ok(());
    };
    ensure!(page == generate()?, "docs/config.md is stale: run `cargo xtask docs`");
    Ok(())
}

fn config_page() -> PathBuf {
    build::root().join("docs/config.md")
}

fn generate() -> Result<String> {
    let binary = build::server()?;
    let output = Command::new(&binary).args(["config", "doc"]).output()?;
    ensure!(
        output.status.success(),
        "`duolog config doc` failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
