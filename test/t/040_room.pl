# Out of room: locks, memory, open files, prepared transactions, connections.  What cannot go on waits or fails alone, the
# log is told of it once and not again and again, and all goes on by itself when there is room.  (Worker slots: 033, lines:
# 031, a full disk: 401.)
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $node = queue_node('room', start => 0, conf => <<'EOS');
autovacuum = off
max_locks_per_transaction = 10
max_connections = 12
max_prepared_transactions = 1
superuser_reserved_connections = 1
queue.executors = 4
EOS

# How often the log says so, from a place in it on.
sub said
{
	my ($re, $from) = @_;
	my $n = () = slurp_file($node->logfile, $from) =~ /$re/g;
	return $n;
}

# Starts it with these limits of the system.
sub start_with
{
	my ($limits) = @_;
	command_ok([ 'bash', '-c', "ulimit $limits && exec pg_ctl -w -s -D '" . $node->data_dir . "' -l '" . $node->logfile . "' start" ],
		"a server with ulimit $limits");
	$node->_update_pid(1);
	return;
}

# --- a job for which there is no memory, and a worker for which there are few files
# (a server under a sanitizer needs more of both than can be had)
if ($ENV{QUEUE_SERVER_UNDER}) { $node->start }
else { start_with('-v 1500000 -n 150') }
queue_install($node, 'postgres');
sql($node, <<'EOS');
CREATE FUNCTION big(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t text := repeat('x', 1000000000);
BEGIN
	t := upper(t) || '';
END $$;
SELECT queue.register_sql_handler('big', 'big', timeout => '0');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
EOS
SKIP:
{
	skip 'the memory is not limited', 3 if $ENV{QUEUE_SERVER_UNDER};
	my $big = sql($node, "SELECT queue.enqueue('big', max_attempts => 1)");
	wait_end($node, $big, 'discarded', 'a job for which there is no memory fails');
	one($node, "SELECT sqlstate FROM queue.job_error WHERE job_id = $big", '53200', 'as out of memory');
	wait_end($node, sql($node, "SELECT queue.enqueue('job')"), 'completed', 'the next one runs');
}

my $server = HttpServer->new(dir => $dir);
my $url = $server->url('/file');
sql($node, "SELECT queue.register_http_handler('hook', '$url', timeout => '1 h')");
SKIP:
{
	skip 'the files are not limited', 5 if $ENV{QUEUE_SERVER_UNDER};
	sql($node, q{SELECT count(*) FROM queue.enqueue_many('hook', array_fill('{"file": "answer"}'::jsonb, '{200}'))});
	$node->wait_for_log(qr/at most \d+ HTTP requests run at once, because of the limit of open files/);
	my ($most) = slurp_file($node->logfile) =~ /at most (\d+) HTTP requests run at once/;
	cmp_ok($most, '<', 150, 'fewer requests than files are under way');
	wait_true($node, "SELECT sum(in_flight) = $most FROM queue.stat_endpoint", 'as many as it said');
	$server->say_status('answer', 200);
	wait_no_jobs($node, 'all are answered in the end');
	is(said(qr/at most \d+ HTTP requests/, 0), 1, 'the log tells it once');
	is(said(qr/Too many open files|EMFILE/, 0), 0, 'and no file was missing');
}
$server->stop;
$node->stop;

# --- no lock is free: not even a process can connect
$node->start;
$node->append_conf('postgresql.conf', 'queue.executors = 0');
$node->reload;
poll($node, "SELECT current_setting('queue.executors') = '0'");
sql($node, "SELECT count(*) FROM queue.enqueue_many('job', array_fill('{}'::jsonb, '{20}'))");
my $done = "SELECT count(*) FROM queue.job WHERE state NOT IN ('completed', 'cancelled', 'discarded')";
my ($launcher) = workers($node, 'launcher');
my $holder = queue_session($node);
my $watcher = queue_session($node);
$watcher->query($done);
my $from = -s $node->logfile;
$node->append_conf('postgresql.conf', 'queue.executors = 4');
# until not one more is to be had; a session keeps them although the statement fails
my $held = -1;
while (1)
{
	$holder->query('SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 100000) i');
	$holder->{stderr} = '';
	my ($now) = $holder->query("SELECT 'held ' || count(*) FROM pg_locks WHERE locktype = 'advisory'") =~ /held (\d+)/;
	last if !defined $now || $now == $held;
	$held = $now;
}
$node->reload;
# The launcher cannot read which databases there are, and no executor can connect.  (In the moment that the locks ran out a
# process may have let go of some, and then the jobs are done.)
my $ended = qr/background worker "queue executor" \(PID \d+\) exited with exit code 1/;
my $tries = 0;
my $began = time;
for my $clock (0, 15, 40)
{
	$node->append_conf('postgresql.conf', "queue.debug_clock_offset = '$clock s'");
	$node->reload;
	for (1 .. 600)
	{
		last if said($ended, $from) > $tries;
		my ($left) = $watcher->query("SELECT 'left ' || count(*) FROM queue.job WHERE kind = 'job' AND state <> 'completed'") =~ /left (\d+)/;
		$watcher->{stderr} = '';
		last if defined $left && $left == 0;
		usleep(100_000);
	}
	# those of the first time start together
	$tries = said($ended, $from);
}
# (what the clock of the queue went forward, and a busy machine's own time)
my $passed = 40 + time - $began;
cmp_ok($tries, '<=', 4 + $passed / 10, 'after a failure one is tried at a time');
cmp_ok(said(qr/role_parked: an executor of role \d+ could not connect/, $from), '<=', 1 + $passed / 60,
	'of all that cannot start the log tells once a minute');
cmp_ok(said(qr/\[$launcher\].*ERROR/, $from), '<=', 1 + $passed / 60, 'so it does of the launcher, that cannot read what databases there are');
is(said(qr/scheduler_stop/, $from), 0, 'and every scheduler stays');
$holder->quit;
$watcher->quit;
# the pause after the failure is over
$node->append_conf('postgresql.conf', "queue.debug_clock_offset = '5 min'");
$node->reload;
wait_no_jobs($node, 'with locks to be had all jobs run');

# --- no transaction can be prepared
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"prepared\"}'); PREPARE TRANSACTION 'one'");
sqlstate_like($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"refused\"}'); PREPARE TRANSACTION 'two'", '53200',
	qr/maximum number of prepared transactions/, 'one more is refused');
one($node, $done, '0', 'and its job is not there');
sql($node, "COMMIT PREPARED 'one'");
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'prepared'", 'the prepared one runs');
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"again\"}'); PREPARE TRANSACTION 'two'; COMMIT PREPARED 'two'");
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'again'", 'there is room again');
one($node, "SELECT count(*) FROM seen WHERE note = 'refused'", '0', 'what was refused never ran');

# --- clients take all connections
$watcher = queue_session($node);
my @clients;
while (@clients < 12)
{
	my $client = eval { queue_session($node) } or last;
	push @clients, $client;
}
cmp_ok(scalar @clients, '<', 12, 'no connection is left');
my ($id) = $watcher->query("SELECT 'id ' || queue.enqueue('job', '{\"note\": \"crowd\"}')") =~ /id (\d+)/;
like($watcher->query("SELECT queue.wait_for($id, '20 s')"), qr/completed/, 'jobs run all the same');
$_->quit for @clients, $watcher;
wait_no_jobs($node, 'nothing is left');
log_clean($node);
$node->stop;
done_testing();
