// kafkajs: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`.
const fs = require("fs");
const { Kafka, logLevel } = require("kafkajs");

const [mode, bootstrap, topic, ...rest] = process.argv.slice(2);
const kafka = new Kafka({ brokers: bootstrap.split(","), logLevel: logLevel.WARN });

async function produce(count, rate) {
  const producer = kafka.producer();
  await producer.connect();
  const file = fs.openSync("acked", "w");
  let ackedCount = 0;
  // One number per send(): when only some leaders of a larger one fail, kafkajs 2.2.4 tries again with other partitions, skips
  // the leaders that have answered, and reports all as sent, although some is not (its issue 1303).
  const send = async (number) => {
    try {
      await producer.send({ topic, messages: [{ value: String(number) }] });
      fs.writeSync(file, `${number} ${Date.now()}\n`);
      ackedCount += 1;
    } catch (error) {
      console.error(`${number} is not acknowledged: ${error.message}`);
    }
  };
  const begin = Date.now();
  const sends = [];
  while (sends.length < count) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const due = Math.min(count, Math.floor(((Date.now() - begin) * rate) / 1000));
    while (sends.length < due) sends.push(send(sends.length));
  }
  await Promise.all(sends);
  await producer.disconnect();
  console.log(`acknowledged ${ackedCount}`);
}

async function consume(groupId) {
  const consumer = kafka.consumer({ groupId });
  const file = fs.openSync("read", "a");
  process.on("SIGTERM", () => consumer.disconnect().then(() => process.exit(0)));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommitInterval: 1000,
    eachMessage: async ({ partition, message }) => {
      fs.writeSync(file, `${message.value} ${partition} ${message.offset}\n`);
    },
  });
}

const run = mode === "produce" ? produce(Number(rest[0]), Number(rest[1])) : consume(rest[0]);
run.catch((error) => {
  console.error(error);
  process.exit(1);
});
