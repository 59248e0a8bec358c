"""confluent-kafka: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`."""

import signal
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

COMMIT_EVERY_S = 1.0


def produce(bootstrap, topic, count, rate):
    producer = Producer({"bootstrap.servers": bootstrap})
    acked_count = 0

    with open("acked", "w") as file:

        def on_delivery(error, message):
            nonlocal acked_count
            if error:
                print(message.value(), "is not acknowledged:", error, file=sys.stderr)
                return
            acked_count += 1
            print(message.value().decode(), time.time_ns() // 1_000_000, file=file)

        begin = time.monotonic()
        for number in range(count):
            while (wait_s := begin + number / rate - time.monotonic()) > 0:
                producer.poll(wait_s)
            producer.produce(topic, str(number), on_delivery=on_delivery)
        producer.flush()
    print("acknowledged", acked_count)


def consume(bootstrap, topic, group):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    stopping = False

    def stop(*_):
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    # Only what is written is committed, also before partitions go to another member.
    consumer.subscribe([topic], on_revoke=lambda *_: commit(consumer))
    commit_at = time.monotonic() + COMMIT_EVERY_S
    with open("read", "a", buffering=1) as file:
        while not stopping:
            message = consumer.poll(0.2)
            if message and message.error():
                print("consume:", message.error(), file=sys.stderr)
            elif message:
                print(message.value().decode(), message.partition(), message.offset(), file=file)
            if time.monotonic() >= commit_at:
                commit(consumer)
                commit_at = time.monotonic() + COMMIT_EVERY_S
        consumer.close()


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        # There was nothing new to commit.
        if error.args[0].code() != KafkaError._NO_OFFSET:
            print("commit:", error, file=sys.stderr)


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "produce":
        bootstrap, topic, count, rate = arguments
        produce(bootstrap, topic, int(count), int(rate))
    else:
        consume(*arguments)
