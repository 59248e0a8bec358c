//! The same question to every node: those that are given, then those that they know.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;

use super::get;
use crate::client::Address;
use crate::durability::report::NodeHttp;

/// What a node answers about itself, and which others it knows.
pub(crate) trait NodeAnswer: DeserializeOwned {
    fn node_id(&self) -> u64;

    fn nodes(&self) -> &[NodeHttp];
}

/// The answers by node, and why others gave none.
///
/// # Errors
/// No node answers.
pub(crate) async fn ask_all<A: NodeAnswer>(
    http: &[Address],
    path: &str,
) -> anyhow::Result<(BTreeMap<u64, A>, Vec<String>)> {
    let mut answers: BTreeMap<u64, A> = BTreeMap::new();
    let mut silent = Vec::new();
    for answer in join_all(http.iter().map(|address| ask::<A>(address, path))).await {
        match answer {
            Ok(answer) => drop(answers.insert(answer.node_id(), answer)),
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    let known: BTreeMap<u64, String> = answers
        .values()
        .flat_map(|answer| answer.nodes().iter().map(|node| (node.node_id, node.http.clone())))
        .collect();
    let rest: Vec<(u64, String)> = known.into_iter().filter(|(node, _)| !answers.contains_key(node)).collect();
    let late = join_all(rest.iter().map(async |(node, address)| (*node, ask_text::<A>(address, path).await))).await;
    for (node, answer) in late {
        match answer {
            Ok(answer) => drop(answers.insert(answer.node_id(), answer)),
            Err(error) => silent.push(format!("node {node}: {error:#}")),
        }
    }
    if answers.is_empty() {
        bail!("no node answers: {}", silent.join("; "));
    }
    Ok((answers, silent))
}

async fn ask_text<A: NodeAnswer>(address: &str, path: &str) -> anyhow::Result<A> {
    ask(&address.parse()?, path).await
}

async fn ask<A: NodeAnswer>(address: &Address, path: &str) -> anyhow::Result<A> {
    let body = get(address, path).await?;
    serde_json::from_str(&body).with_context(|| format!("the answer of {address} to GET {path}"))
}
