# await_idle waits without a snapshot until nothing of a queue is due or runs; pause('*') stops all queues, also new ones.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('idle', far_look => 0);
sql($node, <<'EOS');
SELECT queue.create_queue('q'), queue.create_queue('other');
CREATE ROLE worker; CREATE ROLE manager;
SELECT queue.grant_queue('q', 'worker', 'work'), queue.grant_queue('q', 'manager', 'manage');
SELECT queue.register_sql_handler('job', 'h', timeout => '0', backoff => '{"type": "fixed", "base": "1 hour"}');
EOS

# A session that calls await_idle sleeps; then something happens.  It has a minute, so only a wake ends it early.
sub idle_after
{
	my ($name, $happens, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $session = queue_session($node);
	$session->query_until(qr/waiting/, "\\echo waiting\nCALL queue.await_idle('q', '1 min');\n");
	poll($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL queue.await_idle%' AND wait_event_type = 'Extension'");
	# (it may be looking just now)
	wait_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity a LEFT JOIN pg_locks l USING (pid) WHERE query LIKE 'CALL queue.await_idle%'
		AND (backend_xmin IS NOT NULL OR l.locktype = 'relation')}, "$name: it sleeps without a snapshot and without locks");
	my $t0 = time;
	sql($node, $happens);
	my $said = $session->query('SELECT 1') . $session->{stderr};
	like($said, $expected // qr/^t/, $name);
	cmp_ok(time - $t0, '<', 30, "$name: at once");
	$session->quit;
	return;
}

one($node, "CALL queue.await_idle('q', '1 min')", 't', 'an empty queue is idle');
sql($node, q{SELECT queue.enqueue('x', '{}', 'q', delay => '1 hour'), queue.enqueue('x', '{}', 'other')});
one($node, "CALL queue.await_idle('q', '1 min')", 't', 'what is due later does not count, nor does another queue');

my $fetch = q{SELECT id FROM queue.fetch('q', 10)};
sub enqueue { return sql($node, q{SELECT queue.enqueue('x', '{}', 'q')}); }
my $id = enqueue();
one($node, "CALL queue.await_idle('q', '1 ms')", 'f', 'a job that is due counts');
sql($node, $fetch);
one($node, "CALL queue.await_idle('q', '1 ms')", 'f', 'so does one that runs');
idle_after('complete', "SELECT queue.complete($id, 1)");
$id = enqueue();
sql($node, $fetch);
idle_after('fail', "SELECT queue.fail($id, 1, 'no', '1 hour')");
$id = enqueue();
sql($node, $fetch);
idle_after('snooze', "SELECT queue.snooze($id, '1 hour', 1)");
$id = enqueue();
idle_after('alter_job', "SELECT queue.alter_job($id, run_at => now() + interval '1 hour')");
$id = enqueue();
idle_after('move_jobs', "SELECT queue.move_jobs('{\"ids\": $id}', 'other')");
enqueue() for 1 .. 3;
idle_after('purge', "SELECT queue.purge('q')");
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('x', '{}', 'q', n) FROM generate_series(1, 200) n) s});
idle_after('many ends', 'SELECT queue.complete(id, attempt) FROM queue.fetch(\'q\', 1000)');
enqueue();
idle_after('drop_queue', "SELECT queue.drop_queue('q', true)", qr/queue "q" does not exist/);
sql($node, "SELECT queue.create_queue('q'), queue.grant_queue('q', 'worker', 'work'), queue.grant_queue('q', 'manager', 'manage')");

# executors: while a job runs its row is there, whoever commits what
{
	my $holder = queue_session($node);
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql($node, q{SELECT queue.enqueue('job', '{"lock": 1}', 'q'), queue.enqueue('job', '{"raise": "22012"}', 'q')});
	wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted", 'an executor runs a job');
	one($node, "CALL queue.await_idle('q', '1 ms')", 'f', 'the queue is not idle');
	idle_after('an executor', 'SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = \'advisory\' AND granted AND objid = 1');
	$holder->quit;
}
sqlstate_like($node, "SET ROLE worker; CALL queue.await_idle('q')", '42501', qr/permission denied|lacks privilege read/, 'it needs the privilege read');
sqlstate_like($node, "BEGIN; CALL queue.await_idle('q')", '25001', qr/autocommit/, 'and no transaction block');

