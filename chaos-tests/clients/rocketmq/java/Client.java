import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.message.MessageView;

/** rocketmq-client-java. The verbs and what they print are in ../README.md. */
public class Client {
    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();

    public static void main(String[] args) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 1; i < args.length; i += 2) {
            options.put(args[i].substring(2), args[i + 1]);
        }
        switch (args[0]) {
            case "send" -> new Sender(options).run();
            case "receive" -> Receiver.run(options);
            case "probe" -> new Probe(options).run();
            default -> throw new IllegalArgumentException("no verb " + args[0]);
        }
    }

    static ClientConfiguration configuration(Map<String, String> options) {
        return ClientConfiguration.newBuilder().setEndpoints(options.get("endpoints")).build();
    }

    static String text(MessageView message) {
        ByteBuffer body = message.getBody();
        byte[] bytes = new byte[body.remaining()];
        body.get(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static synchronized void print(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.length() == 0 ? "" : " ").append(word);
        }
        System.out.println(line);
    }

    /** Closes on SIGTERM, until which the caller waits. */
    static void closeWhenAsked(AutoCloseable client) throws InterruptedException {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                client.close();
            } catch (Exception e) {
                System.err.println("close: " + e);
            }
        }));
        new CountDownLatch(1).await();
    }
}
