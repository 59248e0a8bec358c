# One client's load while nodes are killed, sourced by run.sh.
#
# Wants: $binary, $work, $bootstrap, $duration_s, $command and the functions of cluster.sh and processes.sh. A producer writes `acked`
# (lines NUMBER TIME_MS), a group member `read` (lines NUMBER PARTITION OFFSET).
#
#   members 1 and 2 ─────────── member 2 stops and starts ───────────────── all read ── SIGTERM
#        producer  ──── kill ──── kill ──── kill ──── kill ──── … ── last acknowledgement

rate=200
kill_every_s=5
down_s=1
# How long a producer, and then the group, may need beyond the load: time-outs of clients are up to two minutes.
settle_limit_s=150

# load NAME: leaves its files in $work/NAME and what went wrong in $work/NAME/problems; sets kills.
load() {
  local dir=$work/$1 topic=clients-$1 group=clients-$1-group count=$((rate * duration_s))
  mkdir -p "$dir/producer" "$dir/member-1" "$dir/member-2"
  : > "$dir/problems"
  kills=0
  if ! "$binary" topic create --bootstrap "$bootstrap" --partitions 4 "$topic" > "$dir/create.log" 2>&1; then
    echo "the topic is not created: $(tail -n 1 "$dir/create.log")" >> "$dir/problems"
    return
  fi

  start_client member-1 consume "$bootstrap" "$topic" "$group"
  start_client member-2 consume "$bootstrap" "$topic" "$group"
  start_client producer produce "$bootstrap" "$topic" "$count" "$rate"
  local begin=$SECONDS restarted=no
  kill_nodes $duration_s $kill_every_s $down_s restart_member_2
  wait_until 30 all_healthy || echo "a node does not become healthy again" >> "$dir/problems"

  wait_until $settle_limit_s has_ended "${client_pids[producer]}" || echo "the producer does not end" >> "$dir/problems"
  end_client producer
  wait_until $settle_limit_s all_read || echo "the group does not read everything" >> "$dir/problems"
  end_client member-1
  end_client member-2
}

# After half of the time member 2 leaves and a new one joins.
restart_member_2() {
  [ $restarted = no ] && ((SECONDS >= begin + duration_s / 2)) || return 0
  restarted=yes
  end_client member-2
  start_client member-2 consume "$bootstrap" "$topic" "$group"
}

numbers_acked() { cut -d ' ' -f 1 "$dir/producer/acked" | sort -u; }
numbers_read() { cat "$dir"/member-?/read | cut -d ' ' -f 1 | sort; }
all_read() { [ -z "$(comm -23 <(numbers_acked) <(numbers_read | uniq))" ]; }
