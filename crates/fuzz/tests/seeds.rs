//! The targets hold for their seeds and for what once broke them: without libFuzzer, as any other test.

use duolog_fuzz::{batch, frame, recovery};
use duolog_kafka::supported_apis;

#[test]
fn batches() {
    for (name, input) in batch::seeds() {
        println!("{name}");
        batch::run(&input);
    }
}

#[test]
fn frames() {
    for (name, input) in frame::seeds() {
        println!("{name}");
        frame::run(&input);
    }
}

#[test]
fn recoveries() {
    for (name, input) in recovery::seeds() {
        println!("{name}");
        recovery::run(&input);
    }
}

/// Damage to a segment header once took back acknowledged entries.
#[test]
fn any_byte_of_a_log_may_be_damaged() {
    for input in recovery::single_bytes().iter().step_by(3) {
        println!("{input:?}");
        recovery::run(input);
    }
}

#[test]
fn every_api_has_a_seed() {
    let seeds = frame::seeds();
    for api in supported_apis() {
        let name = format!("{:?}-{}-", api.key, api.version_max_inclusive);
        assert!(seeds.iter().any(|(seed, _)| seed.starts_with(&name)), "{name}");
    }
}
