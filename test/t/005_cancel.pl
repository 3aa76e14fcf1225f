# cancel and discard of waiting and of running jobs; timeouts and cancels hit only their own job.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $node = queue_node('cancel', far_look => 0);

sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT queue.register_sql_handler('quick', 'h', max_attempts => 1);
SELECT queue.register_sql_handler('edge', 'h', timeout => '20 ms', max_attempts => 1);
EOS

# --- waiting
for my $what (qw(cancel discard))
{
	my $state = $what eq 'cancel' ? 'cancelled' : 'discarded';
	my $id = sql($node, q{SELECT queue.enqueue('job', '{"note": "waiting"}', delay => '1 hour')});
	one($node, "SELECT queue.$what($id, 'because')", 't', "$what of a waiting job");
	one($node, "SELECT state, last_error ~ 'because', finished_at IS NOT NULL FROM queue.job WHERE id = $id", "$state|t|t", "it is $state, with the reason");
	one($node, "SELECT queue.$what($id)", 'f', 'once');
}
one($node, 'SELECT queue.cancel(9999999999)', 'f', 'cancel of what never was');

# --- running
for my $what (qw(cancel discard))
{
	my $state = $what eq 'cancel' ? 'cancelled' : 'discarded';
	my $id = sql($node, qq{SELECT queue.enqueue('job', '{"note": "running $what", "lock": 1, "sleep": 600}')});
	my $pid = wait_lock($node, 1);
	one($node, "SELECT state FROM queue.job WHERE id = $id", 'running', 'a job runs');
	my $t0 = time;
	one($node, "SELECT queue.$what($id, 'enough')", 't', "$what of a running job");
	cmp_ok(time - $t0, '<', 60, 'at once');
	one($node, "SELECT state, last_error ~ 'enough', failures FROM queue.job WHERE id = $id", "$state|t|0", "it is $state");
	wait_true($node, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1", 'and stopped');
	one($node, "SELECT count(*) FROM seen WHERE note = 'running $what'", '0', 'its effects are undone');
	one($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND backend_type = 'queue executor'", '1', 'its executor lives');
	$id = sql($node, qq{SELECT queue.enqueue('job', '{"note": "after $what"}')});
	wait_end($node, $id, 'completed', 'the next job runs');
}

# --- a cancel that is rolled back: the job runs again, uncounted
my $id = sql($node, q{SELECT queue.enqueue('job', '{"note": "spared", "lock": 2, "sleep": 1.5}')});
wait_lock($node, 2);
sql($node, "BEGIN; SELECT queue.cancel($id); ROLLBACK");
wait_end($node, $id, 'completed', 'a cancel that is rolled back cancels nothing');
one($node, "SELECT count(*), max(failures) FROM seen WHERE note = 'spared'", '1|0', 'the job ran, uncounted');

# --- a job of another database that has the same number is another job
sql($node, 'CREATE DATABASE twin');
queue_install($node, 'twin');
{
	my $holder = queue_session($node, 'twin');
	my $here = sql($node, "SELECT queue.enqueue('outside', delay => '1 hour')");

	$holder->query_safe('SELECT pg_advisory_lock(5)');
	sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0'), setval('queue.job_id', $here - 1);"
		  . q{SELECT queue.enqueue('job', '{"lock": 5}')}, db => 'twin');
	wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 5 AND NOT granted", 'it runs there');
	one($node, "SELECT state FROM queue.job WHERE id = $here", 'scheduled', 'and waits here');
	one($node, "SELECT queue.cancel($here)", 't', 'where it is cancelled');
	$holder->query_safe('SELECT pg_advisory_unlock(5)');
	wait_end($node, $here, 'completed', 'it ends there', db => 'twin');
	one($node, 'SELECT string_agg(n::text, \',\') FROM seen', '1', 'at its first run', db => 'twin');
	$holder->quit;
}

# --- a handler that swallows the cancel is still ended
sql($node, <<'EOS');
CREATE FUNCTION h_stubborn(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, note) VALUES (j.id, 'stubborn');
	PERFORM pg_advisory_xact_lock_shared(3);
	BEGIN
		PERFORM pg_sleep(600);
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END;
END $$;
SELECT queue.register_sql_handler('stubborn', 'h_stubborn', timeout => '0');
EOS
$id = sql($node, "SELECT queue.enqueue('stubborn')");
wait_lock($node, 3);
one($node, "SELECT queue.cancel($id)", 't', 'cancel of a handler that swallows it');
one($node, "SELECT state FROM queue.job WHERE id = $id", 'cancelled', 'it is cancelled');
one($node, "SELECT count(*) FROM seen WHERE note = 'stubborn'", '0', 'its effects are undone');

# --- executors leave a job alone that was cancelled, but not for good if whoever did that gave up
sql($node, <<'EOS');
CREATE FUNCTION h_deaf(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	deaf boolean := true;
BEGIN
	INSERT INTO seen (job_id, note) VALUES (j.id, 'deaf');
	PERFORM pg_advisory_xact_lock_shared(13);
	WHILE deaf LOOP
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(14);
			deaf := false;
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
	END LOOP;
END $$;
SELECT queue.register_sql_handler('deaf', 'h_deaf', timeout => '0');
EOS
{
	my ($gate, $caller) = map { queue_session($node) } 1 .. 2;

	$gate->query_safe('SELECT pg_advisory_lock(14)');
	$id = sql($node, "SELECT queue.enqueue('deaf')");
	wait_lock($node, 13);
	my $pid = $caller->query_safe('SELECT pg_backend_pid()');
	$caller->query_until(qr/cancels/, "\\echo cancels\nSELECT queue.cancel($id);\n");
	wait_true($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid AND query ~ 'queue.cancel'", 'a cancel waits for a handler that does not hear it');
	sql($node, "SELECT pg_cancel_backend($pid)");
	wait_true($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid", 'and is given up');
	$gate->query_safe('SELECT pg_advisory_unlock(14)');
	wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'deaf'", 'the job runs again');
	$_->quit for $gate, $caller;
}

# --- timeouts hit only their own job, also when they fire just as it ends
sql($node, <<'EOS');
DO $$
BEGIN
	FOR i IN 1 .. 150 LOOP
		PERFORM queue.enqueue('edge', '{"note": "edge", "sleep": 0.0195}');
		PERFORM queue.enqueue('quick', '{"note": "innocent"}');
		IF i % 15 = 0 THEN
			PERFORM queue.enqueue('job', '{"note": "late", "sleep": 600}', timeout => '100 ms', max_attempts => 1);
			PERFORM queue.enqueue('job', '{"note": "in time", "sleep": 0.2}');
		END IF;
	END LOOP;
END $$;
EOS
wait_no_jobs($node, 'jobs with timeouts end');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'innocent'", '150|150', 'no neighbour was hit');
one($node, "SELECT count(*) FROM seen WHERE note = 'late'", '0', 'who took too long was stopped');
one($node, "SELECT count(*), count(DISTINCT job_id), max(failures) FROM seen WHERE note = 'in time'", '10|10|0', 'who had time was not');
one($node, "SELECT (SELECT count(*) FROM seen WHERE note = 'edge') + (SELECT count(*) FROM queue.job WHERE kind = 'edge' AND state = 'discarded')",
	'150', 'at the edge each either completed or failed');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind IN ('quick', 'edge', 'job') AND sqlstate <> '57014'", '0', 'no other errors');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'quick'", '0', 'none for the neighbours');
one($node, "SELECT timeouts FROM queue.stat_handler WHERE kind = 'job'", '10', 'timeouts are counted');

# --- cancels at the edge: each ends once, neighbours are not hit
sql($node, "SELECT queue.register_sql_handler('blink', 'h', timeout => '0'); SELECT queue.create_queue('kept', keep_completed => '1 day')");
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('blink', '{"note": "blink", "sleep": 0.005}', 'kept') FROM generate_series(1, 200)) x;
SELECT count(*) FROM (SELECT queue.enqueue('quick', '{"note": "bystander"}') FROM generate_series(1, 200)) x});
sql($node, <<'EOS');
DO $$
DECLARE i bigint;
BEGIN
	FOR i IN SELECT id FROM queue.job WHERE kind = 'blink' AND state IN ('available', 'running') ORDER BY id LOOP
		PERFORM queue.cancel(i);
		COMMIT;
	END LOOP;
