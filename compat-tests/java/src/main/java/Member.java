import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A consumer in a group, and the numbers that were delivered to it. */
final class Member implements AutoCloseable {
    private final Consumer<String, String> consumer;
    private List<Integer> read = new ArrayList<>();

    /** Subscribes; partitions come with the polls. */
    Member(Task task) {
        Map<String, Object> settings = Settings.consumer(task);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, task.group());
        // A member hears of a rebalance in the answer to a heartbeat.
        settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 500);
        settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 10_000);
        consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(task.topic()));
    }

    /** Whether something was delivered. */
    boolean poll() {
        int before = read.size();
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
            read.add(Integer.valueOf(record.value()));
        }
        return read.size() > before;
    }

    /** The partitions that the group has given to this member, in ascending order. */
    List<Integer> partitions() {
        return consumer.assignment().stream().map(TopicPartition::partition).sorted().toList();
    }

    /** Commits the positions behind everything that was delivered. */
    void commit() {
        consumer.commitSync();
    }

    /** What was delivered since it was last taken, in order, repetitions too. */
    List<Integer> read() {
        return Collections.unmodifiableList(read);
    }

    /** What {@link #read} tells, which then starts anew. */
    List<Integer> take() {
        List<Integer> taken = read;
        read = new ArrayList<>();
        return taken;
    }

    /** Leaves the group. */
    @Override
    public void close() {
        consumer.close();
    }
}
