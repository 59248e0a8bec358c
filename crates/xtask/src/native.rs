//! What a build needs beside Rust: a C++ compiler and libclang (RocksDB), make (librdkafka, for chaos tests only).

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

struct Need {
    what: &'static str,
    apt_package: &'static str,
    is_there: fn() -> bool,
}

const NEEDS: [Need; 3] = [
    Need {
        what: "a C++ compiler",
        apt_package: "g++",
        is_there: || env::var_os("CXX").is_some() || ["c++", "g++", "clang++"].iter().any(|name| is_on_path(name)),
    },
    Need { what: "libclang", apt_package: "libclang-dev", is_there: has_libclang },
    Need { what: "make", apt_package: "make", is_there: || is_on_path("make") },
];

/// Installs what is missing where it may, otherwise says the one command.
pub fn ensure() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<&str> = missing.iter().map(|need| need.apt_package).collect();
    let command = format!("apt-get update && apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !is_on_path("apt-get") {
        bail!("missing: {}. Install it with your package manager (on Debian or Ubuntu: {command})", what.join(", "));
    }
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("missing: {}. Run: sudo sh -c '{command}'", what.join(", "));
    }
    eprintln!("installing {}: {command}", what.join(", "));
    let status = Command::new("sh")
        .args(["-c", &command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "`{command}` failed ({status})");
    Ok(())
}

pub fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The places where bindgen looks, roughly.
fn has_libclang() -> bool {
    if let Some(dir) = env::var_os("LIBCLANG_PATH") {
        return Path::new(&dir).exists();
    }
    let mut dirs = vec!["/usr/lib".into(), "/usr/lib64".into(), "/usr/local/lib".into()];
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        // llvm-14/lib, x86_64-linux-gnu
        dirs.push(entry.path());
        dirs.push(entry.path().join("lib"));
    }
    dirs.iter().any(|dir| {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        files.map(|file| file.file_name()).any(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang.so")
                || name.starts_with("libclang-") && name.contains(".so") && !name.contains("cpp")
        })
    })
}
