// The verb receive.
const { ConsumeResult, PushConsumer, SimpleConsumer } = require("rocketmq-client-nodejs");

// A call of a simple consumer asks one queue of one topic, and waits when there is nothing in it.
const LOOPS = 4;
const START_LIMIT_MS = 15_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function received(message) {
  console.log("received", message.body.toString(), Date.now(), message.messageId, message.deliveryAttempt);
}

async function receive(options, asked) {
  const subscriptions = new Map(options.topic.split(",").map((topic) => [topic, "*"]));
  const common = { endpoints: options.endpoints, namespace: "", consumerGroup: options.group, subscriptions };
  const consume = (message) => {
    received(message);
    return ConsumeResult.SUCCESS;
  };
  const consumer = await started(() =>
    options.kind === "push"
      ? new PushConsumer({ ...common, messageListener: { consume } })
      : new SimpleConsumer({ ...common, awaitDuration: 5000 }),
  );
  console.log("ready");
  if (options.kind === "push") await asked;
  else await Promise.all(Array.from({ length: LOOPS }, () => receiveAndAck(consumer, asked)));
  await consumer.shutdown();
}

// The library begins to wait for the server's settings only after it has the routes of all topics; when the settings come before, it
// waits for the next ones, five minutes later. Then another consumer takes its place.
async function started(make) {
  for (;;) {
    const consumer = make();
    const late = sleep(START_LIMIT_MS).then(() => "late");
    if ((await Promise.race([consumer.startup(), late])) !== "late") return consumer;
    console.error("the consumer does not start: another one is made");
    consumer.shutdown().catch((error) => console.error(`shutdown: ${error}`));
  }
}

async function receiveAndAck(consumer, asked) {
  let stopping = false;
  asked.then(() => (stopping = true));
  while (!stopping) {
    try {
      for (const message of await consumer.receive(32, 20000)) {
        received(message);
        await ack(consumer, message);
      }
    } catch (error) {
      console.error(`receive: ${error}`);
      await sleep(500);
    }
  }
}

async function ack(consumer, message) {
  for (let attempt = 1; attempt <= 10; attempt++) {
    try {
      await consumer.ack(message);
      console.log("acked", message.body.toString(), Date.now(), message.messageId);
      return;
    } catch (error) {
      console.error(`ack of ${message.body}: ${error}`);
      await sleep(500);
    }
  }
  console.log("unsure", message.body.toString(), Date.now(), message.messageId);
}

module.exports = receive;
