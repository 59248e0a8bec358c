import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** The verb {@code send}: every message is sent until it is acknowledged. */
class Sender {
    static final String[] PLANS = {"commit", "rollback", "check-commit", "check-rollback"};

    final Map<String, String> options;
    final String topic;
    final String type;
    final int count;
    final int rate;
    final int laneCount;
    Producer producer;
    long begin;

    Sender(Map<String, String> options) {
        this.options = options;
        topic = options.get("topic");
        type = options.get("type");
        count = Integer.parseInt(options.get("count"));
        rate = Integer.parseInt(options.get("rate"));
        laneCount = type.equals("fifo") ? 4 : 16;
    }

    void run() throws Exception {
        producer = Client.PROVIDER.newProducerBuilder()
                .setClientConfiguration(Client.configuration(options))
                .setTopics(topic)
                .setTransactionChecker(this::check)
                .build();
        Client.print("ready");
        begin = System.currentTimeMillis();
        List<Thread> lanes = new ArrayList<>();
        for (int lane = 0; lane < laneCount; lane++) {
            int first = lane;
            lanes.add(new Thread(() -> {
                for (int number = first; number < count; number += laneCount) {
                    sleepUntil(begin + number * 1000L / rate);
                    sendUntilAcknowledged(number);
                }
            }));
            lanes.get(lane).start();
        }
        for (Thread lane : lanes) {
            lane.join();
        }
        Client.print("end");
        Client.closeWhenAsked(producer);
    }

    void sendUntilAcknowledged(int number) {
        while (true) {
            try {
                send(number);
                return;
            } catch (ClientException | RuntimeException e) {
                System.err.println(type + "-" + number + " is not acknowledged: " + e);
                sleepUntil(System.currentTimeMillis() + 500);
            }
        }
    }

    void send(int number) throws ClientException {
        String id = type + "-" + number;
        MessageBuilder builder = Client.PROVIDER.newMessageBuilder()
                .setTopic(topic).setTag(type).setKeys(id).setBody(id.getBytes(StandardCharsets.UTF_8));
        switch (type) {
            case "normal" -> acknowledged(id, producer.send(builder.build()), "-");
            case "fifo" -> {
                String group = "group-" + number % laneCount;
                acknowledged(id, producer.send(builder.setMessageGroup(group).build()), group);
            }
            case "delay" -> {
                // The same when it is sent again: what got no answer may be stored.
                long due = ((begin + number * 1000L / rate) / 1000 + 3 + number % 5) * 1000;
                acknowledged(id, producer.send(builder.setDeliveryTimestamp(due).build()), due);
            }
            case "transaction" -> sendInTransaction(id, builder.build(), PLANS[number % PLANS.length]);
        }
    }

    void sendInTransaction(String id, Message message, String plan) throws ClientException {
        Transaction transaction = producer.beginTransaction();
        acknowledged(id, producer.send(message, transaction), plan);
        try {
            if (plan.equals("commit")) {
                transaction.commit();
                Client.print("decided", id, System.currentTimeMillis(), "commit client");
            } else if (plan.equals("rollback")) {
                transaction.rollback();
                Client.print("decided", id, System.currentTimeMillis(), "rollback client");
            }
        } catch (ClientException | RuntimeException e) {
            System.err.println(id + " is left to the check-back: " + e);
        }
    }

    TransactionResolution check(MessageView message) {
        String id = Client.text(message);
        String plan = PLANS[Integer.parseInt(id.substring(id.indexOf('-') + 1)) % PLANS.length];
        boolean commit = plan.endsWith("commit");
        // As long as a look-up takes. After a quick answer the library ends the transaction on the thread that brought the question, and
        // waits there; its pool has one thread per core, and when all of them wait nothing is answered any more.
        sleepUntil(System.currentTimeMillis() + 20);
        Client.print("decided", id, System.currentTimeMillis(), commit ? "commit" : "rollback", "check");
        return commit ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
    }

    static void acknowledged(String id, SendReceipt receipt, Object detail) {
        Client.print("sent", id, System.currentTimeMillis(), receipt.getMessageId(), detail);
    }

    static void sleepUntil(long time) {
        try {
            Thread.sleep(Math.max(0, time - System.currentTimeMillis()));
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
