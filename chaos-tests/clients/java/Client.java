import java.io.FileWriter;
import java.io.IOException;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** kafka-clients: {@code produce BOOTSTRAP TOPIC COUNT RATE} or {@code consume BOOTSTRAP TOPIC GROUP}. */
public class Client {
    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[1]);
        if (args[0].equals("produce")) {
            produce(config, args[2], Integer.parseInt(args[3]), Integer.parseInt(args[4]));
        } else {
            config.put("group.id", args[3]);
            consume(config, args[2]);
        }
    }

    static void produce(Properties config, String topic, int count, int rate) throws IOException {
        AtomicInteger acked = new AtomicInteger();
        try (PrintWriter file = new PrintWriter(new FileWriter("acked"));
                var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            long begin = System.nanoTime();
            for (int i = 0; i < count; i++) {
                String number = Integer.toString(i);
                LockSupport.parkNanos(begin + i * 1_000_000_000L / rate - System.nanoTime());
                // The key spreads a low rate over all partitions.
                producer.send(new ProducerRecord<>(topic, number, number), (metadata, error) -> {
                    if (error != null) {
                        System.err.println(number + " is not acknowledged: " + error);
                        return;
                    }
                    acked.incrementAndGet();
                    file.println(number + " " + System.currentTimeMillis());
                });
            }
            producer.flush();
        }
        System.out.println("acknowledged " + acked);
    }

    static void consume(Properties config, String topic) throws IOException {
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        try (PrintWriter file = new PrintWriter(new FileWriter("read", true), true);
                var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();
                try {
                    main.join();
                } catch (InterruptedException e) {
                    // The process ends anyway.
                }
            }));
            consumer.subscribe(List.of(topic));
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    file.println(record.value() + " " + record.partition() + " " + record.offset());
                }
                // Only what is written is committed.
                try {
                    consumer.commitSync();
                } catch (WakeupException e) {
                    throw e;
                } catch (KafkaException e) {
                    System.err.println("commit: " + e);
                }
            }
        } catch (WakeupException e) {
            // SIGTERM.
        }
    }
}
