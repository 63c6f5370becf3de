import com.fasterxml.jackson.annotation.JsonFormat;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * A record as it stands on a line of a file. Bytes are Base64 there; {@code null} is none, an empty string no bytes.
 */
@JsonPropertyOrder({"partition", "offset", "timestamp", "key", "value", "headers"})
record Line(
        int partition,
        @JsonInclude(JsonInclude.Include.NON_NULL) Long offset,
        long timestamp,
        byte[] key,
        byte[] value,
        List<Header> headers) {

    /** {@code ["name", "Base64"]} in JSON. A list of them keeps the order, and names that come twice. */
    @JsonFormat(shape = JsonFormat.Shape.ARRAY)
    @JsonPropertyOrder({"name", "value"})
    record Header(String name, byte[] value) {}

    /** The record to send, to the partition and with the timestamp of this line. */
    ProducerRecord<byte[], byte[]> toRecord(String topic) {
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, partition, timestamp, key, value);
        for (Header header : headers) {
            record.headers().add(new RecordHeader(header.name(), header.value()));
        }
        return record;
    }

    /** The line of a record that was read. */
    static Line of(ConsumerRecord<byte[], byte[]> record) {
        List<Header> headers = new ArrayList<>();
        record.headers().forEach(header -> headers.add(new Header(header.key(), header.value())));
        return new Line(record.partition(), record.offset(), record.timestamp(), record.key(), record.value(), headers);
    }
}
