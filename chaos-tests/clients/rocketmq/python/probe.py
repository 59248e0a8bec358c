"""The verb probe: what the client sees of good and bad calls, a line each."""

import re
import time

from lines import out
from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)

VARYING = re.compile(r"\b01[0-9A-F]{32}\b|\d{10,}|127\.0\.0\.1:\d+|client_id:\S+|\"[\w-]{30,}\"")
MIB = 1 << 20


class Undecided(TransactionChecker):
    def check(self, message):
        return TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED


class Taking(MessageListener):
    def consume(self, message):
        return ConsumeResult.SUCCESS


class Probe:
    def __init__(self, options):
        self.configuration = ClientConfiguration(options["endpoints"], Credentials())
        self.prefix = options["topic"]
        self.producers = {}

    def run(self):
        self.sending()
        self.as_received()
        self.receipts()
        self.transactions_and_recalls()
        self.groups()
        out("end")

    def sending(self):
        self.probe("send to an unknown topic", lambda: self.send("none"))
        self.probe("send FIFO to a NORMAL topic", lambda: self.send("normal", message_group="g"))
        self.probe("send NORMAL to a FIFO topic", lambda: self.send("fifo"))
        self.probe("send an empty body", lambda: self.send("normal", b""))
        self.probe("send 2 MiB", lambda: self.send("normal", bytes(2 * MIB)))
        self.probe("send 5 MiB", lambda: self.send("normal", bytes(5 * MIB)))
        for key in ["KEYS", "UNIQ_KEY", "duolog.x", "__BORN_HOST"]:
            self.probe(f"property {key}", lambda key=key: self.send("normal", properties={key: "v"}))
        self.probe("delay of 2 days", lambda: self.send("delay", delivery_timestamp=int(time.time()) + 2 * 86_400))
        self.probe("delivery time in the past", lambda: self.send("delay", delivery_timestamp=int(time.time()) - 60))

    def as_received(self):
        def one():
            with Receiving(self.consumer("fields", "normal")) as consumer:
                receipt = self.send("normal", "hé".encode(), tag="tag", keys="k1", properties={"color": "red"})
                message = consumer.take(lambda message: message.message_id == receipt.message_id)
                consumer.ack(message)
                age_s = time.time() - message.born_timestamp / 1000
                return (
                    f"body {message.body.decode()}, tag {message.tag}, keys {message.keys}, properties {message.properties}, "
                    f"born in time {-1 < age_s < 30}, born host {message.born_host}, "
                    f"attempt {message.delivery_attempt}"
                )

        self.probe("message as received", one)

    def receipts(self):
        def twice(consumer, message):
            consumer.ack(message)
            consumer.ack(message)

        def bad_handle(consumer, message):
            message.receipt_handle = "nonsense"
            consumer.ack(message)

        def cut_handle(consumer, message):
            message.receipt_handle = message.receipt_handle[:-4]
            consumer.ack(message)

        self.probe("acknowledge twice", lambda: self.with_one("ack", twice))
        self.probe("acknowledge with a bad receipt handle", lambda: self.with_one("ack", bad_handle))
        self.probe("acknowledge with a receipt handle that is cut off", lambda: self.with_one("ack", cut_handle))
        self.probe(
            "change the invisible time with a bad receipt handle",
            lambda: self.with_one(
                "change",
                lambda consumer, message: (
                    setattr(message, "receipt_handle", "nonsense"),
                    consumer.change_invisible_duration(message, 10),
                ),
            ),
        )

    def transactions_and_recalls(self):
        def ends(*names):
            def run():
                transaction = self.producer("transaction").begin_transaction()
                self.send("transaction", transaction=transaction)
                for name in names:
                    getattr(transaction, name)()

            return run

        self.probe("transaction: commit commit", ends("commit", "commit"))
        self.probe("transaction: rollback commit", ends("rollback", "commit"))
        self.probe("recall with a bad handle", lambda: self.producer("delay").recall_message(f"{self.prefix}-delay", "bad"))

    def groups(self):
        def simple():
            with Receiving(self.consumer("unknown", "normal")):
                return "taken"

        def push():
            topics = {f"{self.prefix}-normal": FilterExpression()}
            consumer = PushConsumer(self.configuration, f"{self.prefix}-unknown", Taking(), topics)
            consumer.startup()
            consumer.shutdown()
            return "started"

        self.probe("simple consumer of an unknown group", simple)
        self.probe("push consumer of an unknown group", push)

    def probe(self, name, case):
        try:
            result = case()
            text = result if isinstance(result, str) else "taken"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        out("probe", name, "=>", VARYING.sub("#", " ".join(text.split()))[:400])

    def producer(self, topic):
        if topic not in self.producers:
            producer = Producer(self.configuration, (f"{self.prefix}-{topic}",), checker=Undecided())
            producer.startup()
            self.producers[topic] = producer
        return self.producers[topic]

    def send(self, topic, body=b"x", transaction=None, properties=None, **fields):
        message = Message()
        message.topic, message.body = f"{self.prefix}-{topic}", body
        for name, value in fields.items():
            setattr(message, name, value)
        for key, value in (properties or {}).items():
            message.add_property(key, value)
        return self.producer(topic).send(message, transaction)

    def consumer(self, group, topic):
        topics = {f"{self.prefix}-{topic}": FilterExpression()}
        return SimpleConsumer(self.configuration, f"{self.prefix}-{group}", topics, await_duration=5)

    def with_one(self, group, case):
        """Hands a message over as received, invisible for 10 s."""
        with Receiving(self.consumer(group, "normal")) as consumer:
            receipt = self.send("normal")
            case(consumer, consumer.take(lambda message: message.message_id == receipt.message_id))


class Receiving:
    """A simple consumer that is started and stopped."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.ack = consumer.ack
        self.change_invisible_duration = consumer.change_invisible_duration

    def __enter__(self):
        self.consumer.startup()
        # The real RocketMQ fails when it does not know the client's settings yet.
        time.sleep(3)
        # A new group begins at the end of the topic, once it has received.
        self.receive(2)
        return self

    def __exit__(self, *_):
        self.consumer.shutdown()

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for message in self.consumer.receive(16, 10) or []:
                self.ack(message)

    def take(self, matches):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for message in self.consumer.receive(16, 10) or []:
                if matches(message):
                    return message
                self.ack(message)
        raise TimeoutError("nothing came within 30 s")


def run(options, asked):
    Probe(options).run()
    asked.wait()
