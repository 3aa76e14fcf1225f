# Lines: a limit, and those without jobs go away, whatever happens beside: open enqueues, prepared ones, savepoints, a
# cached line in a session that stays, restores.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('lines', conf => "queue.executors = 2\nqueue.debug_line_idle = 200ms\nsynchronous_commit = off\nqueue.max_lines = 50\nmax_prepared_transactions = 5\n");

sub kinds { my ($re, $n, $name) = @_; return wait_true($node, "SELECT count(*) = $n FROM queue.line WHERE kind ~ '$re'", $name); }

# idle lines go, of served kinds and of others; one with a job stays, a session that knows a line makes another
sql($node, q{SELECT queue.create_queue('out'), queue.register_sql_handler('served', 'h')});
my $s = queue_session($node);
$s->query_safe(q{SELECT queue.enqueue('served', '{"raise": "42P01"}', max_attempts => 1), queue.enqueue('served', '{"note": "a"}'), queue.enqueue('extern', '1', 'out'), queue.enqueue('stays', '1', 'out', run_at => now() + interval '1 hour')});
sql($node, q{SELECT queue.complete(id, attempt) FROM queue.fetch('out', 10)});
wait_no_jobs($node, 'all ran', kinds => 'served|extern');
kinds('served|extern', 0, 'lines without jobs go');
one($node, q{SELECT count(*) FROM queue.line WHERE kind = 'stays' AND retired_at IS NULL}, '1', 'a line with a job stays');
$s->query_safe(q{SELECT queue.enqueue('served', '{"note": "b"}'), queue.enqueue('extern', '2', 'out')});
one($node, q{SELECT string_agg(payload::text, ',') FROM queue.fetch('out', 10)}, '2', 'and come again, for a session that knew them');
wait_true($node, q{SELECT count(*) = 2 FROM seen}, 'for executors as well');

# an open enqueue into a line that was empty, from a session that had it cached, and one that is prepared
sql($node, q{SELECT queue.complete_many(array_agg(id)) FROM queue.job WHERE kind = 'extern'});
$s->query_safe(q{SELECT queue.enqueue('open', '1', 'out')});
$s->query_safe(q{BEGIN; SELECT queue.enqueue('other', '1', 'out')});
sql($node, q{SELECT queue.complete(id, attempt) FROM queue.fetch('out', 10)});
wait_true($node, q{SELECT count(*) > 0 FROM queue.line WHERE kind = 'open' AND retired_at IS NOT NULL}, 'a line is retired beside an open enqueue');
$s->query_safe(q{SELECT queue.enqueue('open', '2', 'out')});
my $p = queue_session($node);
$p->query_safe(q{BEGIN; SELECT queue.enqueue('prepared', '1', 'out'); PREPARE TRANSACTION 'p'});
$s->query_safe(q{COMMIT});
one($node, q{SELECT string_agg(payload::text, ',' ORDER BY kind) FROM queue.fetch('out', 10)}, '2,1', 'nothing is lost');
sql($node, q{SELECT queue.complete_many(array_agg(id)) FROM queue.job WHERE kind ~ 'open|other'});
wait_true($node, q{SELECT count(*) > 0 FROM queue.line WHERE kind = 'open' AND retired_at IS NOT NULL}, 'retired again');
one($node, q{SELECT count(*) > 0 FROM queue.line WHERE kind = 'open'}, 't', 'not deleted while a prepared transaction has enqueued');
sql($node, q{COMMIT PREPARED 'p'});
one($node, q{SELECT payload FROM queue.fetch('out', 10)}, '1', 'the prepared job is found');
sql($node, q{SELECT queue.complete_many(array_agg(id)) FROM queue.job WHERE kind = 'prepared'});
kinds('open|other|prepared', 0, 'then they go');

# retired lines go on being read
sql($node, q{SELECT queue.enqueue('reads', '1', 'out', run_at => now() + interval '1 hour')});
sql($node, q{UPDATE queue.line SET retired_at = now() WHERE kind = 'reads'});
sql($node, q{SELECT queue.retry(id) FROM queue.job WHERE kind = 'reads'});
sql($node, q{SELECT queue.enqueue('reads', '2', 'out')});
one($node, q{SELECT string_agg(payload::text, ',' ORDER BY payload) FROM queue.fetch('out', 10)}, '1,2', 'a retired line is read');
one($node, q{SELECT count(*) FROM queue.line WHERE kind = 'reads'}, '2', 'new jobs go to another');

