# One client's load while nodes are killed, sourced by run.sh.
#
# Wants: $binary, $work, $bootstrap, $duration_s, $command and the functions of cluster.sh. A process of a client works in a
# directory of its own: a producer writes `acked` (lines NUMBER TIME_MS), a group member `read` (lines NUMBER PARTITION OFFSET).
#
#   members 1 and 2 ─────────── member 2 stops and starts ───────────────── all read ── SIGTERM
#        producer  ──── kill ──── kill ──── kill ──── kill ──── … ── last acknowledgement

rate=200
kill_every_s=5
down_s=1
# How long a producer, and then the group, may need beyond the load: time-outs of clients are up to two minutes.
settle_limit_s=150
member_stop_limit_s=30

declare -A client_pids

# load NAME: leaves its files in $work/NAME and what went wrong in $work/NAME/problems; sets kills.
load() {
  local dir=$work/$1 topic=clients-$1 group=clients-$1-group count=$((rate * duration_s))
  mkdir -p "$dir/producer" "$dir/member-1" "$dir/member-2"
  : > "$dir/problems"
  kills=0
  client_pids=()
  if ! "$binary" topic create --bootstrap "$bootstrap" --partitions 4 "$topic" > "$dir/create.log" 2>&1; then
    echo "the topic is not created: $(tail -n 1 "$dir/create.log")" >> "$dir/problems"
    return
  fi

  start_client member-1 consume "$bootstrap" "$topic" "$group"
  start_client member-2 consume "$bootstrap" "$topic" "$group"
  start_client producer produce "$bootstrap" "$topic" "$count" "$rate"
  kill_nodes
  wait_until 30 all_healthy || echo "a node does not become healthy again" >> "$dir/problems"

  wait_until $settle_limit_s has_ended "${client_pids[producer]}" || echo "the producer does not end" >> "$dir/problems"
  end_client producer
  wait_until $settle_limit_s all_read || echo "the group does not read everything" >> "$dir/problems"
  end_client member-1
  end_client member-2
}

# Kills a random node every few seconds, but never a second one while another is down or recovering.
kill_nodes() {
  local begin=$SECONDS next_kill=$((SECONDS + kill_every_s)) node restarted=no
  while ((SECONDS < begin + duration_s)); do
    if [ $restarted = no ] && ((SECONDS >= begin + duration_s / 2)); then
      restarted=yes
      end_client member-2
      start_client member-2 consume "$bootstrap" "$topic" "$group"
    fi
    if ((SECONDS >= next_kill)) && all_healthy; then
      next_kill=$((SECONDS + kill_every_s))
      node=$((RANDOM % 3))
      kill_node $node
      kills=$((kills + 1))
      sleep $down_s
      start_node $node
    fi
    sleep 0.2
  done
}

# start_client ROLE ARGUMENTS…: a session of its own, so that it ends with everything that it started.
start_client() {
  local role=$1
  shift
  (cd "$dir/$role" && exec setsid setpriv --pdeathsig KILL "${command[@]}" "$@") >> "$dir/$role/log" 2>&1 &
  client_pids[$role]=$!
}

# A member is asked to stop; a producer has ended, or is given up.
end_client() {
  local role=$1 pid=${client_pids[$1]} status
  if [ "$role" != producer ]; then
    if has_ended "$pid"; then
      echo "$role ended by itself" >> "$dir/problems"
    else
      kill "$pid" 2> /dev/null
      wait_until $member_stop_limit_s has_ended "$pid" || echo "$role does not stop" >> "$dir/problems"
    fi
  fi
  kill -9 -- "-$pid" 2> /dev/null
  wait "$pid" 2> /dev/null
  status=$?
  [ "$role" = producer ] && [ $status != 0 ] && echo "the producer ended with $status" >> "$dir/problems"
  unset "client_pids[$role]"
}

end_clients() {
  local pid
  for pid in "${client_pids[@]}"; do
    kill -9 -- "-$pid"
    wait "$pid"
  done 2> /dev/null
}

numbers_acked() { cut -d ' ' -f 1 "$dir/producer/acked" | sort -u; }
numbers_read() { cat "$dir"/member-?/read | cut -d ' ' -f 1 | sort; }
all_read() { [ -z "$(comm -23 <(numbers_acked) <(numbers_read | uniq))" ]; }
