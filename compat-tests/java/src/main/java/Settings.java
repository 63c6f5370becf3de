import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.CommonClientConfigs;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.SaslConfigs;
import org.apache.kafka.common.config.SslConfigs;

/** The clients' settings. */
final class Settings {
    /** After this long without progress the program gives up. */
    static final int PATIENCE_MS = 60_000;

    /** Room for a record of 10 MB and what surrounds it. */
    private static final int REQUEST_BYTES_MAX = 16 * 1024 * 1024;

    private Settings() {}

    /** What every client is told: where the cluster is, and how to log in. */
    static Map<String, Object> common(String bootstrap, Task.Security security) {
        Map<String, Object> settings = new HashMap<>();
        settings.put(CommonClientConfigs.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        if (security == null) {
            return settings;
        }
        settings.put(CommonClientConfigs.SECURITY_PROTOCOL_CONFIG, security.protocol());
        if (security.ca() != null) {
            settings.put(SslConfigs.SSL_TRUSTSTORE_TYPE_CONFIG, "PEM");
            settings.put(SslConfigs.SSL_TRUSTSTORE_LOCATION_CONFIG, security.ca());
        }
        if (security.mechanism() != null) {
            settings.put(SaslConfigs.SASL_MECHANISM, security.mechanism());
            settings.put(SaslConfigs.SASL_JAAS_CONFIG, login(security));
        }
        return settings;
    }

    static Map<String, Object> producer(String bootstrap, Task task) {
        Map<String, Object> settings = common(bootstrap, task.security());
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, task.idempotent());
        if (!task.idempotent()) {
            // Without sequence numbers, only one request at a time keeps the order when one is sent again.
            settings.put(ProducerConfig.MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION, 1);
        }
        if (task.codec() != null) {
            settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, task.codec());
        }
        settings.put(ProducerConfig.MAX_REQUEST_SIZE_CONFIG, REQUEST_BYTES_MAX);
        settings.put(ProducerConfig.LINGER_MS_CONFIG, 5);
        settings.put(ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, PATIENCE_MS);
        settings.put(ProducerConfig.MAX_BLOCK_MS_CONFIG, PATIENCE_MS);
        return settings;
    }

    static Map<String, Object> consumer(Task task) {
        Map<String, Object> settings = common(task.bootstrap(), task.security());
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        settings.put(ConsumerConfig.FETCH_MAX_BYTES_CONFIG, 4 * REQUEST_BYTES_MAX);
        settings.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, REQUEST_BYTES_MAX);
        return settings;
    }

    /** The login modules are named by class; user and password are quoted as JAAS wants it. */
    private static String login(Task.Security security) {
        String module = security.mechanism().equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        return "org.apache.kafka.common.security.%s required username=%s password=%s;"
                .formatted(module, quoted(security.username()), quoted(security.password()));
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
