import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.protocol.Errors;

/** An administrator's calls on one topic and one group. */
final class Administer {
    private final Admin admin;
    private final Task task;

    private Administer(Admin admin, Task task) {
        this.admin = admin;
        this.task = task;
    }

    private record Story(
            boolean created,
            @JsonProperty("created_again") int createdAgain,
            boolean listed,
            int partitions,
            int nodes,
            Map<String, String> config,
            List<Long> earliest,
            List<Long> latest,
            boolean groups,
            @JsonProperty("group_state") String groupState,
            @JsonProperty("group_offsets") Map<Integer, Long> groupOffsets,
            @JsonProperty("group_deleted") boolean groupDeleted,
            boolean deleted,
            boolean gone) {}

    static void run(Task task) throws Exception {
        try (Admin admin = Admin.create(Settings.common(task.bootstrap(), task.security()))) {
            Json.write(task.out(), new Administer(admin, task).story());
        }
    }

    /** A call that fails ends the program, so that {@code true} stands for what has come about. */
    private Story story() throws Exception {
        // A constructor's arguments are evaluated from left to right: this is the order of the calls.
        return new Story(
                create(),
                createAgain(),
                isListed(),
                describedPartitions(),
                admin.describeCluster().nodes().get().size(),
                describedConfig(),
                offsets(OffsetSpec.earliest()),
                offsets(OffsetSpec.latest()),
                isGroupListed(),
                groupState(),
                groupOffsets(),
                deleteGroup(),
                delete(),
                isGone());
    }

    private boolean create() throws Exception {
        NewTopic topic = new NewTopic(task.topic(), task.partitions(), (short) 1).configs(task.config());
        admin.createTopics(List.of(topic)).all().get();
        return true;
    }

    private int createAgain() throws Exception {
        try {
            create();
            return Errors.NONE.code();
        } catch (ExecutionException refused) {
            return Errors.forException(refused.getCause()).code();
        }
    }

    private boolean isListed() throws Exception {
        return admin.listTopics().names().get().contains(task.topic());
    }

    private int describedPartitions() throws Exception {
        var described = admin.describeTopics(List.of(task.topic())).allTopicNames().get();
        return described.get(task.topic()).partitions().size();
    }

    private Map<String, String> describedConfig() throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, task.topic());
        Config described = admin.describeConfigs(List.of(topic)).all().get().get(topic);
        Map<String, String> values = new TreeMap<>();
        for (String key : task.config().keySet()) {
            values.put(key, described.get(key).value());
        }
        return values;
    }

    private List<Long> offsets(OffsetSpec spec) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = new TreeMap<>((one, other) -> one.partition() - other.partition());
        IntStream.range(0, task.partitions())
                .forEach(partition -> asked.put(new TopicPartition(task.topic(), partition), spec));
        Map<TopicPartition, ListOffsetsResultInfo> answered = admin.listOffsets(asked).all().get();
        return asked.keySet().stream().map(partition -> answered.get(partition).offset()).toList();
    }

    // From 4.1 on these two are deprecated for calls that 3.9 does not have.
    @SuppressWarnings("deprecation")
    private boolean isGroupListed() throws Exception {
        return admin.listConsumerGroups().all().get().stream()
                .anyMatch(listing -> listing.groupId().equals(task.group()));
    }

    @SuppressWarnings("deprecation")
    private String groupState() throws Exception {
        var described = admin.describeConsumerGroups(List.of(task.group())).all().get();
        return described.get(task.group()).state().toString();
    }

    private Map<Integer, Long> groupOffsets() throws Exception {
        Map<Integer, Long> offsets = new TreeMap<>();
        admin.listConsumerGroupOffsets(task.group())
                .partitionsToOffsetAndMetadata()
                .get()
                .forEach((partition, committed) -> offsets.put(partition.partition(), committed.offset()));
        return offsets;
    }

    private boolean deleteGroup() throws Exception {
        admin.deleteConsumerGroups(List.of(task.group())).all().get();
        return true;
    }

    private boolean delete() throws Exception {
        admin.deleteTopics(List.of(task.topic())).all().get();
        return true;
    }

    /** A cluster may list a topic for a while after it has agreed to delete it. */
    private boolean isGone() throws Exception {
        Patience patience = new Patience();
        while (isListed()) {
            patience.check(task.topic() + " is still listed");
            Thread.sleep(100);
        }
        return true;
    }
}
