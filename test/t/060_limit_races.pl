# Two races, again and again: a late finish after an expired lease gives no place back twice; a key that is taken while
# dead letters are redriven stops that one job.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('limit_races');
my ($late, $other) = (queue_session($node), queue_session($node));
sub says { my ($session, $query) = @_; my $out = $session->query_safe($query); $out =~ s/^\s+|\s+$//g; return $out; }

# A's lease ends, B claims, A completes, C gets nothing; with A's finish and its commit before and after C's look
sql($node, "SELECT queue.create_queue('q', max_running => 1, max_running_per_key => 1, lease => '1 hour')");
for my $round (1 .. 20)
{
	sql($node, "SELECT count(queue.enqueue('k', to_jsonb(i), 'q', priority => 10, concurrency_key => 'a')) FROM generate_series(1, 3) i");
	my ($id, $attempt) = split /\|/, says($late, "SELECT id, attempt FROM queue.fetch('q', lease => '5 ms')");
	sql($node, "SELECT queue.enqueue('k', '0', 'q', concurrency_key => 'a')") if $round % 2;
	my ($mine, $its) = split /\|/, says($other, "SELECT id, attempt FROM queue.fetch('q', wait => '30 s')");
	my $done = says($late, "BEGIN; SELECT queue.complete($id, $attempt)");
	is($done, $mine == $id ? 'f' : 't', "round $round: A's late finish");
	is(sql($node, "SELECT count(*) FROM queue.fetch('q', 5)"), '0', "round $round: C gets nothing before its commit");
	says($late, 'COMMIT');
	is(sql($node, "SELECT count(*) FROM queue.fetch('q', 5)"), '0', "round $round: and nothing after");
	is(says($other, "SELECT queue.complete($mine, $its)"), 't', "round $round: B's place");
	is(sql($node, "SELECT count(*) FROM queue.fetch('q', 5)"), '1', "round $round: is free once");
	sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'q' AND state = 'running'; SELECT queue.purge('q')");
}

# dead letters with keys, of which an open transaction takes one meanwhile
sql($node, "SELECT queue.create_queue('dead'); SELECT queue.create_queue('w', dead_letter => 'dead')");
for my $round (1 .. 20)
{
	sql($node, "SELECT count(queue.enqueue('k', '{}', 'w', unique_key => 'u' || i)) FROM generate_series(1, 5) i");
	sql($node, "SELECT count(*) FROM (SELECT queue.fail(id, attempt, discard => true) FROM queue.fetch('w', 5)) x");
	my $commits = $round % 2;
	says($late, "BEGIN; SELECT queue.enqueue('k', '{}', 'w', unique_key => 'u3') > 0");
	is(sql($node, "SELECT queue.redrive('dead')"), '4', "round $round: redriven, but for the key that somebody has in hand");
	says($late, $commits ? 'COMMIT' : 'ROLLBACK');
	is(sql($node, "SELECT queue.redrive('dead')"), $commits ? '0' : '1', "round $round: again");
	is(sql($node, "SELECT count(*), count(DISTINCT unique_key) FROM queue.job WHERE queue = 'w' AND state = 'available'"), '5|5', "round $round: one job of each key");
	is(sql($node, "SELECT count(*) FROM queue.job WHERE queue = 'dead' AND state = 'available'"), $commits ? '1' : '0', "round $round: its dead letter stays");
	sql($node, "SELECT queue.purge('w'), queue.purge('dead')");
}
$_->quit for $late, $other;
log_clean($node);
done_testing();
