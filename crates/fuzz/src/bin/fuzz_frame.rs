//! libFuzzer on frames of the Kafka protocol; see [`duolog_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(init: duolog_fuzz::seeds::write(duolog_fuzz::frame::seeds()), |input: &[u8]| {
    duolog_fuzz::frame::run(input);
});
