// A worker in Java with the PostgreSQL JDBC driver (Debian: libpostgresql-jdbc-java).  Copy it, and change `work`.
//
//   java -cp postgresql.jar Worker.java 'jdbc:postgresql://host/db?user=..'      SIGTERM: give back what is claimed
//
// JDBC sends strings as text, which does not fit jsonb and interval by itself: hence the casts
// (or ?stringtype=unspecified in the URL).  Behind a transaction pooler (PgBouncer before 1.21) add
// ?prepareThreshold=0: nothing is prepared by name then.
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Worker {
    static final String QUEUE = System.getenv().getOrDefault("QUEUE", "default");
    static final int LEASE = Integer.parseInt(System.getenv().getOrDefault("LEASE", "60"));
    static final String WAIT = System.getenv().getOrDefault("WAIT", "5 s");
    static final AtomicBoolean stop = new AtomicBoolean();

    static class Stopped extends Exception {}

    static String work(String payload, AtomicBoolean lost) throws Exception {
        if (payload.contains("\"fail\"")) throw new RuntimeException("told to fail");
        var sleep = java.util.regex.Pattern.compile("\"sleep_ms\": (\\d+)").matcher(payload);
        long end = System.currentTimeMillis() + (sleep.find() ? Long.parseLong(sleep.group(1)) : 0);
        while (System.currentTimeMillis() < end) {
            if (lost.get() || stop.get()) throw new Stopped();
            Thread.sleep(10);
        }
        return "{\"ok\": true}";
    }

    /**
     * A connection that comes back: after a restart of the server or of the pooler the statement is tried again. That is
     * safe for every call here: with the attempt given, a second complete or fail of one claim changes nothing.
     */
    static class Database implements AutoCloseable {
        final String url;
        Connection connection;

        Database(String url) { this.url = url; }

        List<Object[]> call(String sql, Object... values) throws SQLException, InterruptedException {
            while (true) {
                try {
                    if (connection == null) connection = DriverManager.getConnection(url);
                    try (var s = connection.prepareStatement(sql)) {
                        for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
                        var rows = new ArrayList<Object[]>();
                        try (var r = s.executeQuery()) {
                            while (r.next()) {
                                var row = new Object[r.getMetaData().getColumnCount()];
                                for (int i = 0; i < row.length; i++) row[i] = r.getObject(i + 1);
                                rows.add(row);
                            }
                        }
                        return rows;
                    }
                } catch (SQLException e) {
                    var state = e.getSQLState() == null ? "08" : e.getSQLState();
                    if (stop.get() || !(state.startsWith("08") || state.startsWith("53") || state.startsWith("57P"))) throw e;
                    System.err.println(e.getMessage());
                    close();
                    Thread.sleep(500);
                }
            }
        }

        public void close() {
            try { if (connection != null) connection.close(); } catch (SQLException e) { }
            connection = null;
        }
    }

    static void run(Database db, Database beats, ScheduledExecutorService timer, long id, int attempt, String payload) throws Exception {
        var lost = new AtomicBoolean();
        var beat = timer.scheduleAtFixedRate(() -> {
            try {
                if (beats.call("SELECT queue.heartbeat(?, ?::interval, ?)", id, LEASE + " s", attempt).get(0)[0] == null) lost.set(true);
            } catch (Exception e) { System.err.println(e.getMessage()); }
        }, LEASE * 1000L / 3, LEASE * 1000L / 3, TimeUnit.MILLISECONDS);
        try {
            db.call("SELECT queue.complete(?, ?, ?::jsonb)", id, attempt, work(payload, lost));
        } catch (Stopped e) {
            db.call("SELECT queue.release(?, ?)", id, attempt);
        } catch (SQLException e) {
            throw e;
        } catch (Exception e) {
            db.call("SELECT queue.fail(?, ?, ?)", id, attempt, e.toString());
        } finally {
            beat.cancel(false);
        }
    }

    public static void main(String[] args) throws Exception {
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stop.set(true);
            try { main.join(); } catch (InterruptedException e) { }
        }));
        var timer = Executors.newScheduledThreadPool(1, r -> { var t = new Thread(r); t.setDaemon(true); return t; });
        // two connections: the worker's own is busy or waiting when a heartbeat is due
        try (var db = new Database(args[0]); var beats = new Database(args[0])) {
            while (!stop.get()) {
                var jobs = db.call("SELECT id, attempt, payload FROM queue.fetch(?, 1, lease => ?::interval, wait => ?::interval, worker => ?)",
                                   QUEUE, LEASE + " s", WAIT, "java:" + ProcessHandle.current().pid());
                for (var job : jobs) run(db, beats, timer, (Long) job[0], (Integer) job[1], job[2].toString());
            }
        } catch (SQLException e) {
            System.err.println(e.getMessage());
            if (!stop.get()) throw e;
        }
    }
}
