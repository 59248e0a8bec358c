//! "Did you mean …?": the known word that looks most like an unknown one.

/// The known word that fewest edits (letters put in, taken out, or replaced) make out of `word`; `None` when that takes more than
/// `edits_max`. Of several the first in the alphabet.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, edits_max: usize) -> Option<&'a str> {
    let candidates = known.into_iter().map(|known| (edit_distance(known, word), known));
    candidates.filter(|(distance, _)| *distance <= edits_max).min().map(|(_, known)| known)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_edits_win_up_to_a_limit() {
        let known = ["flush", "fetch", "broker"];
        for (word, expected) in [
            ("flush", Some("flush")),
            ("fluhs", Some("flush")),
            ("fetsh", Some("fetch")),
            ("brok", Some("broker")),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known, 2), expected, "{word}");
        }
    }
}
