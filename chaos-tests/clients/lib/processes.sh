# Processes of a client, sourced by run.sh and run-rocketmq.sh. Each has a role, works in the directory $dir/ROLE, which is also its
# home directory, and leaves what it prints there: out and log. What goes wrong is added to $dir/problems.
#
# Wants: $dir, $command and has_ended, wait_until of cluster.sh.

stop_limit_of_clients_s=30

declare -A client_pids

# start_client ROLE ARGUMENTS…
start_client() { start_process "$1" "${command[@]}" "${@:2}"; }

# start_process ROLE PROGRAM ARGUMENTS…: a session of its own, so that it ends with everything that it started.
start_process() {
  local role=$1
  shift
  mkdir -p "$dir/$role"
  (cd "$dir/$role" && HOME=$PWD exec setsid setpriv --pdeathsig KILL "$@") >> "$dir/$role/out" 2>> "$dir/$role/log" &
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
      wait_until $stop_limit_of_clients_s has_ended "$pid" || echo "$role does not stop" >> "$dir/problems"
    fi
  fi
  kill -9 -- "-$pid" 2> /dev/null
  wait "$pid" 2> /dev/null
  status=$?
  [ "$role" = producer ] && [ $status != 0 ] && echo "the producer ended with $status" >> "$dir/problems"
  unset "client_pids[$role]"
}

# All at once are asked to stop.
end_all() {
  local role
  for role in "${!client_pids[@]}"; do
    ! has_ended "${client_pids[$role]}" || echo "$role ended by itself" >> "$dir/problems"
    kill "${client_pids[$role]}" 2> /dev/null
  done
  for role in "${!client_pids[@]}"; do
    wait_until $stop_limit_of_clients_s has_ended "${client_pids[$role]}" || echo "$role does not stop" >> "$dir/problems"
  done
  end_clients
  client_pids=()
}

end_clients() {
  local pid
  for pid in "${client_pids[@]}"; do
    kill -9 -- "-$pid"
    wait "$pid"
  done 2> /dev/null
}
