//! GET and POST over HTTP/1.1, once per connection, and the same to every node: all that commands need.

mod nodes;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Address;

pub(crate) use nodes::{NodeAnswer, ask_all};

const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A node's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// The body of a 200.
///
/// # Errors
/// No answer, another status, or no HTTP.
pub(crate) async fn get(address: &Address, path: &str) -> anyhow::Result<String> {
    get_within(address, path, LIMIT).await
}

/// The same, of what takes a node long.
///
/// # Errors
/// As [`get`].
pub(crate) async fn get_within(address: &Address, path: &str, limit: Duration) -> anyhow::Result<String> {
    let Answer { status, body } = exchange_within(address, "GET", path, "", limit).await?;
    match status {
        200 => Ok(body),
        404 if body.is_empty() => {
            bail!("{address}: the node does not offer {path}: it runs another version of Duolog than this command")
        }
        other => bail!("{address}: {} (status {other})", body.trim()),
    }
}

/// Whatever the node answers.
///
/// # Errors
/// No answer, or no HTTP.
pub(crate) async fn call(address: &Address, method: &str, path: &str) -> anyhow::Result<Answer> {
    call_with(address, method, path, "").await
}

/// The same with a body.
///
/// # Errors
/// As [`call`].
pub(crate) async fn call_with(address: &Address, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
    exchange_within(address, method, path, body, LIMIT).await
}

async fn exchange_within(
    address: &Address,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> anyhow::Result<Answer> {
    let answer = tokio::time::timeout(limit, exchange(address, method, path, body)).await;
    let answer = answer.with_context(|| format!("{address}: no answer within {limit:?}"))??;
    parse(&answer).with_context(|| format!("{method} {path} at {address}"))
}

async fn exchange(address: &Address, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let mut stream = connecting.await.with_context(|| {
        format!("cannot connect to {address}; is a node running there, and is this its HTTP port (listen.http)?")
    })?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.with_context(|| address.to_string())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.with_context(|| address.to_string())?;
    String::from_utf8(answer).with_context(|| format!("the answer of {address} is no text"))
}

fn parse(answer: &str) -> anyhow::Result<Answer> {
    let (head, body) =
        answer.split_once("\r\n\r\n").context("expected HTTP, found something else; is this the HTTP port?")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.context("expected HTTP, found something else; is this the HTTP port?")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if let Some(length) = length {
        ensure!(body.len() == length, "the answer was cut after {} of {length} bytes", body.len());
    }
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_is_taken() {
        let of = |status, body: &str| Answer { status, body: body.to_owned() };
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap(), of(200, "ok"));
        assert_eq!(parse("HTTP/1.1 500 x\r\n\r\nbroken").unwrap(), of(500, "broken"));
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "cut after 2 of 3"),
            ("HTTP/1.1\r\n\r\n", "expected HTTP"),
            ("\0\0\0\x10", "expected HTTP"),
        ] {
            let error = parse(answer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
