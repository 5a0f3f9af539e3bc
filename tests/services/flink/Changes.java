import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collections;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.debezium.DebeziumJsonDeserializationSchema;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.Collector;
import org.apache.flink.util.SimpleUserCodeClassLoader;
import org.apache.flink.util.UserCodeClassLoader;

/**
 * Flink's format debezium-json over envelopes from standard input, one a line. For each row that it
 * emits there is a line: its kind (+I, -U, +U, -D) and its columns, tabs between, bytes in hex.
 */
public final class Changes {
    private static final DataType ROW = DataTypes.ROW(
            DataTypes.FIELD("id", DataTypes.BIGINT()),
            DataTypes.FIELD("title", DataTypes.STRING()),
            DataTypes.FIELD("weight", DataTypes.DOUBLE()),
            DataTypes.FIELD("paid", DataTypes.BOOLEAN()),
            DataTypes.FIELD("photo", DataTypes.BYTES()),
            DataTypes.FIELD("day", DataTypes.INT()));

    public static void main(String[] arguments) throws Exception {
        DebeziumJsonDeserializationSchema format = new DebeziumJsonDeserializationSchema(
                ROW, Collections.emptyList(), InternalTypeInfo.of((RowType) ROW.getLogicalType()),
                false, false, TimestampFormat.ISO_8601);
        format.open(new DeserializationSchema.InitializationContext() {
            @Override
            public MetricGroup getMetricGroup() {
                return new UnregisteredMetricsGroup();
            }

            @Override
            public UserCodeClassLoader getUserCodeClassLoader() {
                return SimpleUserCodeClassLoader.create(Changes.class.getClassLoader());
            }
        });
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        Collector<RowData> collector = new Collector<>() {
            @Override
            public void collect(RowData row) {
                out.println(shown(row));
            }

            @Override
            public void close() {
            }
        };
        BufferedReader lines =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            format.deserialize(line.getBytes(StandardCharsets.UTF_8), collector);
        }
        out.flush();
    }

    private static String shown(RowData row) {
        String[] columns = new String[row.getArity() + 1];
        columns[0] = row.getRowKind().shortString();
        for (int i = 0; i < row.getArity(); i++) {
            columns[i + 1] = row.isNullAt(i) ? "null" : switch (i) {
                case 0 -> Long.toString(row.getLong(i));
                case 1 -> row.getString(i).toString();
                case 2 -> Double.toString(row.getDouble(i));
                case 3 -> Boolean.toString(row.getBoolean(i));
                case 4 -> hexadecimal(row.getBinary(i));
                default -> Integer.toString(row.getInt(i));
            };
        }
        return String.join("\t", columns);
    }

    private static String hexadecimal(byte[] data) {
        StringBuilder text = new StringBuilder();
        for (byte one : data) {
            text.append(String.format("%02x", one));
        }
        return text.toString();
    }
}
