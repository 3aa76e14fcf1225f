# queue.stat_kind: jobs of each kind by state, how long they waited and ran, for whom, and stat_reset.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('kinds', conf => "queue.executors = 1\nmax_prepared_transactions = 5\n");
sql($node, "SELECT queue.create_queue('own', max_attempts => 2), queue.create_queue('other')");
sql($node, "SELECT queue.register_sql_handler(k, 'h', queues => '{default}') FROM unnest('{short,nap}'::text[]) k");

# counts of a kind: available running retryable scheduled pending completed failed discarded
sub counts
{
	my ($kind, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seen = "concat_ws(' ', available, running, retryable, scheduled, pending, completed, failed, discarded)";
	return wait_true($node, "SELECT $seen = '$expected' FROM queue.stat_kind WHERE kind = '$kind'", $name)
	  || diag('seen: ' . sql($node, "SELECT $seen FROM queue.stat_kind WHERE kind = '$kind'"));
}

# --- kinds of executors
sql($node, "SELECT queue.enqueue_many('short', array_fill('{}'::jsonb, ARRAY[30]))");
wait_no_jobs($node, 'thirty run');
counts('short', '0 0 0 0 0 30 0 0', 'and are counted');
one($node, "SELECT run_ms_p50 > 0 AND run_ms_p50 <= run_ms_p95 AND run_ms_p95 <= run_ms_p99 AND wait_ms_p50 > 0 AND wait_ms_p50 <= wait_ms_p99 FROM queue.stat_kind WHERE kind = 'short'",
	't', 'with their times');
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.enqueue('nap', '{"lock": 1}') FROM generate_series(1, 3)});
counts('nap', '2 1 0 0 0 0 0 0', 'one runs, two wait');
one($node, "SELECT oldest_run_at = (SELECT run_at FROM queue.job WHERE kind = 'nap' ORDER BY state = 'running' DESC, id OFFSET 1 LIMIT 1) FROM queue.stat_kind WHERE kind = 'nap'", 't',
	'since when the oldest of them waits');
one($node, "SELECT oldest_run_at IS NULL FROM queue.stat_kind WHERE kind = 'short'", 't', 'and no other kind does');
# those two are in a channel: their line has the number of one in another database
sql($node, 'CREATE DATABASE third');
sql($node, "CREATE EXTENSION queue; SELECT queue.enqueue(k) FROM unnest('{a,b,c,d}'::text[]) k", db => 'third');
one($node, 'SELECT bool_and(oldest_run_at = run_at) FROM queue.stat_kind JOIN queue.job USING (kind)', 't', 'nor one of another database', db => 'third');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
wait_no_jobs($node, 'all end');

# --- external kinds: times by the claim; the clock of the claim is moved, the kind waits and runs for minutes
sub at { my ($s, $call) = @_; return sql($node, "SET queue.debug_clock_offset = $s; SELECT $call"); }
sql($node, "SELECT queue.enqueue('pick', queue => 'own') FROM generate_series(1, 4)");
sql($node, "SELECT queue.enqueue('pick', queue => 'own', delay => '1 day')");
counts('pick', '4 0 0 1 0 0 0 0', 'four wait, one is for later');
my ($done, $failed, $twice, $lost) = split /\n/, at(600, "id FROM queue.fetch('own', 4, lease => '1 h')");
counts('pick', '0 4 0 1 0 0 0 0', 'four are claimed');
at(900, "queue.complete($done, 1)");
at(900, "queue.fail($failed, 1, 'no')");
at(3000, "queue.discard($twice)");
counts('pick', '0 1 1 1 0 1 1 1', 'one completed, one failed, one discarded by hand');
one($node, "SELECT wait_ms_p50 BETWEEN 500000 AND 750000, run_ms_p50 BETWEEN 250000 AND 350000, wait_ms_p99 BETWEEN 500000 AND 750000, run_ms_p99 BETWEEN 250000 AND 350000 FROM queue.stat_kind WHERE kind = 'pick'",
	't|t|t|t', 'how long those that completed or failed waited and ran');
