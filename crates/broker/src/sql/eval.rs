//! Whether a condition holds: true, false, or neither (`None`).

use std::cmp::Ordering;

use super::parser::{Comparison, Matching, Node};

type Lookup<'f, 'a> = &'f dyn Fn(&str) -> Option<&'a str>;

/// A value; a property's type shows only in what it is compared with.
#[derive(Clone, Copy)]
enum Value<'a> {
    Property(&'a str),
    Text(&'a str),
    Number(f64),
    Boolean(bool),
}

pub(super) fn truth<'a>(node: &'a Node, property: Lookup<'_, 'a>) -> Option<bool> {
    match node {
        Node::Or(left, right) => match (truth(left, property), truth(right, property)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Node::And(left, right) => match (truth(left, property), truth(right, property)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Node::Not(inner) => truth(inner, property).map(|holds| !holds),
        Node::Compare(left, comparison, right) => {
            let (left, right) = (value(left, property)?, value(right, property)?);
            let order = compare(left, right, *comparison)?;
            Some(holds(*comparison, order))
        }
        Node::IsNull(inner) => Some(value(inner, property).is_none()),
        Node::Between(inner, low, high) => {
            let number = |node| value(node, property).and_then(as_number);
            let (inner, low, high) = (number(inner)?, number(low)?, number(high)?);
            Some(low <= inner && inner <= high)
        }
        Node::In(inner, texts) => {
            let text = as_text(value(inner, property)?)?;
            Some(texts.iter().any(|known| known == text))
        }
        Node::Matches(inner, matching, part) => {
            let text = as_text(value(inner, property)?)?;
            Some(match matching {
                Matching::Contains => text.contains(part.as_str()),
                Matching::StartsWith => text.starts_with(part.as_str()),
                Matching::EndsWith => text.ends_with(part.as_str()),
            })
        }
        Node::Property(_) | Node::Number(_) | Node::Text(_) | Node::Boolean(_) | Node::Null => {
            as_boolean(value(node, property)?)
        }
    }
}

fn value<'a>(node: &'a Node, property: Lookup<'_, 'a>) -> Option<Value<'a>> {
    match node {
        Node::Property(name) => property(name).map(Value::Property),
        Node::Text(text) => Some(Value::Text(text)),
        Node::Number(number) => Some(Value::Number(*number)),
        Node::Boolean(boolean) => Some(Value::Boolean(*boolean)),
        Node::Null => None,
        condition => truth(condition, property).map(Value::Boolean),
    }
}

/// Text is equal or not, and has no order; `None` where the two cannot be compared.
fn compare(left: Value<'_>, right: Value<'_>, comparison: Comparison) -> Option<Ordering> {
    let is_ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    let wants_number = |value| matches!(value, Value::Number(_));
    if is_ordered || wants_number(left) || wants_number(right) {
        return as_number(left)?.partial_cmp(&as_number(right)?);
    }
    if matches!(left, Value::Boolean(_)) || matches!(right, Value::Boolean(_)) {
        return Some(as_boolean(left)?.cmp(&as_boolean(right)?));
    }
    Some(as_text(left)?.cmp(as_text(right)?))
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

fn as_number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number),
        Value::Property(text) => text.trim().parse().ok(),
        Value::Text(_) | Value::Boolean(_) => None,
    }
}

fn as_text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Property(text) | Value::Text(text) => Some(text),
        Value::Number(_) | Value::Boolean(_) => None,
    }
}

fn as_boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Boolean(boolean) => Some(boolean),
        Value::Property(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::Property(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Value::Property(_) | Value::Text(_) | Value::Number(_) => None,
    }
}
