# Jobs that depend on others: random graphs with executors that die, what is lost with the memory, prepared transactions,
# retention.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('dependencies', conf => "max_prepared_transactions = 10\nqueue.commit_interval = 10\n");
sql($node, <<'EOS');
CREATE TABLE job (id bigint PRIMARY KEY, dag int, number int, mode text, fate text, runs boolean, ended text);
CREATE TABLE edge (id bigint, depends_on bigint);
CREATE TABLE ledger (n bigserial, id bigint);
-- a job of a graph: fails for good, or its first time, or never
CREATE FUNCTION step(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ->> 'fate' = 'bad' THEN
		RAISE EXCEPTION 'for good' USING ERRCODE = 'QU001';
	ELSIF j.payload ->> 'fate' = 'flaky' AND j.failures = 0 THEN
		RAISE EXCEPTION 'once';
	END IF;
	INSERT INTO ledger (id) VALUES (j.id);
END $$;
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
SELECT queue.register_sql_handler('step', 'step');
-- enqueues a graph of up to this many jobs, each of which depends on some before it, and notes what must become of them
CREATE FUNCTION graph(dag int, jobs int, in_q text = 'q') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[] := '{}';
	deps bigint[];
	mode text;
	fate text;
	runs boolean;
	id bigint;
BEGIN
	FOR number IN 1..jobs LOOP
		SELECT array_agg(d) INTO deps FROM (SELECT d FROM unnest(ids) d ORDER BY random() LIMIT floor(random() * 4)) x;
		mode := CASE WHEN random() < 0.3 THEN 'finished' ELSE 'completed' END;
		fate := CASE WHEN random() < 0.1 THEN 'bad' WHEN random() < 0.1 THEN 'flaky' ELSE 'good' END;
		runs := mode = 'finished' OR NOT EXISTS (SELECT FROM job j WHERE j.id = ANY (deps) AND j.ended <> 'completed');
		id := queue.enqueue('step', jsonb_build_object('fate', fate), in_q, depends_on => deps, depends_mode => mode,
			priority => floor(random() * 3)::int);
		INSERT INTO job VALUES (id, dag, number, mode, fate, runs,
			CASE WHEN NOT runs THEN 'cancelled' WHEN fate = 'bad' THEN 'discarded' ELSE 'completed' END);
		INSERT INTO edge SELECT id, d FROM unnest(deps) d;
		ids := ids || id;
	END LOOP;
END $$;
-- what went wrong with the graphs
CREATE VIEW wrong AS
SELECT 'ran not once' AS what, id FROM job WHERE runs AND fate <> 'bad' AND (SELECT count(*) FROM ledger l WHERE l.id = job.id) <> 1
UNION ALL SELECT 'ran and must not', id FROM job JOIN ledger USING (id) WHERE NOT runs
UNION ALL SELECT 'before what it depends on', e.id FROM edge e JOIN ledger l USING (id) JOIN ledger d ON d.id = e.depends_on WHERE d.n > l.n
UNION ALL SELECT 'ended otherwise', f.id FROM job j JOIN queue.finished_job f USING (id) WHERE f.state <> j.ended AND f.extra ->> 'last_error' !~ 'died'
UNION ALL SELECT 'no end is kept', j.id FROM job j LEFT JOIN queue.finished_job f USING (id) WHERE f.id IS NULL AND j.ended <> 'completed'
UNION ALL SELECT 'lives', j.id FROM job j JOIN queue.live_job f USING (id);
EOS

# --- the end of one job lets in the one that waits for it, with nobody about but the scheduler
my $first = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
my $last = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[$first])");
scheduler_turn($node);
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'a job is let in that waits for one');
sql($node, "SELECT queue.purge('q')");

# --- of one that waits for many only the end of the last one is told; one that comes back is told again
my ($one, $two, $three) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 3)");
$last = sql($node, "SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$one, $two, $three])");
scheduler_turn($node);
sql($node, "SELECT count(*) FROM queue.fetch('q', 3, kinds => '{ext}')");
sql($node, "SELECT queue.complete($one)");
sql($node, "BEGIN; SELECT queue.complete($two); SELECT queue.complete($three); COMMIT");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'a job is let in that waits for three');
sql($node, "SELECT queue.retry($one)");
one($node, "SELECT state FROM queue.job WHERE id = $last", 'pending', 'it waits again for one that came back');
scheduler_turn($node);
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", '.. and is let in again');
sql($node, "SELECT queue.purge('q')");

# --- of which job it is known that it waits for a later one: not of one whose place in memory another one took
($one, $two) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 2)");
$last = sql($node, "SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$one])");
scheduler_turn($node);
sql($node, "SELECT count(queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$two])) FROM generate_series(1, 256)");
scheduler_turn($node);
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'a job is let in beside one that waits for a later one');
sql($node, "SELECT queue.purge('q')");

