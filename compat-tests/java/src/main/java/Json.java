import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** The files and arguments of the contract, as JSON. */
final class Json {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            // A later contract may tell more than this program needs.
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET)
            .build();

    private Json() {}

    static <T> T parse(String text, Class<T> type) throws IOException {
        return MAPPER.readValue(text, type);
    }

    /** The lines of a file, one at a time: together they may be larger than the memory. */
    static MappingIterator<Line> lines(Path file) throws IOException {
        return MAPPER.readerFor(Line.class).readValues(file.toFile());
    }

    static void write(Path file, Object value) throws IOException {
        MAPPER.writeValue(file.toFile(), value);
    }

    /** A file that is written line by line. */
    static final class Lines implements AutoCloseable {
        private final BufferedWriter writer;

        Lines(Path file) throws IOException {
            writer = Files.newBufferedWriter(file);
        }

        void write(Object value) throws IOException {
            MAPPER.writeValue(writer, value);
            writer.newLine();
        }

        @Override
        public void close() throws IOException {
            writer.close();
        }
    }
}
