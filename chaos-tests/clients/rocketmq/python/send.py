"""The verb send: every message is sent until it is acknowledged."""

import threading
import time

from lines import err, now_ms, out
from rocketmq import ClientConfiguration, Credentials, Message, Producer, TransactionChecker, TransactionResolution

PLANS = ["commit", "rollback", "check-commit", "check-rollback"]


class Checker(TransactionChecker):
    def check(self, message):
        id = message.body.decode()
        commit = PLANS[int(id.split("-")[1]) % len(PLANS)].endswith("commit")
        out("decided", id, now_ms(), "commit" if commit else "rollback", "check")
        return TransactionResolution.COMMIT if commit else TransactionResolution.ROLLBACK


def run(options, asked):
    count, rate = int(options["count"]), int(options["rate"])
    lane_count = 4 if options["type"] == "fifo" else 16
    configuration = ClientConfiguration(options["endpoints"], Credentials())
    producer = Producer(configuration, (options["topic"],), checker=Checker())
    producer.startup()
    out("ready")
    begin = time.monotonic()

    def lane(first):
        for number in range(first, count, lane_count):
            time.sleep(max(0, begin + number / rate - time.monotonic()))
            # The same when it is sent again: what got no answer may be stored. The library takes seconds.
            due_s = int(time.time()) + 3 + number % 5
            send_until_acknowledged(producer, options["topic"], options["type"], number, lane_count, due_s)

    lanes = [threading.Thread(target=lane, args=(first,), daemon=True) for first in range(lane_count)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    out("end")
    asked.wait()
    producer.shutdown()


def send_until_acknowledged(producer, topic, type, number, lane_count, due_s):
    while True:
        try:
            return send(producer, topic, type, number, lane_count, due_s)
        except Exception as error:
            err(f"{type}-{number} is not acknowledged: {error!r}")
            time.sleep(0.5)


def send(producer, topic, type, number, lane_count, due_s):
    id = f"{type}-{number}"
    message = Message()
    message.topic, message.body, message.tag, message.keys = topic, id.encode(), type, id
    detail = "-"
    if type == "fifo":
        detail = message.message_group = f"group-{number % lane_count}"
    elif type == "delay":
        message.delivery_timestamp = due_s
        detail = 1000 * due_s
    elif type == "transaction":
        return send_in_transaction(producer, message, id, PLANS[number % len(PLANS)])
    receipt = producer.send(message)
    out("sent", id, now_ms(), receipt.message_id, detail)


def send_in_transaction(producer, message, id, plan):
    transaction = producer.begin_transaction()
    receipt = producer.send(message, transaction)
    out("sent", id, now_ms(), receipt.message_id, plan)
    try:
        if plan == "commit":
            transaction.commit()
        elif plan == "rollback":
            transaction.rollback()
        else:
            return
        out("decided", id, now_ms(), plan, "client")
    except Exception as error:
        err(f"{id} is left to the check-back: {error!r}")
