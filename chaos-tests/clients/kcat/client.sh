#!/usr/bin/env bash
# kcat: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`.
#
# With -vv kcat reports each acknowledgement, but not of which record. So all is acknowledged when as many were reported as
# sent, else nothing counts as acknowledged; the k-th report gives the number k its time.
# It ends when it has no connection at all. So it keeps one to each node, and comes back to one that was killed before the next one is; by
# default it would not come back to a node that leads nothing of the topic. It counts nodes that it was never connected to, so a consumer
# may end all the same; then it is started again, as its user would have to do.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib/numbers.sh"

case $1 in
  produce)
    delivered=0
    numbers "$4" "$5" | kcat -P -b "$2" -t "$3" -X reconnect.backoff.max.ms=1000 -X enable.sparse.connections=false -vv 2>&1 | while read -r line; do
      case $line in
        *"Message delivered"*) echo $((delivered++)) ${EPOCHREALTIME//[.,]/} ;;
        *) echo "$line" >&2 ;;
      esac
    done | sed 's/...$//' > acked
    if [ "$(wc -l < acked)" != "$4" ]; then : > acked; fi
    echo "acknowledged $(wc -l < acked)" ;;
  consume)
    reader=
    trap 'kill "$reader"; wait "$reader"; exit 0' TERM
    while true; do
      kcat -b "$2" -G "$4" -u -q -X auto.offset.reset=earliest -f '%s %p %o\n' "$3" >> read &
      reader=$!
      wait "$reader" || echo "kcat ended with $?; it is started again" >&2
      sleep 1
    done ;;
esac