# --- pause('*')
sqlstate_like($node, "SET ROLE manager; SELECT queue.pause('*')", '42501', qr/manage/, 'manage on one queue does not do');
sql($node, "SELECT queue.register_http_handler('call', '" . $server->url('/status/200') . "')");
sql($node, "SELECT queue.pause('*'), queue.pause('*'), queue.pause('other')");
sql($node, "SELECT queue.create_queue('new'), queue.alter_queue('new', keep_completed => '1 day')");
my ($job, $call, $x) = split /\|/, sql($node, q{SELECT queue.enqueue('job', '{"note": "paused"}', 'new'), queue.enqueue('call', '{}', 'new'), queue.enqueue('x', '{}', 'new')});
one($node, q{SELECT bool_and(all_paused_at IS NOT NULL), string_agg(queue, ',') FILTER (WHERE paused_at IS NOT NULL) FROM queue.stat_queue}, 't|other',
	'stat_queue shows both switches');
wait_true($node, "SELECT queue.explain_job($job) ~ 'waits: all queues are paused since 20'", 'explain_job says so');
one($node, "SELECT queue.explain_job(id) ~ 'waits: queue other is paused since .*; all queues are paused since' FROM queue.job WHERE queue = 'other' LIMIT 1",
	't', 'of a queue that is paused by itself too');
doctor_like($node, qr/queue paused \| all queues are paused since .* \| Run SELECT queue\.resume\('\*'\)/, 'doctor() too');
one($node, "SELECT count(*) FROM queue.fetch('new')", 0, 'fetch gives nothing');
one($node, "SELECT count(*) FROM queue.test_drain('new')", 0, 'nor does test_drain');
sqlstate_like($node, "SELECT queue.test_run($job)", '55000', qr/cannot run: available; waits: all queues are paused/, 'test_run refuses');
one($node, "CALL queue.await('{new}', '1 ms')", 'f', 'await sees nothing');
one($node, "CALL queue.await_idle('new', '1 ms')", 'f', 'what is due waits');
sqlstate_like($node, "SELECT queue.alter_queue('*', max_attempts => 1)", '22023', qr/stands for all/, '* is no queue');
one($node, "SELECT string_agg(state, ',') FROM queue.job WHERE queue = 'new'", 'available,available,available', 'nothing was begun');
# in a session that waits for jobs, the switch wakes
{
	my $session = queue_session($node);
	$session->query_until(qr/waiting/, "\\echo waiting\nSET queue.max_wait = '1h'; SELECT id FROM queue.fetch('new', wait => '1 hour');\n");
	poll($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%wait => %' AND wait_event_type = 'Extension'");
	sql($node, "SELECT queue.resume('*'), queue.resume('*')");
	like($session->query_safe('SELECT 1'), qr/^$x$/m, 'resume wakes who waits');
	$session->quit;
}
wait_true($node, "SELECT count(*) = 2 FROM queue.job WHERE id IN ($job, $call) AND state = 'completed'", 'executors and the http worker go on');
one($node, "SELECT count(*) FROM queue.stat_queue WHERE all_paused_at IS NOT NULL OR (paused_at IS NOT NULL) <> (queue = 'other')", 0,
	'a queue that was paused by itself stays so');
one($node, "SELECT count(*) FROM queue.fetch('other')", 0, 'and gives nothing');

# --- a DROP EXTENSION that holds the tables when a call looks at them: the call tells that the extension is gone
{
	my $drop = queue_session($node);
	my @calls = ("CALL queue.await_idle('other', '1 min')", "CALL queue.await('{other}', '1 min')", 'SELECT id FROM queue.find_jobs()');
	my @sessions = map { queue_session($node) } 0 .. $#calls;
	my $fresh = queue_session($node);
	$sessions[$_]->query_safe($calls[$_] =~ s/1 min/1 ms/r) for 0 .. $#calls;
	$drop->query_safe('SET client_min_messages = error; BEGIN; DROP EXTENSION queue CASCADE');
	$sessions[$_]->query_until(qr/waiting/, "\\echo waiting\n$calls[$_];\n") for 0 .. $#calls;
	$fresh->query_until(qr/waiting/, "\\echo waiting\n$calls[0];\n");
	poll($node, q{SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'queue\.(await|find)'});
	$drop->query_safe('COMMIT');
	like($_->query('SELECT 1') . $_->{stderr}, qr/extension queue was dropped meanwhile/, 'a call that waited for DROP EXTENSION')
	  for @sessions, $fresh;
	$_->quit for $drop, @sessions, $fresh;
}

log_clean($node);
$server->stop if $server->can('stop');
done_testing();
