//! libFuzzer on opening a damaged commit log; see [`duolog_fuzz::recovery`].
#![no_main]

libfuzzer_sys::fuzz_target!(init: duolog_fuzz::seeds::write(duolog_fuzz::recovery::seeds()), |input: &[u8]| {
    duolog_fuzz::recovery::run(input);
});
