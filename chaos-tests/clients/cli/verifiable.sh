#!/usr/bin/env bash
# kafka-verifiable-producer and -consumer: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`.
#
# The producer prints each acknowledgement. Without the config file it would never retry; keys spread a low rate over all
# partitions.
set -euo pipefail
tools=org.apache.kafka.tools

case $1 in
  produce)
    echo retries=2147483647 > producer.properties
    java -Xmx192m $tools.VerifiableProducer --bootstrap-server "$2" --topic "$3" --max-messages "$4" --throughput "$5" \
      --acks -1 --repeating-keys 100 --command-config producer.properties | tee producer.log |
      sed -nu 's/.*"timestamp":\([0-9]*\),"name":"producer_send_success".*"value":"\([0-9]*\)".*/\2 \1/p' > acked
    echo "acknowledged $(wc -l < acked)" ;;
  consume)
    exec java -Xmx192m $tools.VerifiableConsumer --bootstrap-server "$2" --topic "$3" --group-id "$4" --reset-policy earliest \
      --verbose > >(trap '' TERM && exec sed -nu \
        's/.*"record_data".*"value":"\([0-9]*\)".*"partition":\([0-9]*\),"offset":\([0-9]*\).*/\1 \2 \3/p' >> read) ;;
esac
