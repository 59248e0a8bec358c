//! `docs/metrics.md` lists every metric that a node serves, and nothing else.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{Cluster, Layout};

const PREFIX: &str = "duolog_";

#[test]
fn the_documented_metrics_are_the_served_ones() {
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 2, tables: "" });
    // Metrics of partitions, and of what is labelled with errors, need something to show.
    let mut client = cluster.node(0).client();
    client.create_topic("t", &[("duolog.replication", "async"), ("duolog.flush", "async")]);
    assert_eq!(client.produce("t", "value").expect("an answer").error_code, 0);
    assert_ne!(client.produce("no topic has this name!", "value").expect("an answer").error_code, 0);
    client.fetch("t", 0, Duration::ZERO).expect("an answer");

    let (_, metrics) = cluster.node(0).get("/metrics").expect("metrics");
    let name = |line: &str| line.split(['{', ' ']).next().map(str::to_owned);
    let samples = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let typed = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let typed: BTreeSet<String> = typed.filter_map(name).collect();
    // A histogram is served in three parts.
    let whole = |name: String| {
        let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
        parts.map(str::to_owned).find(|whole| typed.contains(whole)).unwrap_or(name)
    };
    let served: BTreeSet<String> = samples.filter_map(name).map(whole).collect();
    assert_eq!(served.difference(&typed).collect::<Vec<_>>(), Vec::<&String>::new(), "served without a type");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(path).expect("docs/metrics.md");
    // The first cell of a table's row, where a name stands in backquotes.
    let cells = text.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let documented: BTreeSet<String> = quoted.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect();
    let all: BTreeSet<String> = served.union(&typed).cloned().collect();
    let missing: Vec<&String> = all.difference(&documented).collect();
    let gone: Vec<&String> = documented.difference(&all).collect();
    assert_eq!((missing, gone), (vec![], vec![]), "served and not documented, documented and not served");
}
