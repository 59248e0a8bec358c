//! Arguments that several commands share.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::client::{Address, Client, ClientOptions};
use crate::output::OutputFormat;

/// How to reach the cluster as a Kafka client.
#[derive(Debug, Args)]
pub struct ConnectionArgs {
    /// Kafka addresses of one or more nodes: HOST:PORT[,HOST:PORT…]; the others are found through them.
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Seconds until a step that gets no good answer is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl ConnectionArgs {
    /// A client; it connects when it is used.
    ///
    /// # Errors
    /// An address is not HOST:PORT.
    pub fn client(&self) -> anyhow::Result<Client> {
        let bootstrap = addresses(&self.bootstrap).with_context(|| format!("--bootstrap {:?}", self.bootstrap))?;
        Ok(Client::new(bootstrap, ClientOptions { timeout: Duration::from_secs(self.timeout) }))
    }
}

/// How the result is shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// A table for people, or JSON for scripts.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// HOST:PORT[,HOST:PORT…]
pub(crate) fn addresses(text: &str) -> anyhow::Result<Vec<Address>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let addresses = parts.map(str::parse).collect::<Result<Vec<Address>, _>>()?;
    anyhow::ensure!(!addresses.is_empty(), "expected HOST:PORT[,HOST:PORT…]");
    Ok(addresses)
}

/// KEY=VALUE pairs of a repeated option.
pub(crate) fn pairs(option: &str, given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').with_context(|| format!("{option} {text:?}: expected KEY=VALUE"))?;
        anyhow::ensure!(!key.trim().is_empty(), "{option} {text:?}: expected KEY=VALUE, the key is empty");
        Ok((key.trim().to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let shown = |text: &str| addresses(text).map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(shown("a:1, b:2,").unwrap(), ["a:1", "b:2"]);
        assert_eq!(shown("[::1]:9092").unwrap(), ["[::1]:9092"]);
        for wrong in ["", ",", "a", "a:", ":1", "a:65536", "a:x", "a:0", "http://a:1", "a b:1"] {
            let error = shown(wrong).expect_err(wrong).to_string();
            assert!(error.contains("expected HOST:PORT"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn pairs_keep_what_follows_the_first_equals_sign() {
        let given = ["a=b=c".to_owned(), " d =".to_owned()];
        assert_eq!(pairs("--config", &given).unwrap(), [("a".into(), "b=c".into()), ("d".into(), String::new())]);
        for wrong in ["a", "=b"] {
            let error = pairs("--config", &[wrong.to_owned()]).unwrap_err().to_string();
            assert!(error.contains("--config") && error.contains("expected KEY=VALUE"), "{error}");
        }
    }
}
