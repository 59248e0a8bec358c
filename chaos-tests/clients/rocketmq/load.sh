# One RocketMQ client's load while nodes are killed, sourced by run-rocketmq.sh.
#
# Wants: $here, $endpoints, $duration_s, $command, $kinds, the functions of processes.sh, and of duolog.sh or peer.sh.
#
#   push, push-fifo, simple, simple-fifo, kafka-* ──────────────────────────── all received ── SIGTERM
#      send-normal, -fifo, -delay, -transaction ── kill ── kill ── … ── all acknowledged ────── SIGTERM
#                        producer (Kafka's) ────── kill ── kill ── … ── all acknowledged

types=(normal fifo delay transaction)
rate=20
start_limit_s=90
# How long senders, and then receivers, may need beyond the load. A transaction whose check-back was lost is asked about again.
settle_limit_s=120

# load LABEL NAME: leaves its files in $work/LABEL and what went wrong in $work/LABEL/problems; sets kills.
load() {
  local dir=$work/$1 topic=clients-$2 group=clients-$2 count=$((rate * duration_s)) type role addresses
  addresses=$(addresses_for "$2")
  mkdir -p "$dir"
  : > "$dir/problems"
  kills=0
  if ! create_topics > "$dir/create.log" 2>&1; then
    echo "the topics are not created: $(tail -n 1 "$dir/create.log")" >> "$dir/problems"
    return
  fi

  local all=$topic-normal,$topic-delay,$topic-transaction
  for role in "${kinds[@]}"; do
    start_client $role receive --endpoints "$addresses" --topic "$all" --kind $role --group "$group-$role"
    start_client $role-fifo receive --endpoints "$addresses" --topic "$topic-fifo" --kind $role --group "$group-$role-fifo"
  done
  start_kafka_readers
  for role in "${kinds[@]}" "${kinds[@]/%/-fifo}"; do
    wait_until $start_limit_s has_printed $role ready || echo "$role does not start" >> "$dir/problems"
  done
  for type in "${types[@]}"; do
    start_client "send-$type" send --endpoints "$addresses" --topic "$topic-$type" --type "$type" --count $count --rate $rate
  done
  start_kafka_producer
  for type in "${types[@]}"; do
    wait_until $start_limit_s has_printed "send-$type" ready || echo "send-$type does not start" >> "$dir/problems"
  done

  disturb
  for type in "${types[@]}"; do
    wait_until $settle_limit_s has_printed "send-$type" end || echo "send-$type does not end" >> "$dir/problems"
  done
  end_kafka_producer
  start_checker
  wait_until $settle_limit_s all_received
  end_all
}

# All libraries but Java's send several addresses as the name of the server, and do not start.
addresses_for() { if [ "$1" = rocketmq-java ]; then echo "$endpoints"; else echo "${endpoints%%;*}"; fi; }

has_printed() { has_ended "${client_pids[$1]}" || grep -qx "$2" "$dir/$1/out"; }

# Exit code 0 when nothing is missing any more.
all_received() { python3 "$here/rocketmq/judge.py" --missing "$dir" "$count"; }
