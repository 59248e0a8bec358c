//! Conditions over the properties of a message, as RocketMQ's consumers write them (SQL92):
//!
//! ```text
//! condition ::= and (OR and)*            and ::= not (AND not)*            not ::= NOT not | predicate
//! predicate ::= operand ( (= | <> | != | < | <= | > | >=) operand | IS [NOT] NULL | [NOT] BETWEEN operand AND operand
//!                       | [NOT] IN ( text, … ) | [NOT] (CONTAINS | STARTSWITH | ENDSWITH) text )?
//! operand   ::= name | number | 'text' | TRUE | FALSE | NULL | ( condition )
//! ```
//!
//! Words are not case-sensitive, names are. A property is text; compared with a number or a boolean it is read as one. Three-valued
//! logic: what is missing or cannot be read makes a predicate neither true nor false, and such a message is not delivered.

mod eval;
mod lexer;
mod parser;

/// A condition that was parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition(parser::Node);

impl Condition {
    /// # Errors
    /// What was expected, what was found and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parser::parse(text).map(Self)
    }

    /// Whether the condition is true; `property` gives the value of a name.
    pub(crate) fn is_true<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        eval::truth(&self.0, property) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str) -> bool {
        let properties =
            [("a", "5"), ("price", "3.50"), ("region", "hangzhou"), ("vip", "true"), ("empty", ""), ("TAGS", "t1")];
        let find = |name: &str| properties.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}")).is_true(&find)
    }

    #[test]
    fn conditions_hold_as_in_rocketmq() {
        for yes in [
            "a = 5",
            "a > 4 AND a < 6",
            "a>=5 and a<=5",
            "a BETWEEN 0 AND 5",
            "a NOT BETWEEN 6 AND 9",
            "price = 3.5",
            "price > 3",
            "region = 'hangzhou'",
            "region <> 'x'",
            "region != 'x'",
            "region IN ('a', 'hangzhou')",
            "region NOT IN ('a')",
            "missing IS NULL",
            "a IS NOT NULL",
            "vip = TRUE",
            "vip",
            "NOT (a = 6)",
            "a = 6 OR region = 'hangzhou' AND a = 5",
            "TAGS IS NOT NULL AND TAGS IN ('t1')",
            "region CONTAINS 'zh' AND region STARTSWITH 'han' AND region NOT ENDSWITH 'x'",
            "TRUE",
            "a > -1 AND a < 1e3",
            "region = 'hangzhou' AND 5 = a",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "a = 6",
            "missing = 5",
            "NOT missing = 5",
            "missing <> 'x'",
            "missing NOT IN ('x')",
            "region > 5",
            "NOT region > 5",
            "a = 5 AND missing = 1",
            "FALSE",
            "region = 'HANGZHOU'",
            "A = 5",
            "NULL",
        ] {
            assert!(!holds(no), "{no}");
        }
        assert!(holds("missing = 1 OR a = 5"), "unknown or true is true");
        assert!(holds("region = 'it''s' OR a = 5"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bad, expected) in [
            ("", "found the end"),
            ("a >", "found the end"),
            ("a = 'x", "closing quote"),
            ("a ==", "found ="),
            ("(a = 5", "expected )"),
            ("a = 5 b", "found b"),
            ("a IN (5)", "text in quotes"),
            ("a BETWEEN 1 OR 2", "expected AND"),
            ("a IS 5", "expected NULL"),
            ("a # 5", "'#'"),
            ("a NOT = 5", "found ="),
        ] {
            let error = Condition::parse(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        let deep = format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Condition::parse(&deep).unwrap_err().contains("nested"));
        assert!(Condition::parse(&"NOT ".repeat(10_000)).unwrap_err().contains("nested"));
    }
}
