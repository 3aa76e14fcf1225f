# Unique keys where processes work: alone in their transactions, handed on through a crash, while an enqueue is open, by
# the http worker too; prepared, dumped and restored.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('keys', conf => <<'EOS');
queue.executors = 1
queue.commit_interval = 200ms
max_prepared_transactions = 5
EOS
sql($node, <<'EOS');
SELECT queue.alter_queue('default', keep_completed => '1 day');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
CREATE FUNCTION put(key text, payload jsonb, conflict text = 'replace', kind text = 'job') RETURNS text LANGUAGE sql AS
	$$ SELECT outcome FROM queue.enqueue_unique(kind, key, payload, jsonb_build_object('on_conflict', conflict)) $$;
EOS

sub states
{
	my ($key, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return one($node, "SELECT string_agg(payload->>'note' || ' ' || state || coalesce(' ' || last_error, ''), ', ' ORDER BY id)"
		  . " FROM queue.job WHERE unique_key = '$key'", $expected, $name);
}

# A job of this key that runs until the session ends; what locks it.
sub running
{
	my ($key, $lock) = @_;
	my $session = queue_session($node);
	$session->query_safe("SELECT pg_advisory_lock($lock)");
	sql($node, qq{SELECT put('$key', '{"note": "old", "lock": $lock}')});
	poll($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $lock AND NOT granted") or die 'it does not run';
	return $session;
}

# --- alone: an enqueue of the same key must not wait for other jobs' commit
sql($node, q{SELECT count(queue.enqueue('job', '{"note": "warm"}')) FROM generate_series(1, 30)});
wait_no_jobs($node, 'warm');
sql($node, <<'EOS');
SELECT queue.pause('default');
SELECT count(queue.enqueue('job', jsonb_build_object('note', 'plain'))), count(put('alone' || n, '{"note": "keyed"}')) FROM generate_series(1, 20) n;
SELECT queue.resume('default');
EOS
wait_no_jobs($node, 'all ended');
one($node, "SELECT count(*) FROM seen a WHERE note = 'keyed' AND EXISTS (SELECT FROM seen b WHERE a.xid = b.xid AND a.n <> b.n)", '0', 'a job with a key shares no commit');
one($node, "SELECT count(DISTINCT xid) < 20 FROM seen WHERE note = 'plain'", 't', 'the others do');
one($node, 'SELECT count(*) FROM queue.unique_key', '0', 'no key is left');

# --- 32 sessions on one key, beside the executor and two workers that end, fail and give back: never two live jobs, no
# error, no deadlock, and what is left of it is as it should be
{
	my $dir = PostgreSQL::Test::Utils::tempdir;
	append_to_file("$dir/put.sql", <<'EOS');
\set n random(0, 3)
\set m random(0, 1)
SELECT put('one', jsonb_build_object('n', :n), (ARRAY['ignore', 'replace', 'replace_payload', 'merge'])[:n + 1], (ARRAY['job', 'external'])[:m + 1]);
EOS
	append_to_file("$dir/work.sql", <<'EOS');
\set n random(0, 4)
SELECT CASE :n WHEN 0 THEN queue.release(id, attempt)::text WHEN 1 THEN queue.fail(id, attempt, 'no', '1 ms') WHEN 2 THEN queue.cancel(id)::text
	ELSE queue.complete(id, attempt)::text END FROM queue.fetch('default', 1, kinds => '{external}');
EOS
	append_to_file("$dir/look.sql", <<'EOS');
SELECT 1 / (count(*) < 2)::int FROM queue.live_job j JOIN queue.line l ON l.id = j.line WHERE j.extra ? 'unique_key' AND j.run_at <> 'infinity' GROUP BY l.kind;
EOS
	$node->command_checks_all(
		[ 'pgbench', '-n', '-c', '35', '-j', '2', '-T', '4', '-f', "$dir/put.sql\@32", '-f', "$dir/work.sql\@2", '-f', "$dir/look.sql\@1", $node->connstr('postgres') ],
		0, [qr/number of failed transactions: 0/], [qr/^$|vacuum|starting/], '35 sessions');
	sql($node, "SELECT queue.cancel_jobs('{\"queue\": \"default\", \"kind\": \"external\"}')");
	wait_no_jobs($node, 'all ended');
	one($node, 'SELECT count(*) FROM queue.unique_key', '0', 'no key is left');
	unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');
}

# --- an enqueue beside the run: nobody waits, and the successor runs next
my $hold = running('beside', 11);
one($node, q{SELECT put('beside', '{"note": "new"}')}, 'successor', 'a request beside the run');
states('beside', 'old running, new pending', 'waits for its end');
$hold->quit;
wait_no_jobs($node, 'both ended');
states('beside', 'old completed, new completed', 'one after the other');

# --- an enqueue that is still open when the handler returns: the end waits for it
for my $end (qw(COMMIT ROLLBACK))
{
	my $key = lc $end;
	my $open = queue_session($node);
	my $hold = running($key, 12);
	$open->query_safe('BEGIN');
	is($open->query_safe(qq{SELECT put('$key', '{"note": "new"}')}), 'successor', "an open request ($end)");
	$hold->quit;
	wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue executor' AND wait_event_type = 'Lock'", 'the end waits for it');
	one($node, "SELECT count(*) FROM queue.job WHERE unique_key = '$key' AND state = 'completed'", '0', 'as long as it is open');
	$open->query_safe($end);
	wait_no_jobs($node, 'no job is left');
	states($key, $end eq 'COMMIT' ? 'old completed, new completed' : 'old completed', 'then it hands the key on, or not');
	$open->quit;
}

# --- the executor dies: what it ran is replaced, and not run again
$hold = running('killed', 13);
one($node, q{SELECT put('killed', '{"note": "new"}')}, 'successor', 'a request beside a run');
my ($pid) = workers($node, 'executor');
kill('KILL', $pid);
ok(gone($pid), 'that is killed');
eval { $hold->quit };
poll($node, 'SELECT true') or die 'the server did not come back';
wait_no_jobs($node, 'both ended');
states('killed', 'old cancelled replaced, new completed', 'the old one is replaced, the new one runs');

# --- a stop while an end waits for an open enqueue
my $open = queue_session($node);
$hold = running('stopped', 14);
$open->query_safe('BEGIN');
$open->query_safe(q{SELECT put('stopped', '{"note": "new"}')});
$hold->quit;
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue executor' AND wait_event_type = 'Lock'", 'an end waits');
$node->stop('fast');
eval { $open->quit };
$node->start;
wait_no_jobs($node, 'it ends after the start');
states('stopped', 'old completed', 'the open request is gone');
one($node, 'SELECT count(*) FROM queue.unique_key', '0', 'no key is left');

# --- the http worker never waits for a key: other answers are recorded meanwhile
sql($node, "SELECT queue.register_http_handler('web', '" . $server->url('/status/200') . "'), queue.register_http_handler('slow', '" . $server->url('/file') . "', timeout => '10 min')");
sql($node, q{SELECT put('web', '{"note": "old", "file": "one"}', kind => 'slow')});
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE unique_key = 'web'", 'a request is under way');
$open = queue_session($node);
$open->query_safe('BEGIN');
is($open->query_safe(q{SELECT put('web', '{"note": "new", "file": "one"}', kind => 'slow')}), 'successor', 'and an enqueue of its key is open');
$server->say_status('one', 200);
wait_true($node, "SELECT in_flight = 0 FROM queue.stat_endpoint WHERE kind = 'slow'", 'it is answered');
my $answered = sql($node, q{SELECT queue.enqueue('slow', '{"note": "other", "file": "one"}')});
wait_end($node, $answered, 'completed', 'what was sent later is recorded');
states('web', 'old running', 'the one with the key waits');
$open->query_safe('COMMIT');
$open->quit;
wait_no_jobs($node, 'both ended');
states('web', 'old completed, new completed', 'both were sent');

# --- prepared, and through a restart
sql($node, q{BEGIN; SELECT put('prepared', '{"note": "first"}', 'ignore', 'external'); PREPARE TRANSACTION 'k'});
$node->restart;
my $waits = queue_session($node);
$waits->query_until(qr/asked/, qq{\\echo asked\nSELECT put('prepared', '{"note": "second"}', 'ignore', 'external');\n});
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'second' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()", 'an enqueue waits for what is prepared');
sql($node, "COMMIT PREPARED 'k'");
like($waits->query_safe("SELECT string_agg(payload->>'note', ', ') FROM queue.job WHERE unique_key = 'prepared'"), qr/existing\nfirst$/, 'and finds the key taken');
$waits->quit;

# --- dumped and restored: the same jobs have the same keys
sql($node, <<'EOS');
SELECT queue.enqueue('external', '{"note": "ended"}', unique_key => 'window', unique_for => '1 day');
SELECT queue.cancel_jobs('{"queue": "default", "kind": "external", "unique_key": "window"}');
SELECT put('runs', '{"note": "old"}', kind => 'external');
SELECT count(*) FROM queue.fetch('default', 10, kinds => '{external}', lease => '1 day');
SELECT put('runs', '{"note": "new"}', kind => 'external');
CREATE DATABASE copy TEMPLATE template0;
EOS
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
one($node, q{SELECT put('prepared', '{}', 'ignore', 'external') || ' ' || put('window', '{}', 'ignore', 'external') || ' ' || put('runs', '{"note": "newer"}', kind => 'external')},
	'existing existing replaced', 'the keys are taken in the copy', db => 'copy');
one($node, q{SELECT queue.complete(id, attempt) FROM queue.job WHERE payload->>'note' = 'old' AND state = 'running'}, 't', 'the running one ends', db => 'copy');
one($node, q{SELECT payload->>'note' FROM queue.fetch('default', kinds => '{external}')}, 'newer', 'and its successor comes', db => 'copy');

log_clean($node, except => 'terminating connection because of crash');
$node->stop;
done_testing();