# --- while one of these is just being retried the other one ends; then the retry is rolled back
($one, $two) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 2)");
($last, my $other) = map { sql($node, "SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$_], depends_mode => 'finished')") }
	"$one, $two", $two;
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
scheduler_turn($node);
my $retry = queue_session($node);
$retry->query_safe("BEGIN; SELECT queue.retry($one)");
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $other", 'the scheduler has looked at both');
one($node, "SELECT state FROM queue.job WHERE id = $last", 'pending', 'one waits for a retry that may yet be rolled back');
$retry->query_safe('ROLLBACK');
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'it is let in after the rollback');
$retry->quit;
sql($node, "SELECT queue.purge('q')");

# --- who ends many reads ahead what depends on the next ones, and sees what is enqueued meanwhile
hold_deletes($node);
sql($node, <<'EOS');
CREATE TABLE three AS SELECT queue.enqueue('ext', CASE i WHEN 3 THEN '{"hold": 1}' ELSE '{}' END::jsonb, 'q') AS id FROM generate_series(1, 3) i;
SELECT queue.enqueue('ext', queue => 'q', depends_on => array_agg(id)) FROM three;
SELECT count(*) FROM queue.fetch('q', 3, kinds => '{ext}');
EOS
my ($gate, $ends) = (queue_session($node), queue_session($node));
$gate->query_safe('SELECT pg_advisory_lock(7)');
$ends->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM queue.complete_many((SELECT array_agg(id) FROM three));\n");
wait_true($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'the third one is about to end');
$last = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[max(id)]) FROM three");
scheduler_turn($node);
$gate->query_safe('SELECT pg_advisory_unlock(7)');
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'what was enqueued just before an end is let in');
$_->quit foreach $gate, $ends;
sql($node, "DROP TRIGGER hold ON queue.live_job; SELECT queue.purge('q')");

# --- random graphs, one transaction each, while executors die by kill -9
sql($node, "SELECT queue.pause('q')");
sql($node, 'SELECT setseed(0.42); DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM graph(i, 1 + i % 40); COMMIT; END LOOP; END $$');
sql($node, "SELECT queue.resume('q')");
for my $round (1 .. 3)
{
	poll($node, "SELECT count(*) > $round * 100 FROM ledger");
	my ($pid) = workers($node, 'executor');
	next unless $pid;
	kill_9($node, $pid);
}
# and while they run
sql($node, 'SELECT setseed(0.43); DO $$ BEGIN FOR i IN 61..80 LOOP PERFORM graph(i, 30); COMMIT; END LOOP; END $$');
wait_no_jobs($node);
one($node, "SELECT what, count(*) FROM wrong GROUP BY 1", '', 'each job of each graph ran if it had to, once, after those it depends on');
one($node, "SELECT count(*) > 500 AND count(DISTINCT ended) = 3 FROM job", 't', '.. and there was something to see');
one($node, "SELECT pending FROM queue.stat_queue WHERE queue = 'q'", '0', 'none is counted as pending');

# --- 1,000 behind one, one behind 1,000
$first = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
sql($node, "CREATE TABLE fan AS SELECT queue.enqueue('step', '{}', 'q', depends_on => ARRAY[$first]) AS id FROM generate_series(1, 1000)");
$last = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', depends_on => array_agg(id)) FROM fan");
one($node, "SELECT pending FROM queue.stat_queue WHERE queue = 'q'", '1001', 'all wait');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $last", 'the last one is let in when all have ended');
one($node, "SELECT count(*), count(DISTINCT l.id) FROM fan JOIN ledger l USING (id)", '1000|1000', '.. and each ran once');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");

# --- more are in somebody's hands than the scheduler puts off: none is forgotten
$first = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
sql($node, "CREATE TABLE held AS SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$first]) AS id FROM generate_series(1, 1300)");
my $hands = queue_session($node);
$hands->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM queue.live_job WHERE id IN (SELECT id FROM held) FOR UPDATE) x');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}')");
scheduler_turn($node) for 1 .. 5;
one($node, "SELECT state, count(*) FROM queue.job JOIN held USING (id) GROUP BY 1", 'pending|1300', 'they are in the way');
$hands->query_safe('COMMIT');
$hands->quit;
wait_true($node, "SELECT count(*) = 1300 FROM queue.job JOIN held USING (id) WHERE state = 'available'", 'all are let in afterwards');
sql($node, "SELECT queue.purge('q')");