END $$;
EOS
wait_no_jobs($node, 'cancelled at the edge');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'blink' AND state IN ('completed', 'cancelled')", '200', 'each job completed or was cancelled');
one($node, "SELECT (SELECT count(*) FROM seen WHERE note = 'blink') = (SELECT count(*) FROM queue.job WHERE kind = 'blink' AND state = 'completed')", 't',
	'and just the completed ones had an effect');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'bystander'", '200|200', 'bystanders ran');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind IN ('quick', 'blink')", '0', 'no failures');

# --- a job of a group that is let go says nothing about the one after it, whose row is not its group's to claim
$node->append_conf('postgresql.conf', "queue.executors = 1\nqueue.commit_interval = '10 s'");
$node->reload;
wait_true($node, "SELECT count(*) <= 1 FROM queue.stat_worker WHERE type = 'executor' AND database = current_database()",
	'a single executor is left here');
sql($node, "SELECT queue.register_sql_handler('brief', 'h'); SELECT queue.enqueue('brief') FROM generate_series(1, 10)");
wait_no_jobs($node, 'its kind is known to be short', kinds => '^brief$');
{
	my $holder = queue_session($node);

	$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(9)");
	my $ids = sql($node, <<'EOS');
SELECT queue.pause('default');
SELECT concat_ws(' ', queue.enqueue('brief'), queue.enqueue('brief', '{"lock": 9}'),
	queue.enqueue('brief', '{"note": "after the cancelled"}', expires_at => clock_timestamp() + interval '1 hour'));
SELECT queue.resume('default');
EOS
	my (undef, $held, $after) = $ids =~ /(\d+) (\d+) (\d+)/;
	wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 9 AND NOT granted", 'a job in company waits');
	one($node, "SELECT queue.cancel($held)", 't', 'it is cancelled');
	wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'after the cancelled'", 'the job after it runs, and was not forgotten meanwhile');
	$holder->query_safe("COMMIT");
	$holder->quit;
}