at(7200, "queue.complete($lost, 1)");
one($node, "SELECT completed, run_ms_p99 < 350000 FROM queue.stat_kind WHERE kind = 'pick'", '2|t', 'one whose lease had ended counts, its time does not');
# a little more than the end of a bucket, which goes to 2500 s
my $longest = at(600, "queue.enqueue('longest', queue => 'own')");
at(600, "id FROM queue.fetch('own', 1, kinds => '{longest}', lease => '1 h')");
at(2600, "queue.complete($longest, 1)");
one($node, "SELECT run_ms_p99 BETWEEN 2000000 AND 2400000 FROM queue.stat_kind WHERE kind = 'longest'", 't', 'no percentile is above the longest time');

# --- what does not commit, and two-phase commit
my ($a, $b) = split /\n/, sql($node, "SELECT queue.enqueue('prep', queue => 'own') FROM generate_series(1, 2)");
sql($node, "SELECT id FROM queue.fetch('own', 2, kinds => '{prep}', lease => '1 h')");
sql($node, "BEGIN; SELECT queue.complete($a, 1); ROLLBACK");
sql($node, "BEGIN; SAVEPOINT s; SELECT queue.complete($b, 1); ROLLBACK TO s; SELECT queue.complete($a, 1); PREPARE TRANSACTION 'p'");
counts('prep', '0 2 0 0 0 0 0 0', 'not before the commit');
sql($node, "COMMIT PREPARED 'p'");
counts('prep', '0 1 0 0 0 1 0 0', 'COMMIT PREPARED counts');
one($node, "SELECT run_ms_p50 IS NOT NULL FROM queue.stat_kind WHERE kind = 'prep'", 't', 'its time too');

