# Many jobs at once beside executors, locks and large numbers: who is waited for, what is left alone, how long it takes.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $node = queue_node('many');
sql($node, "SELECT queue.create_queue('q', keep_completed => '1 day'), queue.create_queue('p')");
sql($node, "CREATE FUNCTION nap(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_advisory_lock(4711); PERFORM pg_sleep(600); END \$\$");
sql($node, "CREATE FUNCTION sweep(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM queue.cancel_jobs(j.payload, 'swept'); END \$\$");
sql($node, "SET client_min_messages = error; SELECT queue.register_sql_handler('nap', 'nap', '{q}'), queue.register_sql_handler('sweep', 'sweep', '{q}')");

# --- a job that an executor runs is found as running, left alone by move and retry, and cancelled
my $id = sql($node, "SELECT queue.enqueue('nap', queue => 'q', max_attempts => 1)");
wait_lock($node, 4711);
one($node, "SELECT string_agg(id || ' ' || state, ',') FROM queue.find_jobs('{\"kind\": \"nap\"}')", "$id running", 'an executor runs it');
one($node, "SELECT count(*) FROM queue.find_jobs('{\"state\": \"available\"}')", 0, 'so it is not available');
one($node, "SET statement_timeout = '60 s'; SELECT queue.move_jobs('{\"kind\": \"nap\"}', 'p') || ' ' || queue.retry_jobs('{\"kind\": \"nap\"}')", '0 0', 'move and retry leave it alone');
my $waiting = sql($node, "SELECT queue.enqueue('other', queue => 'q')");
one($node, "SET statement_timeout = '60 s'; SELECT queue.cancel_jobs('{\"queue\": \"q\"}', 'enough')", 2, 'cancelled, with one that waits');
one($node, "SELECT string_agg(state || ' ' || last_error, ',') FROM queue.job WHERE id IN ($id, $waiting)", 'cancelled enough,cancelled enough', 'both ended so');

# --- a handler may cancel others and, on return, itself
my $victim = sql($node, "SELECT queue.enqueue('other', queue => 'q')");
$id = sql($node, "SELECT queue.enqueue('sweep', '{\"queue\": \"q\"}', 'q')");
one($node, "SELECT queue.wait_for($id, '20 s') || ' ' || queue.wait_for($victim, '20 s')", 'cancelled cancelled', 'a handler ends others and its own job');

