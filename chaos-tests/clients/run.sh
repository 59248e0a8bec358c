#!/usr/bin/env bash
# Unmodified Kafka clients produce, and consume in a group, while nodes of a cluster are killed. See README.md.
#
# Exit code 0: every client passed. 1: one did not. 2: the run itself could not be done.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in cluster install processes load judge; do . "$here/lib/$part.sh"; done

usage="usage: run.sh [--binary PATH] [--only NAME,…] [--duration SECONDS]
clients: ${all_clients[*]}"
binary=${CARGO_TARGET_DIR:-$HOME/.cache/duolog/target}/release/duolog
cache=${DUOLOG_CLIENTS_DIR:-$HOME/.cache/duolog/clients}
duration_s=30
clients=("${all_clients[@]}")

cannot() {
  echo "$1" >&2
  exit 2
}

while (($# > 0)); do
  case $1 in
    --binary) binary=${2:?"$usage"} ;;
    --only) IFS=, read -ra clients <<< "${2:?"$usage"}" ;;
    --duration) duration_s=${2:?"$usage"} ;;
    *) cannot "$usage" ;;
  esac
  shift 2
done
[[ $duration_s =~ ^[1-9][0-9]*$ ]] || cannot "--duration is a number of seconds, not $duration_s"
for name in "${clients[@]}"; do
  [[ " ${all_clients[*]} " == *" $name "* ]] || cannot "there is no client $name; there are ${all_clients[*]}"
done
[ -x "$binary" ] || cannot "there is no duolog binary at $binary; --binary names another one"
for tool in curl setsid setpriv; do needs $tool $tool || exit 2; done

mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/duolog-clients-XXXXXX")
keep=yes

clean_up() {
  end_clients
  stop_cluster
  if [ $keep = no ]; then rm -rf "$work"; else echo "data and logs are in $work" >&2; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

row() { printf '%-16s %-24s %12s %9s %10s %5s %11s %11s  %s\n' "$@"; }
heading=(client version acknowledged consumed duplicates kills "longest gap" "slowest ack" verdict)

start_cluster || exit 2
rows=()
failed=0
for name in "${clients[@]}"; do
  echo "== $name" >&2
  version=- acked=- consumed=- duplicates=- kills=- gap=- slowest=-
  if install_client "$name"; then
    load "$name"
    judge "$name"
  else
    verdict="FAILED: not installed"
  fi
  [ "$verdict" = ok ] || failed=1
  rows+=("$(row "$name" "$version" "$acked" "$consumed" "$duplicates" "$kills" "$gap" "$slowest" "$verdict")")
  echo "${rows[-1]}" >&2
done

problems=$(node_problems)
[ -z "$problems" ] || failed=1
row "${heading[@]}"
printf '%s\n' "${rows[@]}" ${problems:+"$problems"}
((failed)) || keep=no
exit $failed
