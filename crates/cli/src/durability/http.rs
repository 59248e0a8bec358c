//! GET over HTTP/1.1, once per connection: all that `/durability` needs.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Address;

const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The body of a 200.
///
/// # Errors
/// No answer, another status, or no HTTP.
pub(super) async fn get(address: &Address, path: &str) -> anyhow::Result<String> {
    let answer = tokio::time::timeout(LIMIT, exchange(address, path)).await;
    let answer = answer.with_context(|| format!("{address}: no answer within {LIMIT:?}"))??;
    body(&answer).with_context(|| format!("GET {path} at {address}"))
}

async fn exchange(address: &Address, path: &str) -> anyhow::Result<String> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let mut stream = connecting.await.with_context(|| {
        format!("cannot connect to {address}; is a node running there, and is this its HTTP port (listen.http)?")
    })?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.with_context(|| address.to_string())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.with_context(|| address.to_string())?;
    String::from_utf8(answer).with_context(|| format!("the answer of {address} is no text"))
}

fn body(answer: &str) -> anyhow::Result<String> {
    let (head, body) =
        answer.split_once("\r\n\r\n").context("expected HTTP, found something else; is this the HTTP port?")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => {}
        "404" => bail!("the node does not offer it: it runs another version of Duolog than this command"),
        other => bail!("expected status 200, found {other:?}: {}", body.trim()),
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if let Some(length) = length {
        ensure!(body.len() == length, "the answer was cut after {} of {length} bytes", body.len());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_200_is_taken() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap(), "ok");
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "cut after 2 of 3"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "another version"),
            ("HTTP/1.1 500 x\r\n\r\nbroken", "broken"),
            ("\0\0\0\x10", "expected HTTP"),
        ] {
            let error = body(answer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
