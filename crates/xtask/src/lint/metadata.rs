//! What `cargo metadata` says about the workspace and its dependencies.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::build;

#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_members: Vec<String>,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub license: Option<String>,
    /// None: a path, that is, our own.
    pub source: Option<String>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    /// None: normal; else `dev` or `build`.
    pub kind: Option<String>,
}

impl Metadata {
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}

pub fn load() -> Result<Metadata> {
    let output = build::cargo_command()?.args(["metadata", "--format-version", "1", "--quiet"]).output()?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("`cargo metadata` printed something unexpected")
}
