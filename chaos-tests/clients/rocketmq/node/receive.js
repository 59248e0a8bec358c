// The verb receive.
const { ConsumeResult, PushConsumer, SimpleConsumer } = require("rocketmq-client-nodejs");

// A call of a simple consumer asks one queue of one topic, and waits when there is nothing in it.
const LOOPS = 4;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function received(message) {
  console.log("received", message.body.toString(), Date.now(), message.messageId, message.deliveryAttempt);
}

async function receive(options, asked) {
  const subscriptions = new Map(options.topic.split(",").map((topic) => [topic, "*"]));
  const common = { endpoints: options.endpoints, namespace: "", consumerGroup: options.group, subscriptions };
  let consumer;
  if (options.kind === "push") {
    const consume = (message) => {
      received(message);
      return ConsumeResult.SUCCESS;
    };
    consumer = new PushConsumer({ ...common, messageListener: { consume } });
  } else {
    consumer = new SimpleConsumer({ ...common, awaitDuration: 5000 });
  }
  await consumer.startup();
  console.log("ready");
  if (options.kind === "push") await asked;
  else await Promise.all(Array.from({ length: LOOPS }, () => receiveAndAck(consumer, asked)));
  await consumer.shutdown();
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