# --- who sees what
sql($node, 'CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE ROLE manager LOGIN');
sql($node, "SELECT queue.grant_queue('other', 'reader', 'read'), queue.grant_queue('other', 'stranger', 'work'), queue.grant_queue('own', 'manager', 'manage')");
sql($node, "SELECT queue.enqueue('apart', '{\"secret\": 1}', 'other')");
one($node, 'SELECT queue, kind FROM queue.stat_kind', 'other|apart', 'a reader sees the kinds of his queue', user => 'reader');
like(eval { sql($node, 'SELECT * FROM queue.stat_kind', user => 'stranger') } // $@, qr/permission denied/, 'who reads none sees nothing');
my $views = "(SELECT count(*) FROM queue.stat_kind), (SELECT count(*) FROM queue.stat_queue), (SELECT count(*) FROM queue.stat_handler), (SELECT count(*) FROM queue.doctor() WHERE NOT ok), (SELECT count(*) > 0 FROM queue.stat_worker)";
is(sql($node, "SELECT $views", user => 'monitor'), sql($node, "SELECT $views"), 'pg_monitor sees the numbers of all');
for my $hidden ('queue.job', 'queue.job_error', 'queue.recent_job', 'queue.find_jobs()', 'queue.live_job')
{
	like(eval { sql($node, "SELECT * FROM $hidden", user => 'monitor') } // $@, qr/permission denied/, "but no jobs: $hidden");
}

# --- stat_reset
like(eval { sql($node, "SELECT queue.stat_reset($_)", user => 'manager') } // $@, qr/^SQL failed.*(privilege|permission)/, "stat_reset($_) needs manage there")
  for ("'other'", '', "'*'");
sql($node, "SELECT queue.stat_reset('own')", user => 'manager');
counts('pick', '0 0 1 1 0 0 0 0', 'stat_reset: totals begin anew, jobs do not');
one($node, "SELECT wait_ms_p50 IS NULL, run_ms_p99 IS NULL FROM queue.stat_kind WHERE kind = 'pick'", 't|t', 'times too');
one($node, "SELECT completed, enqueued, stats_reset > now() - interval '1 min' FROM queue.stat_queue WHERE queue = 'own'", '0|0|t', 'the queue as well');
one($node, "SELECT completed FROM queue.stat_kind WHERE kind = 'short'", '30', 'another queue keeps its own');
one($node, "SELECT sum(completed) >= 30 FROM queue.stat_handler", 't', 'and handlers theirs');
sql($node, 'SELECT queue.stat_reset()');
one($node, "SELECT sum(completed), (SELECT sum(completed) FROM queue.stat_handler) FROM queue.stat_kind", '0|0', 'stat_reset() is for all');
like(eval { sql($node, "SELECT queue.stat_reset('nope')") } // $@, qr/queue "nope" does not exist/, 'an unknown queue');

# --- a job that changes its kind is counted there at once, in a queue that counts it once
sql($node, "SELECT queue.enqueue('before', queue => 'own') FROM generate_series(1, 3)");
my $enqueued = sql($node, "SELECT enqueued || ' ' || available FROM queue.stat_queue WHERE queue = 'own'");
one($node, q{SELECT queue.move_jobs('{"kind": "before", "queue": "own"}', kind => 'after', qty => 2)}, '2', 'two are moved');
one($node, "SELECT string_agg(kind || ' ' || available, ', ' ORDER BY kind) FROM queue.stat_kind WHERE kind IN ('before', 'after')", 'after 2, before 1', 'they are counted where they are');
one($node, "SELECT enqueued || ' ' || available FROM queue.stat_queue WHERE queue = 'own'", $enqueued, 'their queue has as many as before');
sql($node, "SELECT queue.purge('own')");

# --- a job that its group held waits since it was asked for, also when it is let in
my ($head, $next) = split /\n/, sql($node, "SELECT queue.enqueue('grouped', queue => 'own', group_key => 'g') FROM generate_series(1, 2)");
sql($node, "SELECT id FROM queue.fetch('own', 1, kinds => '{grouped}', lease => '1 h')");
my $asked = sql($node, 'SELECT clock_timestamp()');
sql($node, "SELECT queue.complete($head, 1)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $next", 'the next of a group is let in');
one($node, "SELECT oldest_run_at < '$asked' FROM queue.stat_kind WHERE kind = 'grouped'", 't', 'and waits since before');
my ($before) = split /\n/, sql($node, "SELECT queue.enqueue('asked', queue => 'own', group_key => 'h', run_at => now() - interval '1 hour') FROM generate_series(1, 2)");
sql($node, "SELECT queue.cancel($before)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'asked' AND state = 'available'", 'so with one whose head is cancelled');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('own', kinds => '{asked}')");
one($node, "SELECT wait_ms_p50 > 3000000 FROM queue.stat_kind WHERE kind = 'asked'", 't', 'it waited an hour, not since it was let in');
my $awaiting = sql($node, "SELECT queue.enqueue('awaiting', queue => 'own', run_at => now() - interval '1 hour')");
sql($node, "SELECT id FROM queue.fetch('own', kinds => '{awaiting}')");
sql($node, "SELECT queue.await_event($awaiting, 'came', attempt => 1), queue.emit('came', queue => 'own')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $awaiting", 'one that awaited an event is let in');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('own', kinds => '{awaiting}')");
one($node, "SELECT wait_ms_p50 < 3000000 FROM queue.stat_kind WHERE kind = 'awaiting'", 't', 'and waited since then');
sql($node, "SELECT queue.purge('own')");

# --- one that was given back and then taken by its id, as by pgmq.read, does not wait
my ($taken) = split /\n/, sql($node, "SELECT queue.enqueue('taken', queue => 'own') FROM generate_series(1, 2)");
sql($node, "SELECT id FROM queue.fetch('own', 2, kinds => '{taken}', lease => '1 h')");
sql($node, "SELECT queue.release($taken, 1)");
my $waits = sql($node, "SELECT queue.enqueue('taken', queue => 'own')");
sql($node, 'CREATE EXTENSION queue_pgmq');
one($node, "SELECT id FROM pgmq._take('{$taken}', '1 h', 1)", $taken, 'taken by its id');
one($node, "SELECT oldest_run_at = (SELECT run_at FROM queue.job WHERE id = $waits) FROM queue.stat_kind WHERE kind = 'taken'", 't', 'another one waits for the longest time');
sql($node, 'DROP EXTENSION queue_pgmq CASCADE');
sql($node, "SELECT queue.purge('own')");

# --- another database, and a start: totals are gone, jobs are counted anew
sql($node, 'CREATE DATABASE second');
sql($node, 'CREATE EXTENSION queue', db => 'second');
one($node, 'SELECT count(*) FROM queue.stat_kind', '0', 'another database has its own', db => 'second');
sql($node, "SELECT queue.enqueue('apart', queue => 'other') FROM generate_series(1, 2)");
my ($held, $late) = split /\n/, sql($node, "SELECT id FROM queue.fetch('other', 2, lease => '1 day')");
sql($node, "SELECT queue.fail($late, 1, 'no', retry_in => '1 day'), queue.enqueue('apart', queue => 'other', delay => '1 day'), queue.enqueue('apart', queue => 'other', depends_on => ARRAY[$held])");
counts('apart', '1 1 1 1 1 0 1 0', 'one in each state');
$node->restart;
counts('apart', '1 1 1 1 1 0 0 0', 'after a start they are counted anew, each as what it is');

# --- what is given a time that has passed is available at once, not when the rows are next counted
sql($node, "SELECT queue.create_queue('due')");
sql($node, "SELECT queue.enqueue('alter', '{}', 'due', delay => '1 h'), queue.enqueue('again', '{}', 'due', delay => '1 h')");
my $due = "SELECT available, scheduled, retryable FROM queue.stat_queue WHERE queue = 'due'";
one($node, $due, '0|2|0', 'two jobs wait for their time');
sql($node, "SELECT queue.alter_job(id, run_at => clock_timestamp()) FROM queue.job WHERE kind = 'alter'");
one($node, $due, '1|1|0', 'one is altered to now');
sql($node, "SELECT queue.retry(id) FROM queue.job WHERE kind = 'again'");
one($node, $due, '2|0|0', 'the other is to run now');
sql($node, "SELECT queue.alter_job(id, run_at => clock_timestamp() + '1 h') FROM queue.job WHERE kind = 'alter'");
one($node, $due, '1|1|0', 'the first is put off again');
sql($node, "SELECT id FROM queue.fetch('due', 5, kinds => '{alter,again}')");
one($node, $due, '0|1|0', 'a claim takes the due one out');
sql($node, "SELECT queue.enqueue('fails', queue => 'due'); SELECT queue.fail(id, attempt, 'no', '1 h') FROM queue.fetch('due', kinds => '{fails}')");
sql($node, "SELECT queue.retry(id) FROM queue.job WHERE kind = 'fails'");
one($node, $due, '1|1|0', 'one that failed is to run now');
sql($node, "SELECT id FROM queue.fetch('due', kinds => '{fails}')");
one($node, $due, '0|1|0', 'a claim takes that one out as well');

# --- a job that nobody claims counts as available soon after its time has come, also right after a recount
sql($node, "SELECT queue.create_queue('later'), queue.create_queue('both')");
sql($node, "SELECT queue.enqueue('both', queue => 'both', delay => d::interval) FROM unnest('{1 s,1 h}'::text[]) d, generate_series(1, 100)");
for my $n (1, 2)
{
	my $began = time;
	sql($node, "SELECT queue.fail(id, attempt, 'no', '1 s') FROM queue.fetch('later')");
	sql($node, "SELECT queue.enqueue('later', queue => 'later', delay => '1 s')");
	wait_true($node, "SELECT available = $n AND scheduled = 0 AND retryable = 0 FROM queue.stat_queue WHERE queue = 'later'", "job $n falls due");
	cmp_ok(time - $began, '<', 30, "job $n: and counts soon") if $n == 2;
}
counts('later', '2 0 0 0 0 0 1 0', 'for its kind as well');
sql($node, "SELECT id FROM queue.fetch('later', 2, lease => '1 h')");
counts('later', '0 2 0 0 0 0 1 0', 'what was due by then and is claimed is not due any more');
# many ends are told as one
my $both = "SELECT available, scheduled FROM queue.stat_queue WHERE queue = 'both'";
one($node, $both, '100|100', 'of two hundred a hundred are due');
sql($node, "SELECT count(queue.cancel(id)) FROM queue.job WHERE queue = 'both'; SELECT queue.enqueue('both', queue => 'both')");
one($node, $both, '1|0', 'when all are cancelled no fewer than none are');

# --- who commits just before a recount and tells of it just after is counted twice: so again, when somebody does.  A row
# --- that comes in past us is counted by a recount only
sql($node, <<'EOS');
SELECT queue.create_queue('late');
CREATE PROCEDURE past() LANGUAGE sql AS $$
	INSERT INTO queue.live_job SELECT (jsonb_populate_record(j, jsonb_build_object('id', nextval('queue.job_id')))).*
	FROM queue.live_job j WHERE id = (SELECT min(id) FROM queue.job WHERE queue = 'late');
$$;
SELECT queue.enqueue('late', queue => 'late', delay => '1 s');
CALL past();
EOS
wait_true($node, "SELECT available = 2 FROM queue.stat_queue WHERE queue = 'late'", 'a recount');
my $late = time;
sql($node, "CALL past(); SELECT queue.enqueue('late', queue => 'late')");
wait_true($node, "SELECT available = 4 FROM queue.stat_queue WHERE queue = 'late'", 'after what is told right behind it, another one');
cmp_ok(time - $late, '<', 30, '.. soon');

# what came in past us is not counted yet, and goes
sql($node, <<'EOS');
SELECT queue.create_queue('past'), queue.enqueue('past', queue => 'past') AS id \gset
BEGIN;
INSERT INTO queue.live_job SELECT (jsonb_populate_record(j, jsonb_build_object('id', nextval('queue.job_id')))).* FROM queue.live_job j WHERE id = :id;
SELECT queue.purge('past');
COMMIT;
EOS
one($node, "SELECT available, (SELECT available FROM queue.stat_kind WHERE kind = 'past') FROM queue.stat_queue WHERE queue = 'past'", '0|0', 'no number is below 0');

# --- the oldest of more lines than are looked at
sql($node, "SELECT queue.create_queue('wide'), queue.enqueue('w', queue => 'wide', run_at => '2001-01-01')");
sql($node, "SELECT queue.enqueue('w' || i, queue => 'wide', run_at => clock_timestamp() - i * interval '1 min') FROM generate_series(1, 200) i");
wait_true($node, "SELECT oldest_run_at = '2001-01-01' FROM queue.stat_queue WHERE queue = 'wide'", 'the oldest of 201 lines');

# --- what changes while rows are counted may be counted twice: the numbers are right soon after it has become quiet
sql($node, "SELECT queue.create_queue('busy')");
sql($node, "SELECT queue.enqueue_many('bulk', array_agg('{}'::jsonb), 'busy') FROM generate_series(1, 60000)");
sql($node, <<'EOS');
DO $$
DECLARE
	until timestamptz := clock_timestamp() + '11 s';
BEGIN
	PERFORM queue.enqueue('falls due, which makes them be counted', queue => 'busy', delay => i * interval '1.2 s') FROM generate_series(1, 8) i;
	COMMIT;
	WHILE clock_timestamp() < until LOOP
		PERFORM queue.enqueue('bulk', queue => 'busy');
		COMMIT;
	END LOOP;
END $$
EOS
my $quiet = time;
wait_true($node, "SELECT available = (SELECT count(*) FROM queue.job WHERE queue = 'busy') FROM queue.stat_queue WHERE queue = 'busy'", 'counted right');
cmp_ok(time - $quiet, '<', 15, 'soon after the last change');

log_clean($node);
done_testing();
