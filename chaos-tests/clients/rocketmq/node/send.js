// The verb send: every message is sent until it is acknowledged.
const { Producer } = require("rocketmq-client-nodejs");
const { TransactionResolution } = require("rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb");

const PLANS = ["commit", "rollback", "check-commit", "check-rollback"];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));

async function check(message) {
  const id = message.body.toString();
  const commit = PLANS[Number(id.split("-")[1]) % PLANS.length].endsWith("commit");
  console.log("decided", id, Date.now(), commit ? "commit" : "rollback", "check");
  return commit ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
}

async function send(options, asked) {
  const { endpoints, topic, type } = options;
  const [count, rate] = [Number(options.count), Number(options.rate)];
  const laneCount = type === "fifo" ? 4 : 16;
  const producer = new Producer({ endpoints, namespace: "", topics: [topic], topic, checker: { check } });
  await producer.startup();
  console.log("ready");

  const begin = Date.now();
  const lane = async (first) => {
    for (let number = first; number < count; number += laneCount) {
      await sleep(begin + (number * 1000) / rate - Date.now());
      // The same when it is sent again: what got no answer may be stored.
      const due = 1000 * (Math.floor(Date.now() / 1000) + 3 + (number % 5));
      await sendUntilAcknowledged(producer, topic, type, number, laneCount, due);
    }
  };
  await Promise.all([...Array(laneCount).keys()].map(lane));
  console.log("end");
  await asked;
  await producer.shutdown();
}

async function sendUntilAcknowledged(producer, topic, type, number, laneCount, due) {
  for (;;) {
    try {
      return await sendOne(producer, topic, type, number, laneCount, due);
    } catch (error) {
      console.error(`${type}-${number} is not acknowledged: ${error}`);
      await sleep(500);
    }
  }
}

async function sendOne(producer, topic, type, number, laneCount, due) {
  const id = `${type}-${number}`;
  const message = { topic, tag: type, keys: [id], body: Buffer.from(id) };
  let detail = "-";
  if (type === "fifo") {
    detail = message.messageGroup = `group-${number % laneCount}`;
  } else if (type === "delay") {
    detail = due;
    message.deliveryTimestamp = new Date(due);
  } else if (type === "transaction") {
    return sendInTransaction(producer, message, id, PLANS[number % PLANS.length]);
  }
  const receipt = await producer.send(message);
  console.log("sent", id, Date.now(), receipt.messageId, detail);
}

async function sendInTransaction(producer, message, id, plan) {
  const transaction = producer.beginTransaction();
  const receipt = await producer.send(message, transaction);
  console.log("sent", id, Date.now(), receipt.messageId, plan);
  try {
    if (plan === "commit") await transaction.commit();
    else if (plan === "rollback") await transaction.rollback();
    else return;
    console.log("decided", id, Date.now(), plan, "client");
  } catch (error) {
    console.error(`${id} is left to the check-back: ${error}`);
  }
}

module.exports = send;
