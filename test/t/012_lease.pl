# Leases: expired ones are fetchable within a second, also under a held snapshot; crashes count; waiters are woken;
# dead rows cost nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = queue_node('lease');

# Polls fetch closely and returns (id, attempt, failures, seconds after the given time).
sub fetch_after
{
	my ($session, $kind, $until) = @_;
	for (1 .. 1000)
	{
		my $row = $session->query_safe("SELECT id, attempt, failures, extract(epoch FROM clock_timestamp() - '$until') FROM queue.fetch('default', kinds => '{$kind}')");
		return split /\|/, $row if $row ne '';
		usleep(20_000);
	}
	die 'nothing to fetch';
}

my $held = queue_session($node);
my $worker = queue_session($node);
for my $hold (0, 1)
{
	if ($hold)
	{
		$held->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
		$held->query_safe('SELECT count(*) FROM queue.job');
	}
	my $how = $hold ? ' (snapshot held)' : '';
	# one job whose lease ends, and traffic in the same line around it
	my $id = sql($node, "SELECT queue.enqueue('ext', '{}')");
	my $until = sql($node, "SELECT leased_until FROM queue.fetch('default', kinds => '{ext}', lease => '2 s')");
	sql($node, <<"EOS");
DO \$\$
BEGIN
	FOR i IN 1 .. 300 LOOP
		EXIT WHEN clock_timestamp() > '$until'::timestamptz - interval '500 ms';
		PERFORM queue.enqueue('ext', '{}');
		COMMIT;
		PERFORM queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{ext}');
		COMMIT;
	END LOOP;
END \$\$;
EOS
	my ($got, $attempt, $failures, $late) = fetch_after($worker, 'ext', $until);
	is("$got $attempt $failures", "$id 2 1", "an expired lease is fetchable, the expired claim counts$how");
	cmp_ok($late, '<', 10, "soon$how");
	cmp_ok($late, '>=', 0, "and not before its end$how");

	# fencing
	one($node, "SELECT queue.complete($id, 1), queue.heartbeat($id, attempt => 1) IS NULL, queue.fail($id, 1, 'x') IS NULL, queue.snooze($id, '1 s', 1), queue.release($id, 1), queue.progress($id, '{}', 1)",
		'f|t|t|f|f|f', "the stale worker is fenced$how");
	one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $id AND attempt = 1", '1', "the expiry is told$how");

	# a heartbeat moves the end
	one($node, "SELECT queue.heartbeat($id, '2 s', 2) > clock_timestamp() + interval '1 s'", 't', "heartbeat$how");
	one($node, "SELECT queue.complete($id, 2)", 't', "complete$how");

	# expired but not taken again still counts as yours
	$id = sql($node, "SELECT queue.enqueue('own', '{}')");
	sql($node, "SELECT id FROM queue.fetch('default', kinds => '{own}', lease => '100 ms')");
	poll($node, "SELECT leased_until < clock_timestamp() OR leased_until IS NULL FROM queue.job WHERE id = $id");
	one($node, "SELECT queue.complete($id, 1)", 't', "an expired claim that nobody took is still one's own$how");

	# many leases at once
	sql($node, "SELECT count(*) FROM (SELECT queue.enqueue_many('bulk', array_fill('{}'::jsonb, ARRAY[500]))) x");
	$until = sql($node, "SELECT max(leased_until) FROM queue.fetch('default', 500, kinds => '{bulk}', lease => '500 ms')");
	poll($node, "SELECT clock_timestamp() > '$until'");
	my ($n, $t0) = (0, time);
	while ($n < 500 && time < $t0 + 60)
	{
		$n += $worker->query_safe("SELECT count(*) FROM queue.fetch('default', 500, kinds => '{bulk}')");
		usleep(20_000);
	}
	is($n, 500, "500 leases end, all are fetchable$how");
	cmp_ok(time - $t0, '<', 15, "soon$how");
	sql($node, "SELECT count(*) FROM (SELECT queue.complete_many(array_agg(id)) FROM queue.job WHERE kind = 'bulk') x");

	# out of attempts by its lease alone; who waits for it is woken
	$id = sql($node, "SELECT queue.enqueue('once', '{}', max_attempts => 1)");
	sql($node, "SELECT id FROM queue.fetch('default', kinds => '{once}', lease => '500 ms')");
	my $start = time;
	wait_end($node, $id, 'discarded', "attempts used up: discarded$how");
	cmp_ok(time - $start, '<', 15, "at the end of its lease$how");
	one($node, "SELECT last_error ~* 'lease|expire' FROM queue.job WHERE id = $id", 't', "its error says so$how");
}
$held->query_safe('ROLLBACK');

