# Many lines: more than shared memory has places for, a scheduler that has not sorted them yet, a restart, and the order over
# them.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('many_lines', conf => "queue.executors = 2\nsynchronous_commit = off\nqueue.max_lines = 17000\n");
my $many = q{SELECT count(queue.enqueue('k' || i, '1', 'out')) FROM generate_series(1, %d) i};

# --- the order over lines: by priority, then by run_at; for one that asks for kinds as well
sql($node, q{SELECT queue.create_queue('out')});
sql($node, q{SELECT count(queue.enqueue('k' || i % 97, to_jsonb(i), 'out', priority => i % 3, delay => i % 5 * interval '1 ms')) FROM generate_series(1, 500) i});
my $expected = sql($node, q{SELECT string_agg(id::text, ' ' ORDER BY priority, run_at, id) FROM queue.job WHERE queue = 'out'});
poll($node, q{SELECT max(run_at) < clock_timestamp() FROM queue.job WHERE queue = 'out'});
my @got = map { sql($node, q{SELECT id FROM queue.fetch('out', lease => '1 hour')}) } 1 .. 20;
push @got, split /\n/, sql($node, q{SELECT id FROM queue.fetch('out', 600, lease => '1 hour')});
is("@got", $expected, 'fetched in order, one by one and many at once');
sql($node, q{SELECT count(*) FROM queue.release_many((SELECT array_agg(id) FROM queue.job WHERE queue = 'out'))});
one($node, q{SELECT string_agg(id::text, ' ') FROM queue.fetch('out', 600, kinds => (SELECT array_agg('k' || i) FROM generate_series(0, 96) i))}, $expected,
	'by kinds too');
sql($node, q{SELECT count(*) FROM queue.release_many((SELECT array_agg(id) FROM queue.job WHERE queue = 'out'))});
$node->restart;
one($node, q{SELECT string_agg(id::text, ' ') FROM queue.fetch('out', 600)}, $expected, 'and after a restart');
sql($node, q{SELECT queue.drop_queue('out', force => true)});

# --- a fetch does not wait for the scheduler: it has not heard yet that a handler is gone
sql($node, q{SELECT queue.create_queue('out')});
sql($node, q{SELECT queue.register_sql_handler('gone', 'h', queues => '{out}'), queue.pause('out')});
sql($node, q{SELECT queue.enqueue('gone', '7', 'out')});
my $pid = sql($node, q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'queue scheduler'});
poll($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND wait_event IS NOT NULL});
sql($node, q{SELECT queue.create_queue('shut'), queue.create_queue('beside'), queue.pause('shut')});
scheduler_turn($node);
kill 'STOP', $pid;
# nor for one that has not sorted new kinds yet, which are among those of all queues
sql($node, q{SELECT queue.enqueue('new', queue => 'shut'), queue.enqueue('new', '8', 'beside')});
one($node, q{SELECT kind FROM queue.fetch('default')}, '', 'a new kind of another queue');
one($node, q{SELECT kind FROM queue.fetch('shut')}, '', 'of a paused one');
one($node, q{SELECT payload FROM queue.fetch('beside')}, '8', 'and of this queue');
sql($node, q{SELECT queue.resume('out')});
sql($node, q{SELECT queue.unregister_handler('gone')});
one($node, q{SELECT payload FROM queue.fetch('out')}, '7', 'a fetch that is newer than the agendas looks by itself');
kill 'CONT', $pid;

# --- more lines than there are places: a second database's work all the same, and a third has some
sql($node, sprintf($many, 16900));
for my $db (qw(two three))
{
	sql($node, "CREATE DATABASE $db");
	queue_install($node, $db);
	sql($node, q{SELECT queue.create_queue('out'), queue.create_queue('run'), queue.register_sql_handler('*', 'h', queues => '{run}')}, db => $db);
}
sql($node, sprintf($many, 12500), db => 'two');
sql($node, q{SELECT count(queue.enqueue('r' || i, jsonb_build_object('note', i), 'run')) FROM generate_series(1, 50) i}, db => 'two');
doctor_like($node, qr/lines \| .*not all have a place in shared memory/, 'doctor() tells that places are lacking', db => 'two');
ok($node->poll_query_until('two', q{SELECT count(*) = 50 FROM seen}), 'jobs on lines without a place run');
my $n = 0;
$n += sql($node, q{SELECT count(*) FROM queue.fetch('out', 5000)}, db => 'two') for 1 .. 3;
is($n, 12500, 'and are fetched');
my $id = sql($node, q{SELECT queue.enqueue('last', '8', 'out')}, db => 'two');
one($node, q{SELECT id FROM queue.fetch('out', wait => '20 s')}, $id, 'a new one too', db => 'two');
sql($node, sprintf($many, 500), db => 'three');
one($node, q{SELECT count(*) FROM queue.fetch('out', 1000)}, 500, 'a third database has places', db => 'three');
one($node, q{SELECT ok FROM queue.doctor() WHERE check_name = 'lines'}, 't', 'for all its lines', db => 'three');
sql($node, q{SELECT queue.purge('out'); SELECT queue.drop_queue('out', force => true)});
ok($node->poll_query_until('two', q{SELECT queue.enqueue('run1', '{"note": "x"}', 'run') IS NOT NULL AND ok FROM queue.doctor() WHERE check_name = 'lines'}),
	'when the first database has given its places up, the second takes them');

log_clean($node);
$node->stop;
done_testing();
