import com.fasterxml.jackson.annotation.JsonProperty;
import java.nio.file.Path;
import java.util.Map;

/**
 * What the program is told to do. Fields of other tasks than the one in {@code do} are null or zero.
 */
record Task(
        @JsonProperty("do") String action,
        String bootstrap,
        Security security,
        @JsonProperty("produce_bootstrap") String produceBootstrap,
        String topic,
        int partitions,
        String codec,
        boolean idempotent,
        int count,
        String group,
        Map<String, String> config,
        Path records,
        Path out) {

    /** How the listener is protected; an open one has none of it. */
    record Security(String protocol, String ca, String mechanism, String username, String password) {}
}