# --- wait_for is woken by the commit that ends the job
for my $end ('complete', 'cancel', 'discard')
{
	my $id = sql($node, "SELECT queue.enqueue('ext', '{}')");
	$worker->query_safe("SELECT attempt FROM queue.fetch('default', kinds => '{ext}', lease => '1 h')");
	$held->query_until(qr/waiting/, "\\echo waiting\nSELECT queue.wait_for($id, '60 s') || ' ' || extract(epoch FROM clock_timestamp());\n");
	wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT queue.wait_for($id%' AND state = 'active' AND pid <> pg_backend_pid()", 'somebody waits');
	my $at = sql($node, "SELECT extract(epoch FROM clock_timestamp()) FROM queue.$end($id)");
	my ($state, $when) = $held->query_safe('SELECT 1') =~ /^(\w+) ([\d.]+)\n1$/;
	is($state, { complete => 'completed', cancel => 'cancelled', discard => 'discarded' }->{$end}, "wait_for: $end");
	cmp_ok($when - $at, '<', 30, 'at once');
}
my $id = sql($node, "SELECT queue.enqueue('ext', '{}')");
my $t0 = time;
one($node, "SELECT queue.wait_for($id, '300 ms')", 'available', 'wait_for gives the present state at its deadline');
cmp_ok(time - $t0, '>=', 0.3, 'then');
sql($node, "SELECT queue.purge('default')");

# --- a claim that ended is counted by whoever takes the job next: an executor, too
my ($mixed, $last) = split /\n/, sql($node, q{SELECT queue.enqueue('mixed'); SELECT queue.enqueue('mixed', '{"raise": "22012"}', max_attempts => 2)});
one($node, "SELECT count(*) FROM queue.fetch('default', 2, kinds => '{mixed}', lease => '1 ms')", '2', 'a worker claims two jobs and loses its leases');
sql($node, "SELECT queue.register_sql_handler('mixed', 'h')");
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE job_id = $mixed AND attempt = 2", 'an executor runs one as its second attempt');
one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $mixed AND attempt = 1", '1', 'and the first is told of');
wait_end($node, $last, 'discarded', 'and it counts: an error in the second of two attempts ..');
one($node, "SELECT attempt, failures FROM queue.job WHERE id = $last", '2|2', '.. is the last');

# --- a held snapshot: fetching costs the same with many dead rows in front
$held->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$held->query_safe('SELECT count(*) FROM queue.job');
sql($node, "SELECT count(*) FROM (SELECT queue.enqueue_many('flat', array_fill('{}'::jsonb, ARRAY[20000]))) x");
queue_buffers($node);
my $laps = sql($node, <<'EOS');
SET synchronous_commit = off;
CREATE TEMP TABLE lap (n int, buffers bigint);
DO $$
DECLARE n int; b bigint;
BEGIN
	FOR lap IN 1 .. 16 LOOP
		FOR i IN 1 .. 1000 LOOP
			IF i % 100 = 0 THEN
				b := buffers($q$SELECT queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{flat}')$q$);
				INSERT INTO lap VALUES (lap, b);
			ELSE
				SELECT count(*) INTO n FROM (SELECT queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{flat}')) x;
				IF n <> 1 THEN
					RAISE EXCEPTION 'nothing fetched';
				END IF;
			END IF;
			COMMIT;
		END LOOP;
	END LOOP;
END $$;
SELECT (SELECT max(buffers) FROM lap WHERE n BETWEEN 2 AND 4) || ' ' || (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY buffers) FROM lap WHERE n > 12);
EOS
my ($first, $last) = $laps =~ /(\d+) (\d+)$/;
note "blocks of a fetch and complete: $first at first, $last after 12,000 dead rows";
cmp_ok($last, '<', 3 * $first, 'fetching looks at as few blocks over dead rows under a held snapshot');
$held->query_safe('ROLLBACK');
$_->quit for $held, $worker;

log_clean($node);
$node->stop;
done_testing();