# --- a row that somebody has locked
my @ids = split /\n/, sql($node, "SELECT * FROM queue.enqueue_many('lock', '{1,2,3}', 'q')");
my $locker = queue_session($node);
$locker->query_safe("BEGIN; SELECT id FROM queue.live_job WHERE id = $ids[1] FOR UPDATE");
one($node, "SET statement_timeout = '60 s'; SELECT queue.move_jobs('{\"kind\": \"lock\"}', 'p')", 2, 'move does not wait for it');
my $canceller = queue_session($node);
$canceller->query_until(qr/begun/, "\\echo begun\nSELECT queue.cancel_jobs('{\"kind\": \"lock\"}');\n");
wait_true($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%cancel_jobs%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()", 'cancel waits for it');
one($node, "SELECT count(*) FROM queue.fetch('q', kinds => '{lock}')", 0, 'nobody else is held up');
$locker->query_safe('COMMIT');
like($canceller->query_safe('SELECT 1'), qr/^3$/m, 'and then cancels all');

# --- two calls wait in one order, and so never for each other
my ($first, $second) = split /\n/, sql($node, "SELECT * FROM queue.enqueue_many('order', '{1,2}', 'q')");
sql($node, 'CREATE TABLE counted (n bigint)');
my $other = queue_session($node);
my $pids = join(', ', map { $_->query_safe('SELECT pg_backend_pid()') } $canceller, $other);
$locker->query_safe("BEGIN; SELECT id FROM queue.live_job WHERE id = $first FOR UPDATE");
$canceller->query_until(qr/begun/, join("\n", '\echo begun', 'BEGIN;', (map { "INSERT INTO counted SELECT queue.cancel_jobs('{\"ids\": [$_]}');" } $first, $second), "COMMIT;\n"));
poll($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type = 'Lock'") or die 'the first does not wait';
$other->query_until(qr/begun/, "\\echo begun\nINSERT INTO counted SELECT queue.cancel_jobs('{\"ids\": [$first, $second]}');\n");
poll($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type = 'Lock'") or die 'the second does not wait';
$locker->query_safe('COMMIT');
poll($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE pid IN ($pids) AND state = 'idle'") or die 'they do not end';
one($node, 'SELECT count(*), sum(n) FROM counted', '3|2', 'two that cancel the same jobs');
$other->quit;

# --- executors are told all at once: the second lets its job go although the first does not at once
sql($node, <<'EOS');
CREATE FUNCTION stubborn(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(600);
EXCEPTION WHEN query_canceled THEN
	IF j.payload = 'true' THEN PERFORM pg_advisory_xact_lock_shared(4713); END IF;
	RAISE;
END $$;
SET client_min_messages = error;
SELECT queue.register_sql_handler('stubborn', 'stubborn', '{q}');
EOS
$locker->query_safe('BEGIN; SELECT pg_advisory_xact_lock(4713)');
my @told = split /\n/, sql($node, "SELECT queue.enqueue('stubborn', p, 'q') FROM unnest('{true,false}'::jsonb[]) p");
poll($node, "SELECT count(*) = 2 FROM queue.stat_worker JOIN pg_stat_activity USING (pid) WHERE job_id IN ($told[0], $told[1]) AND wait_event = 'PgSleep'") or die 'they do not run';
my $began = sql($node, "SELECT job_started_at FROM queue.stat_worker WHERE job_id = $told[1]");
$canceller->query_until(qr/begun/, "\\echo begun\nSELECT 'both ' || queue.cancel_jobs('{\"ids\": [$told[0], $told[1]]}');\n");
wait_true($node, "SELECT count(*) = 0 FROM queue.stat_worker WHERE job_id = $told[1] AND job_started_at = '$began'", 'the second of two executors lets its job go');
$locker->query_safe('COMMIT');
like($canceller->query_until(qr/both \d/, "\\echo\n"), qr/both 2/, 'and both are cancelled');

# --- what an open enqueue has is no row but the job's unique key: cancel waits for that, too
my $keyed = sql($node, "SELECT queue.enqueue('keyed', queue => 'q', unique_key => 'u')");
one($node, "SELECT id FROM queue.fetch('q', kinds => '{keyed}')", $keyed, 'a worker has it');
$locker->query_safe("BEGIN; SELECT queue.enqueue('keyed', queue => 'q', unique_key => 'u', on_conflict => 'replace')");
$canceller->query_until(qr/begun/, "\\echo begun\nSELECT 'did ' || queue.cancel_jobs('{\"ids\": [$keyed]}');\n");
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type = 'Lock'", 'cancel waits for who enqueues its successor');
$locker->query_safe('COMMIT');
like($canceller->query_until(qr/did \d/, "\\echo\n"), qr/did 1/, 'and then cancels it');
sql($node, "SELECT queue.purge('q')");

# --- what was read of one job does not stay in memory until all are done
sql($node, "SELECT count(*) FROM queue.enqueue_many('wide', array_fill(to_jsonb(repeat('x', 50000)), '{3000}'), 'q', run_at => now() + interval '1 day')");
my $peak = q{(SELECT substring(pg_read_file('/proc/self/status') from 'VmPeak:\s*(\d+) kB'))};
my ($before, $wide, $after) = split /\n/, sql($node, "SELECT $peak; SELECT queue.retry_jobs('{\"kind\": \"wide\", \"state\": \"scheduled\"}', now() + interval '2 days'); SELECT $peak");
is($wide, 3000, 'retry_jobs of many wide jobs that wait');
cmp_ok($after - $before, '<', 100_000, 'takes no memory for all of them (150 MB and more)');
my $flow = sql($node, "SELECT queue.create_workflow('many', 'q')");
sql($node, "SELECT count(queue.enqueue('member', '{}', 'q', workflow => $flow)) FROM generate_series(1, 10000)");
($before, my $members, $after) = split /\n/, sql($node, "SELECT $peak; SELECT queue.cancel_workflow($flow); SELECT $peak");
is($members, 10000, 'cancel_workflow of many jobs');
cmp_ok($after - $before, '<', 30_000, 'nor does that (57 MB)');
sql($node, "SELECT queue.purge('q')");

# --- a kept row that somebody has locked
my $kept = sql($node, "SELECT id FROM queue.finished_job WHERE kind = 'lock' LIMIT 1");
$locker->query_safe("BEGIN; SELECT id FROM queue.finished_job WHERE id = $kept FOR UPDATE");
one($node, "SET statement_timeout = '60 s'; SELECT queue.retry_jobs('{\"kind\": \"lock\"}') || ' ' || queue.delete_jobs('{\"kind\": \"lock\"}')", '2 0', 'retry and delete leave it alone');
$locker->query_safe('COMMIT');
one($node, "SELECT queue.delete_jobs('{\"kind\": \"lock\"}')", 1, 'until it is let go');

# --- a row that the scheduler has for a moment is waited for: it stands in a trigger while it lets a job in
sql($node, <<'EOS');
SELECT queue.create_queue('m');
CREATE ROLE clerk;
SELECT queue.grant_queue('m', 'clerk');
CREATE FUNCTION public.stand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT backend_type FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()) = 'queue scheduler' THEN
		PERFORM pg_advisory_xact_lock(4712);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stand BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION public.stand();
EOS
for my $call ("queue.move_jobs('{\"queue\": \"m\"}', 'p')", "queue.retry_jobs('{\"queue\": \"m\", \"state\": [\"pending\", \"available\"]}')",
	"queue.cancel_jobs('{\"queue\": \"m\", \"kind\": \"moment\", \"unique_key\": \"u\"}')", "queue.purge('m')")
{
	my $caller = queue_session($node);
	$locker->query_safe('SELECT pg_advisory_lock(4712)');
	sql($node, "SELECT queue.enqueue('moment', queue => 'm', group_key => 'g', unique_key => 'u')");
	poll($node, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712 AND NOT granted") or die 'the scheduler does not stand';
	$caller->query_safe('SET ROLE clerk') if $call =~ /cancel/;
	$caller->query_until(qr/begun/, "\\echo begun\nSELECT 'did ' || $call;\n");
	my $of = "FROM pg_stat_activity WHERE query LIKE 'SELECT ''did%' AND pid <> pg_backend_pid() AND";
	poll($node, "SELECT count(*) > 0 $of (wait_event = 'transactionid' OR state = 'idle')") or die "$call does not begin";
	$locker->query_safe('SELECT pg_advisory_unlock(4712)');
	like($caller->query_until(qr/did \d/, "\\echo\n"), qr/did 1/, "$call waits for it");
	sql($node, "SELECT queue.purge('m')");
	$caller->quit;
}
sql($node, 'DROP TRIGGER stand ON queue.live_job; DROP FUNCTION public.stand()');

# --- large numbers
sql($node, "SELECT queue.pause('q')");
sql($node, "SELECT count(*) FROM queue.enqueue_many('k', array_fill('{\"n\": 1}'::jsonb, ARRAY[100000]), 'q')");
sql($node, "SELECT count(*) FROM queue.enqueue_many('rare', '{1,2,3}', 'q')");
my ($session, $t0) = (queue_session($node));
sub timed
{
	my ($query, $expected, $limit, $name) = @_;
	$t0 = time;
	my $got = eval { $session->query_safe($query) } // $@;
	my $took = time - $t0;
	is($got, $expected, $name);
	cmp_ok($took, '<', $limit, sprintf('%s: %.3f s', $name, $took));
	return;
}
timed("SELECT queue.cancel_jobs('{\"kind\": \"k\"}', qty => 50000)", 50000, 100, 'cancel');
timed("SELECT queue.retry_jobs('{\"kind\": \"k\", \"state\": \"cancelled\"}')", 50000, 100, 'retry of 50000');
timed("SELECT queue.move_jobs('{\"kind\": \"k\"}', 'p', 'moved', 3)", 100000, 100, 'move');
one($node, "SELECT count(*), min(priority), bool_and(state = 'available') FROM queue.job WHERE queue = 'p' AND kind = 'moved'", '100000|3|t', 'all of them');
one($node, "SELECT count(*) FROM queue.fetch('p', 1000)", 1000, 'and can be fetched there');
for (1 .. 2)
{
	timed("SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{\"kind\": \"rare\", \"state\": \"available\"}')", '1 2 3', 20, 'a rare kind');
	timed("SELECT count(*) FROM queue.find_jobs('{\"kind\": \"moved\", \"state\": \"available\"}', before_id => 0)", 100, 20, 'a page of a frequent kind');
	timed("SELECT count(*) FROM queue.find_jobs('{\"kind\": \"moved\", \"state\": \"retryable\"}')", 0, 20, 'a state that is nowhere');
}
sql($node, "SELECT queue.cancel_jobs('{\"kind\": [\"moved\", \"rare\"]}')");
timed("SELECT string_agg(payload::text, ' ') FROM queue.find_jobs('{\"kind\": \"rare\", \"state\": \"cancelled\"}')", '1 2 3', 20, 'a rare kind, finished');
timed("SELECT count(*) FROM queue.find_jobs('{\"kind\": \"moved\"}', before_id => 0)", 100, 20, 'a frequent one, finished');
timed("SELECT queue.delete_jobs('{\"kind\": \"moved\"}')", 100000, 100, 'delete');

done_testing();
