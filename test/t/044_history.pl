# queue.history: what each queue did in each minute, whose it is, and when it begins anew.  Minutes pass by the clock that
# tests can move.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('history', conf => "queue.executors = 1\n");
my $offset = 0;

# The clock of all moves on by so many seconds.
sub move
{
	my ($s) = @_;
	$offset += $s;
	sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = $offset");
	sql($node, 'SELECT pg_reload_conf()');
	poll($node, "SELECT extract(epoch FROM current_setting('queue.debug_clock_offset')::interval) = $offset");
	return;
}

# So it does, and the scheduler has recorded the minutes that are over.
sub pass
{
	my ($s) = @_;
	move($s);
	# a change of the configuration wakes a scheduler that sleeps by the old clock
	return wait_true($node, "DO \$\$ BEGIN PERFORM queue.pause('default'); PERFORM queue.resume('default'); END \$\$; SELECT count(*) = 1 FROM queue.history WHERE queue = 'own' AND minute = date_trunc('minute', queue_internal.clock()) - interval '1 min'", "$s s later");
}

sub sums
{
	my ($where, $expected, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return one($node, "SELECT concat_ws(' ', sum(enqueued), sum(completed), sum(failed), sum(discarded)) FROM queue.history WHERE $where", $expected, $name, %o);
}

sql($node, "SELECT queue.create_queue('own', max_attempts => 1), queue.create_queue('other')");
pass(60);
sql($node, "SELECT queue.enqueue('k', queue => 'own') FROM generate_series(1, 5)");
my ($done, $failed) = split /\n/, sql($node, "SELECT id FROM queue.fetch('own', 2, lease => '1 h')");
sql($node, "SELECT queue.complete($done, 1), queue.fail($failed, 1, 'no')");
pass(300);
sums("queue = 'own'", '5 1 1 1', 'what a queue did in a minute');
one($node, "SELECT count(*) FILTER (WHERE enqueued > 0), max(waiting), max(oldest_s) BETWEEN 280 AND 370 FROM queue.history WHERE queue = 'own'",
	'1|3|t', 'how many wait at its end, and how long');
sums("queue <> 'own'", '0 0 0 0', 'no other queue did anything');
sql($node, "SELECT queue.stat_reset('own'); SELECT queue.enqueue('k', queue => 'own')");
pass(60);
sums("queue = 'own'", '6 1 1 1', 'totals that begin anew change nothing in it');

# --- who sees what
sql($node, 'CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor');
sql($node, "SELECT queue.grant_queue('other', 'reader', 'read'), queue.grant_queue('other', 'stranger', 'work')");
one($node, 'SELECT DISTINCT queue FROM queue.history', 'other', 'a reader sees his queue', user => 'reader');
sums("queue = 'own'", '6 1 1 1', 'pg_monitor sees all', user => 'monitor');
like(eval { sql($node, 'SELECT * FROM queue.history', user => 'stranger') } // $@, qr/permission denied/, 'who reads none sees nothing');

# --- a queue of the same name in another database
sql($node, 'CREATE DATABASE twin');
sql($node, q{CREATE EXTENSION queue; SELECT queue.create_queue('own'), queue.create_queue('only')}, db => 'twin');
my $recorded = q{SELECT count(*) = 3 FROM queue.history WHERE minute = date_trunc('minute', queue_internal.clock()) - interval '1 min'};
pass(60);
wait_true($node, $recorded, 'it has a history of its own', db => 'twin');
one($node, "SELECT concat_ws(' ', sum(enqueued), sum(completed), sum(failed), sum(discarded)) FROM queue.history WHERE queue = 'own'", '0 0 0 0', 'in which nothing happened', db => 'twin');
sums("queue = 'own'", '6 1 1 1', 'here it is as it was');
one($node, "SELECT count(*) FROM queue.history WHERE queue = 'only'", '0', 'without the queues that are there');
pass(60);
wait_true($node, $recorded, 'after a minute more', db => 'twin');
sums("queue = 'own'", '6 1 1 1', 'no database forgets what the other one has');
sql($node, 'DROP EXTENSION queue CASCADE', db => 'twin');
sums("queue = 'own'", '6 1 1 1', 'nor does a DROP EXTENSION there');

# --- more queues than a database has places for
sql($node, "SELECT queue.create_queue('q' || i) FROM generate_series(1, 70) i");
pass(60);
wait_true($node, 'SELECT count(DISTINCT queue) = 64 FROM queue.history', 'a database has so many places');
one($node, "SELECT ok, detail FROM queue.doctor() WHERE check_name = 'history'", 'f|64 queues of this database have a history', 'doctor tells');
my $late = sql($node, 'SELECT queue FROM queue.stat_queue WHERE queue NOT IN (SELECT queue FROM queue.history) LIMIT 1');
sql($node, "SELECT queue.enqueue('k', queue => '$late')");
pass(60);
sql($node, "SELECT queue.drop_queue('q' || i) FROM generate_series(1, 70) i WHERE 'q' || i <> '$late'");
pass(60) for 1 .. 2;
wait_true($node, "SELECT count(*) > 0 FROM queue.history WHERE queue = '$late'", 'one that had none gets one');
sums("queue = '$late'", '0 0 0 0', 'without what it did before, which is of no minute');
sql($node, "SELECT queue.drop_queue('$late', force => true)");

# --- an end
pass(60 * 1441);
one($node, "SELECT count(*) FROM queue.history WHERE minute < queue_internal.clock() - interval '1 day 1 min' OR enqueued > 0", '0', 'after a day it is forgotten');
sql($node, "SELECT queue.drop_queue('other', force => true)");
pass(60);
one($node, "SELECT count(*) FROM queue.history WHERE queue = 'other'", '0', 'that of a dropped queue too');
one($node, "SELECT ok, detail FROM queue.doctor() WHERE check_name = 'history'", 't|2 queues of this database have a history', 'doctor');

# --- a clock that is set back: the minutes that are over by it are recorded
pass(60 * 600);
move(-60 * 300);
scheduler_turn($node);
pass(60);

sql($node, 'DROP EXTENSION queue CASCADE; CREATE EXTENSION queue');
one($node, 'SELECT count(*) FROM queue.history', '0', 'a new extension begins anew');

log_clean($node);
done_testing();
