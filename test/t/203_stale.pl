# A worker that stalls past its lease can do nothing once the job was taken again, which is soon after the
# lease's end, also under a held snapshot with many dead rows; jobs that expire are cancelled though nobody looks.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dead = $ENV{QUEUE_TEST_DEAD_ROWS} // 100_000;
my $node = queue_node('stale', conf => "autovacuum = off\nqueue.max_wait = 1min");
my $held = queue_session($node);
my $stale = queue_session($node);
my $fresh = queue_session($node);

foreach my $hold (0, 1)
{
	my $how = $hold ? " (a snapshot is held, $dead dead rows)" : '';
	if ($hold)
	{
		$held->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue.job');
		# dead rows at the front of the line
		sql($node, <<"EOS");
SELECT count(*) FROM queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[$dead]));
SELECT count(*) FROM queue.complete_many((SELECT array_agg(id) FROM queue.fetch('default', $dead)));
EOS
	}
	foreach my $how2 ('complete', 'complete_ids', 'transaction')
	{
		my $id = sql($node, q{SELECT queue.enqueue('k')});
		my $until = $stale->query_safe("SELECT leased_until FROM queue.fetch('default', lease => '700 ms')");
		my ($got, $attempt, $failures, $late) = split /\|/, $fresh->query_safe(
			"SELECT id, attempt, failures, extract(epoch FROM clock_timestamp() - '$until') FROM queue.fetch('default', wait => '30 s', lease => '1 hour')");
		is("$got $attempt $failures", "$id 2 1", "taken again, its failure counted$how");
		cmp_ok($late, '>=', 0, "not before the lease's end$how");
		cmp_ok($late, '<', 10, "soon after it$how");
		is($stale->query_safe(<<"EOS"), 'f|t|t|f|f|f', "the stale worker can do nothing$how");
SELECT queue.complete($id, 1), queue.fail($id, 1, 'x') IS NULL, queue.heartbeat($id, '1 min', 1) IS NULL, queue.snooze($id, '1 s', 1),
       queue.release($id, 1), queue.progress($id, '1', 1)
EOS
		is($stale->query_safe(<<"EOS"), '0|0|0|0', "nor in batches$how");
SELECT (SELECT count(*) FROM queue.complete_many(ARRAY[$id], '{1}')), (SELECT count(*) FROM queue.release_many(ARRAY[$id], '{1}')),
       (SELECT count(*) FROM queue.heartbeat_many(ARRAY[$id], '1 min', '{1}')),
       (SELECT count(*) FROM queue.fetch('default', complete_ids => ARRAY[$id], complete_attempts => '{1}'))
EOS
		one($node, "SELECT state, attempt, failures FROM queue.job WHERE id = $id", 'running|2|1', "nothing changed$how");
		if ($how2 eq 'complete') { is($fresh->query_safe("SELECT queue.complete($id, 2)"), 't', "the new one completes$how"); }
		elsif ($how2 eq 'complete_ids') { $fresh->query_safe("SELECT count(*) FROM queue.fetch('default', complete_ids => ARRAY[$id], complete_attempts => '{2}')"); }
		else { $fresh->query_safe("BEGIN; SELECT queue.complete($id, 2); COMMIT"); }
		one($node, "SELECT count(*) FROM queue.job WHERE id = $id", '0', "gone$how");
	}
}
$held->query_safe('ROLLBACK');

# --- expired and not taken again still counts as one's own
my $id = sql($node, q{SELECT queue.enqueue('k')});
sql($node, "SELECT queue.pause('default')");
sql($node, "SELECT queue.resume('default')");
$stale->query_safe("SELECT id FROM queue.fetch('default', lease => '1 ms')");
is($stale->query_safe("SELECT pg_sleep(0.1)::text || queue.heartbeat($id, '1 min', 1) IS NOT NULL"), 't', 'not taken again: it can still be extended');
is($stale->query_safe("SELECT queue.complete($id, 1)"), 't', 'and completed');

# --- attempts used up
$id = sql($node, q{SELECT queue.enqueue('k', max_attempts => 2)});
for my $attempt (1, 2)
{
	is($fresh->query_safe("SELECT attempt FROM queue.fetch('default', wait => '30 s', lease => '200 ms')"), $attempt, "attempt $attempt");
}
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $id", 'out of attempts when its lease ends: discarded, though nobody fetches');
is($fresh->query_safe("SELECT count(*) FROM queue.fetch('default')"), '0', 'and not handed out');
one($node, "SELECT failures, last_error IS NOT NULL FROM queue.job WHERE id = $id", '2|t', 'with both failures');

# --- expires_at; the clock is moved
sub clock
{
	my ($hours) = @_;
	sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '${hours}h'");
	$node->reload;
	poll($node, "SELECT current_setting('queue.debug_clock_offset')::interval = '$hours hours'") or die 'the clock does not move';
	return;
}
$id = sql($node, q{SELECT queue.enqueue('never', expires_at => clock_timestamp() + interval '1 hour')});
my $later = sql($node, q{SELECT queue.enqueue('never', delay => '1 day', expires_at => clock_timestamp() + interval '1 hour')});
my $some = sql($node, q{SELECT queue.enqueue('k', expires_at => clock_timestamp() + interval '1 hour')});
is($fresh->query_safe("SELECT id FROM queue.fetch('default', kinds => '{k}', claim => 'session')"), $some, 'one is started in time, by a session');
is($fresh->query_safe("CALL queue.await('{default}', '20 s')"), 't', 'await tells of another, and nobody takes it');
clock(2);
wait_true($node, "SELECT count(*) = 2 FROM queue.job WHERE id IN ($id, $later) AND state = 'cancelled'", 'not started in time: cancelled, though nobody fetches');
one($node, "SELECT last_error FROM queue.job WHERE id = $id", 'the job was not started before expires_at', 'with that reason');
scheduler_turn($node);
one($node, "SELECT state FROM queue.job WHERE id = $some", 'running', 'what was started in time runs on');
is($fresh->query_safe("SELECT queue.complete($some)"), 't', 'and completes');

$_->quit foreach $held, $stale, $fresh;
log_clean($node);
$node->stop;
done_testing();
