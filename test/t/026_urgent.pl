# An urgent job overtakes what was pulled before it and has not started: it runs when the next executor is free.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('urgent', conf => "queue.executors = 4");

sql($node, "SELECT queue.create_queue('other')");
sql($node, "SELECT queue.register_sql_handler(k, 'public.h') FROM unnest('{k,l}'::text[]) k");

# How many jobs that are not urgent started before the urgent one.
sub started_before
{
	return sql($node,
		"SELECT count(*) FROM seen WHERE note = 'slow' AND n < (SELECT n FROM seen WHERE note = 'urgent')");
}

for my $case (['k', 'default'], ['l', 'other'])
{
	my ($kind, $queue) = @$case;
	my $holder = queue_session($node);

	# The kind is known to be short, so its entries are pulled by the hundred ..
	sql($node, "SELECT queue.enqueue('$kind', '{}', priority => 5) FROM generate_series(1, 20)");
	wait_no_jobs($node, "$queue: short jobs of the kind ran", kinds => "^$kind\$");

	# .. but the next ones are slow.
	$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");
	sql($node, <<"EOS");
SELECT queue.enqueue('$kind', CASE WHEN i <= 4 THEN '{"note": "slow", "lock": 1}' ELSE '{"note": "slow", "sleep": 0.3}' END::jsonb)
FROM generate_series(1, 100) i
EOS
	wait_true($node, "SELECT count(*) = 4 FROM queue.stat_worker WHERE job_id IS NOT NULL",
		"$queue: slow jobs hold all executors");
	sql($node, qq{SELECT queue.enqueue('$kind', '{"note": "urgent"}', priority => -1000, queue => '$queue')});
	scheduler_turn($node);
	$holder->query_safe("COMMIT");
	wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'urgent')", "$queue: the urgent job ran");
	# the 4 that held the executors, and what other executors took meanwhile
	cmp_ok(started_before(), '<=', 12, "$queue: the urgent job ran before nearly all that was pulled before it");
	sql($node, "SELECT queue.purge('default'); TRUNCATE seen");
	wait_no_jobs($node, "$queue: the rest is gone", kinds => "^$kind\$");
	$holder->quit;
}

# What waits in the channel is no more than the executors can take soon: the rest is still there for who fetches it.
{
	my $holder = queue_session($node);

	sql($node, "SELECT queue.register_sql_handler('new', 'public.h')");
	$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(2)");
	sql($node, qq{SELECT queue.enqueue('new', '{"lock": 2}') FROM generate_series(1, 40)});
	wait_true($node, "SELECT count(*) = 4 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'a new kind holds all executors');
	my $fetched = sql($node, "BEGIN; SELECT count(*) FROM queue.fetch('default', 100, kinds => '{new}'); ROLLBACK");
	cmp_ok($fetched, '>=', 30, 'jobs of a new kind are not hidden from other workers by a channel');
	$holder->query_safe("COMMIT");
	wait_no_jobs($node, 'all of them ran', kinds => '^new$');
	$holder->quit;
}

# Something urgent that falls due while the channel is full is not forgotten until an executor asks for more.
{
	my $holder = queue_session($node);

	$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(3)");
	sql($node, <<'EOS');
SELECT queue.enqueue('k', '{"note": "slow", "lock": 3}') FROM generate_series(1, 12);
SELECT queue.enqueue('k', '{"note": "urgent"}', priority => -1000, delay => '0.2 s');
EOS
	wait_true($node, "SELECT count(*) = 4 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'all executors are busy');
	wait_true($node, "SELECT EXISTS (SELECT FROM queue.job WHERE priority = -1000 AND state = 'available')", 'the urgent job is due');
	scheduler_turn($node);
	$holder->query_safe("COMMIT");
	wait_no_jobs($node, 'everything ran', kinds => '^k$');
	cmp_ok(started_before(), '<', 12, 'the urgent job did not wait for the whole channel');
	$holder->quit;
}

log_clean($node);
$node->stop;
done_testing();
