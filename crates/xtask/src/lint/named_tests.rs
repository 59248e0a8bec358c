//! Tests that are promised by name: `raft_must_01_…` to `raft_must_14_…` for every "must" of RAFT.md, and those that `docs/lessons.md` names.

use std::collections::BTreeSet;

use super::sources::Source;

const MUST_COUNT: u32 = 14;
/// A word in backticks with so many underscores is the name of a test; other words are faults, files and checkers.
const UNDERSCORES_MIN: usize = 3;

/// `lessons` is the text of the page.
pub fn check(sources: &[Source], lessons: &str) -> Vec<String> {
    let tests: BTreeSet<&str> = sources.iter().flat_map(|source| tests(&source.text)).collect();
    let musts = (1..=MUST_COUNT).map(|number| format!("raft_must_{number:02}_…"));
    let named = lessons.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= UNDERSCORES_MIN);
    let wanted: BTreeSet<String> = musts.chain(named.map(str::to_owned)).collect();
    wanted.into_iter().filter(|name| !is_there(&tests, name)).map(|name| format!("no test {name}")).collect()
}

/// `…` at its end stands for any more of a name.
fn is_there(tests: &BTreeSet<&str>, name: &str) -> bool {
    match name.strip_suffix('…') {
        Some(begin) => tests.iter().any(|test| test.starts_with(begin)),
        None => tests.contains(name),
    }
}

/// Functions directly below a test attribute (`#[test]`, `#[tokio::test(…)]`, …).
fn tests(text: &str) -> Vec<&str> {
    let mut is_test = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
            Some(rest) if is_test => found.extend(rest.split(['(', '<']).next()),
            _ => {}
        }
        is_test = line.starts_with("#[") && line.contains("test")
            || is_test && (line.starts_with("#[") || line.starts_with("//"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str, lessons: &str) -> usize {
        check(&[Source { path: "a.rs".into(), text: text.into() }], lessons).len()
    }

    #[test]
    fn only_tests_count() {
        assert_eq!(missing("#[test]\nfn raft_must_01_a() {}", ""), 13);
        assert_eq!(missing("#[tokio::test(start_paused = true)]\n// why\nasync fn raft_must_14_b() {}", ""), 13);
        assert_eq!(missing("#[test]\n#[should_panic]\nfn raft_must_02_b() {}", ""), 13);
        assert_eq!(missing("fn raft_must_01_a() {}", ""), 14);
        assert_eq!(missing("#[test]\nfn raft_must_1_a() {}", ""), 14);
    }

    #[test]
    fn what_the_page_names_must_be_there() {
        let text = "#[test]\nfn it_is_as_said() {}";
        assert_eq!(
            missing(text, "`it_is_as_said`, and `it_is_…`, `failing-disk`, `duolog_chaos`, not_in_it_at_all"),
            14
        );
        assert_eq!(missing(text, "`it_is_not_there` and `it_was_as_…`"), 16);
    }
}
