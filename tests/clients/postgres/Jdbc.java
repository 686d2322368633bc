// Java's PostgreSQL driver: what it gets, as JSON lines. The arguments: host, port, user, password, database, and for
// TLS the file with the roots.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;

public class Jdbc {
    interface Call {
        Object run() throws Exception;
    }

    static String[] options;

    static Connection connect() throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", options[2]);
        properties.setProperty("password", options[3]);
        properties.setProperty("sslmode", options.length > 5 ? "verify-full" : "disable");
        if (options.length > 5) {
            properties.setProperty("sslrootcert", options[5]);
        }
        return DriverManager.getConnection("jdbc:postgresql://" + options[0] + ":" + options[1] + "/" + options[4], properties);
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    static String json(Object value) throws SQLException {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        if (value instanceof List<?> list) {
            List<String> parts = new ArrayList<>();
            for (Object each : list) {
                parts.add(json(each));
            }
            return "[" + String.join(", ", parts) + "]";
        }
        if (value instanceof Array array) {
            return json(array.getArray());
        }
        if (value instanceof Object[] parts) {
            return json(Arrays.asList(parts));
        }
        if (value instanceof byte[] bytes) {
            return quoted(HexFormat.of().formatHex(bytes));
        }
        return quoted(value.toString());
    }

    static void say(String step, Object is) throws SQLException {
        System.out.println("{\"step\": " + quoted(step) + ", \"is\": " + json(is) + "}");
    }

    static void attempt(String step, Call call) throws Exception {
        try {
            say(step, call.run());
        } catch (PSQLException error) {
            var fields = error.getServerErrorMessage();
            if (fields == null) {
                throw error;
            }
            System.out.println("{\"step\": " + quoted(step) + ", \"is\": {\"sqlstate\": " + json(error.getSQLState())
                + ", \"severity\": " + json(fields.getSeverity()) + ", \"message\": " + json(fields.getMessage())
                + ", \"hint\": " + json(fields.getHint()) + "}}");
        }
    }

