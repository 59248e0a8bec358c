# The scenario of run-rocketmq.sh --peer: nobody is killed, and the same programs run against Duolog and against the real RocketMQ, which
# the scripts in $DUOLOG_PEERS install, start and stop.
#
# Wants: $peers, $binary, the functions of cluster.sh, processes.sh and load.sh. Redefines those of duolog.sh. Gives: use SERVER,
# start_peer, stop_peer, probes, probe,
# differences.

peer_grpc_port=$((port_base + 5))
probe_limit_s=400
probe_groups=(fields fifo delay tags sql ack late change short long priority receive-short receive-many attempts)

# rocketmq.sh keeps what it installs in the cache, so that only the ports differ from its own.
peer() {
  NS_PORT=$((port_base + 6)) BROKER_PORT=$((port_base + 50)) GRPC_PORT=$peer_grpc_port PROXY_REMOTING_PORT=$((port_base + 7)) \
    HEAP=512m "$peers/rocketmq/rocketmq.sh" "$@"
}

start_peer() {
  local installed=${PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/broker-peers}/rocketmq/lib/.complete
  { [ -e "$installed" ] || peer install; } > "$work/peer.log" 2>&1 && peer start 1 >> "$work/peer.log" 2>&1 && return
  echo "the real RocketMQ does not start; the end of $work/peer.log:" >&2
  tail -n 5 "$work/peer.log" >&2
  return 1
}

stop_peer() { peer stop >> "$work/peer.log" 2>&1; }

# use duolog|rocketmq
use() {
  server=$1
  endpoints=127.0.0.1:$(rocketmq_port 0)
  [ "$server" = duolog ] || endpoints=127.0.0.1:$peer_grpc_port
}

# Topics and groups, those of the probe too. RocketMQ knows only groups that were made.
create_topics() {
  local type name
  if [ "$server" = duolog ]; then
    for type in "${types[@]}" priority; do
      "$binary" topic create "$topic-$type" --bootstrap "$bootstrap" --partitions 4 --config "message.type=${type^^}" || return
    done
    return
  fi
  {
    for type in "${types[@]}" priority; do echo "topic $topic-$type ${type^^} 4"; done
    for name in push simple; do printf 'group %s\ngroup %s fifo\n' "$group-$name" "$group-$name-fifo"; done
    for name in "${probe_groups[@]}"; do echo "group $topic-$name $([ "$name" = fifo ] && echo fifo)"; done
  } | peer setup
}

disturb() { sleep "$duration_s"; }
start_kafka_readers() { :; }
start_kafka_producer() { :; }
end_kafka_producer() { :; }
start_checker() { :; }

# Whether a client has the verb.
probes() { [[ $1 == rocketmq-java || $1 == rocketmq-python ]]; }

# probe LABEL NAME: what the client sees of good and bad calls.
probe() {
  local dir=$work/$1
  start_client probe probe --endpoints "$endpoints" --topic "clients-$2"
  wait_until $probe_limit_s has_printed probe end || echo "the probe does not end" >> "$dir/problems"
  end_clients
  client_pids=()
}

# differences CLIENT: calls whose outcome differs.
differences() {
  local server
  for server in rocketmq duolog; do
    sed -n 's/^probe \(.*\) => /\1\t/p' "$work/$server-$1/probe/out" | sort > "$work/$server-$1/probe/sorted"
  done
  join -t $'\t' -a 1 -a 2 -e '(no answer)' -o 0,1.2,2.2 "$work/rocketmq-$1/probe/sorted" "$work/duolog-$1/probe/sorted" |
    awk -F '\t' -v name="$1" '$2 != $3 { printf "%s: %s\n    RocketMQ: %s\n    Duolog:   %s\n", name, $1, $2, $3 }'
}
