# The server runs SQL handlers: effects, results, failures and retries, snoozes, timeouts, functions that
# come and go, roles.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('run');

# --- a job runs, and only if its transaction commits
sql($node, "SELECT queue.register_sql_handler('ok', 'h')");
my $id = sql($node, q{SELECT queue.enqueue('ok', '{"note": "first"}')});
like($id, qr/^[1-9][0-9]*$/, 'enqueue gives an id');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'first'", 'the handler ran');
wait_no_jobs($node, 'its job is gone');
one($node, "SELECT job_id, kind, attempt, failures FROM seen WHERE note = 'first'", "$id|ok|1|0",
	'the handler got its job');

sql($node, q{
BEGIN;
SELECT queue.enqueue('ok', '{"note": "never"}') FROM generate_series(1, 50);
SELECT queue.enqueue_many('ok', array_fill('{"note": "never"}'::jsonb, ARRAY[50]));
ROLLBACK;
SELECT queue.enqueue('ok', '{"note": "after"}');
});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'after'", 'what came after a rollback ran');
one($node, "SELECT count(*) FROM seen WHERE note = 'never'", '0', 'a rolled-back enqueue never runs');

# --- results
sql($node, "SELECT queue.create_queue('kept', keep_completed => '1 day')");
$id = sql($node, q{SELECT queue.enqueue('ok', '{"note": "kept", "return": {"answer": 42}}', 'kept')});
wait_end($node, $id, 'completed', 'wait_for tells the end');
one($node, "SELECT queue.result($id)", '{"answer": 42}', 'the result is kept');
one($node,
	"SELECT state, attempt, failures, started_at >= enqueued_at, finished_at >= started_at FROM queue.job WHERE id = $id",
	'completed|1|0|t|t', 'the finished job is shown');
$id = sql($node, q{SELECT queue.enqueue('ok')});
wait_end($node, $id, 'completed', 'a job that is not kept counts as completed');
$id = sql($node, q{SELECT queue.enqueue('ok', delay => '1 day')});
sqlstate_like($node, "SELECT queue.result($id)", '55000', qr/HINT/, 'no result without keep_completed');
sql($node, "SELECT queue.cancel($id)");

# --- failures
sql($node,
	q{SELECT queue.register_sql_handler('fail', 'h', max_attempts => 3, backoff => '{"type": "fixed", "base": "300 ms", "jitter": 0}')}
);
$id = sql($node, q{SELECT queue.enqueue('fail', '{"note": "bad", "raise": "22012"}')});
wait_end($node, $id, 'discarded', 'a job that always fails is discarded');
one($node,
	"SELECT state, attempt, failures, max_attempts, last_error ~ 'boom bad' FROM queue.job WHERE id = $id",
	'discarded|3|3|3|t', 'after its last attempt');
one($node,
	"SELECT string_agg(concat_ws(' ', attempt, sqlstate, error ~ 'boom bad', kind, queue, worker IS NOT NULL, context ~ 'PL/pgSQL'), ',' ORDER BY attempt) FROM queue.job_error WHERE job_id = $id",
	join(',', map { "$_ 22012 t fail default t t" } 1 .. 3),
	'each failure is told');
one($node,
	"SELECT min(d) >= '300 ms', max(d) < '1 min' FROM (SELECT failed_at - lag(failed_at) OVER (ORDER BY attempt) AS d FROM queue.job_error WHERE job_id = $id) x",
	't|t', 'the backoff lies between them');
one($node, "SELECT count(*) FROM seen WHERE note = 'bad'", '0', 'the effects of failed attempts are undone');

$id = sql($node, q{SELECT queue.enqueue('fail', '{"raise": "QU001", "note": "enough"}')});
wait_end($node, $id, 'discarded', 'QU001 discards');
one($node, "SELECT attempt, last_error ~ 'boom enough' FROM queue.job WHERE id = $id", '1|t', 'at its first attempt');

# --- snoozes
sql($node, <<'EOS');
CREATE FUNCTION h_qu002(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, note, attempt, failures) VALUES (j.id, 'qu002', j.attempt, j.failures);
	IF j.attempt = 1 THEN
		RAISE EXCEPTION 'later' USING ERRCODE = 'QU002', DETAIL = '500 ms';
	END IF;
