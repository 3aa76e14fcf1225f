// What JDBC makes of parameters: strings are typed text (unless stringtype=unspecified), Long bigint, Integer int.
import java.sql.*;

public class Params {
    static Connection c;

    static Object one(String sql, Object... values) throws SQLException {
        try (var s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            try (var r = s.executeQuery()) { return r.next() ? r.getObject(1) : null; }
        }
    }

    static void check(String name, Object expected, String sql, Object... values) {
        try {
            var got = one(sql, values);
            System.out.println(expected.equals(got) ? "ok " + name : "not ok " + name + ": got " + got);
        } catch (SQLException e) { System.out.println("not ok " + name + ": " + e.getMessage().replace('\n', ' ')); }
    }

    static void refused(String name, String sql, Object... values) {
        try {
            one(sql, values);
            System.out.println("not ok " + name + ": it worked");
        } catch (SQLException e) {
            System.out.println((e.getMessage().contains("explicit type casts") ? "ok " : "not ok ") + name);
        }
    }

    public static void main(String[] args) throws Exception {
        var q = System.getenv("QUEUE");
        c = DriverManager.getConnection(args[0]);
        check("enqueue with a cast", true, "SELECT queue.enqueue(?, ?::jsonb, ?) > 0", "k", "{\"n\": 1}", q);
        refused("a payload as text is refused with the cast", "SELECT queue.enqueue(?, ?, ?) > 0", "k", "{}", q);
        check("enqueue, delay with a cast", true, "SELECT queue.enqueue(?, ?::jsonb, ?, delay => ?::interval) > 0", "k", "{}", q, "1 hour");
        check("enqueue_json needs none", true, "SELECT queue.enqueue_json(?) > 0", "{\"kind\": \"k\", \"queue\": \"" + q + "\"}");
        check("enqueue_many with a cast", 2L, "SELECT count(*) FROM queue.enqueue_many(?, ?::jsonb[], ?)", "k", c.createArrayOf("text", new String[]{"{}", "{}"}), q);
        var job = (Long) one("SELECT id FROM queue.fetch(?, ?, lease => ?::interval)", q, 1, "1 min");
        check("heartbeat", true, "SELECT queue.heartbeat(?, ?::interval, ?) > now()", job, "2 min", 1);
        check("a bigint attempt fits", false, "SELECT queue.complete(?, ?)", job, 1L << 40);
        check("complete, a wrong attempt", false, "SELECT queue.complete(?, ?)", job, 99);
        check("complete, a result with a cast", true, "SELECT queue.complete(?, ?, ?::jsonb)", job, 1, "{\"ok\": true}");
        var next = (Long) one("SELECT id FROM queue.fetch(?, complete_ids => ?, complete_attempts => ?)", q,
            c.createArrayOf("bigint", new Long[]{job}), c.createArrayOf("integer", new Integer[]{1}));
        check("complete_many, arrays", 1L, "SELECT count(*) FROM queue.complete_many(?, ?)",
            c.createArrayOf("bigint", new Long[]{next}), c.createArrayOf("integer", new Integer[]{1}));
        c.close();
        c = DriverManager.getConnection(args[0] + "&stringtype=unspecified");
        check("stringtype=unspecified needs no casts", true, "SELECT queue.enqueue(?, ?, ?, delay => ?) > 0", "k", "{}", q, "1 hour");
        c.setAutoCommit(false);
        var last = (Long) one("SELECT id FROM queue.fetch(?)", q);
        check("fetch and complete in one transaction", true, "SELECT queue.complete(?, ?)", last, 1);
        c.commit();
        c.close();
    }
}
