#!/usr/bin/env bash
# kafka-console-producer and kafka-console-consumer: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`.
#
# The producer does not say what is acknowledged, only what is not. So all is acknowledged when it logs no error, else nothing
# counts as acknowledged; there are no times. Its default of three retries within 300 ms is less than an election takes. The
# number is also the key, which spreads a low rate over all partitions.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib/numbers.sh"

case $1 in
  produce)
    numbers "$4" "$5" | sed -u 's/.*/&:&/' |
      java -Xmx192m org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$2" --topic "$3" \
        --reader-property parse.key=true --reader-property key.separator=: \
        --message-send-max-retries 2147483647 2>&1 | tee producer.log >&2
    : > acked
    if ! grep -q 'Error when sending' producer.log; then seq 0 $(($4 - 1)) > acked; fi
    echo "acknowledged $(wc -l < acked)" ;;
  consume)
    exec java -Xmx192m org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$2" --topic "$3" --group "$4" \
      --from-beginning --formatter-property print.partition=true --formatter-property print.offset=true \
      > >(trap '' TERM && exec sed -nu 's/^Partition:\([0-9]*\)\tOffset:\([0-9]*\)\t\(.*\)/\3 \1 \2/p' >> read) ;;
esac