END $$;
CREATE FUNCTION h_snooze(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, note, attempt, failures) VALUES (j.id, 'snooze', j.attempt, j.failures);
	IF j.attempt = 1 THEN
		PERFORM queue.snooze(j.id, '500 ms');
	END IF;
END $$;
SELECT queue.register_sql_handler('qu002', 'h_qu002');
SELECT queue.register_sql_handler('snooze', 'h_snooze');
SELECT queue.enqueue('qu002'), queue.enqueue('snooze');
EOS
wait_no_jobs($node, 'snoozed jobs end');
one($node, "SELECT attempt, failures FROM seen WHERE note = 'qu002'", '2|0', 'QU002 undoes the effects and counts no failure');
one($node, "SELECT string_agg(attempt || ' ' || failures, ',' ORDER BY n) FROM seen WHERE note = 'snooze'",
	'1 0,2 0', 'snooze in its own handler keeps the effects');
one($node, "SELECT max(at) - min(at) >= '500 ms' FROM seen WHERE note = 'snooze'", 't', 'for as long as asked');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind IN ('qu002', 'snooze')", '0', 'and is no error');

# --- timeouts
$id = sql($node, q{SELECT queue.enqueue('ok', '{"note": "slow", "sleep": 60}', timeout => '300 ms', max_attempts => 1)});
wait_end($node, $id, 'discarded', 'a job that takes too long is stopped');
one($node, "SELECT error ~* 'timeout|timed out', sqlstate FROM queue.job_error WHERE job_id = $id",
	't|57014', 'its error says so');
one($node, "SELECT timeouts, last_error_at > now() - interval '5 min' FROM queue.stat_handler WHERE kind = 'ok'", '1|t', 'it is counted');
sql($node, "SELECT queue.register_sql_handler('hurry', 'h', timeout => '300 ms', max_attempts => 1)");
$id = sql($node, q{SELECT queue.enqueue('hurry', '{"sleep": 60}')});
wait_end($node, $id, 'discarded', "the handler's timeout");
$id = sql($node, q{SELECT queue.enqueue('hurry', '{"sleep": 0.6}', timeout => '0')});
wait_end($node, $id, 'completed', "the job's timeout of 0 is none");
$id = sql($node, q{SELECT queue.create_queue('brief', lease => '1 s'); SELECT queue.enqueue('ok', '{"sleep": 60}', 'brief', max_attempts => 1)});
$id =~ s/\s//g;
wait_end($node, $id, 'discarded', "else the queue's lease");

