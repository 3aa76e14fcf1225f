# Keys at their limit: their lines are held back from who looks for jobs, and whatever gives a place back, or changes the
# limit, brings them back, wakes who waits, and loses nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

# short jobs share a commit however slow the machine is
my $node = queue_node('full_keys', conf => "queue.commit_interval = '10 s'\n");
my $keys = 100;
sql($node, <<"EOS");
SELECT queue.create_queue('q', max_running_per_key => 1, lease => '1 hour');
SELECT count(queue.enqueue('k', to_jsonb(i), 'q', concurrency_key => 'key' || k)) FROM generate_series(1, 30) i, generate_series(1, $keys) k;
EOS
one($node, "SELECT count(*), count(DISTINCT concurrency_key) FROM queue.fetch('q', 1000)", "$keys|$keys", 'one of each key');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', 'no more') for 1 .. 2;
sql($node, "SELECT queue.enqueue('k', '1', 'q', concurrency_key => 'other')");
one($node, "SELECT concurrency_key FROM queue.fetch('q', 1000)", 'other', 'full keys hide no other');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000, kinds => '{k}')", '0', 'by kind neither');
my $age = sql($node, "SELECT min(enqueued_at) FROM queue.job WHERE state = 'available'");
one($node, "SELECT oldest_run_at = '$age' FROM queue.stat_queue WHERE queue = 'q'", 't', 'their jobs count as waiting');

# each way to give back, with a session that waits and one that comes then
my $worker = queue_session($node);
my $n = 0;
sub gives_back
{
	my ($what, $how, $state) = @_;
	$n++;
	my $mine = "(SELECT id FROM queue.job WHERE concurrency_key = 'key$n' AND state = 'running')";
	my $wait = $n % 2 == 0;
	one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', "$what: nothing before");
	if ($wait)
	{
		$worker->query_until(qr/sent/, "\\echo sent\nSELECT 'got ' || concurrency_key || ' end' FROM queue.fetch('q', wait => '30 s');\n");
		wait_true($node, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%wait => ''30 s''%' AND wait_event = 'QueueFetch' OR wait_event = 'Extension' AND query LIKE '%wait => ''30 s''%')", "$what: a session waits");
	}
	sql($node, sprintf($how, $mine));
	if ($wait) { like($worker->query_until(qr/end\n/, "\\echo\n"), qr/got key$n end/, "$what: it gets the next"); }
	else { one($node, "SELECT concurrency_key FROM queue.fetch('q', 1000)", "key$n", "$what: the next is there"); }
	return;
}
for (1 .. 2)
{
	gives_back('complete', 'SELECT queue.complete(%s)');
	gives_back('fail', "SELECT queue.fail(%s, retry_in => '1 day')");
	gives_back('snooze', "SELECT queue.snooze(%s, '1 day')");
	gives_back('cancel', 'SELECT queue.cancel(%s)');
	gives_back('discard', 'SELECT queue.fail(%s, discard => true)');
	gives_back('release', "SELECT queue.release(%s)");
	gives_back('a shorter lease', "SELECT queue.heartbeat(%s, '1 ms'), pg_sleep(0.01)");
}
# in the transaction that ends it, before the commit; and a rollback
one($node, "BEGIN; SELECT count(queue.complete(id)) FROM queue.job WHERE concurrency_key = 'key50' AND state = 'running'; SELECT concurrency_key FROM queue.fetch('q', 1000); COMMIT", "1\nkey50", 'a transaction uses the place that it gave back');
my $open = queue_session($node);
like($open->query_safe("BEGIN; SELECT count(queue.complete(id)) FROM queue.job WHERE concurrency_key = 'key51' AND state = 'running'"), qr/1/, 'an open end');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', 'gives nothing back');
$open->query_safe('ROLLBACK');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', 'nor does its rollback');
like($open->query_safe("BEGIN; SELECT count(queue.complete(id)) FROM queue.job WHERE concurrency_key = 'key51' AND state = 'running'; COMMIT; BEGIN; SELECT count(*) FROM queue.fetch('q')"), qr/1/, 'an open claim');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', 'is one');
$open->query_safe('ROLLBACK');
one($node, "SELECT concurrency_key FROM queue.fetch('q', 1000)", 'key51', 'until it is rolled back');
# a session's claim
sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE concurrency_key = 'key52' AND state = 'running'");
like($open->query_safe("SELECT concurrency_key FROM queue.fetch('q', claim => 'session')"), qr/key52/, 'a session claims');
one($node, "SELECT count(*) FROM queue.fetch('q', 1000)", '0', 'nothing is left');
$open->quit;
wait_true($node, "SELECT concurrency_key = 'key52' FROM queue.fetch('q')", 'its end gives back');
# the limit itself, while sessions wait
$worker->query_until(qr/sent/, "\\echo sent\nSELECT 'got ' || count(*) || ' end' FROM queue.fetch('q', 1000, wait => '30 s');\n");
sql($node, "SELECT queue.alter_queue('q', max_running_per_key => 2)");
like($worker->query_until(qr/end\n/, "\\echo\n"), qr/got \d+ end/, 'a higher limit wakes');
wait_true($node, "SELECT count(*) = 0 FROM queue.fetch('q', 1000)", 'all places are taken');
one($node, "SELECT DISTINCT count(*) FROM queue.job WHERE state = 'running' AND concurrency_key LIKE 'key%' GROUP BY concurrency_key", '2', 'of each key two');
sql($node, "SELECT queue.alter_queue('q', reset => '{max_running_per_key}')");
wait_true($node, "SELECT count(*) = 1000 FROM queue.fetch('q', 1000)", 'without a limit nothing is held back');

# executors: the scheduler leaves such lines out, and gets them back
my $holder = queue_session($node);
my $running = "SELECT count(*) FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL";
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<'EOS');
SELECT queue.create_queue('e', max_running => 50, max_running_per_key => 1);
SELECT queue.register_sql_handler('x', 'h', '{e}', timeout => '0');
SELECT count(queue.enqueue('x', CASE i WHEN 1 THEN '{"lock": 1}' ELSE '{}' END::jsonb, 'e', concurrency_key => k)) FROM unnest('{a,b}'::text[]) k, generate_series(1, 40) i;
EOS
wait_true($node, "SELECT ($running) = 2", 'two keys run one job each');
sql($node, "SELECT queue.enqueue('x', '{\"note\": \"third\"}', 'e', concurrency_key => 'c')");
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'third')", 'full keys hide no other');
one($node, "SELECT count(*) FROM queue.fetch('e', 100, kinds => '{x}')", '0', 'nobody else gets one of theirs');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'all have ended', kinds => '^x$');

