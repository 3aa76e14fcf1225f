# What a running job tells: its log, which outlives a failed attempt and not a run that is not counted, and its progress,
# which all see at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('job_log', conf => "queue.executors = 1\n");

sql($node, <<'EOS');
CREATE ROLE plain LOGIN;
SELECT queue.grant_queue('*', 'plain', 'work');
GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock_shared(bigint) TO plain;
CREATE FUNCTION talk(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.log('logged ' || j.attempt), queue.progress(j.id, j.payload->'progress');
	RAISE NOTICE 'notice %', j.attempt;
	RAISE WARNING 'warning %', j.attempt;
	IF j.payload ? 'lock' THEN
		PERFORM pg_advisory_xact_lock_shared((j.payload->>'lock')::bigint);
	END IF;
	IF j.payload ? 'deferred' AND j.failures = 0 THEN
		INSERT INTO public.deferred VALUES (1), (1);
	END IF;
	IF j.payload ? 'fail' THEN
		RAISE EXCEPTION 'failed';
	END IF;
END $$;
CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON deferred TO plain;
SELECT queue.create_queue('kept', keep_completed => '1 day', backoff => '{"type": "fixed", "base": "0", "jitter": 0}');
SELECT queue.register_sql_handler('talk', 'talk', run_as => 'plain', max_attempts => 2);
EOS

sub log_of
{
	my ($id) = @_;
	return sql($node, "SELECT string_agg(concat_ws(' ', kind, attempt, level, message), ', ' ORDER BY logged_at) FROM queue.job_log WHERE job_id = $id");
}

sub talked
{
	my ($attempt) = @_;
	return "talk $attempt info logged $attempt, talk $attempt info notice $attempt, talk $attempt warning warning $attempt";
}

# --- while it runs
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $id = sql($node, q{SELECT queue.enqueue('talk', '{"lock": 1, "progress": {"done": 40}}', 'kept')});
wait_true($node, "SELECT progress = '{\"done\": 40}' FROM queue.job WHERE id = $id", 'progress is seen before the commit');
my ($executor) = workers($node, 'executor');
one($node, "SELECT state, worker, started_at >= enqueued_at AND started_at <= clock_timestamp(), worker = 'executor ' || (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) FROM queue.job WHERE id = $id",
	"running|executor $executor|t|t", 'so are who runs it and since when');
one($node, "SELECT worker, started_at IS NOT NULL FROM queue.find_jobs('{\"ids\": [$id]}')", "executor $executor|t", 'find_jobs tells it too');
is(log_of($id), '', 'its log is not there yet');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_end($node, $id, 'completed', 'it completes');
is(log_of($id), talked(1), 'queue.log, NOTICE and WARNING are in the log');
one($node, "SELECT worker, progress FROM queue.job WHERE id = $id", "executor $executor|{\"done\": 40}", 'what is kept tells who ran it, and its last progress');
unlike(slurp_file($node->logfile), qr/notice 1/, 'the server\'s log has no NOTICE that log_min_messages keeps out');
like(slurp_file($node->logfile), qr/WARNING:  warning 1/, 'and the WARNING');

# --- more than 1 kB of progress is seen after the commit, and hides what was told before
$holder->query_safe('SELECT pg_advisory_lock(1)');
$id = sql($node, q{SELECT queue.enqueue('talk', jsonb_build_object('lock', 1, 'progress', repeat('x', 2000)), 'kept')});
wait_true($node, 'SELECT count(*) = 1 FROM pg_locks WHERE locktype = \'advisory\' AND NOT granted', 'the next job runs');
one($node, "SELECT state, progress IS NULL FROM queue.job WHERE id = $id", 'running|t', 'too long a progress is not seen yet');

# --- a cancelled run is not counted: its log goes with it
my $cancel = sql($node, "SELECT queue.cancel($id)");
is($cancel, 't', 'the running job is cancelled');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
is(log_of($id), '', 'a run that is not counted leaves no log');

# --- failed attempts keep theirs
$id = sql($node, q{SELECT queue.enqueue('talk', '{"fail": 1}', 'kept')});
wait_end($node, $id, 'discarded', 'a job fails twice');
is(log_of($id), talked(1) . ', ' . talked(2), 'with the log of both attempts');
one($node, "SELECT worker ~ '^executor', last_error FROM queue.job WHERE id = $id", 't|failed', 'the discarded job tells who ran it');

# --- also those that fail when they commit
$id = sql($node, q{SELECT queue.enqueue('talk', '{"deferred": 1}', 'kept')});
wait_end($node, $id, 'completed', 'a job fails at its COMMIT, then completes');
is(log_of($id), talked(1) . ', ' . talked(2), 'with the log of both attempts');

# --- the next run of a job does not show the progress of the one that failed
sql($node, <<'EOS');
CREATE FUNCTION late(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.failures = 0 THEN
		PERFORM queue.progress(j.id, '"first"');
		RAISE EXCEPTION 'failed';
	END IF;
	PERFORM pg_advisory_xact_lock_shared(1);
END $$;
SELECT queue.register_sql_handler('late', 'late', run_as => 'plain');
EOS
$holder->query_safe('SELECT pg_advisory_lock(1)');
$id = sql($node, q{SELECT queue.enqueue('late', queue => 'kept')});
wait_true($node, "SELECT state = 'running' AND failures = 1 FROM queue.job WHERE id = $id", 'a job runs again');
one($node, "SELECT progress IS NULL FROM queue.job WHERE id = $id", 't', 'and shows no progress yet');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'it ends', kinds => '^late$');

# --- in company: short jobs that share a commit each have their lines, once, whatever ran again alone; and what each told
# and returned is kept, of the first of a group and of the others
sql($node, <<'EOS');
CREATE FUNCTION short(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.log('short ' || (j.payload->>'n')), queue.progress(j.id, j.payload->'n');
	IF (j.payload->>'n')::int % 50 = 7 AND j.failures = 0 THEN
		RAISE EXCEPTION 'fails once';
	END IF;
	RETURN j.payload;
END $$;
SELECT queue.register_sql_handler('short', 'short', run_as => 'plain', backoff => '{"type": "fixed", "base": "0", "jitter": 0}');
SELECT count(*) FROM queue.enqueue_many('short', ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, 400) n), 'kept');
EOS
wait_no_jobs($node, 'all short jobs are done', kinds => '^short$');
one($node, "SELECT count(*), count(DISTINCT message), count(*) FILTER (WHERE attempt = 2), bool_and(logged_at IS NOT NULL) FROM queue.job_log WHERE kind = 'short'",
	'408|400|8|t', 'each attempt has its line');
one($node, "SELECT count(*) FILTER (WHERE progress = payload->'n'), count(*) FILTER (WHERE result = payload) FROM queue.job WHERE kind = 'short'",
	'400|400', 'and each job has its progress and its result');

$holder->quit;
log_clean($node);
done_testing();