# --- a reminder that was lost with the memory: the server crashes before the scheduler acts on the end
my $j = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
my $d = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[$j])");
my $attempt = sql($node, "SELECT attempt FROM queue.fetch('q', kinds => '{ext}')");
my ($scheduler) = workers($node, 'scheduler');
kill 'STOP', $scheduler;
sql($node, "SELECT queue.complete($j, $attempt)");
one($node, "SELECT state FROM queue.job WHERE id = $d", 'pending', 'the scheduler is kept from it');
kill 'KILL', $scheduler;
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $d", 'after the crash everything is looked at');
sql($node, "SELECT queue.purge('q')");

# --- who ends a job may go on in the same transaction with the one that depends on it
my $bad = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
my $good = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[$bad])");
one($node, "SELECT id FROM queue.fetch('q', kinds => '{ext}')", $bad, 'a job is fetched');
one($node, "SELECT id FROM queue.fetch('q', kinds => '{ext}', complete_ids => '{$bad}')", $good, 'and with its end the one that depends on it');
sql($node, "SELECT queue.purge('q'), queue.complete($good)");

# --- a reminder of an end that comes late: a job that was retried after that end is not cancelled because of it
($bad, $good) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 2)");
$d = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[$bad, $good])");
scheduler_turn($node);
($scheduler) = workers($node, 'scheduler');
kill 'STOP', $scheduler;
sql($node, "SELECT queue.discard($bad)");
sql($node, "SELECT queue.cancel($d)");
sql($node, "SELECT queue.retry($d)");
kill 'CONT', $scheduler;
scheduler_turn($node);
one($node, "SELECT state FROM queue.job WHERE id = $d", 'pending', 'it waits for the other one');
sql($node, "SELECT queue.complete(id) FROM queue.fetch('q', kinds => '{ext}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $d", 'and goes on when that has completed');
sql($node, "SELECT queue.purge('q')");

# --- prepared transactions carry their reminders, across a restart too
sql($node, "BEGIN; SELECT queue.enqueue('ext', queue => 'q') AS j \\gset\nSELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[:j]); PREPARE TRANSACTION 'p1'");
$node->stop('immediate');
$node->start;
sql($node, "COMMIT PREPARED 'p1'");
sql($node, "BEGIN; SELECT queue.complete(id, attempt) FROM queue.fetch('q', kinds => '{ext}'); PREPARE TRANSACTION 'p2'");
one($node, "SELECT count(*) FROM queue.job WHERE queue = 'q' AND state = 'pending'", '1', 'a prepared end has not happened yet');
sql($node, "COMMIT PREPARED 'p2'");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'q' AND state = 'available'", 'COMMIT PREPARED of an end lets in');
sql($node, "SELECT queue.purge('q')");
$j = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
sql($node, "BEGIN; SELECT queue.discard($j); PREPARE TRANSACTION 'p3'");
$d = sql($node, "SELECT queue.enqueue('ext', queue => 'q', depends_on => ARRAY[$j])");
sql($node, "COMMIT PREPARED 'p3'");
wait_true($node, "SELECT state = 'cancelled' FROM queue.job WHERE id = $d", 'enqueued while the end was prepared: cancelled with it');

# --- what is awaited outlives its time; rows of jobs that are gone go
sql($node, "SELECT queue.create_queue('short', keep_completed => '1 s', keep_discarded => '1 s')");
$j = sql($node, "SELECT queue.enqueue('ext', queue => 'short')");
my $wait = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
$d = sql($node, "SELECT queue.enqueue('ext', queue => 'short', depends_on => ARRAY[$j, $wait])");
# .. but not those of jobs that are kept, nor of those of a workflow that is
sql($node, "SELECT queue.create_queue('long', keep_completed => '30 days')");
my $kept_job = sql($node, "SELECT queue.enqueue('ext', queue => 'long', depends_on => ARRAY[$j])");
my $workflow = sql($node, "SELECT queue.create_workflow('kept', 'long')");
my $member = sql($node, "SELECT queue.enqueue('ext', queue => 'short', depends_on => ARRAY[$j], workflow => $workflow)");
sql($node, "SELECT queue.complete(id, attempt, '42') FROM queue.fetch('short')");
wait_true($node, "SELECT count(queue.complete(id)) = 1 FROM queue.fetch('$_', kinds => '{ext}')", "$_: one that depends on it ends") for qw(long short);

