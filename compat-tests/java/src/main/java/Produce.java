import com.fasterxml.jackson.databind.MappingIterator;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends every record of a file, and writes down where each came to stand. */
final class Produce {
    private Produce() {}

    private record Stored(int partition, long offset) {}

    static void run(Task task) throws Exception {
        try (Producer<byte[], byte[]> producer = new KafkaProducer<>(
                        Settings.producer(task.bootstrap(), task),
                        new ByteArraySerializer(),
                        new ByteArraySerializer());
                MappingIterator<Line> lines = Json.lines(task.records());
                Json.Lines out = new Json.Lines(task.out())) {
            Sending<byte[], byte[]> sending = new Sending<>(producer);
            while (lines.hasNext()) {
                sending.send(lines.next().toRecord(task.topic()));
            }
            for (RecordMetadata stored : sending.finish()) {
                out.write(new Stored(stored.partition(), stored.offset()));
            }
        }
    }
}
