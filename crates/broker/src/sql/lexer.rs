//! Words of a condition.

use std::fmt;

/// A word and what it means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or a keyword.
    Word(String),
    Number(f64),
    Text(String),
    /// `=`, `<`, `(`, …
    Sign(&'static str),
    End,
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Sign(sign) => f.write_str(sign),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Two-character signs come before their first characters.
const SIGNS: [&str; 11] = ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "-"];

/// All tokens, the last one [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = next(rest, first)?;
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens.push(Token::End);
    Ok(tokens)
}

fn next(rest: &str, first: char) -> Result<(Token, &str), String> {
    if first == '\'' {
        return quoted(&rest[1..]);
    }
    if first.is_ascii_digit() || first == '.' {
        return number(rest);
    }
    if first.is_alphabetic() || first == '_' || first == '$' {
        let end =
            rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '-'))).unwrap_or(rest.len());
        return Ok((Token::Word(rest[..end].to_owned()), &rest[end..]));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), &rest[sign.len()..])),
        None => Err(format!("{first:?} does not belong into a condition")),
    }
}

/// Two quotes in a row are one.
fn quoted(rest: &str) -> Result<(Token, &str), String> {
    let mut text = String::new();
    let mut rest = rest;
    loop {
        let end = rest.find('\'').ok_or_else(|| format!("expected a closing quote behind '{text}{rest}"))?;
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Ok((Token::Text(text), rest)),
        }
    }
}

fn number(rest: &str) -> Result<(Token, &str), String> {
    let bytes = rest.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let is_exponents_sign = matches!(bytes[end], b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
        if !(bytes[end].is_ascii_alphanumeric() || bytes[end] == b'.' || is_exponents_sign) {
            break;
        }
        end += 1;
    }
    // Java's suffixes of long, double and float.
    let digits = rest[..end].trim_end_matches(['l', 'L', 'd', 'D', 'f', 'F']);
    match digits.parse() {
        Ok(number) => Ok((Token::Number(number), &rest[end..])),
        Err(_) => Err(format!("{} is not a number", &rest[..end])),
    }
}
