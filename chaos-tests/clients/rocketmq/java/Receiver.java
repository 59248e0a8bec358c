import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The verb {@code receive}. */
class Receiver {
    /** A call asks one queue of one topic, and waits when there is nothing in it. */
    static final int LOOPS = 4;

    static void run(Map<String, String> options) throws Exception {
        Map<String, FilterExpression> topics = new HashMap<>();
        for (String topic : options.get("topic").split(",")) {
            topics.put(topic, FilterExpression.SUB_ALL);
        }
        if (options.get("kind").equals("push")) {
            var consumer = Client.PROVIDER.newPushConsumerBuilder()
                    .setClientConfiguration(Client.configuration(options))
                    .setConsumerGroup(options.get("group"))
                    .setSubscriptionExpressions(topics)
                    .setMessageListener(message -> {
                        received(message);
                        return ConsumeResult.SUCCESS;
                    })
                    .build();
            Client.print("ready");
            Client.closeWhenAsked(consumer);
        } else {
            SimpleConsumer consumer = Client.PROVIDER.newSimpleConsumerBuilder()
                    .setClientConfiguration(Client.configuration(options))
                    .setConsumerGroup(options.get("group"))
                    .setSubscriptionExpressions(topics)
                    .setAwaitDuration(Duration.ofSeconds(5))
                    .build();
            Client.print("ready");
            for (int loop = 0; loop < LOOPS; loop++) {
                Thread thread = new Thread(() -> receiveAndAck(consumer));
                thread.setDaemon(true);
                thread.start();
            }
            Client.closeWhenAsked(consumer);
        }
    }

    static void receiveAndAck(SimpleConsumer consumer) {
        while (true) {
            try {
                for (MessageView message : consumer.receive(32, Duration.ofSeconds(20))) {
                    received(message);
                    ack(consumer, message);
                }
            } catch (ClientException | RuntimeException e) {
                System.err.println("receive: " + e);
                Sender.sleepUntil(System.currentTimeMillis() + 500);
            }
        }
    }

    static void ack(SimpleConsumer consumer, MessageView message) {
        for (int attempt = 1; attempt <= 10; attempt++) {
            try {
                consumer.ack(message);
                Client.print("acked", Client.text(message), System.currentTimeMillis(), message.getMessageId());
                return;
            } catch (ClientException | RuntimeException e) {
                System.err.println("ack of " + Client.text(message) + ": " + e);
                Sender.sleepUntil(System.currentTimeMillis() + 500);
            }
        }
        Client.print("unsure", Client.text(message), System.currentTimeMillis(), message.getMessageId());
    }

    static void received(MessageView message) {
        Client.print("received", Client.text(message), System.currentTimeMillis(), message.getMessageId(),
                message.getDeliveryAttempt());
    }
}
