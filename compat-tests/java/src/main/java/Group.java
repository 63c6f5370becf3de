import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** A member reads a topic, another joins, one leaves; what each was given and read is written down. */
final class Group {
    private final Task task;
    private final Set<Integer> all;
    private final Patience patience = new Patience();

    private Group(Task task) {
        this.task = task;
        this.all = numbers(0, task.partitions());
    }

    private record Story(
            List<Integer> first, List<List<Integer>> shared, List<Integer> after, List<List<Integer>> read) {}

    static void run(Task task) throws Exception {
        Json.write(task.out(), new Group(task).story());
    }

    private Story story() throws Exception {
        int count = task.count();
        try (Producer<String, String> producer = new KafkaProducer<>(
                        Settings.producer(task.produceBootstrap(), task),
                        new StringSerializer(),
                        new StringSerializer());
                Member first = new Member(task)) {
            produce(producer, 0, count);
            pollUntil("the first member reads all", () -> hasRead(0, count, first), first);
            List<Integer> whole = first.partitions();
            first.commit();
            List<Integer> readAlone = first.take();

            List<List<Integer>> shared;
            List<Integer> readByFirst;
            List<Integer> readBySecond;
            try (Member second = new Member(task)) {
                pollUntil("both members have partitions", () -> isShared(first, second), first, second);
                shared = List.of(first.partitions(), second.partitions());
                produce(producer, count, 2 * count);
                pollUntil("both members read all", () -> hasRead(count, 2 * count, first, second), first, second);
                first.commit();
                second.commit();
                readByFirst = first.take();
                readBySecond = second.take();
            }
            pollUntil("the first member has all again", () -> all.equals(Set.copyOf(first.partitions())), first);
            List<Integer> after = first.partitions();
            produce(producer, 2 * count, 3 * count);
            pollUntil("the first member reads the rest", () -> hasRead(2 * count, 3 * count, first), first);
            first.commit();
            return new Story(whole, shared, after, List.of(readAlone, readByFirst, readBySecond, first.take()));
        }
    }

    /** Sends the numbers {@code from..to}, and returns when all are acknowledged. */
    private void produce(Producer<String, String> producer, int from, int to) throws Exception {
        Sending<String, String> sending = new Sending<>(producer);
        for (int number = from; number < to; number++) {
            int partition = number % task.partitions();
            sending.send(new ProducerRecord<>(task.topic(), partition, null, Integer.toString(number)));
        }
        sending.finish();
        patience.renew();
    }

    /** Polls the members in turn: a member that is not polled takes part in no rebalance. */
    private void pollUntil(String what, BooleanSupplier reached, Member... members) {
        patience.renew();
        while (!reached.getAsBoolean()) {
            patience.check(what);
            for (Member member : members) {
                if (member.poll()) {
                    patience.renew();
                }
            }
        }
    }

    private boolean isShared(Member first, Member second) {
        Set<Integer> together = new HashSet<>(first.partitions());
        together.addAll(second.partitions());
        int given = first.partitions().size() + second.partitions().size();
        return !first.partitions().isEmpty()
                && !second.partitions().isEmpty()
                && together.equals(all)
                && given == all.size();
    }

    private static boolean hasRead(int from, int to, Member... members) {
        Set<Integer> read = new HashSet<>();
        for (Member member : members) {
            read.addAll(member.read());
        }
        return read.containsAll(numbers(from, to));
    }

    private static Set<Integer> numbers(int from, int to) {
        return new HashSet<>(IntStream.range(from, to).boxed().toList());
    }
}
