//! libFuzzer on record batches and log entries; see [`duolog_fuzz::batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(init: duolog_fuzz::seeds::write(duolog_fuzz::batch::seeds()), |input: &[u8]| {
    duolog_fuzz::batch::run(input);
});