# --- cancels of jobs that end just then leave nothing behind that would swallow the next pg_cancel_backend, or hit it
sql($node, <<'EOS');
SELECT queue.register_sql_handler('brief', 'h');
SELECT queue.register_sql_handler('stop', 'h', timeout => '0', max_attempts => 1);
ALTER SYSTEM SET queue.executors = 1;
SELECT pg_reload_conf();
EOS
poll($node, "SELECT current_setting('queue.executors') = '1'");
sql($node, <<'EOS');
DO $$
DECLARE
	id bigint;
BEGIN
	FOR i IN 1 .. 200 LOOP
		id := queue.enqueue('brief', '{"sleep": 0.002}');
		COMMIT;
		PERFORM pg_sleep(0.001 * (i % 6));
		PERFORM queue.cancel(id);
		COMMIT;
	END LOOP;
END $$;
EOS
wait_no_jobs($node, 'cancelled or done', kinds => 'brief');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'brief'", '0', 'no cancel hit a neighbour');
my $stop = sql($node, q{SELECT queue.enqueue('stop', '{"lock": 77, "sleep": 600}')});
my $stopped = wait_lock($node, 77);
sql($node, "SELECT pg_cancel_backend($stopped)");
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $stop", 'pg_cancel_backend fails the job that runs then');
one($node, "SELECT sqlstate FROM queue.job_error WHERE job_id = $stop", '57014', 'as a cancelled query');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $stopped", 'and the executor goes on');

# a cancel that is rolled back is none: the job runs again
my $gate = queue_session($node);
$gate->query_safe('SELECT pg_advisory_lock(78)');
my $again = sql($node, q{SELECT queue.enqueue('stop', '{"lock": 78}')});
wait_lock($node, 78);
sql($node, "BEGIN; SELECT queue.cancel($again); ROLLBACK");
$gate->quit;
wait_end($node, $again, 'completed', 'a job whose cancel was rolled back');

# a handler that drops its own queue would tell itself to let go, and run again and again without an attempt
sql($node, <<'EOS');
CREATE FUNCTION dropper(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM nextval('public.dropper_runs');
	PERFORM queue.drop_queue(j.payload->>0, true);
END $$;
CREATE SEQUENCE dropper_runs;
SELECT queue.register_sql_handler('dropper', 'dropper'), queue.create_queue('own', max_attempts => 1), queue.create_queue('other');
EOS
my $dropper = sql($node, q{SELECT queue.enqueue('dropper', '["own"]', 'own')});
wait_end($node, $dropper, 'discarded', 'a handler cannot drop the queue of its own job');
one($node, "SELECT sqlstate || error FROM queue.job_error WHERE job_id = $dropper", '55000a handler cannot drop the queue of its own job', 'and learns why');
one($node, 'SELECT last_value FROM dropper_runs', '1', 'it runs once');
wait_end($node, sql($node, q{SELECT queue.enqueue('dropper', '["other"]', 'own')}), 'completed', 'another queue it can');

log_clean($node);
$node->stop;
done_testing();
