//! What is printed of a record: kcat's letters, or JSON.

use anyhow::{Context, bail};
use duolog_record::Record;
use serde_json::{Value, json};

/// How records look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// By pieces.
    Text(Vec<Piece>),
    /// A JSON object and a line end.
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
}

impl Format {
    /// Reads `%k=%v\n` and the like.
    ///
    /// # Errors
    /// A letter that has no meaning, or an unfinished one at the end.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => match chars.next().context("a % at the end: expected a letter, or %% for a percent sign")? {
                    '%' => None,
                    letter => Some(piece(letter)?),
                },
                '\\' => {
                    let escaped = chars.next().context("a \\ at the end: expected \\n, \\r, \\t, \\0 or \\\\")?;
                    literal.push(escape(escaped)?);
                    continue;
                }
                other => {
                    literal.extend(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            match piece {
                None => literal.push(b'%'),
                Some(piece) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self::Text(pieces))
    }

    pub(super) fn render(&self, topic: &str, partition: i32, record: &Record) -> Vec<u8> {
        match self {
            Self::Text(pieces) => pieces.iter().flat_map(|piece| render(piece, topic, partition, record)).collect(),
            Self::Json => format!("{}\n", json_of(topic, partition, record)).into_bytes(),
        }
    }
}

fn piece(letter: char) -> anyhow::Result<Piece> {
    Ok(match letter {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'T' => Piece::Timestamp,
        'k' => Piece::Key,
        'K' => Piece::KeyLength,
        'v' | 's' => Piece::Value,
        'S' => Piece::ValueLength,
        'h' => Piece::Headers,
        other => bail!("%{other} has no meaning: expected one of %t %p %o %T %k %K %v %s %S %h %%"),
    })
}

fn escape(letter: char) -> anyhow::Result<u8> {
    Ok(match letter {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        other => bail!("\\{other} has no meaning: expected one of \\n \\r \\t \\0 \\\\"),
    })
}

fn render(piece: &Piece, topic: &str, partition: i32, record: &Record) -> Vec<u8> {
    let length = |bytes: Option<usize>| bytes.map_or_else(|| "-1".to_owned(), |length| length.to_string()).into_bytes();
    match piece {
        Piece::Literal(bytes) => bytes.clone(),
        Piece::Topic => topic.as_bytes().to_vec(),
        Piece::Partition => partition.to_string().into_bytes(),
        Piece::Offset => record.offset.to_string().into_bytes(),
        Piece::Timestamp => record.timestamp.to_string().into_bytes(),
        Piece::Key => record.key.as_deref().unwrap_or_default().to_vec(),
        Piece::KeyLength => length(record.key.as_ref().map(|key| key.len())),
        Piece::Value => record.value.as_deref().unwrap_or_default().to_vec(),
        Piece::ValueLength => length(record.value.as_ref().map(|value| value.len())),
        Piece::Headers => {
            let shown = |header: &duolog_record::RecordHeader| {
                [header.key.as_ref(), b"=", header.value.as_deref().unwrap_or_default()].concat()
            };
            record.headers.iter().map(shown).collect::<Vec<_>>().join(&b","[..])
        }
    }
}

fn json_of(topic: &str, partition: i32, record: &Record) -> Value {
    let header = |header: &duolog_record::RecordHeader| json!({"key": bytes_of(Some(&header.key)), "value": bytes_of(header.value.as_deref())});
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset.0,
        "timestamp_ms": record.timestamp.0,
        "key": bytes_of(record.key.as_deref()),
        "value": bytes_of(record.value.as_deref()),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

/// Text as text; other bytes as `{"hex": "…"}`, so that nothing is lost.
fn bytes_of(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => Value::Null,
        Some(Ok(text)) => json!(text),
        Some(Err(bytes)) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duolog_record::RecordHeader;
    use duolog_types::{Offset, TimestampMs};

    use super::*;

    fn record() -> Record {
        let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
            key: key.into(),
            value: value.map(Bytes::from),
        };
        Record {
            offset: Offset(7),
            timestamp: TimestampMs(1234),
            key: None,
            value: Some("vä".into()),
            headers: vec![header("a", Some("1")), header("b", None)],
        }
    }

    fn rendered(format: &str) -> String {
        String::from_utf8(Format::parse(format).unwrap().render("topic", 3, &record())).unwrap()
    }

    #[test]
    fn every_letter() {
        for (format, expected) in [
            ("%v\\n", "vä\n"),
            ("%t/%p@%o %T\\t%s", "topic/3@7 1234\tvä"),
            ("[%k] %K %S", "[] -1 3"),
            ("%h", "a=1,b="),
            ("100%% \\\\ ü", "100% \\ ü"),
            ("", ""),
        ] {
            assert_eq!(rendered(format), expected, "{format}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_named() {
        for (format, expected) in
            [("%q", "%q has no meaning"), ("%", "at the end"), ("\\x", "\\x has no"), ("\\", "at the end")]
        {
            let error = Format::parse(format).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn json_keeps_nulls_and_bytes() {
        let mut record = record();
        record.value = Some(Bytes::from_static(&[0xff, 0x01]));
        let line = String::from_utf8(Format::Json.render("t", 0, &record)).unwrap();
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["key"], Value::Null);
        assert_eq!(value["value"]["hex"], "ff01");
        assert_eq!(value["headers"][1], json!({"key": "b", "value": null}));
        assert_eq!((&value["offset"], &value["timestamp_ms"]), (&json!(7), &json!(1234)));
    }
}
