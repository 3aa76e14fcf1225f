// A worker in Java with the PostgreSQL JDBC driver (Debian: libpostgresql-jdbc-java).  Copy it, and change `work`.
//
//   java -cp postgresql.jar Worker.java 'jdbc:postgresql://host/db?user=..'      SIGTERM: give back what is claimed
//
// JDBC sends strings as text and Long as bigint, which do not fit jsonb, interval and int by themselves: hence the
// casts (or ?stringtype=unspecified in the URL).  Behind a transaction pooler (PgBouncer before 1.21) add
// ?prepareThreshold=0: nothing is prepared by name then.
import java.sql.*;
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

    static void call(Connection c, String sql, Object... values) throws SQLException {
        try (var s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            s.execute();
        }
    }

    static void run(Connection c, String url, ScheduledExecutorService timer, long id, int attempt, String payload) throws Exception {
        var lost = new AtomicBoolean();
        var beat = timer.scheduleAtFixedRate(() -> {
            try (var b = DriverManager.getConnection(url);       // its own: the worker's is busy or waiting
                 var s = b.prepareStatement("SELECT queue.heartbeat(?, ?::interval, ?)")) {
                s.setLong(1, id); s.setString(2, LEASE + " s"); s.setInt(3, attempt);
                var r = s.executeQuery();
                r.next();
                if (r.getTimestamp(1) == null) lost.set(true);
            } catch (SQLException e) { System.err.println(e.getMessage()); }
        }, LEASE * 1000L / 3, LEASE * 1000L / 3, TimeUnit.MILLISECONDS);
        try {
            call(c, "SELECT queue.complete(?, ?, ?::jsonb)", id, attempt, work(payload, lost));
        } catch (Stopped e) {
            call(c, "SELECT queue.release(?, ?)", id, attempt);
        } catch (SQLException e) {
            throw e;
        } catch (Exception e) {
            call(c, "SELECT queue.fail(?, ?, ?)", id, attempt, e.toString());
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
        while (!stop.get()) {
            try (var c = DriverManager.getConnection(args[0]);
                 var fetch = c.prepareStatement("SELECT id, attempt, payload FROM queue.fetch(?, 1, lease => ?::interval, wait => ?::interval, worker => ?)")) {
                while (!stop.get()) {
                    fetch.setString(1, QUEUE);
                    fetch.setString(2, LEASE + " s");
                    fetch.setString(3, WAIT);
                    fetch.setString(4, "java:" + ProcessHandle.current().pid());
                    try (var r = fetch.executeQuery()) {
                        while (r.next()) run(c, args[0], timer, r.getLong(1), r.getInt(2), r.getString(3));
                    }
                }
            } catch (SQLException e) {
                System.err.println(e.getMessage());
                if (!stop.get()) Thread.sleep(1000);
            }
        }
    }
}
