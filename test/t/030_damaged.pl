# A row that cannot be read fails alone: counted, with the reason, and its neighbours are handed out and run.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Test::More;

my $node = queue_node('damaged', conf => "autovacuum = off\n");

if (sql($node, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_surgery'") eq '0')
{
	$node->stop;
	plan skip_all => 'pg_surgery is not installed';
}

sql($node, <<'EOS');
CREATE EXTENSION pg_surgery;
CREATE FUNCTION wide(n int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('x', string_agg(md5(g::text), '')) FROM generate_series(1, n / 32) g $$;
-- Loses everything that is stored out of line in queue.live_job.
CREATE PROCEDURE damage() LANGUAGE plpgsql AS $$
DECLARE
	toast regclass := (SELECT reltoastrelid FROM pg_class WHERE oid = 'queue.live_job'::regclass);
	tids tid[];
BEGIN
	EXECUTE format('SELECT array_agg(ctid) FROM %s', toast) INTO tids;
	PERFORM heap_force_kill(toast, tids);
END $$;
SELECT queue.create_queue('w', max_attempts => 2, backoff => '{"type": "fixed", "base": "0 s", "jitter": 0}');
SELECT queue.enqueue('k', wide(100000), 'w', priority => 1);
SELECT queue.enqueue('k', '"plain"', 'w', headers => wide(100000), priority => 2);
SELECT queue.enqueue('k', '"good"', 'w', priority => 3);
CALL damage();
EOS

# A worker gets the good one; the damaged ones fail, are tried once more, and are discarded.
one($node, "SELECT payload FROM queue.fetch('w', 10, lease => '1 day')", '"good"', 'a fetch passes what it cannot read');
one($node, "SELECT count(*) FROM queue.live_job WHERE failures = 1 AND leased_until IS NULL", '2', 'each counts as a failed attempt');
one($node, "SELECT string_agg(DISTINCT error, ',') ~ '^the job could not be read: missing chunk' FROM queue.job_error", 't', 'with the reason');
wait_true($node, "SELECT count(*) = 0 FROM queue.fetch('w', 10)", 'they are tried again');
one($node, "SELECT string_agg(state || ' ' || payload::text, ', ' ORDER BY id) FROM queue.job WHERE state <> 'running'",
	'discarded null, discarded "plain"', 'and discarded, with what could be read of them');

# So for executors: nobody waits for a damaged job of the same kind, which is short, so that its jobs share commits.
sql($node, <<'EOS');
SELECT queue.register_sql_handler('h', 'h', queues => '{w}');
SELECT count(queue.enqueue('h', '{"note": "warm"}', 'w')) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'the kind is known to be short', kinds => '^h$');
sql($node, <<'EOS');
SELECT queue.pause('w');
SELECT queue.enqueue('h', wide(100000), 'w', max_attempts => 1);
SELECT queue.enqueue('h', '{"note": "plain"}', 'w', headers => wide(100000), max_attempts => 1);
SELECT queue.enqueue('h', '{"note": "good"}', 'w') FROM generate_series(1, 20);
CALL damage();
SELECT queue.resume('w');
EOS
wait_true($node, "SELECT count(*) = 20 FROM seen WHERE note = 'good'", 'executors run the others');
wait_no_jobs($node, 'and end the damaged ones', kinds => '^h$');
one($node, "SELECT string_agg(state, ',') FROM queue.job WHERE kind = 'h'", 'discarded,discarded', 'as discarded');
one($node, "SELECT count(*) FROM seen WHERE note = 'plain'", '0', 'without running them');

# What a damaged job had is free when it is ended: its unique key, and its place in its group.
sql($node, <<'EOS');
SELECT queue.enqueue('has', wide(100000), 'w', headers => wide(100000), unique_key => 'u', group_key => 'g', priority => 9);
SELECT queue.enqueue('has', '"next"', 'w', group_key => 'g', priority => 9);
CALL damage();
SELECT queue.cancel(min(j.id)) FROM queue.live_job j JOIN queue.line l ON l.id = j.line WHERE l.kind = 'has';
EOS
one($node, 'SELECT count(*) FROM queue.unique_key', '0', 'its unique key is free');
one($node, "SELECT count(*) FROM queue.live_key", '1', 'its place is gone');
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'has' AND state = 'available'", 'the next of its group is let in');
sql($node, "SELECT queue.cancel_jobs('{\"kind\": \"has\"}')");

# An enqueue that replaces its payload does not let it run without its headers.
sql($node, <<'EOS');
SELECT queue.enqueue('same', '1', 'w', headers => wide(100000), unique_key => 'u');
INSERT INTO queue.step (job_id, name, value) SELECT max(id), 's', '1' FROM queue.live_job;
INSERT INTO queue.event_wait (job_id, status, awaited_at, until, queue, event) SELECT max(id), 1, now(), now(), 'w', 'e' FROM queue.live_job;
CALL damage();
SELECT queue.enqueue('same', '2', 'w', unique_key => 'u', on_conflict => 'replace');
EOS
one($node, "SELECT count(*) FROM queue.fetch('w', 10, kinds => '{same}')", '0', 'one whose payload is replaced is damaged all the same');
sql($node, "SELECT queue.cancel_jobs('{\"kind\": \"same\"}')");
one($node, 'SELECT count(*) FROM queue.step', '0', 'what it stored goes when it is cancelled');
one($node, 'SELECT count(*) FROM queue.event_wait', '0', 'and what it awaited');

# A dead letter that cannot be read stays where it is.
sql($node, <<'EOS');
SELECT queue.create_queue('dead'), queue.create_queue('from', dead_letter => 'dead');
SELECT queue.enqueue('letter', wide(100000), 'from');
SELECT queue.discard_jobs('{"queue": "from"}');
CALL damage();
EOS
one($node, "SELECT queue.redrive('dead')", '0', 'a damaged letter is not redriven');
one($node, "SELECT string_agg(queue || ' ' || state, ', ' ORDER BY queue) FROM queue.job WHERE kind = 'letter'", 'dead available, from discarded', 'and nothing is lost');
sql($node, "SELECT queue.purge('dead')");

# And by hand, also with a deadline: ending one does not need what is lost.
sql($node, <<'EOS');
SELECT queue.enqueue('hand', wide(100000), 'w');
SELECT queue.enqueue('due', wide(100000), 'w', expires_at => now() + '1 hour');
CALL damage();
EOS
one($node, 'SELECT queue.cancel((SELECT max(id) - 1 FROM queue.live_job))', 't', 'a damaged job can be cancelled');
sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '2h'");
$node->reload;
wait_true($node, "SELECT count(*) = 0 FROM queue.live_job WHERE failures IS NULL AND leased_until IS NULL",
	'and its deadline ends one');
one($node, "SELECT string_agg(kind || ' ' || state, ', ' ORDER BY kind) FROM queue.job WHERE kind IN ('hand', 'due')",
	'due cancelled, hand cancelled', 'both are cancelled');

# A page that cannot be read holds up the role whose jobs are there, and no other.
sql($node, 'CREATE DATABASE page');
queue_install($node, 'page');
sql($node, <<'EOS', db => 'page');
CREATE ROLE struck LOGIN;
SELECT queue.grant_queue('default', 'struck', 'work'), queue.pause('default');
SELECT queue.register_sql_handler('struck', 'h', run_as => 'struck');
SELECT queue.register_sql_handler('spared', 'h');
SELECT count(queue.enqueue('struck')) FROM generate_series(1, 200);
SELECT count(queue.enqueue('spared')) FROM generate_series(1, 10);
EOS
one($node, "SELECT min(ctid) >= '(1,1)' FROM queue.live_job WHERE id > (SELECT max(id) - 10 FROM queue.live_job)", 't', 'the jobs of two roles are in different pages', db => 'page');
my $file = $node->data_dir . '/' . sql($node, "SELECT pg_relation_filepath('queue.live_job')", db => 'page');
$node->stop;
open(my $page, '+<', $file) or die "$file: $!";
print $page "\xff" x 24;
close $page or die $!;
$node->start;
sql($node, "SELECT queue.resume('default')", db => 'page');
wait_true($node, "SELECT count(*) = 10 FROM seen WHERE kind = 'spared'", 'a role whose jobs cannot be read holds up no other', db => 'page');
one($node, "SELECT count(*) FROM seen WHERE kind = 'struck'", '0', 'which cannot be read', db => 'page');

log_clean($node, except => qr/missing chunk/);
$node->stop;
done_testing();
