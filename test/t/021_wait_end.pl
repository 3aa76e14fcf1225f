# wait_for, result and explain_job never guess how a job ended; retry is quick, and touches nothing of others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $node = queue_node('waitend');
sql($node, "SELECT queue.create_queue('brief', keep_discarded => '0'), queue.create_queue('kept', keep_completed => '1 day')");
sql($node, "SELECT queue.create_queue('secret', keep_completed => '1 day')");
sql($node, "CREATE ROLE reader LOGIN; CREATE ROLE manager LOGIN");
sql($node, "SELECT queue.grant_queue('brief', 'reader', 'read'), queue.grant_queue('brief', 'manager', 'manage')");

sub enqueue { return sql($node, "SELECT queue.enqueue('k', '1', '$_[0]')"); }

# Waits in a session of its own, has it ended meanwhile, and gives what the session says.
sub wait_while
{
	my ($id, $end, $call) = @_;
	my $session = queue_session($node);
	$call //= "queue.wait_for($id, '30 s')";
	$session->query_until(qr/waiting/, "\\echo waiting\nSELECT coalesce($call\:\:text, 'null');\n");
	poll($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE \$q\$%$call%\$q\$ AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()");
	sql($node, $end);
	my $said = $session->query_safe('SELECT 1');
	$session->quit;
	return (split /\n/, $said)[0];
}

# --- what ended is known, whether its queue keeps it or not; what only vanished has no final state
my $fetch = "SELECT count(*) FROM queue.fetch('brief', 1000)";
for (
	[ complete => "$fetch; SELECT queue.complete(ID)", 'completed', qr/^completed \d+ s ago, not kept; .*'brief', keep_completed/ ],
	[ cancel => 'SELECT queue.cancel(ID)', 'cancelled', qr/^cancelled \d+ s ago, not kept; .*'brief', keep_discarded/ ],
	[ discard => 'SELECT queue.discard(ID)', 'discarded', qr/^discarded \d+ s ago, not kept; .*'brief', keep_discarded/ ],
	[ purge => "SELECT queue.purge('brief')", 'null', qr/^deleted \d+ s ago/ ],
	[ 'complete_many' => "SELECT count(*) FROM queue.enqueue_many('k', array_fill('1'::jsonb, ARRAY[300]), 'brief'); $fetch;"
		. " SELECT count(*) FROM queue.complete_many(ARRAY(SELECT id FROM queue.job WHERE queue = 'brief'))", 'completed', qr/^completed/ ])
{
	my ($name, $end, $state, $explained) = @$_;
	my $id = enqueue('brief');
	$end =~ s/ID/$id/g;
	is(wait_while($id, $end), $state, "$name: the waiting session learns the end");
	one($node, "SELECT coalesce(queue.wait_for($id, '0'), 'null')", $state, "$name: as does one that asks later");
	like(sql($node, "SELECT queue.explain_job($id)"), $explained, "$name: explained");
	like(sql($node, "SELECT queue.explain_job($id)", user => 'reader'), $explained, "$name: to who may read");
}

# --- nor is an end unknown for the moment between its commit and the word of it, which is long for the last of many
my $asker = queue_session($node);
for my $round (1 .. 6)
{
	my $last = sql($node, "SELECT max(id) FROM queue.enqueue_many('k', array_fill('1'::jsonb, ARRAY[9000]), 'brief') id");
	sql($node, "SELECT count(*) FROM queue.fetch('brief', 10000)");
	$asker->query_until(qr/asks/, <<"EOS");
\\echo asks
DO \$\$
DECLARE state text = 'running';
BEGIN
	WHILE state = 'running' LOOP COMMIT; state = queue.wait_for($last, '0'); END LOOP;
	RAISE WARNING 'it is %', state;
END \$\$;
EOS
	sql($node, "SELECT count(*) FROM queue.complete_many(ARRAY(SELECT id FROM queue.job WHERE queue = 'brief' ORDER BY id))");
	$asker->query('SELECT 1');
	like($asker->{stderr}, qr/it is completed/, 'asked for the moment that it is gone');
	$asker->{stderr} = '';
}
$asker->quit;

my $rolled_back = sql($node, "BEGIN; SELECT queue.enqueue('k', '1', 'brief'); ROLLBACK");
one($node, "SELECT queue.wait_for($rolled_back, '0') IS NULL AND queue.result($rolled_back) IS NULL", 't', 'rolled back: null');
like(sql($node, "SELECT queue.explain_job($rolled_back)"), qr/^unknown: .*never committed.*keep_completed/, 'explained');
my $seen = enqueue('brief');
sql($node, "SELECT queue.cancel($seen); SELECT queue.enqueue('k', '1', 'brief')");
is(sql($node, "SELECT queue.wait_for($seen, '0')", user => 'reader'), 'cancelled', 'remembered for who may read');
my $back = enqueue('kept');
sql($node, "SELECT queue.cancel($back)");
one($node, "SELECT queue.retry($back)", 't', 'retried');
one($node, "SELECT queue.wait_for($back, '0')", 'available', 'what it was before is not told');

# --- what one may not see is as if it were not there
sql($node, "SELECT queue.create_queue('veiled', keep_discarded => '0')");
my $veiled = enqueue('veiled');
sql($node, "SELECT queue.cancel($veiled)");
one($node, "SELECT queue.wait_for($veiled, '0')", 'cancelled', 'how it ended is remembered');
is(sql($node, "SELECT queue.wait_for($veiled, '0') IS NULL", user => 'reader'), 't', 'for who may read');
is(sql($node, "SELECT queue.explain_job($veiled)", user => 'reader'), sql($node, "SELECT queue.explain_job($rolled_back)"), 'only');
my $secret = enqueue('secret');
my $ended = enqueue('secret');
sql($node, "SELECT queue.cancel($ended)");
for my $id ($secret, $ended)
{
	is(sql($node, "SELECT coalesce(queue.wait_for($id, '10 s'), 'null')", user => 'reader'), 'null', 'a job of a hidden queue: null, at once');
	is(sql($node, "SELECT coalesce(queue.result($id, '10 s')::text, 'null')", user => 'reader'), 'null', 'no result');
	is(sql($node, "SELECT queue.explain_job($id)", user => 'reader'), sql($node, "SELECT queue.explain_job($rolled_back)"), 'explained like none');
}

# --- what ended in another database under the same number says nothing here
sql($node, 'CREATE DATABASE twin');
sql($node, 'CREATE EXTENSION queue', db => 'twin');
sql($node, "SELECT setval('queue.job_id', $rolled_back - 1); SELECT queue.enqueue('k'); SELECT queue.cancel($rolled_back)", db => 'twin');
one($node, "SELECT queue.wait_for($rolled_back, '0')", 'cancelled', 'known there', db => 'twin');
one($node, "SELECT queue.wait_for($rolled_back, '0') IS NULL", 't', 'not here');

# --- an uncommitted job of one's own
for my $call ("wait_for(queue.enqueue('k', '1', 'kept'), '20 s')", "result(queue.enqueue('k', '1', 'kept'), '20 s')")
{
	sqlstate_like($node, "SELECT queue.$call", '55000', qr/commit/i, "$call in one statement");
}
sqlstate_like($node, "BEGIN; SELECT queue.enqueue('k', '1', 'kept') AS id \\gset\nSELECT queue.wait_for(:id)", '55000', qr/Commit first/, 'in one transaction');

# --- result
is(wait_while($back, "SELECT count(*) FROM queue.fetch('kept'); SELECT queue.complete($back, result => '{\"r\": 1}')", "queue.result($back, '30 s')"),
	'{"r": 1}', 'result waits');
sqlstate_like($node, "SELECT queue.result($seen)", '55000', qr/keep_completed/, 'result of a job that was not kept');

# --- queue.max_wait caps both
my $waiting = enqueue('kept');
for my $call ("wait_for($waiting, '1 hour')", "wait_for($waiting)", "result($waiting, '1 hour')")
{
	my $t0 = time;
	sql($node, "SET queue.max_wait = '50 ms'; SELECT queue.$call");
	cmp_ok(time - $t0, '<', 10, "$call");
}

# --- a deadline that alter_job gives is met, one that it takes is not
my $given = enqueue('kept');
my ($taken) = sql($node, <<'EOS') =~ /(\d+)/;
BEGIN;
SELECT queue.enqueue('k', '1', 'kept', expires_at => clock_timestamp() + interval '500 ms') AS id \gset
SELECT queue.alter_job(:id, reset => '{expires_at}');
SELECT :id;
COMMIT;
EOS
sql($node, "SELECT queue.alter_job($given, expires_at => clock_timestamp() + interval '600 ms')");
wait_end($node, $given, 'cancelled', 'a job that was given expires_at');
one($node, "SELECT queue.wait_for($taken, '0')", 'available', 'one whose expires_at was taken');

# --- retry and the view touch and tell nothing of hidden jobs
my $locker = queue_session($node);
$locker->query_safe("BEGIN; SELECT id FROM queue.finished_job WHERE id = $ended FOR UPDATE");
is(sql($node, "SET statement_timeout = '60 s'; SELECT queue.retry($ended)", user => 'manager'), 'f', 'retry does not wait for a row of a hidden queue');
$locker->query_safe('COMMIT');
sql($node, "GRANT SELECT ON queue.job TO manager");
my $mine = queue_session($node);
$mine->query_safe("SELECT id FROM queue.fetch('secret', claim => 'session')");
one($node, "SELECT state FROM queue.job WHERE id = $secret", 'running', 'a session claim shows');
sql($node, 'GRANT USAGE ON SCHEMA queue_internal TO manager');
is(sql($node, "SELECT queue_internal.job_state($secret, now(), NULL, 0)", user => 'manager'), 'available', 'and is hidden from who may not read');
one($node, "SELECT count(*) FROM queue.job WHERE state = 'running'", 1, 'found by state');
$mine->quit;

# --- many
sql($node, "SELECT count(*) FROM queue.enqueue_many('m', array_fill('1'::jsonb, ARRAY[20000]), 'kept')");
sql($node, "SELECT count(queue.cancel(id)) FROM queue.job WHERE kind = 'm'");
my $t0 = time;
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'm' AND state = 'cancelled' AND queue.retry(id)", 20000, '20000 jobs retried');
cmp_ok(time - $t0, '<', 60, 'quickly');
one($node, "SELECT count(*), min(failures), bool_and(state = 'available') FROM queue.job WHERE kind = 'm'", '20000|0|t', 'all are back');

# --- the memory is bounded, and ends with the extension
sql($node, "SELECT count(queue.cancel(id)) FROM queue.job WHERE kind = 'm'");
one($node, "SELECT queue.wait_for($seen, '0') IS NULL", 't', 'an older end is forgotten');
my $last = enqueue('brief');
sql($node, "SELECT queue.cancel($last)");
one($node, "SELECT queue.wait_for($last, '0')", 'cancelled', 'the last one is not');
sql($node, 'DROP EXTENSION queue CASCADE; CREATE EXTENSION queue');
sql($node, "SELECT count(*) FROM queue.enqueue_many('k', array_fill('1'::jsonb, ARRAY[10]))");
one($node, "SELECT queue.wait_for($last, '0') IS NULL", 't', 'a new extension remembers nothing of the old one');

done_testing();
