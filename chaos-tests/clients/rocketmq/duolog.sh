# A cluster of Duolog whose nodes are killed, and Kafka clients on the same topics: the scenario of run-rocketmq.sh.
#
# Wants: the functions of cluster.sh and processes.sh, and the variables of load.sh.

kill_every_s=6
down_s=3
# Until the last node that was killed leads its share of the partitions again.
settled_s=10

create_topics() {
  local type
  for type in "${types[@]}"; do
    "$binary" topic create "$topic-$type" --bootstrap "$bootstrap" --partitions 4 --durability sync/sync \
      --config "message.type=${type^^}" || return
  done
}

disturb() {
  kill_nodes $duration_s $kill_every_s $down_s true
  wait_until 30 all_healthy || echo "a node does not become healthy again" >> "$dir/problems"
}

# kcat reads what the RocketMQ client sends, and sends numbers to the topic of normal messages.
start_kafka_readers() {
  local type
  for type in "${types[@]}"; do
    start_process "kafka-$type" bash "$here/kcat/client.sh" consume "$bootstrap" "$topic-$type" "$group-kafka-$type"
  done
}

# Any producer of the topic may be asked about its transactions, through any node that it is connected to. The libraries for Go and Python
# open a stream that broke only after up to five minutes; so there is a producer that starts once the leaders have found their places
# again.
start_checker() {
  sleep $settled_s
  start_client checker send --endpoints "$addresses" --topic "$topic-transaction" --type transaction --count 0 --rate 1
}

start_kafka_producer() {
  start_process producer bash "$here/kcat/client.sh" produce "$bootstrap" "$topic-normal" "$count" "$rate"
}

end_kafka_producer() {
  wait_until $settle_limit_s has_ended "${client_pids[producer]}" || echo "Kafka's producer does not end" >> "$dir/problems"
  end_client producer
}
