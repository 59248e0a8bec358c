//! Where dependencies come from and under which licences. `deny.toml` says the same for cargo-deny.

use super::metadata::{Metadata, Package};

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that Apache-2.0 software may include as it is.
const LICENSES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

pub fn check(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().filter_map(problem).collect()
}

fn problem(package: &Package) -> Option<String> {
    let source = package.source.as_deref().unwrap_or(REGISTRY);
    if source != REGISTRY {
        return Some(format!("{} comes from {source}, not from crates.io", package.name));
    }
    match package.license.as_deref() {
        Some(license) if is_allowed(license) => None,
        license => Some(format!("{} has the licence {license:?}, which is not on the list", package.name)),
    }
}

/// An SPDX expression whose alternatives include an allowed one. `A/B` is the old form of `A OR B`.
fn is_allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let allowed = any_of(&mut rest);
    allowed && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut allowed = all_of(rest);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        allowed |= all_of(rest);
    }
    allowed
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut allowed = one(rest);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        allowed &= one(rest);
    }
    allowed
}

fn one(rest: &mut &[&str]) -> bool {
    match **rest {
        ["(", ..] => {
            *rest = &rest[1..];
            let allowed = any_of(rest);
            let closed = rest.first() == Some(&")");
            *rest = &rest[usize::from(closed)..];
            allowed && closed
        }
        [license, "WITH", exception, ..] => {
            *rest = &rest[3..];
            LICENSES.contains(&format!("{license} WITH {exception}").as_str())
        }
        [license, ..] => {
            *rest = &rest[1..];
            LICENSES.contains(&license)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        for allowed in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in ["GPL-3.0", "MIT AND GPL-3.0", "", "(MIT", "MIT)", "Apache-2.0 WITH other"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
