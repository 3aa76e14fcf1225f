# Places in shared memory for run statistics and counters: bounded per database, not taken by what rolls back, given up by
# what is gone, told apart by whole names; and what finds none works on.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('places', conf => "queue.executors = 2\nqueue.commit_interval = 100\nsynchronous_commit = off\n");

# queues of a transaction that rolls back take no place
sql($node, q{BEGIN; DO $$ BEGIN FOR i IN 1..1200 LOOP PERFORM queue.create_queue('r' || i); PERFORM queue.enqueue('k', '1', 'r' || i); END LOOP; END $$; SELECT count(*) FROM queue.stat_queue; ROLLBACK});
one($node, q{SELECT ok FROM queue.doctor() WHERE check_name = 'statistics'}, 't', 'a rollback leaves no places behind');
sql($node, q{SELECT queue.create_queue('one')});
sql($node, q{SELECT queue.enqueue('external', '1', 'one')});
one($node, q{SELECT available || ' ' || enqueued || ' ' || (stats_reset > now() - interval '1 hour') FROM queue.stat_queue WHERE queue = 'one'},
	'1 1 true', 'the next queue is counted');

# 1,040 kinds through '*'
sql($node, q{SELECT queue.register_sql_handler('*', 'h', queues => '{default}')});
sql($node, q{SELECT count(queue.enqueue('kind' || i)) FROM generate_series(1, 1040) i});
wait_no_jobs($node, 'all kinds ran', kinds => '^kind');
doctor_like($node, qr/statistics \| 1024 kinds/, 'doctor() tells that some share their statistics');
one($node, q{SELECT completed FROM queue.stat_handler WHERE kind = '*'}, '1040', 'all are counted');
# a kind without a place shares a commit all the same
sql($node, q{SELECT queue.pause('default')});
sql($node, q{TRUNCATE seen; SELECT count(queue.enqueue('late')) FROM generate_series(1, 60); SELECT queue.resume('default')});
wait_no_jobs($node, 'the late kind ran', kinds => '^late');
one($node, q{SELECT count(*) || ' ' || (count(DISTINCT xid) < 50) FROM seen}, '60 true', 'kinds without a place do not run alone for ever');
# of a kind that ran once there is little to know, but others of its handler tell how long it takes
my $shared = 'f';
for (my $first = 1; $first < 600 && $shared eq 'f'; $first += 60)
{
	# on a busy machine those may have taken long; more runs of them come first
	sql($node, q{SELECT queue.pause('default')});
	sql($node, q{TRUNCATE seen; SELECT count(queue.enqueue('late')) FROM generate_series(1, 20)});
	sql($node, "SELECT count(queue.enqueue('kind' || i)) FROM generate_series($first, $first + 59) i; SELECT queue.resume('default')");
	wait_no_jobs($node, 'kinds that ran once ran again', kinds => '^(late|kind)');
	$shared = sql($node, q{SELECT count(DISTINCT xid) < 50 FROM seen WHERE kind ~ '^kind'});
}
is($shared, 't', 'new kinds among many do not run alone');
# a slow one among them sends only itself to run alone
sql($node, q{SELECT queue.pause('default')});
sql($node, q{TRUNCATE seen; SELECT count(queue.enqueue('slow', '{"sleep": 0.2}')) FROM generate_series(1, 2)});
sql($node, q{SELECT count(queue.enqueue('late')) FROM generate_series(1, 200); SELECT queue.resume('default')});
wait_no_jobs($node, 'the late and the slow kind ran', kinds => '^(late|slow)');
one($node, q{SELECT count(DISTINCT xid) < 100 FROM seen WHERE kind = 'late'}, 't', 'a slow kind without a place does not keep the others alone');

# two kinds whose names have one 64-bit hash have statistics of their own
sql($node, q{SELECT queue.create_queue('hash'), queue.register_sql_handler('pay', 'h', queues => '{hash}'),
	queue.register_sql_handler('attack-12345R3DOXnO;[Dyb', 'h', queues => '{hash}')});
sql($node, q{SELECT queue.enqueue('pay', '1', 'hash')});
wait_no_jobs($node, 'the victim ran', kinds => '^pay');
one($node, q{SELECT string_agg(completed::text, ' ' ORDER BY kind) FROM queue.stat_handler WHERE queues = '{hash}'}, '0 1', 'statistics go by whole names');

# dropped queues give their places up, without which others are not counted
sql($node, q{DO $$ BEGIN FOR i IN 1..1100 LOOP PERFORM queue.create_queue('n' || i); END LOOP; END $$});
sql($node, q{SELECT count(queue.enqueue('k', '1', 'n' || i)) FROM generate_series(1, 1100) i});
doctor_like($node, qr/statistics/, 'doctor() tells that queues are not counted');
my $knows = queue_session($node);
$knows->query_safe(q{SELECT queue.create_queue('stays'); SELECT queue.enqueue('k', '1', 'stays')});
one($node, q{SELECT count(*) > 50 FROM queue.stat_queue WHERE enqueued IS NULL}, 't', 'they show no numbers');
one($node, q{SELECT count(*) FROM queue.fetch_any((SELECT array_agg('n' || i) FROM generate_series(1, 1100) i), 2000)}, '1100', 'and work');
sql($node, q{DO $$ BEGIN FOR i IN 1..1100 LOOP PERFORM queue.drop_queue('n' || i, force => true); END LOOP; END $$});
sql($node, q{SELECT queue.create_queue('last')});
my $done = "SELECT count(queue.complete(id, attempt)) FROM queue.fetch('last', 5)";
sql($node, "SELECT queue.enqueue(k, queue => 'last') FROM unnest('{used,idle}'::text[]) k; $done");
sql($node, q{ALTER SYSTEM SET queue.debug_clock_offset = '1000s'});
$node->reload;
wait_true($node, q{SELECT enqueued = 0 FROM queue.stat_queue WHERE queue = 'last'}, 'places are given up');
sql($node, q{SELECT queue.enqueue('k', '1', 'last')});
one($node, q{SELECT enqueued FROM queue.stat_queue WHERE queue = 'last'}, '1', 'and taken again');
$knows->query_safe(q{SELECT queue.enqueue('k', '1', 'stays')});
one($node, q{SELECT enqueued FROM queue.stat_queue WHERE queue = 'stays'}, '1', 'by a session, too, that had found none');
$knows->quit;

# a line whose jobs come and go between two looks is in use
scheduler_turn($node);
sql($node, "SELECT queue.enqueue('used', queue => 'last'); $done");
sql($node, q{ALTER SYSTEM SET queue.debug_clock_offset = '2300s'});
$node->reload;
wait_true($node, q{SELECT count(*) = 0 FROM queue.line WHERE kind = 'idle' AND retired_at IS NULL}, 'a line that nobody used goes');
one($node, q{SELECT count(*) FROM queue.line WHERE kind = 'used' AND retired_at IS NULL}, '1', 'one that was used stays');

log_clean($node);
done_testing();
