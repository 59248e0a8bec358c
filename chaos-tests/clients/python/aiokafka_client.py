"""aiokafka: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`."""

import asyncio
import signal
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError


async def produce(bootstrap, topic, count, rate):
    acked_count = 0

    with open("acked", "w") as file:

        async def send(number):
            nonlocal acked_count
            try:
                await producer.send_and_wait(topic, str(number).encode())
            except KafkaError as error:
                print(number, "is not acknowledged:", repr(error), file=sys.stderr)
                return
            acked_count += 1
            print(number, time.time_ns() // 1_000_000, file=file)

        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer, asyncio.TaskGroup() as sends:
            begin = time.monotonic()
            for number in range(count):
                await asyncio.sleep(begin + number / rate - time.monotonic())
                sends.create_task(send(number))
            # The group waits for its tasks before the producer is closed.
    print("acknowledged", acked_count)


async def consume(bootstrap, topic, group):
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    with open("read", "a", buffering=1) as file:
        async with consumer:
            while not stopping.is_set():
                batches = await consumer.getmany(timeout_ms=200)
                for partition, messages in batches.items():
                    for message in messages:
                        print(message.value.decode(), partition.partition, message.offset, file=file)
                # Only what is written is committed.
                if batches:
                    await commit(consumer)


async def commit(consumer):
    try:
        await consumer.commit()
    except KafkaError as error:
        print("commit:", repr(error), file=sys.stderr)


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "produce":
        bootstrap, topic, count, rate = arguments
        asyncio.run(produce(bootstrap, topic, int(count), int(rate)))
    else:
        asyncio.run(consume(*arguments))