# --- where a queue keeps nothing, what is awaited is kept and found, and what was awaited goes
sql($node, <<"EOS");
SELECT queue.create_queue('none', keep_completed => '0', keep_discarded => '0');
CREATE TABLE many AS SELECT queue.enqueue_many('many', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 2100)), 'none') AS id;
CREATE TABLE rare AS SELECT queue.enqueue(kind, queue => 'none') AS id, kind FROM unnest('{rare,bad,free}'::text[]) kind;
CREATE TABLE once AS SELECT queue.enqueue('ext', queue => 'q', depends_on => array_agg(id)) AS id FROM many;
SELECT queue.enqueue('ext', queue => 'q', depends_on => array_agg(id) || ${wait}::bigint, depends_mode => 'finished') FROM rare WHERE kind <> 'free';
BEGIN;
SELECT queue.enqueue('ext', queue => 'q', depends_on => array_agg(id)) FROM rare WHERE kind = 'free';
ROLLBACK;
SELECT queue.discard(id) FROM rare WHERE kind = 'bad';
SELECT count(*) FROM queue.fetch('none', 2102);
SELECT count(*) FROM queue.complete_many((SELECT array_agg(id) FROM many));
SELECT queue.complete(id, result => '43') FROM rare WHERE kind <> 'bad';
EOS
one($node, q{SELECT kind, state, count(*), bool_and(slot > 15 AND tableoid::regclass::text = 'queue.finished_job_' || slot) FROM queue.finished_job WHERE queue = 'none' GROUP BY 1, 2 ORDER BY 1},
	"bad|discarded|1|f\nmany|completed|2100|t\nrare|completed|1|t", 'what is awaited is kept, what would have been is not');
one($node, q{SELECT kind FROM queue.find_jobs('{"queue": "none", "kind": ["bad", "rare"]}')}, "rare\nbad", 'a rare kind is found among many');
one($node, q{SELECT kind FROM queue.find_jobs('{"queue": "none", "state": "discarded"}')}, 'bad', '.. and a state');
sql($node, 'SELECT queue.cancel(id) FROM once');
# maintain() and the scheduler may be in each other's way at a table; then its next turn comes three hours later
my $awaited = "bad|1|f\nrare|1|t";
my $kept;
for my $hour (1 .. 40)
{
	my $clock = "SET queue.debug_clock_offset = '$hour h'";
	sql($node, "$clock; SELECT queue.maintain()");
	$kept = sql($node, "$clock; SELECT kind, count(*), bool_and(slot > 15 AND keep_until > queue_internal.clock()) FROM queue.finished_job WHERE queue = 'none' GROUP BY 1 ORDER BY 1");
	last if $hour >= 4 && $kept eq $awaited;
}
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.dependency d WHERE job_id <> $member AND NOT EXISTS (SELECT FROM queue.job j WHERE j.id = d.job_id))",
	'rows of jobs that nobody knows any more are deleted');
one($node, "SELECT string_agg(job_id::text, ' ' ORDER BY job_id) FROM queue.dependency WHERE job_id IN ($kept_job, $member)", "$kept_job $member",
	'those of a job that is kept, and of a job of a workflow that is, stay');
one($node, "SELECT result FROM queue.job WHERE id = $j", '42', 'hours later the job is kept that another one depends on');
is($kept, $awaited, '.. where it was kept for that alone; those on which none does any more are gone');
sql($node, "SELECT queue.cancel($wait)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE id = $d AND state = 'cancelled'", '.. and the other one learns how it ended');

# --- what a savepoint that was released did is told of, whatever a later one undid
sql($node, "SELECT queue.purge('q')");
$one = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
$d = sql($node, "SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$one])");
scheduler_turn($node);
sql($node, "BEGIN; SAVEPOINT a; SELECT queue.complete(id) FROM queue.fetch('q', kinds => '{ext}'); RELEASE a; SAVEPOINT b; SELECT queue.pause('q'); ROLLBACK TO b; COMMIT");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $d", 'a job is let in whose dependency ended in a savepoint');

# --- more reminders than a transaction keeps: everything is looked at, whatever a savepoint undid since (a restore, for which
# the rows of jobs that are gone are kept for a day: the last test)
sql($node, "SELECT queue.purge('q')");
($one, $two) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 2)");
$d = sql($node, "SELECT queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$two])");
scheduler_turn($node);
sql($node, <<"EOS");
BEGIN;
SELECT count(queue.enqueue('wait', queue => 'q', depends_on => ARRAY[$one])) FROM generate_series(1, 32768);
SELECT queue.complete(id) FROM queue.fetch('q', 2, kinds => '{ext}') WHERE id = $two;
SAVEPOINT s;
INSERT INTO queue.dependency SELECT * FROM queue.dependency WHERE false;
ROLLBACK TO s;
PREPARE TRANSACTION 'p4';
COMMIT PREPARED 'p4';
EOS
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $d", 'a job is let in of which there was no room to remind');

log_clean($node);
done_testing();
