/**
 * Apache Kafka's Java clients, told what to do by a task in JSON: {@code java Client TASK}.
 *
 * <p>An exception that nothing catches ends the program with exit code 1 and its stack trace.
 */
public final class Client {
    private Client() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 1) {
            throw new IllegalArgumentException("one argument is expected, the task in JSON");
        }
        Task task = Json.parse(arguments[0], Task.class);
        switch (task.action()) {
            case "produce" -> Produce.run(task);
            case "consume" -> Consume.run(task);
            case "group" -> Group.run(task);
            case "admin" -> Administer.run(task);
            default -> throw new IllegalArgumentException("no such task: " + task.action());
        }
    }
}
