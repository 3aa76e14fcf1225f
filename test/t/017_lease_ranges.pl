# Lease ends beyond single hints: more leases than the shared table has places, batches as ranges, and what only the far
# look finds: it is off until then, for it would find what memory lost.  The clock is moved, nothing sleeps for a lease.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Test::More;

my $node = queue_node('lease_ranges', far_look => 0);

sub clock
{
	my ($hours) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET queue.debug_clock_offset = '${hours}h'");
	$node->reload;
	poll($node, "SELECT current_setting('queue.debug_clock_offset')::interval = '$hours hours'")
	  or die 'the clock does not move';
	return;
}

# How many a worker gets that waits for them, for less long than the far look takes to come by.
sub fetchable
{
	my ($kind, $qty) = @_;
	return "SELECT count(*) FROM queue.fetch('default', $qty, kinds => '{$kind}', lease => '30 days', wait => '20 s')";
}

# Lines that nobody reads: the scheduler alone ends their jobs, and no reader passes a lease and notes it again.
sub last_attempts
{
	my ($kind, $n, $lease) = @_;
	sql($node, "SELECT queue.enqueue('$kind', max_attempts => 1, run_at => now() - make_interval(mins => n)) FROM generate_series(1, $n) n");
	return first_of($kind, $n, $lease);
}

sub first_of
{
	my ($kind, $n, $lease) = @_;
	return one($node, "SELECT count(*) FROM queue.fetch('default', $n, kinds => '{$kind}', lease => '$lease')", $n, "$kind: $n leases");
}

sub ends
{
	my ($kind, $n, $what) = @_;
	return wait_true($node, "SELECT count(*) = $n FROM queue.job WHERE kind = '$kind' AND state = 'discarded'", $what);
}

# 1. Some that end late, and have places for now; then 20,000 leases of an hour, 50 kinds in each batch of 50, so that no two of a batch make a range; then one of 1 s.
last_attempts('late', 3, '150 min');
sql($node, <<'EOS');
SELECT count(*) FROM queue.enqueue_json_many((
	SELECT jsonb_agg(jsonb_build_object('kind', 'many' || n % 50))::text FROM generate_series(1, 20000) n));
SELECT queue.enqueue('short');
EOS
sql($node, <<'EOS');
DO $$
BEGIN
	FOR i IN 1..400 LOOP
		PERFORM queue.fetch('default', 50, lease => '1 hour',
							kinds => ARRAY(SELECT 'many' || n FROM generate_series(0, 49) n));
		COMMIT;
	END LOOP;
END $$;
EOS
one($node, "SELECT count(*) FROM queue.job WHERE state = 'running' AND kind LIKE 'many%'", '20000', 'more leases than there are places');
last_attempts('no_place', 1, '150 min');
last_attempts('no_place', 1, '200 min');
one($node, "SELECT count(*) FROM queue.fetch('default', kinds => '{short}', lease => '1 s')", '1', 'and a short one');
one($node, "SELECT count(*) FROM queue.fetch('default', kinds => '{short}', lease => '1 day', wait => '20 s')",
	'1', 'is back as soon as its lease has ended');

# 2. The hour passes: all of them come back, those too that had to give way.
clock(2);
wait_true($node, <<'EOS', 'every one of the leases that found no place is noticed');
WITH f AS (SELECT count(*) AS n FROM queue.fetch('default', 20000, lease => '30 days',
	kinds => ARRAY(SELECT 'many' || n FROM generate_series(0, 49) n)))
SELECT (SELECT n FROM f) + (SELECT count(*) FROM queue.live_job WHERE leased_until > now() + '20 days') = 20000
EOS
sql($node, "DO \$\$ BEGIN PERFORM queue.cancel(id) FROM queue.job WHERE kind LIKE 'many%'; END \$\$");

# Two kinds of which only the cursors know by now: what gave way to what ends earlier, and what found no place.
clock(3);
ends('late', 3, 'leases that gave way come to their end');
ends('no_place', 1, 'and one that had no place');

# What the clock's next step ends: two batches that were put off in one, of which half is completed then; in the order of
# their ids and against it.  And more than one slice of a walk.
for my $kind (qw(forth back))
{
	sql($node, "SELECT queue.enqueue('$kind', max_attempts => 1, run_at => now() - (CASE WHEN '$kind' = 'back' THEN n ELSE 20 - n END) * interval '1 min') FROM generate_series(1, 20) n");
	first_of($kind, 10, '5 min') for 1, 2;
	one($node, "SELECT count(*) FROM queue.heartbeat_many(ARRAY(SELECT id FROM queue.job WHERE kind = '$kind' ORDER BY 1), lease => '30 min')", '20', "$kind: put off together");
	one($node, "SELECT count(*) FROM queue.complete_many(ARRAY(SELECT id FROM queue.job WHERE kind = '$kind' ORDER BY id % 2, id LIMIT 10))", '10', "$kind: half is completed");
}
last_attempts('slices', 3000, '30 min');

