# Short jobs share a commit, and none of them feels it: each rule of the group commit, with a test that fails
# without it.  Which jobs shared one is told by the transaction id that they wrote into seen.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# A long interval, so that jobs do share commits on a busy machine too.
my $node = queue_node('group', conf => <<'EOS');
queue.executors = 1
queue.commit_interval = 200ms
track_commit_timestamp = on
EOS

# Loads jobs while the queue is paused (the statement's), then lets them run to the end.
sub run_paused
{
	my ($name, $load) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql($node, "SELECT queue.pause('default')");
	sql($node, $load);
	sql($node, "SELECT queue.resume('default')");
	return wait_no_jobs($node, $name);
}

# Makes kinds known to be short.
sub warm
{
	my (@kinds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $list = join(', ', map { "'$_'" } @kinds);
	wait_no_jobs($node, 'nothing left');
	run_paused("warm: @kinds",
		"SELECT queue.enqueue(k, '{\"note\": \"warm\"}') FROM unnest(ARRAY[$list]) k, generate_series(1, 30)");
	sql($node, "DELETE FROM seen WHERE note = 'warm'");
	return;
}

sql($node, <<'EOS');
SELECT queue.register_sql_handler('fast', 'h');
SELECT queue.register_sql_handler('fast2', 'h');
EOS
warm('fast', 'fast2');

# --- they do share
run_paused('1,000 short jobs', "SELECT count(*) FROM (SELECT queue.enqueue_many('fast', array_fill('{\"note\": \"share\"}'::jsonb, ARRAY[1000]))) x");
one($node, "SELECT count(*), count(DISTINCT job_id), count(DISTINCT xid) <= 200 FROM seen WHERE note = 'share'",
	'1000|1000|t', 'short jobs share commits, each runs once');
one($node, "SELECT max(c) <= 64 FROM (SELECT count(*) AS c FROM seen GROUP BY xid) x", 't', 'no group overflows the cached subtransaction ids');

# --- numbers of attempts do not go round: this one has the last
sql($node, q{SELECT queue.create_queue('worn', keep_completed => '1 day'), queue.pause('worn'), queue.enqueue('fast', '{"note": "worn"}', 'worn')});
sql($node, q{UPDATE queue.live_job SET attempt = 2147483647 WHERE payload->>'note' = 'worn'});
sql($node, "SELECT queue.resume('worn')");
wait_no_jobs($node, 'a worn job ends');
one($node, q{SELECT attempt FROM queue.job WHERE payload->>'note' = 'worn'}, '2147483647', 'by its last number');

# --- one that came too late does not run in company either; the scheduler, which would end it, is kept from that
my $client = queue_session($node);
$client->query_safe('BEGIN');
$client->query_safe(q{SELECT count(queue.enqueue('fast', '{"note": "late"}', expires_at => CASE WHEN i % 2 = 0 THEN timestamptz '2000-01-01' END)) FROM generate_series(1, 200) i});
my $keeper = queue_session($node);
$keeper->query_until(qr/locks/, "\\echo locks\nBEGIN;\nLOCK TABLE queue.deadline IN SHARE MODE;\n");
poll($node, q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'queue.deadline'::regclass AND NOT granted});
$client->query_safe('COMMIT');
wait_no_jobs($node, 'short jobs of which some expired');
$_->quit for $client, $keeper;
one($node, "SELECT count(*) FROM seen WHERE note = 'late'", '100', 'a job that expired does not run');

# --- an error in company costs only its own job an attempt
sql($node, "SELECT queue.register_sql_handler('mix', 'h', max_attempts => 1)");
warm('mix');
run_paused('jobs of which some raise', <<'EOS');
SELECT queue.enqueue('mix', CASE WHEN i % 50 = 25 THEN '{"note": "mix", "raise": "22012"}' ELSE '{"note": "mix"}' END::jsonb) FROM generate_series(1, 300) i
EOS
one($node, "SELECT count(*), count(DISTINCT job_id), count(DISTINCT xid) < 150 FROM seen WHERE note = 'mix'", '294|294|t', 'the others ran once, in company');
one($node, "SELECT count(*), count(DISTINCT job_id), min(attempt), max(attempt), bool_and(sqlstate = '22012') FROM queue.job_error WHERE kind = 'mix'",
	'6|6|1|1|t', 'who raised failed once');
