# A cluster of three nodes on loopback, sourced by run.sh and run-rocketmq.sh. Only processes that were started here are ended, by their id.
#
# Wants: $binary, $work. Gives: $bootstrap, $endpoints.

# Node i listens on port_base + 100 i for Kafka, one port higher for HTTP, two for gRPC, three for RocketMQ.
port_base=${DUOLOG_CLIENTS_PORT_BASE:-19600}
start_limit_s=60
stop_limit_s=30

node_pids=()

kafka_port() { echo $((port_base + 100 * $1)); }
http_port() { echo $((port_base + 100 * $1 + 1)); }
grpc_port() { echo $((port_base + 100 * $1 + 2)); }
rocketmq_port() { echo $((port_base + 100 * $1 + 3)); }

bootstrap=127.0.0.1:$(kafka_port 0),127.0.0.1:$(kafka_port 1),127.0.0.1:$(kafka_port 2)
endpoints="127.0.0.1:$(rocketmq_port 0);127.0.0.1:$(rocketmq_port 1);127.0.0.1:$(rocketmq_port 2)"

node_toml() {
  cat <<EOF
cluster_name = "clients"
node_id = $1
data_dir = "$work/node-$1"
[listen]
kafka = "127.0.0.1:$(kafka_port "$1")"
http = "127.0.0.1:$(http_port "$1")"
grpc = "127.0.0.1:$(grpc_port "$1")"
rocketmq = "127.0.0.1:$(rocketmq_port "$1")"
EOF
  local peer
  for peer in 0 1 2; do
    cat <<EOF
[[nodes]]
id = $peer
host = "127.0.0.1"
kafka_port = $(kafka_port "$peer")
http_port = $(http_port "$peer")
grpc_port = $(grpc_port "$peer")
rocketmq_port = $(rocketmq_port "$peer")
EOF
  done
}

# The kernel ends the node with this script, whatever ends the script.
start_node() {
  setsid setpriv --pdeathsig KILL "$binary" start --config "$work/node-$1.toml" >> "$work/node-$1.log" 2>&1 &
  node_pids[$1]=$!
}

kill_node() {
  kill -9 "${node_pids[$1]}"
  wait "${node_pids[$1]}" 2> /dev/null
  node_pids[$1]=
}

# kill_nodes SECONDS EVERY_S DOWN_S COMMAND…: kills a random node every few seconds and starts it again, but never a second one while
# another is down or recovering; runs the command all the time; counts in kills.
kill_nodes() {
  local end=$((SECONDS + $1)) every_s=$2 down_s=$3 next_kill=$((SECONDS + $2)) node
  shift 3
  kills=0
  while ((SECONDS < end)); do
    "$@"
    if ((SECONDS >= next_kill)) && all_healthy; then
      next_kill=$((SECONDS + every_s))
      node=$((RANDOM % 3))
      kill_node $node
      kills=$((kills + 1))
      sleep "$down_s"
      start_node $node
    fi
    sleep 0.2
  done
}

is_healthy() { curl -sf -m 1 -o /dev/null "http://127.0.0.1:$(http_port "$1")/health"; }

all_healthy() {
  local node
  for node in 0 1 2; do is_healthy $node || return 1; done
}

start_cluster() {
  local node
  for node in 0 1 2; do
    node_toml $node > "$work/node-$node.toml"
    start_node $node
  done
  wait_until $start_limit_s all_healthy && return
  echo "the nodes are not healthy after $start_limit_s s; the end of their logs:" >&2
  tail -n 5 "$work"/node-?.log >&2
  return 1
}

# SIGTERM, and SIGKILL for a node that takes longer than the limit.
stop_cluster() {
  local node pid
  for pid in "${node_pids[@]}"; do [ -n "$pid" ] && kill "$pid" 2> /dev/null; done
  for node in "${!node_pids[@]}"; do
    pid=${node_pids[node]}
    [ -n "$pid" ] || continue
    wait_until $stop_limit_s has_ended "$pid" || kill -9 "$pid"
    wait "$pid" 2> /dev/null
  done
  node_pids=()
}

# Panics, and nodes that ended by themselves, make the whole run fail.
node_problems() {
  local node
  for node in "${!node_pids[@]}"; do
    has_ended "${node_pids[node]}" && echo "node $node ended by itself: $work/node-$node.log"
  done
  grep -H "panicked at" "$work"/node-?.log
}

has_ended() { ! kill -0 "$1" 2> /dev/null; }

# wait_until SECONDS COMMAND…
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}
