import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/**
 * Records on their way. Sending goes on while earlier batches are unanswered, and blocks when the producer's buffer is
 * full.
 */
final class Sending<K, V> {
    private final Producer<K, V> producer;
    private final List<Future<RecordMetadata>> sent = new ArrayList<>();
    private final AtomicReference<Exception> failure = new AtomicReference<>();

    Sending(Producer<K, V> producer) {
        this.producer = producer;
    }

    /** Fails once any record before this one has failed: else each of them would wait for its own failure. */
    void send(ProducerRecord<K, V> record) throws Exception {
        if (failure.get() != null) {
            throw failure.get();
        }
        sent.add(producer.send(record, (metadata, exception) -> failure.compareAndSet(null, exception)));
    }

    /** Where the records came to stand, in the order in which they were sent, once all are acknowledged. */
    List<RecordMetadata> finish() throws Exception {
        producer.flush();
        List<RecordMetadata> stored = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            stored.add(future.get());
        }
        return stored;
    }
}
