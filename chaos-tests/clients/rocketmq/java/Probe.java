import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** The verb {@code probe}: what the client sees of good and bad calls, a line each. */
class Probe {
    interface Case {
        Object run() throws Exception;
    }

    static final Pattern VARYING = Pattern.compile("request-id=[^,\\]]*, |\\b01[0-9A-F]{32}\\b|\\d{10,}|127\\.0\\.0\\.1:\\d+|\"[\\w-]{30,}\"");
    static final int MIB = 1 << 20;

    final Map<String, String> options;
    final String prefix;
    final Map<String, Producer> producers = new TreeMap<>();
    final TreeSet<String> begun = new TreeSet<>();

    Probe(Map<String, String> options) {
        this.options = options;
        prefix = options.get("topic");
    }

    void run() throws Exception {
        errorsOfSending();
        propertiesAsReceived();
        priorities();
        filters();
        receipts();
        transactions();
        recalls();
        groups();
        Client.print("end");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    void errorsOfSending() {
        probe("send to an unknown topic", () -> send("none", b -> true, "x".getBytes()));
        probe("send FIFO to a NORMAL topic", () -> send("normal", b -> b.setMessageGroup("g") != null, bytes("x")));
        probe("send DELAY to a NORMAL topic", () -> send("normal", b -> b.setDeliveryTimestamp(inS(5)) != null, bytes("x")));
        for (String type : List.of("fifo", "delay", "transaction")) {
            probe("send NORMAL to a " + type.toUpperCase() + " topic", () -> send(type, b -> true, bytes("x")));
        }
        probe("send an empty body", () -> send("normal", b -> true, new byte[0]));
        probe("send 1 MiB - 1 KiB", () -> send("normal", b -> true, new byte[MIB - 1024]));
        probe("send 2 MiB", () -> send("normal", b -> true, new byte[2 * MIB]));
        probe("send 5 MiB", () -> send("normal", b -> true, new byte[5 * MIB]));
        for (String key : List.of("KEYS", "TAGS", "UNIQ_KEY", "__BORN_HOST", "DELAY", "duolog.x", "a b", "\u4e2d")) {
            probe("property " + key, () -> send("normal", b -> b.addProperty(key, "v") != null, bytes("x")));
        }
        probe("property with a control character", () -> send("normal", b -> b.addProperty("k", "a\u0001b") != null, bytes("x")));
        probe("property of 20 KiB", () -> send("normal", b -> b.addProperty("k", "v".repeat(20 << 10)) != null, bytes("x")));
        probe("tag a|b", () -> send("normal", b -> b.setTag("a|b") != null, bytes("x")));
        probe("tag with a control character", () -> send("normal", b -> b.setTag("a\u0001") != null, bytes("x")));
        probe("tag of 200 characters", () -> send("normal", b -> b.setTag("t".repeat(200)) != null, bytes("x")));
        probe("key with a space", () -> send("normal", b -> b.setKeys("a b") != null, bytes("x")));
        probe("message group of 100 characters", () -> send("fifo", b -> b.setMessageGroup("g".repeat(100)) != null, bytes("x")));
        for (int days : List.of(2, 4, 60)) {
            probe("delay of " + days + " days", () -> send("delay", b -> b.setDeliveryTimestamp(inS(days * 86_400L)) != null, bytes("x")));
        }
        probe("delivery time in the past", () -> send("delay", b -> b.setDeliveryTimestamp(inS(-60)) != null, bytes("x")));
    }

    void propertiesAsReceived() {
        probe("message as received", () -> {
            try (SimpleConsumer consumer = consumer("fields", "normal", FilterExpression.SUB_ALL)) {
                long before = System.currentTimeMillis();
                var builder = builder("normal").setTag("tag").setKeys("k1", "k2").addProperty("color", "red").setBody(bytes("h\u00e9"));
                SendReceipt receipt = producer("normal").send(builder.build());
                MessageView message = take(consumer, 1, m -> m.getMessageId().equals(receipt.getMessageId())).get(0);
                consumer.ack(message);
                return "id " + message.getMessageId().equals(receipt.getMessageId()) + ", body " + Client.text(message)
                        + ", tag " + message.getTag().orElse("-") + ", keys " + new TreeSet<>(message.getKeys()) + ", properties "
                        + new TreeMap<>(message.getProperties()) + ", group " + message.getMessageGroup().orElse("-") + ", due "
                        + message.getDeliveryTimestamp().isPresent() + ", born in time "
                        + (message.getBornTimestamp() >= before && message.getBornTimestamp() <= System.currentTimeMillis())
                        + ", born host " + message.getBornHost()
                        + ", attempt " + message.getDeliveryAttempt();
            }
        });
        probe("FIFO message as received", () -> {
            try (SimpleConsumer consumer = consumer("fifo", "fifo", FilterExpression.SUB_ALL)) {
                producer("fifo").send(builder("fifo").setMessageGroup("fields").setBody(bytes("fields")).build());
                MessageView message = take(consumer, 1, m -> Client.text(m).equals("fields")).get(0);
                consumer.ack(message);
                return "group " + message.getMessageGroup().orElse("-") + ", attempt " + message.getDeliveryAttempt();
            }
        });
        probe("DELAY message as received", () -> {
            try (SimpleConsumer consumer = consumer("delay", "delay", FilterExpression.SUB_ALL)) {
                long due = inS(4) / 1000 * 1000;
                producer("delay").send(builder("delay").setDeliveryTimestamp(due).setBody(bytes("fields")).build());
                MessageView message = take(consumer, 1, m -> Client.text(m).equals("fields")).get(0);
                long at = System.currentTimeMillis();
                consumer.ack(message);
                return "due as sent " + (message.getDeliveryTimestamp().orElse(0L) == due) + ", early " + (at < due) + ", within 2 s "
                        + (at < due + 2000);
            }
        });
    }

    /** The greater number goes first, whichever was sent first. */
    void priorities() {
        probe("send PRIORITY to a NORMAL topic", () -> send("normal", b -> b.setPriority(1) != null, bytes("x")));
        probe("send NORMAL to a PRIORITY topic", () -> send("priority", b -> true, bytes("x")));
        probe("PRIORITY messages as received", () -> {
            try (SimpleConsumer consumer = consumer("priority", "priority", FilterExpression.SUB_ALL)) {
                for (int priority : List.of(0, 2, 1, 3)) {
                    producer("priority").send(builder("priority").setPriority(priority).setBody(bytes("p")).build());
                }
                List<String> got = new ArrayList<>();
                while (got.size() < 4) {
                    for (MessageView message : consumer.receive(1, Duration.ofSeconds(30))) {
                        got.add(message.getPriority().map(String::valueOf).orElse("-"));
                        consumer.ack(message);
                    }
                }
                return got;
            }
        });
        probe("a priority above the last queue", () -> {
            try (SimpleConsumer consumer = consumer("priority", "priority", FilterExpression.SUB_ALL)) {
                producer("priority").send(builder("priority").setPriority(70).setBody(bytes("far")).build());
                MessageView message = take(consumer, 1, m -> Client.text(m).equals("far")).get(0);
                consumer.ack(message);
                return message.getPriority();
            }
        });
    }

    void filters() {
        FilterExpression tags = new FilterExpression("a || b", FilterExpressionType.TAG);
        probe("tag filter a || b", () -> filtered("tags", tags));
        for (String sql : List.of("color = 'red' AND n > 3", "color IS NULL", "n BETWEEN 2 AND 3 OR color IN ('red')", "color LIKE 'r%'",
                "color ===", "TAGS = 'a'")) {
            probe("SQL filter " + sql, () -> filtered("sql", new FilterExpression(sql, FilterExpressionType.SQL92)));
        }
    }

    /** Which of the messages 0 to 5 the filter lets through. */
    Object filtered(String group, FilterExpression filter) throws Exception {
        String run = "f" + System.nanoTime() + "-";
        try (SimpleConsumer consumer = consumer(group, "normal", filter)) {
            for (int n = 0; n < 6; n++) {
                MessageBuilder builder = builder("normal").setTag(List.of("a", "b", "c").get(n % 3)).addProperty("n", "" + n);
                if (n % 2 == 0) {
                    builder.addProperty("color", "red");
                }
                producer("normal").send(builder.setBody(bytes(run + n)).build());
            }
            List<MessageView> got = takeFor(consumer, 5);
            return got.stream().map(Client::text).filter(text -> text.startsWith(run)).map(text -> text.substring(run.length()))
                    .collect(Collectors.toCollection(TreeSet::new));
        }
    }

    void receipts() {
        probe("acknowledge twice", () -> withOne("ack", (consumer, message) -> {
            consumer.ack(message);
            consumer.ack(message);
            return "taken";
        }));
        probe("acknowledge after the invisible time", () -> withOne("late", (consumer, message) -> {
            Thread.sleep(11_000);
            consumer.ack(message);
            return "taken";
        }));
        probe("change the invisible time after the acknowledgement", () -> withOne("change", (consumer, message) -> {
            consumer.ack(message);
            consumer.changeInvisibleDuration(message, Duration.ofSeconds(10));
            return "taken";
        }));
        probe("invisible time of 1 s", () -> withOne("short", (consumer, message) -> {
            consumer.changeInvisibleDuration(message, Duration.ofSeconds(1));
            return "taken";
        }));
        probe("invisible time of 13 h", () -> withOne("long", (consumer, message) -> {
            consumer.changeInvisibleDuration(message, Duration.ofHours(13));
            return "taken";
        }));
        probe("receive with an invisible time of 1 s", () -> {
            try (SimpleConsumer consumer = consumer("receive-short", "normal", FilterExpression.SUB_ALL)) {
                return consumer.receive(1, Duration.ofSeconds(1)).size() <= 1;
            }
        });
        probe("receive 100 messages at once", () -> {
            try (SimpleConsumer consumer = consumer("receive-many", "normal", FilterExpression.SUB_ALL)) {
                return consumer.receive(100, Duration.ofSeconds(10)).size() <= 100;
            }
        });
        probe("delivery attempts when nobody acknowledges", () -> {
            String body = "attempts-" + System.nanoTime();
            try (SimpleConsumer consumer = consumer("attempts", "normal", FilterExpression.SUB_ALL)) {
                producer("normal").send(builder("normal").setBody(bytes(body)).build());
                List<Integer> attempts = new ArrayList<>();
                for (int i = 0; i < 3; i++) {
                    attempts.add(take(consumer, 1, m -> Client.text(m).equals(body)).get(0).getDeliveryAttempt());
                }
                return attempts;
            }
        });
    }

    void transactions() {
        for (String calls : List.of("commit commit", "commit rollback", "rollback commit")) {
            probe("transaction: " + calls, () -> {
                Producer producer = producer("transaction");
                Transaction transaction = producer.beginTransaction();
                producer.send(builder("transaction").setBody(bytes("t")).build(), transaction);
                for (String call : calls.split(" ")) {
                    if (call.equals("commit")) {
                        transaction.commit();
                    } else {
                        transaction.rollback();
                    }
                }
                return "taken";
            });
        }
    }

    void recalls() {
        probe("recall", () -> recall(1));
        probe("recall twice", () -> recall(2));
        probe("recall with a bad handle", () -> {
            producer("delay").recallMessage(prefix + "-delay", "bad");
            return "taken";
        });
    }

    Object recall(int times) throws Exception {
        SendReceipt receipt = producer("delay").send(builder("delay").setDeliveryTimestamp(inS(60)).setBody(bytes("r")).build());
        for (int i = 0; i < times; i++) {
            producer("delay").recallMessage(prefix + "-delay", receipt.getRecallHandle());
        }
        return "taken";
    }

    void groups() {
        probe("simple consumer of an unknown group", () -> {
            try (SimpleConsumer consumer = consumer("unknown", "normal", FilterExpression.SUB_ALL)) {
                return consumer.receive(1, Duration.ofSeconds(10)).size() <= 1;
            }
        });
        probe("push consumer of an unknown group", () -> {
            var consumer = Client.PROVIDER.newPushConsumerBuilder().setClientConfiguration(Client.configuration(options))
                    .setConsumerGroup(prefix + "-unknown").setMessageListener(message -> ConsumeResult.SUCCESS)
                    .setSubscriptionExpressions(Map.of(prefix + "-normal", FilterExpression.SUB_ALL)).build();
            consumer.close();
            return "started";
        });
        probe("simple consumer of an unknown topic", () -> {
            try (SimpleConsumer consumer = consumer("ack", "none", FilterExpression.SUB_ALL)) {
                return consumer.receive(1, Duration.ofSeconds(10)).size();
            }
        });
    }

    // ---- helpers ----

    static void probe(String name, Case body) {
        String result;
        try {
            result = String.valueOf(body.run());
        } catch (Throwable e) {
            Throwable cause = e;
            while (cause.getCause() != null && (cause instanceof IllegalStateException || cause.getClass() == RuntimeException.class)) {
                cause = cause.getCause();
            }
            result = cause.getClass().getSimpleName() + ": " + cause.getMessage();
        }
        Client.print("probe " + name + " => " + VARYING.matcher(result.replaceAll("\\s+", " ")).replaceAll("#"));
    }

    Object send(String topic, Predicate<MessageBuilder> change, byte[] body) throws Exception {
        MessageBuilder builder = builder(topic).setBody(body);
        change.test(builder);
        producer(topic).send(builder.build());
        return "taken";
    }

    MessageBuilder builder(String topic) {
        return Client.PROVIDER.newMessageBuilder().setTopic(prefix + "-" + topic);
    }

    Producer producer(String topic) throws Exception {
        if (!producers.containsKey(topic)) {
            producers.put(topic, Client.PROVIDER.newProducerBuilder().setClientConfiguration(Client.configuration(options))
                    .setTopics(prefix + "-" + topic).setTransactionChecker(message -> TransactionResolution.UNKNOWN).build());
        }
        return producers.get(topic);
    }

    SimpleConsumer consumer(String group, String topic, FilterExpression filter) throws Exception {
        SimpleConsumer consumer = Client.PROVIDER.newSimpleConsumerBuilder().setClientConfiguration(Client.configuration(options))
                .setConsumerGroup(prefix + "-" + group).setAwaitDuration(Duration.ofSeconds(5))
                .setSubscriptionExpressions(Map.of(prefix + "-" + topic, filter)).build();
        // A new group begins at the end of the topic, once it has received.
        if (begun.add(group)) {
            takeFor(consumer, 2);
        }
        return consumer;
    }

    interface WithOne {
        Object run(SimpleConsumer consumer, MessageView message) throws Exception;
    }

    /** Sends a message and hands it over as received, invisible for 10 s. */
    Object withOne(String group, WithOne body) throws Exception {
        String text = group + "-" + System.nanoTime();
        try (SimpleConsumer consumer = consumer(group, "normal", FilterExpression.SUB_ALL)) {
            producer("normal").send(builder("normal").setBody(bytes(text)).build());
            return body.run(consumer, take(consumer, 1, message -> Client.text(message).equals(text)).get(0));
        }
    }

    /** Receives until there are so many that match, and acknowledges the others. */
    static List<MessageView> take(SimpleConsumer consumer, int count, Predicate<MessageView> matches) throws Exception {
        List<MessageView> got = new ArrayList<>();
        long end = inS(30);
        while (got.size() < count && System.currentTimeMillis() < end) {
            for (MessageView message : consumer.receive(16, Duration.ofSeconds(10))) {
                if (matches.test(message)) {
                    got.add(message);
                } else {
                    consumer.ack(message);
                }
            }
        }
        if (got.size() < count) {
            throw new AssertionError("nothing came within 30 s");
        }
        return got;
    }

    static List<MessageView> takeFor(SimpleConsumer consumer, int seconds) throws Exception {
        List<MessageView> got = new ArrayList<>();
        long end = inS(seconds);
        while (System.currentTimeMillis() < end) {
            for (MessageView message : consumer.receive(16, Duration.ofSeconds(10))) {
                got.add(message);
                consumer.ack(message);
            }
        }
        got.sort(Comparator.comparing(Client::text));
        return got;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static long inS(long seconds) {
        return System.currentTimeMillis() + seconds * 1000;
    }
}