one($node, "SELECT count(*), bool_and(failures = 1) FROM queue.job WHERE kind = 'mix' AND state = 'discarded'", '6|t', 'and was discarded');

# --- a failure counts only for a job that was alone: this handler fails whenever it is in company
sql($node, <<'EOS');
CREATE SEQUENCE in_company;
GRANT ALL ON in_company TO PUBLIC;
CREATE FUNCTION h_shy(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload->>'note' = 'shy' AND EXISTS (SELECT FROM seen WHERE xid = pg_current_xact_id()) THEN
		PERFORM nextval('in_company');
		RAISE EXCEPTION 'not with others';
	END IF;
	INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, j.payload->>'note');
END $$;
SELECT queue.register_sql_handler('shy', 'h_shy', max_attempts => 1);
EOS
warm('shy');
run_paused('jobs that fail in company', "SELECT queue.enqueue('shy', '{\"note\": \"shy\"}') FROM generate_series(1, 100)");
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'shy'", '100|100', 'each ran, alone at last');
one($node, "SELECT is_called FROM in_company", 't', 'though some had failed in company');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'shy'", '0', 'which nobody counted');

# --- a deferred constraint that fails at COMMIT costs only its own job
sql($node, <<'EOS');
CREATE TABLE parent (id int PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE child (job_id bigint, id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION h_defer(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO child VALUES (j.id, (j.payload->>'parent')::int);
	INSERT INTO seen (job_id, kind, note, attempt) VALUES (j.id, j.kind, j.payload->>'note', j.attempt);
END $$;
SELECT queue.register_sql_handler('defer', 'h_defer', max_attempts => 1);
EOS
warm('defer');
run_paused('jobs of which some fail at COMMIT', <<'EOS');
SELECT queue.enqueue('defer', jsonb_build_object('note', 'defer', 'parent', CASE WHEN i % 40 = 20 THEN 2 ELSE 1 END)) FROM generate_series(1, 200) i
EOS
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'defer'", '195|195', 'the others ran once');
one($node, "SELECT count(*), count(DISTINCT job_id), bool_and(sqlstate = '23503'), bool_and(error ~ 'DETAIL:  Key') FROM queue.job_error WHERE kind = 'defer'",
	'5|5|t|t', 'who broke the constraint failed');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'defer' AND state = 'discarded'", '5', 'and was discarded');
run_paused('short jobs after that', "SELECT queue.enqueue('fast', '{\"note\": \"fine\"}') FROM generate_series(1, 100)");
one($node, "SELECT count(*) FROM seen WHERE note = 'fine'", '100', 'all is well');

# --- an error in company leaves nothing of its call to the next one: SQL functions keep their state of execution in it
sql($node, <<'EOS');
CREATE TABLE divided (job_id bigint, kind text);
CREATE FUNCTION h_sql(j queue.job) RETURNS void LANGUAGE sql AS $$
	INSERT INTO divided SELECT j.id, CASE WHEN 100 / (j.payload->>'x')::int > 0 THEN j.kind END;
$$;
CREATE FUNCTION h_sql_result(j queue.job) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO divided VALUES (j.id, j.kind);
	SELECT to_jsonb(100 / (j.payload->>'x')::int);
$$;
SELECT queue.register_sql_handler('sql', 'h_sql', max_attempts => 1), queue.register_sql_handler('sql_result', 'h_sql_result', max_attempts => 1);
EOS
run_paused('warm: sql', q{SELECT queue.enqueue(k, '{"x": 1}') FROM unnest(ARRAY['sql', 'sql_result']) k, generate_series(1, 30)});
sql($node, 'TRUNCATE divided');
run_paused('SQL-language handlers of which some raise',
	q{SELECT queue.enqueue(k, jsonb_build_object('x', x % 5)) FROM unnest(ARRAY['sql', 'sql_result']) k, generate_series(1, 100) x});
one($node, "SELECT kind, count(*), count(DISTINCT job_id) FROM divided GROUP BY kind ORDER BY kind",
	"sql|80|80\nsql_result|80|80", 'each of the others ran, once');
one($node, "SELECT count(*) FROM queue.job WHERE kind ~ '^sql' AND state = 'discarded'", '40', 'who raised was discarded');

# --- nothing leaks from one job to the next, whether they share a transaction or not
sql($node, <<'EOS');
CREATE ROLE other;
GRANT ALL ON ALL TABLES IN SCHEMA public TO other;
CREATE TABLE probed (job_id bigint, leaks text, xid xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION h_leak(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE c refcursor := 'leak_cursor';
BEGIN
	CASE j.payload->>'leak'
		WHEN 'set' THEN SET work_mem = '123MB'; PERFORM set_config('my.var', 'leak', false);
		WHEN 'set local' THEN SET LOCAL work_mem = '123MB'; PERFORM set_config('my.var', 'leak', true);
		WHEN 'role' THEN SET ROLE other;
		WHEN 'path' THEN SET search_path = pg_catalog;
		WHEN 'read only' THEN SET TRANSACTION READ ONLY;
		WHEN 'temp' THEN CREATE TEMP TABLE leak_temp (a int);
		WHEN 'lock' THEN PERFORM pg_advisory_lock(4242);
		WHEN 'xact lock' THEN PERFORM pg_advisory_xact_lock(4243);
		WHEN 'prepare' THEN IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'leak_prepared') THEN PREPARE leak_prepared AS SELECT 1; END IF;
		WHEN 'cursor' THEN OPEN c FOR SELECT 1;
		WHEN 'hold' THEN EXECUTE 'DECLARE leak_hold CURSOR WITH HOLD FOR SELECT 1';
		WHEN 'timeout' THEN SET statement_timeout = '1ms';
		ELSE NULL;
	END CASE;
END $$;
CREATE FUNCTION h_probe(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.probed (job_id, leaks) VALUES (j.id, concat_ws(', ',
		CASE WHEN current_setting('work_mem') = '123MB' THEN 'work_mem' END,
		CASE WHEN current_setting('my.var', true) = 'leak' THEN 'my.var' END,
		CASE WHEN current_user <> session_user THEN 'role' END,
		CASE WHEN current_setting('search_path') = 'pg_catalog' THEN 'search_path' END,
		CASE WHEN current_setting('transaction_read_only')::bool THEN 'read only' END,
		CASE WHEN to_regclass('pg_temp.leak_temp') IS NOT NULL THEN 'temp table' END,
		(SELECT 'lock ' || objid FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objid IN (4242, 4243) LIMIT 1),
		(SELECT name FROM pg_prepared_statements WHERE name = 'leak_prepared'),
		(SELECT min(name) FROM pg_cursors WHERE name LIKE 'leak%'),
		CASE WHEN current_setting('statement_timeout') = '1ms' THEN 'statement_timeout' END));
END $$;
SELECT queue.register_sql_handler('leak', 'h_leak', max_attempts => 1);
SELECT queue.register_sql_handler('probe', 'h_probe', max_attempts => 1);
EOS
# first what more than the end of a transaction takes away: after some runs the kinds are short, and nothing runs alone
my @leaks = ('prepare', 'hold', 'temp', 'lock', 'set', 'set local', 'role', 'path', 'read only', 'xact lock', 'cursor', 'timeout');
my $leaks = join(', ', map { "('$_')" } @leaks);
# one leak and two probes after it, in one priority (a line each) so that the order is known
my $load = <<"EOS";
DO \$\$
DECLARE l text; p int := -10;
BEGIN
	FOR l IN VALUES $leaks LOOP
		PERFORM queue.enqueue('leak', jsonb_build_object('leak', l), priority => p);
		PERFORM queue.enqueue('probe', jsonb_build_object('after', l), priority => p);
		PERFORM queue.enqueue('probe', jsonb_build_object('after', l), priority => p);
	END LOOP;
END \$\$;
EOS
run_paused('jobs that leave things behind, alone', $load);
one($node, "SELECT count(*), string_agg(leaks, '; ') FILTER (WHERE leaks <> '') FROM probed", (2 * @leaks) . '|', 'the next finds nothing of it');
one($node, "SELECT string_agg(concat_ws(' ', attempt, sqlstate, error), E'\\n') FROM queue.job_error WHERE kind IN ('leak', 'probe')", '', 'no job failed by another');
warm('leak', 'probe');
sql($node, 'TRUNCATE probed');
run_paused('the same in company', $load);
one($node, "SELECT count(*), string_agg(leaks, '; ') FILTER (WHERE leaks <> '') FROM probed", (2 * @leaks) . '|', 'the next finds nothing of it');
one($node, "SELECT count(DISTINCT xid) < count(*) FROM probed", 't', 'though they shared');
one($node, "SELECT string_agg(concat_ws(' ', attempt, sqlstate, error), E'\\n') FROM queue.job_error WHERE kind IN ('leak', 'probe')", '', 'no job failed by another');

# --- calls about one's own job in company keep their meaning
sql($node, <<'EOS');
CREATE FUNCTION h_self(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, kind, note, attempt, failures) VALUES (j.id, j.kind, j.payload->>'note', j.attempt, j.failures);
	IF j.payload->>'do' = 'snooze' AND (SELECT count(*) FROM seen WHERE job_id = j.id) = 1 THEN
		PERFORM queue.snooze(j.id, '10 ms');
	ELSIF j.payload->>'do' = 'cancel' THEN
		PERFORM queue.cancel(j.id, 'by myself');
	ELSIF j.payload->>'do' = 'shielded' THEN
		BEGIN
			PERFORM queue.cancel(j.id, 'by myself');
		EXCEPTION WHEN query_canceled THEN
			NULL;
		END;
	END IF;
END $$;
SELECT queue.register_sql_handler('self', 'h_self', max_attempts => 1);
EOS
warm('self');
run_paused('jobs that speak about themselves', <<'EOS');
SELECT queue.enqueue('self', jsonb_build_object('note', 'self', 'do', CASE i % 20 WHEN 5 THEN 'snooze' WHEN 10 THEN 'shielded' WHEN 15 THEN 'cancel' ELSE '' END)) FROM generate_series(1, 100) i
EOS
one($node, "SELECT count(*), count(DISTINCT job_id), max(failures) FROM seen WHERE note = 'self'", '105|100|0', 'snooze in company keeps the effects and runs again');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'self' AND state = 'cancelled'", '10', 'cancel of oneself, even if the handler catches that this cannot be in company');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'self'", '0', 'no failures');

# --- who catches the cancel with which a long one is taken out of its company runs again alone, and what it did then is undone
sql($node, <<'EOS');
CREATE FUNCTION h_shield(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload->>'note' = 'long' THEN
		PERFORM pg_sleep(0.5);
	END IF;
	INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, j.payload->>'note');
EXCEPTION WHEN query_canceled THEN
	INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, 'cut short');
END $$;
SELECT queue.register_sql_handler('shield', 'h_shield', max_attempts => 1);
EOS
warm('shield');
run_paused('short jobs with a long one among them', "SELECT queue.enqueue('shield', jsonb_build_object('note', CASE i WHEN 20 THEN 'long' ELSE 'short' END)) FROM generate_series(1, 40) i");
one($node, "SELECT note, count(*) FROM seen WHERE kind = 'shield' GROUP BY note ORDER BY note", "long|1\nshort|39", 'nobody was cut short');

# --- handlers with EXCEPTION blocks use two subtransaction ids each
sql($node, <<'EOS');
CREATE FUNCTION h_catch(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, j.payload->>'note');
		IF j.id % 3 = 0 THEN
			PERFORM 1 / 0;
		END IF;
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, j.payload->>'note');
	END;
END $$;
SELECT queue.register_sql_handler('catch', 'h_catch', max_attempts => 1);
EOS
warm('catch');
run_paused('handlers with EXCEPTION blocks', "SELECT count(*) FROM (SELECT queue.enqueue_many('catch', array_fill('{\"note\": \"catch\"}'::jsonb, ARRAY[1000]))) x");
one($node, "SELECT count(*), count(DISTINCT job_id), count(DISTINCT xid) < 500 FROM seen WHERE note = 'catch'", '1000|1000|t', 'all ran once, in company');
# each third one's second id goes with its error, so 64 ids are at most 39 jobs
one($node, "SELECT max(c) <= 39 FROM (SELECT count(*) AS c FROM seen WHERE note = 'catch' GROUP BY xid) x", 't', 'their groups stay below the cached subtransaction ids');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'catch'", '0', 'no failures');

# --- every tenth fails; retries are alone
sql($node, <<'EOS');
CREATE FUNCTION h_tenth(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, kind, note, attempt, failures) VALUES (j.id, j.kind, j.payload->>'note', j.attempt, j.failures);
	IF j.payload->>'note' = 'tenth' AND j.id % 10 = 0 AND j.failures = 0 THEN
		RAISE EXCEPTION 'every tenth';
	END IF;
END $$;
SELECT queue.register_sql_handler('tenth', 'h_tenth', max_attempts => 2, backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
EOS
warm('tenth');
run_paused('5,000 of which every tenth fails once', "SELECT count(*) FROM (SELECT queue.enqueue_many('tenth', array_fill('{\"note\": \"tenth\"}'::jsonb, ARRAY[5000]))) x");
one($node, "SELECT count(*), count(DISTINCT job_id), count(*) FILTER (WHERE failures = 1), bool_and((failures = 1) = (job_id % 10 = 0)) FROM seen WHERE note = 'tenth'",
	'5000|5000|500|t', 'each job has its effect once');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM queue.job_error WHERE kind = 'tenth'", '500|500', 'each tenth failed once');
one($node, "SELECT count(*) FROM seen a WHERE note = 'tenth' AND failures = 1 AND (SELECT count(*) FROM seen b WHERE b.xid = a.xid) > 1",
	'0', 'a retry runs alone');

# --- `where due <= now()` finds what its enqueuer wrote, also when a group is open
sql($node, <<'EOS');
CREATE TABLE due_row (id bigserial PRIMARY KEY, due timestamptz NOT NULL, done bool NOT NULL DEFAULT false);
CREATE FUNCTION h_due(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE due_row SET done = true WHERE id = (j.payload->>'row')::bigint AND due <= now();
	-- raises nothing when it finds nothing: an error in company would only make it run again alone
	INSERT INTO seen (job_id, kind, note) VALUES (j.id, j.kind, j.payload->>'note');
	PERFORM pg_sleep(0.002);
END $$;
SELECT queue.register_sql_handler('due', 'h_due', max_attempts => 1);
EOS
warm('due');
# just below what the executor can do, so that most jobs come while a group is open
$node->pgbench(
	'--no-vacuum --client=4 --jobs=1 --transactions=300 --rate=400',
	0,
	[qr/number of transactions actually processed: 1200\/1200/],
	[],
	'clients enqueue into open groups',
	{
		'002_due' => q{
BEGIN;
INSERT INTO due_row (due) VALUES (clock_timestamp()) RETURNING id \gset
SELECT queue.enqueue('due', jsonb_build_object('row', :id, 'note', 'due'));
COMMIT;
}
	});
wait_no_jobs($node, 'all ran');
one($node, "SELECT count(*), bool_and(done) FROM due_row", '1200|t', 'every handler found its row');
one($node, "SELECT count(DISTINCT xid) < count(*) FROM seen WHERE note = 'due'", 't', 'though they shared commits');

# --- a sleeper delays nobody's commit, neither of its own kind nor of others
$node->adjust_conf('postgresql.conf', 'queue.commit_interval', '10ms');
$node->restart;
sql($node, "DELETE FROM seen");
run_paused('warm again', "SELECT queue.enqueue(k, '{\"note\": \"warm\"}') FROM unnest(ARRAY['fast', 'fast2']) k, generate_series(1, 200)");
run_paused('fast jobs with sleepers among them', <<'EOS');
SELECT queue.enqueue(CASE WHEN i % 2 = 0 THEN 'fast' ELSE 'fast2' END,
	CASE WHEN i IN (250, 601) THEN '{"note": "sleeper", "sleep": 2}' ELSE '{"note": "quick"}' END::jsonb) FROM generate_series(1, 1000) i
EOS
one($node, "SELECT note, count(*), count(DISTINCT job_id) FROM seen WHERE note <> 'warm' GROUP BY note ORDER BY note", "quick|998|998\nsleeper|2|2", 'all ran once');
one($node, "SELECT max(pg_xact_commit_timestamp(xid::xid) - at) < '500 ms' FROM seen WHERE note = 'quick'", 't',
	'no quick job waited for the sleeper to be committed');
one($node, "SELECT min(pg_xact_commit_timestamp(xid::xid) - at) >= '2 s' FROM seen WHERE note = 'sleeper'", 't', 'the sleepers slept');
one($node, "SELECT count(*) FROM seen a WHERE note = 'sleeper' AND (SELECT count(*) FROM seen b WHERE b.xid = a.xid) > 1", '0', 'alone');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind ~ '^fast'", '0', 'and without a failure');

log_clean($node);
$node->stop;
done_testing();
