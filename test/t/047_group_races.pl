# A group's head ends while its follower is being enqueued, in every order, and around restarts: the follower starts at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# nobody looks by himself, so what is lost is not found before the test's patience ends
my $node = queue_node('races', far_look => 0, conf => "queue.max_wait = '1h'\nmax_prepared_transactions = 2");
sql($node, "SELECT queue.create_queue('q')");
my $add = "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'g')";
my $wrong = 0;

# What is fetched next.
sub fetched
{
	return sql($node, "SELECT id FROM queue.fetch('q', wait => '1 hour')");
}

# the order in which the follower's transaction (f) and the end's (e) begin and commit
my @orders = (
	[qw(begin-f begin-e commit-e commit-f)], [qw(begin-f begin-e commit-f commit-e)], [qw(begin-e begin-f commit-e commit-f)],
	[qw(begin-e begin-f commit-f commit-e)], [qw(begin-f commit-f begin-e commit-e)]);
my %session = (f => queue_session($node), e => queue_session($node));
for my $round (0 .. 19)
{
	sql($node, $add);
	my $head = fetched();
	my $follower;
	for my $step (@{ $orders[$round % @orders] })
	{
		my ($what, $who) = split /-/, $step;
		if ($what eq 'commit')
		{
			$session{$who}->query_safe('COMMIT');
			next;
		}
		$session{$who}->query_safe('BEGIN');
		if ($who eq 'f') { $follower = $session{f}->query_safe($add); }
		else { $session{e}->query_safe("SELECT queue.complete($head)"); }
	}
	$wrong++ if fetched() ne $follower;
	sql($node, "SELECT queue.complete($follower)");
}
is($wrong, 0, 'in 20 rounds the follower is fetched after the head has ended');
$_->quit for values %session;

# --- the server goes down right after both have committed
$wrong = 0;
for my $round (0 .. 3)
{
	sql($node, $add);
	my $head = fetched();
	$session{f} = queue_session($node);
	$session{f}->query_safe('BEGIN');
	my $follower = $session{f}->query_safe($add);
	sql($node, "SELECT queue.complete($head)");
	$session{f}->query_safe('COMMIT');
	$session{f}->quit;
	$node->stop($round % 2 ? 'immediate' : 'fast');
	$node->start;
	$wrong++ if fetched() ne $follower;
	sql($node, "SELECT queue.complete($follower)");
}
is($wrong, 0, 'after each of 4 restarts too');

# --- a prepared transaction with more groups than one notes
sql($node, "BEGIN; SELECT count(queue.enqueue('ext', '{}', 'q', group_key => 'many' || n)) FROM generate_series(1, 1200) n; PREPARE TRANSACTION 'many'");
sql($node, "COMMIT PREPARED 'many'");
wait_true($node, "SELECT count(*) = 1200 FROM queue.job WHERE group_key ~ '^many' AND state = 'available'", 'COMMIT PREPARED of many groups lets all in');

log_clean($node);
done_testing();
