# keep_completed and keep_discarded, changed, hold for the jobs that are kept already: without a DELETE.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# No scheduler: maintain() is called when the test wants it.
my $node = queue_node('rekeep', preload => 0, conf => "autovacuum = off\n");
# The hours of the ring begin with the full hour: the test's own begin a minute after one.
my $start = 3600 - time % 3600 + 60;
my $clock = 0;

sub at
{
	my ($text) = @_;
	return sql($node, 'SET queue.debug_clock_offset = ' . ($start + $clock * 3600) . "; $text");
}

sub complete
{
	my ($queue, $n, $payload) = @_;
	at("SELECT count(*) FROM queue.enqueue_many('k', ARRAY(SELECT jsonb_build_object('n', n, 'big', $payload) FROM generate_series(1, $n) n), '$queue');"
		  . "SELECT queue.complete(id, attempt, '{\"done\": true}') FROM queue.fetch('$queue', $n)");
	return;
}

sub kept { return sql($node, q{SELECT string_agg(queue || ' ' || n, ', ' ORDER BY queue) FROM (SELECT queue, count(*) n FROM queue.job GROUP BY 1) q}); }

sql($node, q{SELECT queue.create_queue(q, keep_completed => '1 hour') FROM unnest('{a,b,dropped}'::text[]) q; SELECT queue.create_queue(q, keep_completed => '30 days') FROM unnest('{c,d}'::text[]) q});
# a queue that has its default again; dropped, so that no later look is made for its sake
complete('d', 2, '1');
at(q{SELECT queue.alter_queue('d', reset => '{keep_completed}')});
at('SELECT queue.maintain()');
is(kept(), '', 'what it kept goes');
sql($node, q{SELECT queue.drop_queue('d')});
my $big = q{(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i)};
complete('a', 3, $big);
complete($_, 2, '1') for qw(b dropped);
my $ids = sql($node, q{SELECT string_agg(id::text, ',' ORDER BY id) FROM queue.job WHERE queue = 'a'});
my $before = sql($node, q{SELECT md5(string_agg(j::text, '' ORDER BY id)) FROM queue.job j WHERE queue = 'a'});
is(kept(), 'a 3, b 2, dropped 2', 'kept for an hour');

# --- longer: when the hour's table goes, they stay
at(q{SELECT queue.alter_queue('a', keep_completed => '30 days'), queue.drop_queue('dropped')});
is(at(q{SELECT queue.explain_job(id) LIKE '%; kept at least until ' || finished_at + interval '30 days' FROM queue.job WHERE queue = 'a' LIMIT 1}),
	't', 'explain_job says how long the queue keeps it now');
$clock = 2;
at('SELECT queue.maintain()');
is(kept(), 'a 3', 'who is kept longer now stays, the others go');
is(sql($node, q{SELECT md5(string_agg(j::text, '' ORDER BY id)) FROM queue.job j WHERE queue = 'a'}), $before, 'as they were');
one($node, q{SELECT count(*), bool_and(keep_until = finished_at + interval '30 days' AND tableoid::regclass::text = 'queue.finished_job_' || slot AND slot BETWEEN 9 AND 11) FROM queue.finished_job},
	'3|t', 'where jobs of 30 days are');
one($node, q{SELECT count(*) FROM queue.find_jobs('{"queue": "a", "state": "completed"}')}, 3, 'and are found');

# --- shorter: a table goes as soon as nothing in it is kept
complete('c', 400, '1');
my $together = sql($node, 'SELECT count(DISTINCT tableoid) FROM queue.finished_job') == 1;
at(q{SELECT queue.alter_queue('c', keep_completed => '1 hour')});
$clock = 4;
like(at(q{SELECT queue.explain_job(max(id)) FROM queue.job WHERE queue = 'c'}), qr/^completed at .*; its time to be kept is over$/,
	'explain_job says when it need not be kept');
at('SELECT queue.maintain()');
SKIP:
{
	skip 'the month of the ring changes just now', 1 unless $together;
	is(kept(), 'a 3, c 400', 'not yet: jobs of another queue are with them');
}
one($node, 'SELECT queue.retry(' . (split /,/, $ids)[0] . ')', 't', 'a job that was moved can be retried');
at(q{SELECT queue.alter_queue('a', keep_completed => '0')});
at('SELECT queue.maintain()');
is(kept(), 'a 1', 'now they go, before the time that they were first kept for');
one($node, q{SELECT state FROM queue.job}, 'available', 'but for the one that waits again');
one($node, q{SELECT string_agg(relname, ',') FROM pg_class WHERE relname ~ '^finished_job_\d+$' AND relkind = 'r' AND pg_relation_size(oid) > 0}, '', 'and their tables are empty');

# --- set back, the clock says of a table that it is at rest, and rows that ended at a later time belong there all the same
$clock = 5;
complete('b', 2, '1');
at(q{SELECT queue.alter_queue('b', keep_discarded => '2 hours')});
$clock = 4;
at('SELECT queue.maintain()');
is(kept(), 'a 1, b 2', 'they stay where they are');
$clock = 7;
at('SELECT queue.maintain()');
is(kept(), 'a 1', 'and go when their time is over');
# --- queues that are gone, or whose names begin alike, and what has changed since one session looked last
sql($node, q{SELECT queue.create_queue(q, keep_completed => '1 hour') FROM unnest('{gone,g,gg,again}'::text[]) q});
$clock = 9;
complete('gone', 2, '1');
at(q{SELECT queue.drop_queue('gone'), queue.alter_queue('a', keep_completed => '1 hour')});
at('SELECT queue.maintain()');
is(kept(), 'a 1, gone 2', 'jobs of a queue that is gone are kept as before');
$clock = 11;
at('SELECT queue.maintain()');
is(kept(), 'a 1', 'and not for longer');
complete($_, 2, '1') for qw(gg g);
at(q{SELECT queue.alter_queue('g', keep_completed => '30 days')});
$clock = 13;
at('SELECT queue.maintain()');
is(kept(), 'a 1, g 2', 'a queue whose name begins like another is not that one');
at(q{SELECT queue.alter_queue('again', keep_completed => '3 hours')});
complete('again', 2, '1');
$clock = 15;
at(q{SELECT queue.alter_queue('b', keep_completed => '2 hours'); SELECT queue.maintain(); SELECT queue.alter_queue('again', keep_completed => '30 days');}
	  . 'SET queue.debug_clock_offset = ' . ($start + 18 * 3600) . '; SELECT queue.maintain()');
is(kept(), 'a 1, again 2, g 2', 'who looks again goes by what holds then');

# --- a table of which only the oldest rows are still kept
$clock = 19;
sql($node, q{SELECT queue.create_queue(q, keep_completed => '1 hour') FROM unnest('{front,rest}'::text[]) q});
complete('front', 2, '1');
complete('rest', 1000, q{(SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 45) i)});
at(q{SELECT queue.alter_queue('rest', keep_completed => '0')});
at('SELECT queue.maintain()');
is(kept(), 'a 1, again 2, front 2, g 2, rest 1000', 'is kept');

unlike(slurp_file($node->logfile), qr/retention failed/, 'and nothing failed');

log_clean($node);
done_testing();
