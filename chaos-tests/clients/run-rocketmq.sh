#!/usr/bin/env bash
# Unmodified RocketMQ 5 clients send and receive every type of message while nodes of a cluster are killed; or, with --peer, against
# Duolog and the real RocketMQ without kills. See README.md.
#
# Exit code 0: every client passed. 1: one did not. 2: the run itself could not be done.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for part in lib/cluster lib/install lib/processes rocketmq/load rocketmq/duolog; do . "$here/$part.sh"; done

usage="usage: run-rocketmq.sh [--binary PATH] [--only NAME,…] [--duration SECONDS] [--peer]
clients: ${all_rocketmq_clients[*]}"
binary=${CARGO_TARGET_DIR:-$HOME/.cache/duolog/target}/release/duolog
cache=${DUOLOG_CLIENTS_DIR:-$HOME/.cache/duolog/clients}
duration_s=30
clients=("${all_rocketmq_clients[@]}")

cannot() {
  echo "$1" >&2
  exit 2
}

with_peer=no
peers=${DUOLOG_PEERS:-$here/../../../shared/peers}

while (($# > 0)); do
  case $1 in
    --peer)
      with_peer=yes
      shift
      continue ;;
    --binary) binary=${2:?"$usage"} ;;
    --only) IFS=, read -ra clients <<< "${2:?"$usage"}" ;;
    --duration) duration_s=${2:?"$usage"} ;;
    *) cannot "$usage" ;;
  esac
  shift 2
done
[[ $duration_s =~ ^[1-9][0-9]*$ ]] || cannot "--duration is a number of seconds, not $duration_s"
for name in "${clients[@]}"; do
  [[ " ${all_rocketmq_clients[*]} " == *" $name "* ]] || cannot "there is no client $name; there are ${all_rocketmq_clients[*]}"
done
if [ $with_peer = yes ]; then
  [ -x "$peers/rocketmq/rocketmq.sh" ] || cannot "there is no rocketmq/rocketmq.sh in $peers; DUOLOG_PEERS names another directory"
  . "$here/rocketmq/peer.sh"
fi
[ -x "$binary" ] || cannot "there is no duolog binary at $binary; --binary names another one"
for tool in curl kcat python3 setsid setpriv; do needs $tool $tool || exit 2; done

mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/duolog-rocketmq-clients-XXXXXX")
keep=yes

clean_up() {
  end_clients
  [ $with_peer = no ] || stop_peer
  stop_cluster
  if [ $keep = no ]; then rm -rf "$work"; else echo "data and logs are in $work" >&2; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

row() { printf '%-16s %-8s %12s %6s %6s %6s %10s %10s %11s %12s %5s  %s\n' "$@"; }
heading=(client version acknowledged push simple kafka duplicates "by check" "longest gap" "latest delay" kills verdict)

# run_client LABEL NAME: the load of a client; a row of the table.
run_client() {
  local version=- figures=(- - - - - - - -) kills=- verdict
  if install_client "$2"; then
    load "$1" "$2"
    read -ra figures <<< "$(python3 "$here/rocketmq/judge.py" "$work/$1" $((rate * duration_s)))"
    [ $with_peer = yes ] || ((kills > 0)) || echo "no node was killed" >> "$work/$1/problems"
    [ $with_peer = no ] || ! probes "$2" || probe "$1" "$2"
    verdict=ok
    [ -s "$work/$1/problems" ] && verdict="FAILED: $(paste -sd ';' "$work/$1/problems" | sed 's/;/; /g')"
  else
    verdict="FAILED: not installed"
  fi
  [ "$verdict" = ok ] || failed=1
  rows+=("$(row "$1" "$version" "${figures[@]}" "$kills" "$verdict")")
  echo "${rows[-1]}" >&2
}

start_cluster || exit 2
[ $with_peer = no ] || start_peer || exit 2
rows=()
failed=0
differences=
for name in "${clients[@]}"; do
  echo "== $name" >&2
  if [ $with_peer = no ]; then
    run_client "$name" "$name"
    continue
  fi
  for server in rocketmq duolog; do
    use $server
    run_client "$server-${name#rocketmq-}" "$name"
  done
  ! probes "$name" || differences+=$(differences "${name#rocketmq-}")$'\n'
done

problems=$(node_problems)
[ -z "$problems" ] || failed=1
row "${heading[@]}"
printf '%s\n' "${rows[@]}" ${problems:+"$problems"}
[ -z "$differences" ] || printf '\nWhat the clients saw differently:\n%s' "$differences"
((failed)) || keep=no
exit $failed
