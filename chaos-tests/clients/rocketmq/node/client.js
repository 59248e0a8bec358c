// rocketmq-client-nodejs. The verbs and what they print are in ../README.md.
const verbs = { send: require("./send.js"), receive: require("./receive.js") };

const [verb, ...words] = process.argv.slice(2);
const options = {};
for (let i = 0; i < words.length; i += 2) options[words[i].slice(2)] = words[i + 1];

const asked = new Promise((resolve) => process.on("SIGTERM", resolve));
verbs[verb](options, asked)
  .then(() => process.exit(0))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
