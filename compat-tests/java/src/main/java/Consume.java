import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads all partitions of a topic from the beginning, without a group. */
final class Consume {
    private Consume() {}

    static void run(Task task) throws Exception {
        List<TopicPartition> partitions = IntStream.range(0, task.partitions())
                .mapToObj(partition -> new TopicPartition(task.topic(), partition))
                .toList();
        try (Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                        Settings.consumer(task), new ByteArrayDeserializer(), new ByteArrayDeserializer());
                Json.Lines out = new Json.Lines(task.out())) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Patience patience = new Patience();
            int read = 0;
            while (read < task.count()) {
                patience.check(read + " of " + task.count() + " records are read");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    patience.renew();
                    if (read < task.count()) {
                        out.write(Line.of(record));
                        read++;
                    }
                }
            }
        }
    }
}
