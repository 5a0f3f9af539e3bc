import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Properties;

/**
 * Runs Debezium's embedded engine and writes what it emits.
 *
 * <p>Standard input: the engine's properties as one JSON object of strings on one line; its end
 * stops the engine. Standard output: each event's value as Debezium's converter writes it, one a
 * line, behind a tab. The exit code is 1 when the engine ended by itself.
 */
public final class Recorder {
    private Recorder() {}

    public static void main(String[] arguments) throws Exception {
        BufferedReader input =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Properties properties = new Properties();
        properties.putAll(
                new ObjectMapper()
                        .readValue(input.readLine(), new TypeReference<Map<String, String>>() {}));
        PrintStream output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        DebeziumEngine<ChangeEvent<String, String>> engine =
                DebeziumEngine.create(Json.class)
                        .using(properties)
                        .using(
                                (success, message, error) -> {
                                    if (error != null) {
                                        error.printStackTrace();
                                    }
                                    if (!success) {
                                        Runtime.getRuntime().halt(1);
                                    }
                                })
                        .notifying(
                                (List<ChangeEvent<String, String>> batch,
                                        DebeziumEngine.RecordCommitter<ChangeEvent<String, String>>
                                                committer) -> {
                                    for (ChangeEvent<String, String> event : batch) {
                                        if (event.value() != null) {
                                            output.print('\t' + event.value() + '\n');
                                        }
                                        committer.markProcessed(event);
                                    }
                                    output.flush();
                                    committer.markBatchFinished();
                                })
                        .build();
        Thread runner = new Thread(engine, "engine");
        runner.start();
        while (input.readLine() != null) {}
        engine.close();
        runner.join();
        System.exit(0);
    }
}