# the limit
sqlstate_like($node, q{SELECT count(queue.enqueue('many' || i, '1', 'out')) FROM generate_series(1, 60) i}, '54000', qr/queue\.max_lines \(50\).*payload/s, 'too many lines are refused');
sql($node, q{SELECT count(queue.enqueue('many' || i, '1', 'out')) FROM generate_series(1, 45) i});
doctor_like($node, qr/lines \| 4\d lines.*queue\.max_lines is 50/, 'doctor() tells before');
sqlstate_like($node, q{SELECT count(queue.enqueue('more' || i, '1', 'out')) FROM generate_series(1, 20) i}, '54000', qr/queue\.max_lines/, 'over several calls too');
one($node, q{SELECT queue.enqueue('many1', '1', 'out') > 0}, 't', 'a line that is there goes on');
# exactly so many; the lock keeps the scheduler from deleting one meanwhile
sqlstate_like($node, q{BEGIN; LOCK TABLE queue.line IN SHARE ROW EXCLUSIVE MODE; SELECT count(queue.enqueue('fill' || i, '1', 'out')) FROM generate_series(1, 51 - (SELECT count(*) FROM queue.line)) i},
	'54000', qr/there are 51 lines/, 'one more than are allowed is refused');
one($node, q{BEGIN; LOCK TABLE queue.line IN SHARE ROW EXCLUSIVE MODE; SELECT count(queue.enqueue('fill' || i, '1', 'out')) >= 0 FROM generate_series(1, 50 - (SELECT count(*) FROM queue.line)) i; ROLLBACK}, 't',
	'as many as are allowed are not');
sql($node, q{SELECT queue.purge('out')});
kinds('many', 0, 'purged lines go');
one($node, q{SELECT completed, failed, discarded, timeouts, mean_ms > 0, max_ms > 0, last_error_at IS NOT NULL FROM queue.stat_handler WHERE kind = 'served'}, '2|1|1|0|t|t|t',
	'what jobs of a line did that went still counts for their handler');
doctor_like($node, qr/search_path.*kind "served".*SQLSTATE 42P01/, 'as does their last error');
one($node, q{SELECT count(queue.enqueue('more' || i, '1', 'out')) FROM generate_series(1, 20) i}, '20', 'and make room');
sqlstate_like($node, q{BEGIN; INSERT INTO queue.line (id, queue, kind, priority) SELECT 2000000 + i, 'default', 'loaded' || i, 0 FROM generate_series(1, 50) i; SELECT queue.enqueue('one more')},
	'54000', qr/queue\.max_lines/, 'lines that were restored count');

# a queue takes its lines along
sql($node, q{SELECT queue.drop_queue('out', force => true)});
one($node, q{SELECT count(*) FROM queue.line WHERE queue = 'out'}, '0', 'drop_queue leaves no lines');

# what is known of the keys of lines that went makes room for others; a place that somebody has stays his
sql($node, q{SELECT queue.create_queue('keys', max_running_per_key => 1, lease => '1 hour'), queue.create_queue('rated', rate_limit_per_key => 1, rate_period => '1 hour'); SELECT queue.enqueue('k', '1', 'keys', concurrency_key => 'held')});
one($node, q{SELECT count(*) FROM queue.fetch('keys', 2)}, '1', 'one has the place of its key');
my $keys = $s->query_safe(<<'EOS');
DO $$
DECLARE
	n int;
	fetched int := 0;
BEGIN
	FOR i IN 0 .. 29 LOOP
		PERFORM queue.enqueue('k', '1', 'keys', concurrency_key => k::text) FROM generate_series(i * 40 + 1, i * 40 + 40) k;
		COMMIT;
		SELECT count(queue.complete(id, attempt)) INTO n FROM queue.fetch('keys', 100);
		COMMIT;
		fetched := fetched + n;
		DELETE FROM queue.line l WHERE queue = 'keys' AND NOT EXISTS (SELECT FROM queue.live_job j WHERE j.line = l.id);
		COMMIT;
	END LOOP;
	IF fetched <> 1200 THEN
		RAISE EXCEPTION '% jobs of 1200 keys', fetched;
	END IF;
	FOR i IN 0 .. 29 LOOP
		PERFORM queue.enqueue('rated', '1', 'rated', concurrency_key => k::text) FROM generate_series(i * 40 + 1, i * 40 + 40) k;
		COMMIT;
		SELECT count(*) INTO n FROM queue.fetch('rated', 100);
		COMMIT;
		IF n > 0 THEN
			RAISE EXCEPTION '% jobs of keys whose next token comes in an hour', n;
		END IF;
		PERFORM queue.purge('rated');
		DELETE FROM queue.line l WHERE queue = 'rated';
		COMMIT;
	END LOOP;
