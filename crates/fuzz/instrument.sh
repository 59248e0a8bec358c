#!/bin/sh
# Cargo calls this instead of rustc for the crates of the workspace: `instrument.sh rustc ARGUMENTS`.
#
# It adds coverage counters, debug assertions and overflow checks to the crates that are fuzzed. Dependencies are not called
# through here, so they are shared with every other build; build scripts and crates that no target exercises stay as
# they are, for a counter needs libFuzzer to link. Cargo does not notice a change of this file: `cargo clean --package
# duolog-types` makes it build everything above again.
set -eu
name=
previous=
for argument; do
  if [ "$previous" = --crate-name ]; then
    name=$argument
  fi
  previous=$argument
done
case $name in
  duolog_types | duolog_record | duolog_state | duolog_commit_log | duolog_kafka | duolog_fuzz | fuzz_*)
    exec "$@" \
      -Cpasses=sancov-module \
      -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
      -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares \
      -Cdebug-assertions -Coverflow-checks
    ;;
  *) exec "$@" ;;
esac
