import java.util.concurrent.TimeUnit;

/** Ends the program when nothing has gone forward for too long. */
final class Patience {
    private long lastProgressNanos = System.nanoTime();

    /** Something has gone forward. */
    void renew() {
        lastProgressNanos = System.nanoTime();
    }

    /** Asked between two attempts; {@code what} is being waited for. */
    void check(String what) {
        if (System.nanoTime() - lastProgressNanos > TimeUnit.MILLISECONDS.toNanos(Settings.PATIENCE_MS)) {
            throw new IllegalStateException("no progress for " + Settings.PATIENCE_MS + " ms: " + what);
        }
    }
}