END $$;
SELECT 'of each key one';
EOS
is($keys, 'of each key one', 'as many keys as one likes');
sql($node, q{SELECT queue.enqueue('k', '2', 'keys', concurrency_key => 'held')});
one($node, q{SELECT count(*) FROM queue.fetch('keys', 2)}, '0', 'the place that somebody has is not free');
sql($node, q{SELECT queue.enqueue('k', '1', 'keys', concurrency_key => 'beyond' || i) FROM generate_series(1, 3) i});
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('keys', 5)}, '1', 'those that find no room share what is spare') for 1 .. 3;
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.job WHERE concurrency_key = 'held' AND state = 'running'}, '1', 'who had that place');
one($node, q{SELECT count(*) FROM queue.fetch('keys', 2)}, '1', 'gives it back');
sql($node, q{SELECT queue.drop_queue(q, force => true) FROM unnest('{keys,rated}'::text[]) q});
# and what is known of queues that went
is($s->query_safe(<<'EOS'), 'of each queue one', 'as many queues with a limit as one likes, one after another');
DO $$
DECLARE
	n bigint;
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM queue.create_queue('limited' || i, max_running => 1), queue.enqueue('k', queue => 'limited' || i);
		COMMIT;
		SELECT count(*) INTO n FROM queue.fetch('limited' || i, wait => '20 s');
		COMMIT;
		PERFORM queue.drop_queue('limited' || i, force => true);
		COMMIT;
		IF n <> 1 THEN
			RAISE EXCEPTION '% jobs of queue %', n, i;
		END IF;
	END LOOP;
END $$;
SELECT 'of each queue one';
EOS

# drop_queue waits for a prepared enqueue and then sees its job, though a prepared transaction's locks go (many here, so
# that it takes a moment) before the session that commits it tells of the line that it made
for my $n (1 .. 5)
{
	sql($node, "SELECT queue.create_queue('d$n'); BEGIN; SELECT queue.enqueue('held', '1', 'd$n');
		SELECT count(pg_advisory_xact_lock(i)) FROM generate_series(1, 4000) i; PREPARE TRANSACTION 'd$n'");
	$s->query_until(qr/go/, "\\echo go\nSELECT queue.drop_queue('d$n');\n");
	poll($node, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted") or die;
	sql($node, "COMMIT PREPARED 'd$n'");
	$s->query('SELECT 1');
	one($node, "SELECT queue FROM queue.job WHERE kind = 'held' AND queue = 'd$n'", "d$n", "drop_queue sees prepared job $n");
}

# rows that come in otherwise stay, because their jobs may come later
sql($node, q{COPY queue.line (id, queue, kind, priority) FROM PROGRAM 'echo "1000000 default restored 0" | tr " " "\t"'});
sql($node, q{SELECT queue.enqueue('served', '{"note": "c"}')});
sql($node, q{COPY queue.line (id, queue, kind, priority, retired_at) FROM PROGRAM 'echo "1000001 default resting 0 2020-01-01" | tr " " "\t"'});
scheduler_turn($node) for 1 .. 8;
one($node, q{SELECT count(*) FROM queue.line WHERE kind = 'restored' AND retired_at IS NULL}, '1', 'a restored line stays');
one($node, q{SELECT count(*) FROM queue.line WHERE kind = 'resting'}, '1', 'one that was retired too');
sql($node, q{ALTER SYSTEM SET queue.debug_clock_offset = '1000s'});
$node->reload;
kinds('restored|resting', 0, 'for a while');

# lines of a queue whose row somebody deleted go too
sql($node, q{SELECT queue.create_queue('hand'); SELECT queue.enqueue('by hand', '1', 'hand'); SELECT queue.purge('hand'); DELETE FROM queue.queue WHERE name = 'hand'});
kinds('by hand', 0, 'lines of a queue that was deleted by hand go');

# a session that knows lines does not take those of another extension for them
sql($node, 'CREATE DATABASE again');
my $again = queue_session($node, 'again');
for my $kind (qw(first second))
{
	sql($node, "CREATE EXTENSION queue", db => 'again');
	sql($node, "SELECT queue.enqueue('$kind')", db => 'again');
	like($again->query_safe("SELECT l.id || ' ' || j.kind FROM queue.fetch('default') j JOIN queue.live_job USING (id) JOIN queue.line l ON l.id = live_job.line"),
		qr/^\s*1 $kind$/, "$kind: fetched, from line 1");
	sql($node, 'DROP EXTENSION queue CASCADE', db => 'again');
}
$again->quit;

$s->quit;
$p->quit;

# in a copy that nobody adopted lines stay, because their jobs may come later
sql($node, q{SELECT queue.enqueue('copied', '1', run_at => now() + interval '1 day')});
sql($node, 'CREATE DATABASE copy TEMPLATE postgres');
sql($node, q{SELECT queue.purge('default')}, db => 'copy');
sql($node, q{SELECT queue.enqueue('as long', '1'); SELECT queue.purge('default')});
kinds('as long', 0, 'a line goes that has no job any longer');
for (1 .. 10)
{
	my $id = sql($node, q{SELECT queue.enqueue('a turn', expires_at => queue_internal.clock())}, db => 'copy');
	poll($node, "SELECT queue.wait_for($id, '20 s') = 'cancelled'", db => 'copy') or die 'the scheduler does not come round';
}
my $copied = q{SELECT count(*) FROM queue.line WHERE kind = 'copied'};
one($node, "$copied AND retired_at IS NULL", '1', 'one in a copy does not', db => 'copy');
sql($node, 'SELECT queue.adopt()', db => 'copy');
wait_true($node, "SELECT ($copied) = 0", 'before it is adopted', db => 'copy');
log_clean($node);
done_testing();
