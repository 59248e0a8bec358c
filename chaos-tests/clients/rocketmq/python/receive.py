"""The verb receive."""

import threading
import time

from lines import err, now_ms, out
from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    MessageListener,
    PushConsumer,
    SimpleConsumer,
)

# A call of a simple consumer asks one queue of one topic, and waits when there is nothing in it.
LOOPS = 4


class Listener(MessageListener):
    def consume(self, message):
        received(message)
        return ConsumeResult.SUCCESS


def run(options, asked):
    configuration = ClientConfiguration(options["endpoints"], Credentials())
    topics = {topic: FilterExpression() for topic in options["topic"].split(",")}
    if options["kind"] == "push":
        consumer = PushConsumer(configuration, options["group"], Listener(), topics)
        consumer.startup()
        out("ready")
        asked.wait()
    else:
        consumer = SimpleConsumer(configuration, options["group"], topics, await_duration=5)
        consumer.startup()
        out("ready")
        loops = [threading.Thread(target=receive_and_ack, args=(consumer, asked)) for _ in range(LOOPS)]
        for loop in loops:
            loop.start()
        asked.wait()
        for loop in loops:
            loop.join()
    consumer.shutdown()


def receive_and_ack(consumer, asked):
    while not asked.is_set():
        try:
            for message in consumer.receive(32, 20) or []:
                received(message)
                ack(consumer, message)
        except Exception as error:
            err(f"receive: {error!r}")
            time.sleep(0.5)


def ack(consumer, message):
    for _ in range(10):
        try:
            consumer.ack(message)
            out("acked", message.body.decode(), now_ms(), message.message_id)
            return
        except Exception as error:
            err(f"ack of {message.body.decode()}: {error!r}")
            time.sleep(0.5)
    out("unsure", message.body.decode(), now_ms(), message.message_id)


def received(message):
    out("received", message.body.decode(), now_ms(), message.message_id, message.delivery_attempt)
