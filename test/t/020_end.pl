# Past the shutdown deadline every worker dies, wherever it waits: for a synchronous standby, for a lock.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $node = queue_node('end', streaming => 1, conf => "synchronous_commit = on\nsynchronous_standby_names = ''\nqueue.shutdown_timeout = 1s\nmax_prepared_transactions = 5\nautovacuum = off\n");

# Waits until a worker of this type waits for that.
sub wait_waiting
{
	my ($type, $event, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node,
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'queue $type' AND '$event' IN (wait_event, wait_event_type)", $name);
}

# One check: a fast stop does not wait for what never comes.
sub stops_in_time
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $t0 = time;
	$node->stop('fast');
	return cmp_ok(time - $t0, '<', 60, $name);
}

sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT queue.register_http_handler('call', 'http://127.0.0.1:1/', max_attempts => 5);
EOS

# --- a standby that never answers: an executor waits in COMMIT, the http worker where it records an outcome
sql($node, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$node->restart;
my $id = sql($node, q{SET synchronous_commit = off; SELECT queue.enqueue('job', '{"note": "standby"}')});
sql($node, q{SET synchronous_commit = off; SELECT queue.enqueue('call')});
wait_waiting('executor', 'SyncRep', 'an executor waits for a standby');
wait_waiting('http', 'SyncRep', 'so does the http worker');
stops_in_time('a fast stop does not wait for the standby');
$node->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''");
$node->start;
wait_no_jobs($node, 'nothing is lost', kinds => 'job');
one($node, "SELECT count(*) FROM seen WHERE note = 'standby'", '1', 'what was committed here is not run again');

# --- a lock that a prepared transaction holds
sql($node, "BEGIN; LOCK TABLE queue.queue; PREPARE TRANSACTION 'holds'");
sql($node, 'CREATE ROLE anybody');    # the configuration is read again
wait_waiting('scheduler', 'Lock', 'the scheduler waits for a lock');
stops_in_time('a fast stop does not wait for the lock');
$node->start;
sql($node, "ROLLBACK PREPARED 'holds'");

# an executor that waits for a lock of the job's own, with a handler that does not let itself be cancelled
sql($node, <<'EOS');
CREATE TABLE busy ();
CREATE FUNCTION stubborn(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		BEGIN
			LOCK TABLE public.busy;
			RETURN;
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
	END LOOP;
END $$;
SELECT queue.register_sql_handler('stubborn', 'stubborn', timeout => '0');
BEGIN; LOCK TABLE busy; PREPARE TRANSACTION 'busy';
SELECT queue.enqueue('stubborn');
EOS
wait_waiting('executor', 'Lock', 'an executor waits for a lock');
stops_in_time('a fast stop does not wait for that one either');
$node->start;
one($node, "SELECT failures FROM queue.job WHERE kind = 'stubborn'", '0', 'and its job is not counted as failed');
sql($node, "SELECT queue.pause('default'); ROLLBACK PREPARED 'busy'");

# --- pg_terminate_backend of a scheduler that waits: its executors are found by the next one, at their jobs
sql($node, "SELECT queue.create_queue('other')");
$id = sql($node, q{SELECT queue.enqueue('job', '{"note": "meanwhile", "lock": 4, "sleep": 600}', 'other')});
my $executor = wait_lock($node, 4);
sql($node, "BEGIN; LOCK TABLE queue.queue; PREPARE TRANSACTION 'holds'");
sql($node, 'DROP ROLE anybody');
wait_waiting('scheduler', 'Lock', 'the scheduler waits again');
my ($pid) = workers($node, 'scheduler');
sql($node, "SELECT pg_terminate_backend($pid)");
ok(gone($pid), 'it can be terminated');
sql($node, "ROLLBACK PREPARED 'holds'");
sql($node, q{SELECT queue.enqueue('job', '{"note": "beside"}', 'other')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'beside'", 'another one comes');
one($node, "SELECT pid, attempt FROM queue.stat_worker JOIN queue.job ON job_id = id WHERE id = $id", "$executor|1", 'the job that ran is still run by the same executor');
one($node, "SELECT queue.cancel($id)", 't', 'and can be cancelled there');
unlike(slurp_file($node->logfile), qr/was running in a process that died/, 'nobody was suspected');

# --- pg_cancel_backend ends only what a worker does just now
wait_true($node, "SELECT count(*) = 3 FROM queue.stat_worker WHERE type <> 'executor' AND state <> 'starting'", 'all workers are there');
my %before = map { $_ => join(',', workers($node, $_)) } qw(launcher scheduler http);
sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'queue %'") for 1 .. 3;
sql($node, "BEGIN; LOCK TABLE queue.queue; PREPARE TRANSACTION 'holds'");
sql($node, 'CREATE ROLE anybody');
wait_waiting('scheduler', 'Lock', 'the scheduler waits');
sql($node, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('queue scheduler', 'queue http')") for 1 .. 3;
sql($node, "ROLLBACK PREPARED 'holds'");
$id = sql($node, q{SELECT queue.resume('default'); SELECT queue.enqueue('job', '{"note": "cancelled"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'cancelled'", 'after it was cancelled it goes on');
is(join(',', workers($node, $_)), $before{$_}, "the $_ is the same process") for qw(launcher scheduler http);

# --- the launcher, last: nobody can connect while this lock is held
my $session = queue_session($node, 'postgres');
$session->query_safe(q{BEGIN; LOCK TABLE pg_catalog.pg_database; PREPARE TRANSACTION 'databases'});
$session->query_safe('SELECT pg_reload_conf()');
my $waits = 0;
for (1 .. 3000)
{
	$waits = $session->query_safe(q{SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE backend_type = 'queue launcher' AND wait_event_type = 'Lock'}) =~ /1/;
	last if $waits;
	Time::HiRes::usleep(50_000);
}
ok($waits, 'the launcher waits for a lock');
stops_in_time('a fast stop does not wait for the launcher');

log_clean($node);
done_testing();