# --- f(jsonb) and functions that change
sql($node, <<'EOS');
CREATE FUNCTION h_payload(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (note) VALUES ('v1 ' || (p->>'note')) $$;
SELECT queue.register_sql_handler('payload', 'h_payload');
SELECT queue.enqueue('payload', '{"note": "a"}');
EOS
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'v1 a'", 'f(jsonb) gets the payload');
sql($node, <<'EOS');
CREATE OR REPLACE FUNCTION h_payload(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (note) VALUES ('v2 ' || (p->>'note')) $$;
SELECT queue.enqueue('payload', '{"note": "b"}');
EOS
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'v2 b'", 'CREATE OR REPLACE deploys');
sql($node, <<'EOS');
DROP FUNCTION h_payload;
CREATE FUNCTION h_payload(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO seen (note) VALUES ('v3 ' || (p->>'note')) RETURNING '{}'::jsonb $$;
SELECT queue.enqueue('payload', '{"note": "c"}');
EOS
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'v3 c'", 'DROP and CREATE deploys');

# --- a missing function parks its kind
sql($node, "DROP FUNCTION h_payload");
$id = sql($node, q{SELECT queue.enqueue('payload', '{"note": "d"}', priority => -1)});
wait_true($node, "SELECT state = 'parked' FROM queue.stat_handler WHERE kind = 'payload'", 'a missing function parks the kind');
my $mark = sql($node, q{SELECT queue.enqueue('ok', '{"note": "mark"}')});
wait_end($node, $mark, 'completed', 'other kinds run on');
one($node, "SELECT state, attempt, failures FROM queue.job WHERE id = $id", 'available|0|0', 'no attempt is burnt');
like(sql($node, "SELECT queue.explain_job($id)"), qr/h_payload/, 'explain_job names the function');
sql($node, q{CREATE FUNCTION h_payload(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (note) VALUES ('v4 ' || (p->>'note')) $$});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'v4 d'", 'it runs when the function is there again');

# --- roles
sql($node, <<'EOS');
CREATE ROLE app_a LOGIN;
CREATE ROLE app_b LOGIN;
ALTER ROLE app_b SET default_transaction_isolation = 'serializable';
ALTER ROLE app_b SET default_transaction_read_only = on;
SELECT queue.grant_queue('default', 'app_a', 'work');
SELECT queue.grant_queue('default', 'app_b', 'work');
CREATE FUNCTION h_role(j queue.job) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO public.seen (job_id, note) VALUES (j.id, current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')) $$;
SELECT queue.register_sql_handler('role_a', 'h_role', ARRAY['default'], run_as => 'app_a');
SELECT queue.register_sql_handler('role_b', 'h_role', ARRAY['default'], run_as => 'app_b');
SELECT queue.enqueue('role_a'), queue.enqueue('role_b');
EOS
wait_no_jobs($node, 'jobs of two roles ran');
one($node, "SELECT string_agg(concat_ws(' ', cu, su, note), ',' ORDER BY cu) FROM seen WHERE cu LIKE 'app%'",
	'app_a app_a read committed off,app_b app_b read committed off',
	"each as its role, READ COMMITTED and read-write whatever the role's settings");
sql($node, "REVOKE EXECUTE ON FUNCTION h_role(queue.job) FROM PUBLIC; GRANT EXECUTE ON FUNCTION h_role(queue.job) TO app_b");
$id = sql($node, "SELECT queue.enqueue('role_a')");
wait_true($node, "SELECT state = 'parked' FROM queue.stat_handler WHERE kind = 'role_a'", 'a handler that its role may not execute is parked');
$mark = sql($node, "SELECT queue.enqueue('role_b')");
wait_end($node, $mark, 'completed', 'the other role runs');
one($node, "SELECT state, attempt, failures FROM queue.job WHERE id = $id", 'available|0|0', 'no attempt is burnt');
sql($node, "GRANT EXECUTE ON FUNCTION h_role(queue.job) TO app_a");
wait_end($node, $id, 'completed', 'it runs when granted again');

# --- '*' serves kinds without a handler of their own
$id = sql($node, "SELECT queue.enqueue('nobody knows', '{\"note\": \"star\"}')");
sql($node, "SELECT queue.register_sql_handler('*', 'h')");
wait_end($node, $id, 'completed', "'*' takes a kind without a handler");
one($node, "SELECT kind FROM seen WHERE note = 'star'", 'nobody knows', 'and is told its kind');
sql($node, "SELECT queue.unregister_handler('*')");

# --- handlers paused and resumed
sql($node, "SELECT queue.pause_handler('ok')");
$id = sql($node, "SELECT queue.enqueue('ok')");
$mark = sql($node, "SELECT queue.enqueue('role_b')");
wait_end($node, $mark, 'completed', 'while a handler is paused others run');
one($node, "SELECT state, attempt FROM queue.job WHERE id = $id", 'available|0', 'its jobs wait');
sql($node, "SELECT queue.resume_handler('ok')");
wait_end($node, $id, 'completed', 'until it is resumed');

# --- two roles share one executor
$node->append_conf('postgresql.conf', 'queue.executors = 1');
$node->restart;
sql($node, <<'EOS');
CREATE FUNCTION h_nap(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); END $$;
SELECT queue.register_sql_handler('nap', 'h_nap', ARRAY['default'], run_as => 'app_a');
SELECT count(*) FROM (SELECT queue.enqueue_many('nap', array_fill('{}'::jsonb, ARRAY[5000]))) x;
EOS
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'executor' AND role = 'app_a' AND jobs > 0", 'one role has the only executor');
$id = sql($node, "SELECT queue.enqueue('role_b')");
wait_end($node, $id, 'completed', 'a role that waits gets it');
one($node, "SELECT count(*) > 100 FROM queue.job WHERE kind = 'nap'", 't', 'long before the backlog of the first is done');
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'executor' AND role = 'app_a' AND jobs > 0", 'and the first has it back');
sql($node, "SELECT queue.purge('default')");
wait_no_jobs($node, 'purge empties the queue');

log_clean($node);
$node->stop;
done_testing();
