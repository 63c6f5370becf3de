import com.fasterxml.jackson.databind.MappingIterator;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends every record of a file, and writes down where each came to stand. */
final class Produce {
    private Produce() {}

    private record Stored(int partition, long offset) {}

    static void run(Task task) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<byte[], byte[]> producer = new KafkaProducer<>(
                        Settings.producer(task.bootstrap(), task), new ByteArraySerializer(), new ByteArraySerializer());
                MappingIterator<Line> lines = Json.lines(task.records())) {
            // Sending goes on while earlier batches are on their way, and blocks when the producer's buffer is full.
            while (lines.hasNext()) {
                sent.add(producer.send(lines.next().toRecord(task.topic())));
            }
            producer.flush();
        }
        try (Json.Lines out = new Json.Lines(task.out())) {
            for (Future<RecordMetadata> future : sent) {
                RecordMetadata metadata = future.get();
                out.write(new Stored(metadata.partition(), metadata.offset()));
            }
        }
    }
}
