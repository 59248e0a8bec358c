//! Compiles the library that is preloaded into nodes, which this crate carries: `duolog-chaos` stays one file.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=preload/src");
    let variable = |name| env::var(name).expect("set by cargo");
    let library = PathBuf::from(variable("OUT_DIR")).join("libduolog_chaos_preload.so");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-name=duolog_chaos_preload", "--crate-type=cdylib", "preload/src/lib.rs"])
        .args(["-Copt-level=3", "-Cpanic=abort", "-Cstrip=symbols", "--target", &variable("TARGET"), "-o"])
        .arg(&library)
        .status()
        .expect("cargo's own compiler runs");
    assert!(status.success(), "chaos-tests/preload does not compile");
}
