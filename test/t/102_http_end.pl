# How the http worker ends: SIGTERM with requests in flight, the deadline, kill -9, an immediate stop of the server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use POSIX ();
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(usleep);

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('http_end', conf => "queue.log_level = 'debug1'\nqueue.shutdown_timeout = '1min'");

sub worker { return sql($node, "SELECT coalesce(max(pid), 0) FROM queue.stat_worker WHERE type = 'http' AND pid IS NOT NULL"); }

# idempotency key => number of answers with 200 that were sent
sub answers
{
	my %seen;
	$seen{ $_->{'idempotency-key'} }++ for grep { $_->{status} == 200 } $server->seen('answer');
	return \%seen;
}
sub enqueue { my ($kind, $n, $file) = @_; return sql($node, "SELECT count(*) FROM queue.enqueue_many('$kind', array_fill('{\"file\": \"" . ($file // '') . "\"}'::jsonb, ARRAY[$n]))"); }
sub none_left { my ($name) = @_; return wait_true($node, 'SELECT count(*) = 0 FROM queue.live_job', $name); }

# --- SIGTERM, 100 in flight that end before the deadline: all are recorded
sql($node, "SELECT queue.register_http_handler('second', '" . $server->url('/file') . "', max_running => 100, timeout => '10 min')");
enqueue('second', 300, 'term');
wait_true($node, "SELECT in_flight = 100 FROM queue.stat_endpoint", '100 in flight');
my $pid = worker();
kill 'TERM', $pid;
$server->say_status('term', 200);
ok(gone($pid), 'SIGTERM ends the worker, before the deadline');
none_left('another worker sends the rest');
{
	my $done = answers();
	is(scalar(keys %$done), 300, 'every job was answered');
	is(scalar($server->seen('request')), 300, 'nothing was sent after SIGTERM that was not answered');
	is(scalar(grep { $_ > 1 } values %$done), 0, 'none twice');
	one($node, 'SELECT count(*) FROM queue.job_error', 0, 'and none failed');
}

# --- SIGTERM, requests that do not end: released uncounted at the deadline
sql($node, q{ALTER SYSTEM SET queue.shutdown_timeout = '1s'});
sql($node, 'SELECT pg_reload_conf()');
$server->forget;
sql($node, "SELECT queue.unregister_handler('second'); SELECT queue.register_http_handler('hang', '" . $server->url('/hang') . "', max_running => 50, timeout => '10 min')");
enqueue('hang', 60);
wait_true($node, "SELECT in_flight = 50 FROM queue.stat_endpoint", '50 in flight');
sql($node, "SELECT queue.pause_handler('hang')");
$pid = worker();
kill 'TERM', $pid;
ok(gone($pid), 'SIGTERM ends it, at the deadline');
one($node, "SELECT count(*), sum(failures), count(*) FILTER (WHERE state = 'available') FROM queue.job", '60|0|60', 'its jobs are released, uncounted');
one($node, "SELECT sum(attempt) FROM queue.job", 50, 'their attempts stand');

# --- SIGTERM, requests that do not end, whose jobs are cancelled: nothing is waited for
sql($node, q{ALTER SYSTEM SET queue.shutdown_timeout = '1h'});
sql($node, "SELECT pg_reload_conf(), queue.resume_handler('hang')");
wait_true($node, "SELECT in_flight = 50 FROM queue.stat_endpoint", '50 in flight again');
sql($node, "SELECT queue.pause_handler('hang')");
$pid = worker();
kill 'TERM', $pid;
wait_true($node, "SELECT state = 'stopping' FROM queue.stat_worker WHERE pid = $pid", 'SIGTERM: the worker lets them end');
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE state = 'running'");
ok(gone($pid), 'and ends when their jobs are cancelled');
sql($node, q{SELECT queue.delete_jobs('{"state": "cancelled"}')});

# --- a restart of the server with requests in flight, which have the time to end
sql($node, 'ALTER SYSTEM RESET queue.shutdown_timeout');
sql($node, 'SELECT pg_reload_conf()');
sql($node, "SELECT queue.purge('default'); SELECT queue.unregister_handler('hang')");
$server->forget;
sql($node, "SELECT queue.register_http_handler('second', '" . $server->url('/file') . "', max_running => 100, timeout => '10 min')");
enqueue('second', 150, 'restart');
wait_true($node, "SELECT in_flight = 100 FROM queue.stat_endpoint", '100 in flight');
{
	# the answers come when the server has been told to stop
	my $from = -s $node->logfile;
	my $child = fork() // die "fork: $!";
	if ($child == 0)
	{
		usleep(10_000) until slurp_file($node->logfile, $from) =~ /received fast shutdown request/;
		$server->say_status('restart', 200);
		POSIX::_exit(0);
	}
	$node->restart;
	waitpid($child, 0);
}
none_left('after the restart the rest is sent');
{
	my $done = answers();
	is(scalar(keys %$done), 150, 'every job was answered');
	is(scalar(grep { $_ > 1 } values %$done), 0, 'none twice');
}

# --- crashes: every job arrives; twice only what was not recorded before, with the same key
for my $how ('kill -9 of the worker', 'immediate stop')
{
	$server->forget;
	sql($node, "SELECT queue.register_http_handler('second', '" . $server->url('/sleep/0.2') . "', max_running => 20)");
	enqueue('second', 400);
	wait_true($node, "SELECT succeeded > 60 FROM queue.stat_endpoint", "$how: some are done");
	$pid = worker();
	my %live = map { $_ => 1 } split /\n/, sql($node, 'SELECT id FROM queue.live_job');
	if ($how =~ /kill/)
	{
		kill_9($node, $pid);
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	poll($node, 'SELECT true') or die 'no server';
	none_left("$how: all are sent");
	my %answered;
	$answered{ $_->{job} }++ for grep { $_->{status} == 200 } $server->seen('answer');
	is(scalar(keys %answered), 400, "$how: every job was answered");
	my @twice = grep { $answered{$_} > 1 } keys %answered;
	is(scalar(grep { !$live{$_} } @twice), 0, "$how: none twice whose end was recorded before (" . @twice . ' twice)');
	my %keys;
	$keys{ $_->{'queue-job-id'} }{ $_->{'idempotency-key'} } = 1 for $server->seen('request');
	is(scalar(grep { keys %$_ > 1 } values %keys), 0, "$how: always with the same Idempotency-Key");
}

# --- one that ends again and again is named
my $pid = 0;
for (1 .. 3)
{
	wait_true($node, "SELECT pid <> $pid AND state <> 'starting' FROM queue.stat_worker WHERE type = 'http'", 'the http worker is there');
	$pid = worker();
	sql($node, "SELECT pg_terminate_backend($pid)");
}
doctor_like($node, qr/^http worker \| the http worker ended \d times in a row/m, 'doctor() tells');
wait_true($node, "SELECT ok FROM queue.doctor() WHERE check_name = 'http worker'", 'until one lasts');

# --- the installation's uuid comes along in a dump
my $uuid = sql($node, 'SELECT id FROM queue.installation');
my $dump = $PostgreSQL::Test::Utils::tmp_check . '/dump.sql';
$node->run_log([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ]);
sql($node, 'CREATE DATABASE copy');
$node->run_log([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ]);
one($node, 'SELECT id FROM queue.installation', $uuid, 'a restored database has the same uuid', db => 'copy');
one($node, 'SELECT state FROM queue.stat_handler', 'parked', 'its handler is parked', db => 'copy');
one($node, 'SELECT count(*) FROM queue.endpoint', 1, 'it has the endpoint', db => 'copy');
$server->forget;
sql($node, q{SELECT queue.enqueue('second')}, db => 'copy');
one($node, 'SELECT queue.wait_for((SELECT id FROM queue.job), $$0.5 s$$)', 'available', 'nothing is sent', db => 'copy');
is(scalar($server->seen('request')), 0, 'nothing at all');
sql($node, 'SELECT queue.adopt()', db => 'copy');
wait_true($node, 'SELECT count(*) = 0 FROM queue.job', 'but after adopt()', db => 'copy');

$server->stop;
$node->stop('fast');
done_testing();
