//! Rules for every Rust file: not too long, nothing left undone, no test switched off.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build;

const LINES_MAX: usize = 600;

/// In pieces, so that this file does not find itself.
const FORBIDDEN: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore"), concat!("dbg", "!(")];

pub struct Source {
    /// Relative to the repository.
    pub path: PathBuf,
    pub text: String,
}

/// All Rust files of the workspace.
pub fn load() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for dir in ["crates", "chaos-tests"] {
        collect(&build::root().join(dir), &mut sources)?;
    }
    Ok(sources)
}

pub fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(problems).collect()
}

fn problems(Source { path, text }: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let line_count = text.lines().count();
    if line_count > LINES_MAX {
        problems.push(format!("{}: {line_count} lines, at most {LINES_MAX}", path.display()));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let found = FORBIDDEN.iter().filter(|forbidden| line.contains(*forbidden));
        problems.extend(found.map(|forbidden| format!("{}:{number}: {forbidden}", path.display())));
    }
    problems
}

fn collect(dir: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            sources.push(Source { path: path.strip_prefix(build::root())?.to_path_buf(), text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_found() {
        for text in [format!("{}\n", FORBIDDEN[0]), format!("    {}]\n", FORBIDDEN[2]), "\n".repeat(LINES_MAX + 1)] {
            assert_eq!(problems(&Source { path: "a.rs".into(), text }).len(), 1);
        }
        assert!(problems(&Source { path: "a.rs".into(), text: "\n".repeat(LINES_MAX) }).is_empty());
    }
}