# short jobs that were there before the limit was: executors take them to the lines of their keys, so that those that have
# to wait hide none of another key behind them
sql($node, <<'EOS');
SELECT queue.create_queue('before');
SELECT queue.register_sql_handler('y', 'h', '{before}', timeout => '0');
SELECT count(queue.enqueue('y', '{"note": "warm"}', 'before')) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'the kind is known to be short', kinds => '^y$');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<'EOS');
SELECT queue.pause('before');
SELECT count(queue.enqueue('y', '{"lock": 1}', 'before', concurrency_key => 'a')) FROM generate_series(1, 1000);
SELECT queue.enqueue('y', '{"note": "behind"}', 'before', concurrency_key => 'b');
SELECT queue.alter_queue('before', max_running_per_key => 1);
SELECT queue.resume('before');
EOS
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'behind')", 'one of another key behind them runs');
wait_true($node, "SELECT ($running) = 1", 'one of them runs');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'all have ended', kinds => '^y$');
# a rate by key
sql($node, <<'EOS');
SELECT queue.create_queue('r', rate_limit_per_key => 10);
SELECT count(queue.enqueue('k', '{}', 'r', concurrency_key => 'key' || k)) FROM generate_series(1, 5) i, generate_series(1, 20) k;
EOS
my $got = 0;
$got += sql($node, "SELECT count(*) FROM queue.fetch('r', wait => '25 s')") for 1 .. 60;
is($got, 60, 'keys without a token come back when they have one');
$holder->quit;
$worker->quit;
log_clean($node);
done_testing();
