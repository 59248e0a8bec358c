//! Every "must" of RAFT.md has a test: `raft_must_01_…` to `raft_must_14_…`.

use super::sources::Source;

const MUST_COUNT: u32 = 14;

pub fn check(sources: &[Source]) -> Vec<String> {
    let missing = (1..=MUST_COUNT).filter(|number| !has_test(sources, *number));
    missing.map(|number| format!("no test raft_must_{number:02}_…")).collect()
}

/// A function of that name directly below a test attribute (`#[test]`, `#[tokio::test(…)]`, …).
fn has_test(sources: &[Source], number: u32) -> bool {
    let name = format!("fn raft_must_{number:02}_");
    sources.iter().any(|source| {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        let functions = (0..lines.len()).filter(|index| lines[*index].contains(&name));
        functions.into_iter().any(|index| {
            let above = lines[..index].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
            above.into_iter().any(|line| line.starts_with("#[") && line.contains("test"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> usize {
        check(&[Source { path: "a.rs".into(), text: text.into() }]).len()
    }

    #[test]
    fn only_tests_count() {
        assert_eq!(missing("#[test]\nfn raft_must_01_a() {}"), 13);
        assert_eq!(missing("#[tokio::test(start_paused = true)]\n// why\nasync fn raft_must_14_b() {}"), 13);
        assert_eq!(missing("fn raft_must_01_a() {}"), 14);
        assert_eq!(missing("#[test]\nfn raft_must_1_a() {}"), 14);
    }
}
