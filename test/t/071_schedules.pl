# Ticks come once: whoever is killed, however many call queue.tick(), whatever the clock does; in a promoted standby too.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# The minute began five seconds ago, so that few of the test's steps meet the end of one.
my $offset = 65 - time % 60;
my $node = queue_node('schedules', streaming => 1, conf => "queue.shutdown_timeout = 1s\nqueue.debug_clock_offset = ${offset}s\n");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('promoted');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

my $schedules = 50;
sql($node, <<"EOS");
CREATE TABLE ticked (schedule text, tick timestamptz, job bigint, run bigint);
CREATE FUNCTION tick_job(j queue.job) RETURNS void LANGUAGE sql AS
	\$\$INSERT INTO public.ticked VALUES (j.origin->>'schedule', (j.origin->>'tick')::timestamptz, j.id)\$\$;
SELECT queue.register_sql_handler('tick', 'tick_job');
SELECT queue.schedule('s' || i, '* * * * *', 'tick', timezone => (ARRAY['UTC', 'Europe/Berlin', 'Australia/Lord_Howe'])[i % 3 + 1]) FROM generate_series(1, $schedules) i;
EOS

# Every process sees the clock moved on by so much.

sub move_clock
{
	my ($seconds) = @_;
	$offset += $seconds;
	sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
	$node->reload;
	return;
}

# Every schedule has ticked up to the present minute, and its job has run.
sub wait_ticks
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "SELECT count(DISTINCT schedule) = $schedules FROM ticked WHERE tick = date_trunc('minute', clock_timestamp() + interval '$offset s')", $what);
}

# No tick twice, none left out.
sub once
{
	my ($what, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return one($o{node} // $node, <<'EOS', '50|50|50', $what);
SELECT count(*), count(*) FILTER (WHERE n = ticks), count(*) FILTER (WHERE n = 1 + extract(epoch FROM last - first)::int / 60)
FROM (SELECT count(*) AS n, count(DISTINCT tick) AS ticks, min(tick) AS first, max(tick) AS last FROM ticked GROUP BY schedule) x
EOS
}

# many callers at once, beside the scheduler
sub callers
{
	my ($n) = @_;
	my @running;
	for (1 .. $n)
	{
		my $out = '';
		push @running, [ IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT queue.tick()' ], '>', \$out, '2>', \$out), \$out ];
	}
	my $jobs = 0;
	for (@running)
	{
		$_->[0]->finish;
		$jobs += $1 if ${ $_->[1] } =~ /^(\d+)$/;
	}
	return $jobs;
}

move_clock(60);
wait_ticks('the scheduler ticks');
once('once each');

# --- kill -9 around a tick
for my $victim (qw(scheduler executor))
{
	my ($pid) = workers($node, $victim);
	($pid) = workers($node, 'scheduler') unless defined $pid;
	move_clock(60);
	kill('KILL', $pid);
	ok(gone($pid), "kill -9 of the $victim");
	wait_ticks('the tick comes all the same');
	once('and once');
}
for my $i (1 .. 3)
{
	move_clock(60);
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = split /\n/, sql($node, q{SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()});
	$node->kill9;
	ok(gone($postmaster), 'kill -9 of the postmaster');
	gone($_) for @children;
	$node->start;
	wait_ticks("restart $i after kill -9 of the postmaster");
	once('one job a tick');
}

# --- twenty callers at a time, one of them idle afterwards
my $idle = queue_session($node);
sql($node, "ALTER SYSTEM SET queue.databases = 'nowhere'");
$node->reload;
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue scheduler'", 'without the scheduler');
$offset += 60;
sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
$node->reload;
poll($node, "SELECT current_setting('queue.debug_clock_offset')::interval = '${offset} s'");
my $jobs = callers(20) + $idle->query_safe('SELECT queue.tick()');
cmp_ok($jobs, '>=', $schedules, 'twenty callers enqueue what is due');
is($jobs % $schedules, 0, 'each tick by one of them');
sql($node, "ALTER SYSTEM SET queue.databases = '*'");
$offset += 60;
sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
$node->reload;
callers(20);
wait_ticks('the callers and the scheduler together');
once('nothing twice');
$idle->quit;

# --- the clock goes back an hour, and forth
move_clock(-3600);
callers(3);
move_clock(3660);
wait_ticks('back and forth an hour');
once('nothing twice, nothing left out');

# --- a standby takes over
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
one($standby, 'SELECT count(*) FROM queue.schedule_status', $schedules, 'a standby shows the schedules');
sqlstate_like($standby, 'SELECT queue.tick()', '25006', qr/standby/, 'and does not tick');
move_clock(60);
$node->stop('immediate');
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
sql($standby, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
$standby->reload;
wait_true($standby, "SELECT count(DISTINCT schedule) = $schedules FROM ticked WHERE tick = date_trunc('minute', clock_timestamp() + interval '$offset s')", 'promoted, it ticks');
once('and makes no tick twice', node => $standby);
one($standby, 'SELECT sum(missed), sum(skipped) FROM queue.schedule_status', '0|0', 'nothing was missed or skipped');

# --- a restored copy ticks nothing before adopt(), and nothing from before then
my $dump = PostgreSQL::Test::Utils::tempdir . '/schedules.sql';
sql($standby, 'CREATE DATABASE copy TEMPLATE template0');
$standby->command_ok([ 'pg_dump', '-f', $dump, $standby->connstr('postgres') ], 'pg_dump');
$standby->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $standby->connstr('copy'), '-f', $dump ], 'restore');
sql($standby, 'TRUNCATE ticked', db => 'copy');
$offset += 7200;
sql($standby, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
$standby->reload;
wait_true($standby, "SELECT count(DISTINCT schedule) = $schedules FROM ticked WHERE tick = date_trunc('minute', clock_timestamp() + interval '$offset s')", 'the original ticks');
one($standby, "SELECT count(*), count(*) FILTER (WHERE state = 'parked' AND reason ~ 'copy') FROM queue.schedule_status", "$schedules|$schedules", 'the copy does not', db => 'copy');
one($standby, 'SELECT count(*) FROM ticked', '0', 'nothing ran there', db => 'copy');
sql($standby, 'SELECT queue.adopt()', db => 'copy');
$offset += 60;
sql($standby, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
$standby->reload;
wait_true($standby, "SELECT count(DISTINCT schedule) = $schedules FROM ticked WHERE tick = date_trunc('minute', clock_timestamp() + interval '$offset s')", 'adopted, it ticks', db => 'copy');
one($standby, 'SELECT max(n) <= 2 FROM (SELECT count(*) AS n FROM ticked GROUP BY schedule) x', 't', 'from then on', db => 'copy');

log_clean($standby);
$standby->stop;
done_testing();