    static List<Object> rows(ResultSet result) throws SQLException {
        ResultSetMetaData columns = result.getMetaData();
        List<Object> rows = new ArrayList<>();
        List<Object> head = new ArrayList<>();
        for (int n = 1; n <= columns.getColumnCount(); n++) {
            head.add(columns.getColumnName(n) + " " + columns.getColumnTypeName(n));
        }
        rows.add(head);
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int n = 1; n <= columns.getColumnCount(); n++) {
                row.add(result.getObject(n));
            }
            rows.add(row);
        }
        return rows;
    }

    static List<Object> query(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    static int update(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    static void queries(Connection connection) throws Exception {
        attempt("query", () -> query(connection, "SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id"));
        attempt("types", () -> query(connection, "SELECT * FROM types ORDER BY id"));
        // From the fifth execution on it is a statement of the server's, and results come in binary.
        try (PreparedStatement order = connection.prepareStatement("SELECT * FROM orders WHERE id = ?")) {
            for (int n = 1; n <= 8; n++) {
                order.setLong(1, n);
                attempt("prepared", () -> rows(order.executeQuery()));
            }
        }
        try (PreparedStatement secret = connection.prepareStatement("SELECT id, ssn, note_secret, name, raw FROM customers WHERE id = ?")) {
            for (int n = 1; n <= 8; n++) {
                secret.setInt(1, n);
                attempt("masked prepared", () -> rows(secret.executeQuery()));
            }
        }
        attempt("masked", () -> query(connection, "SELECT id, ssn AS x, note_secret || '!' AS y, ARRAY[ssn] AS z FROM customers WHERE id <= 2 ORDER BY id"));
        attempt("tables", () -> rows(connection.getMetaData().getColumns(null, "public", "customers", "%")).size());
        // Portals that are run in parts.
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(7);
            attempt("in parts", () -> rows(statement.executeQuery("SELECT id, ssn, item FROM customers JOIN orders USING (id) ORDER BY id")));
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void transaction(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO scratch (id, t, a, b) VALUES (?, ?, ?, ?)")) {
            for (int n = 0; n < 20; n++) {
                insert.setInt(1, n);
                insert.setString(2, "té\t\\x " + n);
                insert.setArray(3, connection.createArrayOf("int4", new Object[] {n, null}));
                insert.setBytes(4, new byte[] {0, (byte) 255});
                insert.addBatch();
            }
            attempt("batch", () -> insert.executeBatch().length);
        }
        attempt("own write", () -> query(connection, "SELECT * FROM scratch ORDER BY id LIMIT 2"));
        Savepoint savepoint = connection.setSavepoint();
        attempt("fails", () -> update(connection, "INSERT INTO scratch (id) VALUES (1)"));
        connection.rollback(savepoint);
        attempt("goes on", () -> query(connection, "SELECT count(*) FROM scratch"));
        connection.rollback();
        connection.setAutoCommit(true);
        attempt("rolled back", () -> query(connection, "SELECT count(*) FROM scratch"));
    }

    static void copy(Connection connection) throws Exception {
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        for (String what : new String[] {
            "orders TO STDOUT", "orders TO STDOUT (FORMAT binary)",
            "(SELECT id, ssn, note_secret FROM customers ORDER BY id) TO STDOUT (FORMAT csv)"}) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            attempt("copy " + what, () -> manager.copyOut("COPY " + what, out));
            say("data", what.contains("binary") ? out.toByteArray() : out.toString(StandardCharsets.UTF_8));
        }
        StringBuilder lines = new StringBuilder();
        for (int n = 0; n < 1000; n++) {
            lines.append(n).append("\trow ").append(n).append('\n');
        }
        attempt("copy in", () -> manager.copyIn("COPY scratch (id, t) FROM STDIN", new StringReader(lines.toString())));
        attempt("copied", () -> query(connection, "SELECT count(*), sum(length(t)) FROM scratch"));
        attempt("copy in fails", () -> manager.copyIn("COPY scratch (id) FROM STDIN", new StringReader("x\n")));
        attempt("deleted", () -> update(connection, "DELETE FROM scratch"));
    }

    static void cancel(Connection connection) throws Exception {
        int pid = connection.unwrap(PGConnection.class).getBackendPID();
        try (Statement sleeping = connection.createStatement(); Connection other = connect()) {
            Thread thread = new Thread(() -> {
                try {
                    String running = "SELECT 1 FROM pg_stat_activity WHERE pid = " + pid
                        + " AND state = 'active' AND query LIKE '%pg_sleep%'";
                    while (query(other, running).size() == 1) {
                        Thread.sleep(10);
                    }
                    sleeping.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            thread.start();
            attempt("cancelled", () -> rows(sleeping.executeQuery("SELECT pg_sleep(60)")));
            thread.join();
            attempt("goes on", () -> query(connection, "SELECT 1"));
            update(connection, "LISTEN events");
            update(other, "NOTIFY events, 'it happened'");
            PGNotification[] heard = connection.unwrap(PGConnection.class).getNotifications(20000);
            say("notified", List.of(heard[0].getName(), heard[0].getParameter()));
        }
    }

    static void errors(Connection connection) throws Exception {
        for (String sql : new String[] {"SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO orders (id) VALUES (1)"}) {
            attempt("error " + sql, () -> query(connection, sql));
        }
        List<Object> before = query(connection, "SELECT pg_backend_pid()");
        attempt("denied", () -> update(connection, "DELETE FROM orders WHERE id = 0"));
        try (PreparedStatement delete = connection.prepareStatement("DELETE FROM orders WHERE id = ?")) {
            for (int n = 0; n < 7; n++) {
                delete.setLong(1, 0);
                attempt("denied prepared", delete::executeUpdate);
            }
        }
        connection.setAutoCommit(false);
        attempt("in a transaction", () -> query(connection, "SELECT 1"));
        attempt("denied in a transaction", () -> update(connection, "DELETE FROM orders WHERE id = 0"));
        connection.rollback();
        connection.setAutoCommit(true);
        say("the same connection", before.equals(query(connection, "SELECT pg_backend_pid()")));
        attempt("goes on", () -> query(connection, "SELECT count(*) FROM orders"));
    }

    public static void main(String[] arguments) throws Exception {
        options = arguments;
        try (Connection connection = connect()) {
            update(connection, "DELETE FROM scratch");
            queries(connection);
            transaction(connection);
            copy(connection);
            cancel(connection);
            errors(connection);
        }
    }
}
