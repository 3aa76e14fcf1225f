# queue_pgmq: messages, ids and archives survive a dump; readers of groups keep out of each other's way; who waits is woken,
# and told by NOTIFY.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('pgmq');
my $tmp = PostgreSQL::Test::Utils::tempdir;
sql($node, 'CREATE EXTENSION queue_pgmq');

# --- groups: a reader that has not committed has its groups to itself
sql($node, "SELECT pgmq.create('fifo')");
sql($node, "SELECT pgmq.send('fifo', to_jsonb(i), jsonb_build_object('x-pgmq-group', CASE WHEN i < 4 THEN 'a' ELSE 'b' END)) FROM generate_series(1, 5) i");
my $reader = queue_session($node);
my $mine = "SELECT string_agg(msg_id::text, ',') FROM pgmq.";
$reader->query_safe('BEGIN');
is($reader->query_safe("${mine}read_grouped('fifo', 100, 1)"), '1', 'the first of group a');
one($node, "${mine}read_grouped('fifo', 100, 1)", '4', 'another reader skips the group, rather than go on in it');
one($node, "${mine}read_grouped_rr('fifo', 100, 10)", '', 'both groups are taken');
$reader->query_safe('ROLLBACK');
one($node, "${mine}read_grouped_head('fifo', 100, 10)", '1', 'after a rollback the head is there again');
one($node, "SELECT read_ct FROM pgmq.q_fifo WHERE msg_id = 1", '1', 'and the read that was undone is not counted');

# who gets a group's lock only when another has read its head and committed leaves the group alone: the lock is asked for late
my $late = queue_session($node);
my $gate = queue_session($node);
sql($node, <<'EOS');
CREATE SCHEMA late;
CREATE FUNCTION late.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_advisory_xact_lock_shared(11);
	RETURN pg_catalog.pg_try_advisory_xact_lock($1);
END $$;
SELECT pgmq.create('turns');
SELECT pgmq.send('turns', to_jsonb(i), '{"x-pgmq-group": "a"}'::jsonb) FROM generate_series(1, 2) i;
EOS
$gate->query_safe('SELECT pg_advisory_lock(11)');
$late->query_until(qr/waiting/, "\\echo waiting\nSET search_path = late, pg_catalog, public;\n${mine}read_grouped('turns', 100, 10);\n");
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 11 AND NOT granted", 'a reader is about to lock the group');
one($node, "${mine}read_grouped_head('turns', 100, 1)", '1', 'another one reads the head');
$gate->query_safe('SELECT pg_advisory_unlock(11)');
is($late->query_safe("SELECT 'no more'"), "\nno more", 'what is behind it waits');
$_->quit foreach $late, $gate;

# --- by condition: two readers at once get different messages
sql($node, "SELECT pgmq.create('cond')");
sql($node, "SELECT pgmq.send_batch('cond', array_fill('{\"a\": 1}'::jsonb, ARRAY[3]))");
$reader->query_safe('BEGIN');
is($reader->query_safe("${mine}read('cond', 100, 1, '{\"a\": 1}')"), '1', 'the first');
one($node, "${mine}read('cond', 100, 1, '{\"a\": 1}')", '2', 'the next one');
one($node, "SELECT pgmq.delete('cond', 2)", 't', 'is deleted');
$reader->query_safe('COMMIT');
one($node, "${mine}read('cond', 100, 10)", '3', 'none is read twice');

# --- who waits is woken by the commit
sql($node, "SELECT pgmq.create('wake')");
my $pid = $reader->query_safe('SELECT pg_backend_pid()');
$reader->query_until(qr/waiting/, "\\echo waiting\n${mine}read_with_poll('wake', 100, 5, 180);\n\\echo read\n");
wait_true($node, "SELECT wait_event = 'QueueFetch' OR wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 'a reader waits');
sql($node, "SELECT pgmq.enable_notify_insert('wake'), pgmq.enable_notify_delete('wake')");
my $listener = queue_session($node);
$listener->query_safe('LISTEN "pgmq.q_wake.INSERT"; LISTEN "pgmq.q_wake.DELETE"');
sql($node, "SELECT pgmq.send('wake', '\"now\"')");
like($reader->query_until(qr/^read$/m, ''), qr/^1$/m, 'and gets the message');
sql($node, "SELECT pgmq.delete('wake', 1)");
like($listener->query('SELECT 1'), qr/"pgmq\.q_wake\.INSERT".*"pgmq\.q_wake\.DELETE"/s, 'listeners are told of both');
$listener->quit;
$reader->quit;

# --- dump and restore
sql($node, "SELECT pgmq.create('Kept'), pgmq.bind_topic('a.*', 'Kept'), pgmq.enable_notify_insert('Kept', 7)");
sql($node, "SELECT pgmq.send_batch('Kept', ARRAY['1', '2', NULL, '4']::jsonb[], ARRAY['{\"h\": 1}', NULL, NULL, NULL]::jsonb[])");
sql($node, "SELECT pgmq.archive('Kept', 1), pgmq.set_vt('Kept', 4, 1000)");
sql($node, "SELECT pgmq.read('Kept', 1000, 1)");
my $state = "SELECT string_agg(x::text, E'\\n') FROM (SELECT q.*::text FROM pgmq.q_kept q UNION ALL SELECT a.*::text FROM pgmq.a_kept a "
  . "UNION ALL SELECT m.*::text FROM pgmq.meta m UNION ALL SELECT t.*::text FROM pgmq.topic_bindings t "
  . "UNION ALL SELECT queue_name || throttle_interval_ms FROM pgmq.notify_insert_throttle ORDER BY 1) x";
my $before = sql($node, $state);
sql($node, 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_dump', '-f', "$tmp/pgmq.sql", $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', "$tmp/pgmq.sql" ], 'restores');
one($node, $state, $before, 'the copy has everything', db => 'copy');
one($node, "SELECT pgmq.send('Kept', '5')", '5', 'its ids go on', db => 'copy');
one($node, "${mine}read('Kept', 100, 10)", '3,5', 'and it is read', db => 'copy');
one($node, "SELECT pgmq.drop_queue('Kept')", 't', 'and dropped', db => 'copy');

$node->stop;
done_testing();
