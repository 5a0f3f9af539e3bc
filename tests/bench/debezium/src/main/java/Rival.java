import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

/**
 * Runs Debezium's embedded engine until it has seen so many changes of one topic, and drops them.
 *
 * <p>Arguments: the number of changes, the topic. Standard input: the engine's properties as one
 * JSON object of strings. Standard output: one line of JSON, written when the last change has
 * been seen; times are of System.nanoTime, CPU times those of the whole process, in nanoseconds.
 * The exit code is 1 when the engine ended before that.
 */
public final class Rival implements DebeziumEngine.ChangeConsumer<ChangeEvent<String, String>> {
    private static final OperatingSystemMXBean PROCESS =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final long rowsWanted;
    private final String topic;
    private final CountDownLatch ended = new CountDownLatch(1);
    // Written by the engine's thread, read by the main one after the latch.
    private long rows;
    private long rowsFirst;
    private long chars;
    private long firstNs;
    private long firstCpuNs;
    private long lastNs;
    private long lastCpuNs;
    private Throwable failure;

    private Rival(long rowsWanted, String topic) {
        this.rowsWanted = rowsWanted;
        this.topic = topic;
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.putAll(
                new ObjectMapper().readValue(System.in, new TypeReference<Map<String, String>>() {}));
        Rival rival = new Rival(Long.parseLong(arguments[0]), arguments[1]);
        DebeziumEngine<?> engine =
                DebeziumEngine.create(Json.class)
                        .using(properties)
                        .using((success, message, error) -> rival.end(error))
                        .notifying(rival)
                        .build();
        Thread runner = new Thread(engine, "engine");
        runner.start();
        rival.ended.await();
        if (!rival.finished()) {
            if (rival.failure != null) {
                rival.failure.printStackTrace();
            }
            System.exit(1);
        }
        System.out.println(rival.told());
        System.out.flush();
        engine.close();
        runner.join();
        System.exit(0);
    }

    private void end(Throwable error) {
        failure = error;
        ended.countDown();
    }

    private boolean finished() {
        return rows >= rowsWanted;
    }

    private String told() {
        return String.format(
                "{\"rows\": %d, \"rows_first\": %d, \"chars\": %d, \"first_ns\": %d, \"last_ns\": %d,"
                        + " \"first_cpu_ns\": %d, \"last_cpu_ns\": %d}",
                rows, rowsFirst, chars, firstNs, lastNs, firstCpuNs, lastCpuNs);
    }

    /** Called by the engine's thread with a batch that is converted to JSON already. */
    @Override
    public void handleBatch(
            List<ChangeEvent<String, String>> batch,
            DebeziumEngine.RecordCommitter<ChangeEvent<String, String>> committer)
            throws InterruptedException {
        if (firstNs == 0) {
            firstNs = System.nanoTime();
            firstCpuNs = PROCESS.getProcessCpuTime();
        }
        boolean before = finished();
        boolean first = rows == 0;
        for (ChangeEvent<String, String> event : batch) {
            if (event.value() != null && topic.equals(event.destination())) {
                rows++;
                chars += event.value().length();
            }
            committer.markProcessed(event);
        }
        committer.markBatchFinished();
        if (first) {
            rowsFirst = rows;
        }
        if (finished() && !before) {
            lastNs = System.nanoTime();
            lastCpuNs = PROCESS.getProcessCpuTime();
            ended.countDown();
        }
    }
}