# 3. A batch is a range: those of its members that were neither completed nor extended come back, no others.
sql($node, "SELECT count(*) FROM queue.enqueue_many('batch', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 100)))");
sql($node, <<'EOS');
CREATE TABLE batch AS SELECT id, attempt, row_number() OVER (ORDER BY id) AS n
	FROM queue.fetch('default', 100, kinds => '{batch}', lease => '1 hour');
SELECT count(*) FROM queue.complete_many(ARRAY(SELECT id FROM batch WHERE n BETWEEN 4 AND 90), ARRAY(SELECT attempt FROM batch WHERE n BETWEEN 4 AND 90));
SELECT queue.complete(id, attempt) FROM batch WHERE n BETWEEN 91 AND 95;
SELECT count(*) FROM queue.heartbeat_many(ARRAY(SELECT id FROM batch WHERE n > 95), lease => '1 day');
EOS
clock(4);
ends('no_place', 2, 'one that was walked past is noted again');
ends($_, 10, "$_: what is left of two batches that were put off together ends") for qw(forth back);
ends('slices', 3000, 'a walk that takes more than a slice goes on');
one($node, fetchable('batch', 2), '2', 'members of a batch whose lease ended are given out');
one($node, fetchable('batch', 100), '1', 'all of them, and those that were extended are not');
clock(30);
one($node, fetchable('batch', 100), '5', 'the extended ones come back in their turn');
one($node, "SELECT string_agg(DISTINCT failures::text, ',') FROM queue.job WHERE kind = 'batch'", '1', 'each end counts once');

# In real time, where the far look does not come by: the last members of a batch are back when its lease ends.
sql($node, "SELECT count(*) FROM queue.enqueue_many('real', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 50)))");
sql($node, <<'EOS');
SELECT count(*) FROM queue.complete_many((
	SELECT array_agg(id) FROM (SELECT id FROM queue.fetch('default', 50, kinds => '{real}', lease => '1 s') LIMIT 47) f));
EOS
one($node, "SELECT count(*) > 0 FROM queue.fetch('default', 3, kinds => '{real}', wait => '20 s')", 't',
	'what is left of a batch is back in time');

# 4. A finished batch leaves nothing to be walked: under a held snapshot the time at which its lease would have ended
# does not send readers over the dead rows.
my $held = queue_session($node);
$held->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$held->query_safe('SELECT count(*) FROM pg_class');
sql($node, <<'EOS');
SELECT count(*) FROM queue.enqueue_many('line', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 20100)));
SELECT queue.enqueue('marker');
SELECT count(*) FROM queue.fetch('default', kinds => '{marker}', lease => '1 hour');
DO $$
BEGIN
	FOR i IN 1..100 LOOP
		PERFORM queue.complete_many(array_agg(id), array_agg(attempt))
			FROM queue.fetch('default', 200, kinds => '{line}', lease => '1 hour');
		COMMIT;
	END LOOP;
END $$;
EOS
clock(32);
one($node, fetchable('marker', 1), '1', 'the scheduler has handled the leases of that hour');
queue_buffers($node);
cmp_ok(sql($node, "SELECT buffers('SELECT FROM queue.fetch(''default'', 10, kinds => ''{line}'')')"), '<', 3000,
	'and a fetch does not pass 20,000 dead rows');
$held->quit;

$node->adjust_conf('postgresql.conf', 'queue.debug_far_look', 'on');
$node->restart;

# A row behind the cursor that somebody changed by hand, of which nobody was told.
sql($node, "SELECT queue.enqueue('hand', delay => '1000 days'); SELECT queue.enqueue('hand')");
one($node, "SELECT queue.complete(id) FROM queue.fetch('default', 10, kinds => '{hand}')", 't', 'readers have passed the front of a line');
sql($node, "UPDATE queue.live_job SET run_at = now() - interval '1 hour' WHERE id = (SELECT id FROM queue.job WHERE kind = 'hand')");
clock(33);
one($node, fetchable('hand', 1), '1', 'and get what was put there by hand');

# 5. After a crash no hint is left; nobody reads these lines.
sql($node, <<'EOS');
SELECT queue.enqueue('last', max_attempts => 1) FROM generate_series(1, 3);
SELECT queue.enqueue('next');
SELECT count(*) FROM queue.fetch('default', 10, kinds => '{last,next}', lease => '1 hour');
EOS
$node->stop('immediate');
$node->start;
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'last' AND state = 'running'", '3', 'leases outlive a crash');
clock(34);
wait_true($node, "SELECT count(*) = 3 FROM queue.job WHERE kind = 'last' AND state = 'discarded'",
	'a last attempt that ends after a crash is noticed in a line that nobody reads');
one($node, fetchable('next', 1), '1', 'and one that is not the last is given out');

# 6. So when it ended while the server was down.
sql($node, <<'EOS');
SELECT queue.enqueue('down', max_attempts => 1);
SELECT count(*) FROM queue.fetch('default', 10, kinds => '{down}', lease => '1 hour');
EOS
$node->stop;
$node->adjust_conf('postgresql.auto.conf', 'queue.debug_clock_offset', "'36h'");
$node->start;
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'down' AND state = 'discarded'",
	'a last attempt that ended while the server was down too');

log_clean($node);
$node->stop;
done_testing();
