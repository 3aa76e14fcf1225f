# What an executor has locked for a moment, beside the job that it runs: calls that deal with it wait, and then do it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('moment');
sql($node, <<'EOS');
SET client_min_messages = error;
SELECT queue.create_queue('dead'), queue.create_queue('q', dead_letter => 'dead', max_attempts => 1), queue.create_queue('h');
CREATE FUNCTION hold(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT FROM queue.%I WHERE id = %s FOR UPDATE', j.payload->>'table', j.payload->>'id');
	PERFORM pg_advisory_xact_lock(4712);
END $$;
SELECT queue.register_sql_handler('hold', 'hold', '{h}', timeout => '0');
EOS
my $locker = queue_session($node);

# A handler stands with the row locked while the call begins, and ends when that waits for it; tells what the call gave.
sub beside
{
	my ($table, $id, $call) = @_;
	my $caller = queue_session($node);
	my $pid = $caller->query_safe('SELECT pg_backend_pid()');

	$locker->query_safe('SELECT pg_advisory_lock(4712)');
	my $job = sql($node, "SELECT queue.enqueue('hold', '{\"table\": \"$table\", \"id\": $id}', 'h')");
	poll($node, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712 AND NOT granted") or die 'no handler stands';
	$caller->query_until(qr/begun/, "\\echo begun\nSELECT 'gave ' || $call AS answer;\n\\echo over\n");
	poll($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND query LIKE '%AS answer%' AND
		(wait_event = 'transactionid' OR state = 'idle')") or die "$call does not begin";
	$locker->query_safe('SELECT pg_advisory_unlock(4712)');
	my $answer = $caller->query_until(qr/over/, "\\echo\n") . $caller->{stderr};
	$caller->quit;
	poll($node, "SELECT NOT EXISTS (SELECT FROM queue.live_job WHERE id = $job)") or die 'the handler does not end';
	return $answer =~ /gave (\w+)/ ? $1 : $answer;
}

# A job that was discarded, and its letter.
sub discarded
{
	my $id = sql($node, "SELECT queue.enqueue('k', queue => 'q')");
	sql($node, "SELECT queue.discard($id)");
	return ($id, sql($node, "SELECT id FROM queue.job WHERE queue = 'dead' AND state = 'available' AND (origin->>'id')::bigint = $id"));
}

my ($id, $letter) = discarded();
is(beside('live_job', $letter, "queue.redrive('dead')"), 1, 'redrive waits for a letter');
one($node, "SELECT state FROM queue.job WHERE id = $id", 'available', 'and brings its job back');
sql($node, "SELECT queue.purge('q')");

($id, $letter) = discarded();
is(beside('finished_job', $id, "queue.redrive('dead')"), 1, 'redrive waits for the original of a letter');
one($node, "SELECT string_agg(id || state, ' ') FROM queue.job WHERE id IN ($id, $letter)", "${id}available", 'and brings it back, once');
sql($node, "SELECT queue.purge('q')");

($id, $letter) = discarded();
is(beside('live_job', $letter, "queue.retry($id)"), 'true', 'retry waits for the letter of its job');
one($node, "SELECT string_agg(id || state, ' ') FROM queue.job WHERE id IN ($id, $letter)", "${id}available", 'and removes it');
sql($node, "SELECT queue.purge('q')");

($id, $letter) = discarded();
is(beside('finished_job', $id, "queue.delete_jobs('{\"ids\": [$id]}')"), 1, 'delete_jobs waits for a kept row');
one($node, "SELECT count(*) FROM queue.job WHERE id = $id", 0, 'and deletes it');

# What a session has is left alone, as before.
($id, $letter) = discarded();
$locker->query_safe("BEGIN; SELECT FROM queue.finished_job WHERE id = $id FOR UPDATE");
one($node, "SET statement_timeout = '180 s'; SELECT queue.redrive('dead')", 1, 'redrive takes the letter whose original is free');
one($node, "SELECT string_agg(id || state, ' ' ORDER BY id) FROM queue.job WHERE id IN ($id, $letter)",
	"${id}discarded ${letter}available", 'and leaves the one that a session has');
$locker->query_safe('COMMIT');
$locker->quit;

done_testing();
