//! Each way to name a mode selects it; what is refused says why.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
    TopicConfig::new(pairs.iter().copied())
}

#[test]
fn each_way_to_name_a_mode_selects_it() {
    for (pairs, expected) in [
        (&[][..], "sync/sync"),
        (&[("duolog.flush", "async")][..], "sync/async"),
        (&[("duolog.replication", "async")][..], "async/sync"),
        (&[("flush.messages", "1")][..], "sync/sync"),
        (&[("flush.messages", "1000")][..], "sync/async"),
        (&[("min.insync.replicas", "1")][..], "async/sync"),
        (&[("min.insync.replicas", "3")][..], "sync/sync"),
        (&[("min.insync.replicas", "1"), ("flush.messages", "9223372036854775807")][..], "async/async"),
        (&[("min.insync.replicas", "1"), ("duolog.replication", "async")][..], "async/sync"),
    ] {
        assert_eq!(config(pairs).unwrap().durability().to_string(), expected, "{pairs:?}");
    }
}

#[test]
fn a_contradiction_is_refused_with_both_sides() {
    let error = config(&[("duolog.flush", "async"), ("flush.messages", "1")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "duolog.flush=async contradicts flush.messages=1: duolog.flush=async asks for flush async, flush.messages=1 for flush sync"
    );
    config(&[("duolog.replication", "sync"), ("min.insync.replicas", "1")]).unwrap_err();
}

#[test]
fn bad_keys_and_values_say_what_was_expected() {
    assert_eq!(
        config(&[("retention.mss", "1")]).unwrap_err().to_string(),
        "unknown topic config retention.mss; did you mean retention.ms?"
    );
    assert_eq!(
        config(&[("retention.ms", "abc")]).unwrap_err().to_string(),
        "invalid value \"abc\" for retention.ms: expected an integer of at least -1"
    );
    config(&[("cleanup.policy", "compact")]).unwrap_err();
    config(&[("duolog.flush", "maybe")]).unwrap_err();
}

#[test]
fn an_alteration_sets_and_deletes() {
    let before = config(&[("duolog.flush", "async"), ("retention.ms", "5")]).unwrap();
    let after = before.altered([("duolog.flush", None), ("flush.ms", Some("7"))]).unwrap();
    assert_eq!(after.durability().to_string(), "sync/sync");
    assert_eq!(after.retention_ms(), Some(5));
    assert_eq!(after.flush_wish(), FlushWish::Now);
    before.altered([("no.such.key", None)]).unwrap_err();
}

#[test]
fn every_default_is_accepted_by_its_own_key() {
    for key in TOPIC_CONFIG_KEYS {
        KEYS.check(key.name, key.default).unwrap();
    }
}

#[test]
fn min_insync_replicas_is_reported_as_what_the_mode_means() {
    let described = config(&[("duolog.replication", "async")]).unwrap().describe();
    let value = |name: &str| described.iter().find(|v| v.key.name == name).unwrap().value.clone();
    assert_eq!(value("min.insync.replicas"), "1");
    assert_eq!(value("flush.messages"), "1");
}
