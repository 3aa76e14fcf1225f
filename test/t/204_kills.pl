# Random kills while workers of every claim mode work: clients (kill -9), their connections, the server (a backend dies
# of SIGKILL: crash recovery), and PgBouncer if it is installed.  No job is lost; in the transactional mode, and where a
# job's effect is in the transaction that completes it, none is done twice; elsewhere at least once, duplicates counted.
# QUEUE_TEST_KILLS=60 runs a minute of it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);
use POSIX ();

my $seconds = $ENV{QUEUE_TEST_KILLS} // 15;
my $node = queue_node('kills', conf => "max_connections = 80\nqueue.max_wait = 2s");
my $port = $node->port;
my $host = $node->host;
sql($node, <<'EOS');
CREATE TABLE effect (mode text, job_id bigint, attempt int);
CREATE TABLE entered (mode text, job_id bigint);
EOS

# Each mode: what one round of a worker runs.  `effect` is written in the transaction that completes (exactly once),
# or before it in one of its own (at least once).
my %mode = (
	transaction => <<'EOS',
BEGIN;
SELECT id, attempt, id IS NOT NULL AS got FROM (SELECT 1) x LEFT JOIN queue.fetch('transaction', wait => '500 ms', lease => '2 s') ON true \gset
\if :got
INSERT INTO effect VALUES ('transaction', :id, :attempt);
SELECT queue.complete(:id, :attempt);
\endif
COMMIT;
EOS
	lease => <<'EOS',
SELECT id, attempt, id IS NOT NULL AS got FROM (SELECT 1) x LEFT JOIN queue.fetch('lease', wait => '500 ms', lease => '2 s') ON true \gset
\if :got
INSERT INTO effect VALUES ('lease', :id, :attempt);
SELECT queue.complete(:id, :attempt);
\endif
EOS
	fenced => <<'EOS',
SELECT id, attempt, id IS NOT NULL AS got FROM (SELECT 1) x LEFT JOIN queue.fetch('fenced', wait => '500 ms', lease => '2 s') ON true \gset
\if :got
BEGIN;
INSERT INTO effect SELECT 'fenced', :id, :attempt WHERE queue.complete(:id, :attempt);
COMMIT;
\endif
EOS
	onecall => <<'EOS',
SELECT coalesce(max(id), 0) AS id, coalesce(max(attempt), 0) AS attempt FROM queue.fetch('onecall', lease => '2 s', complete_ids => ARRAY[:id::bigint], complete_attempts => ARRAY[:attempt::int]) \gset
INSERT INTO effect SELECT 'onecall', :id, :attempt WHERE :id > 0;
SELECT CASE WHEN :id = 0 THEN pg_sleep(0.05) END \g /dev/null
EOS
	session => <<'EOS',
SELECT id, attempt, id IS NOT NULL AS got FROM (SELECT 1) x LEFT JOIN queue.fetch('session', wait => '500 ms', claim => 'session') ON true \gset
\if :got
BEGIN;
INSERT INTO effect SELECT 'session', :id, :attempt WHERE queue.complete(:id, :attempt);
COMMIT;
\endif
EOS
	await => <<'EOS',
CALL queue.await('{await}', '500 ms') \g /dev/null
SELECT id, attempt, id IS NOT NULL AS got FROM (SELECT 1) x LEFT JOIN queue.fetch('await', lease => '2 s') ON true \gset
\if :got
BEGIN;
INSERT INTO effect SELECT 'await', :id, :attempt WHERE queue.complete(:id, :attempt);
COMMIT;
\endif
EOS
);
my %once = map { $_ => 1 } qw(transaction fenced session await);
my $dir = PostgreSQL::Test::Utils::tempdir;
foreach my $mode (keys %mode)
{
	sql($node, "SELECT queue.create_queue('$mode', max_attempts => 1000, backoff => '{\"type\": \"fixed\", \"base\": \"100 ms\"}')");
	append_to_file("$dir/$mode.sql", "\\set id 0\n\\set attempt 0\n" . $mode{$mode} x 2000);
}

# PgBouncer in transaction mode before the server, for the modes that may use it
my ($bouncer, $bouncer_port);
my $pgbouncer = (grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];
sub start_bouncer
{
	$bouncer = fork();
	die 'fork' unless defined $bouncer;
	return if $bouncer;
	open STDOUT, '>', '/dev/null';
	open STDERR, '>&STDOUT';
	no warnings 'exec';
	exec $pgbouncer, '-q', "$dir/pgbouncer.ini";
	POSIX::_exit(1);
}
if ($pgbouncer)
{
	$bouncer_port = $port + 1;
	append_to_file("$dir/pgbouncer.ini", <<"EOS");
[databases]
postgres = host=$host port=$port dbname=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = $dir
listen_port = $bouncer_port
auth_type = any
pool_mode = transaction
default_pool_size = 8
logfile = $dir/pgbouncer.log
EOS
	my $user = getpwuid($<);
	my $ini = slurp_file("$dir/pgbouncer.ini") =~ s/dbname=postgres/dbname=postgres user=$user/r;
	unlink "$dir/pgbouncer.ini";
	append_to_file("$dir/pgbouncer.ini", $ini);
	start_bouncer();
}

# ---- clients: each a psql that is started again when it dies
my %client;    # pid => mode
my $stopping = 0;
my @modes = sort keys %mode;
my $psql = $node->installed_command('psql') if $node->can('installed_command');
$psql //= 'psql';
sub start_client
{
	my ($mode, $pooled) = @_;
	my $pid = fork();
	die 'fork' unless defined $pid;
	if ($pid)
	{
		$client{$pid} = [ $mode, $pooled ];
		return;
	}
	open STDIN, '<', "$dir/$mode.sql";
	open STDOUT, '>', '/dev/null';
	open STDERR, '>>', "$dir/client.log";
	no warnings 'exec';
	exec $psql, '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-h', $pooled ? $dir : $host, '-p', $pooled ? $bouncer_port : $port;
	POSIX::_exit(1);
}
sub reap
{
	while ((my $pid = waitpid(-1, POSIX::WNOHANG())) > 0)
	{
		my $c = delete $client{$pid} or next;
		start_client(@$c) unless $stopping;
	}
}

my %enqueued;
my %kills = map { $_ => 0 } qw(client connection server pgbouncer);
foreach my $mode (@modes)
{
	start_client($mode, 0) for 1 .. 2;
	# a session's claim needs a session; the await of PgBouncer's client has none while it waits
	start_client($mode, 1) if $pgbouncer && $mode ne 'session';
}
my $end = time + $seconds;
my $next_crash = time + $seconds / 3;
# A busy machine needs longer for a few kills, and a crash then takes so long that the next one would be due after each.
while (time < $end || (($kills{client} + $kills{connection} < 5 || !$kills{server}) && time < $end + 120))
{
	foreach my $mode (@modes)
	{
		my ($out, $err) = ('', '');
		my $rc = $node->psql('postgres', "SELECT queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[40]), '$mode')", stdout => \$out, stderr => \$err);
		# a lost answer may have committed: counted by what is there
		$enqueued{$mode}{$_} = 1 foreach split /\n/, $rc == 0 ? $out : '';
	}
	my $dice = rand;
	if (time > $next_crash && (time < $end || !$kills{server}))
	{
		$next_crash = time + $seconds / 3;
		my $pid = eval { sql($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1}) };
		if ($pid) { kill 'KILL', $pid; $kills{server}++; usleep(100_000); $node->poll_query_until('postgres', 'SELECT true'); }
	}
	elsif ($dice < 0.4)
	{
		my @pids = keys %client;
		kill 'KILL', $pids[ rand @pids ];
		$kills{client}++;
	}
	elsif ($dice < 0.7)
	{
		$node->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1});
		$kills{connection}++;
	}
	elsif ($dice < 0.8 && $pgbouncer)
	{
		kill 'KILL', $bouncer;
		waitpid $bouncer, 0;
		unlink "$dir/.s.PGSQL.$bouncer_port";
		start_bouncer();
		$kills{pgbouncer}++;
	}
	reap();
	usleep(30_000);
}
note join ', ', map { "$_: $kills{$_}" } sort keys %kills;
cmp_ok($kills{server}, '>=', 1, 'the server crashed at least once');
cmp_ok($kills{client} + $kills{connection}, '>=', 5, 'clients and connections were killed');

# ---- let the survivors finish, then count
my $drained = time + 240;
my $left = '';
while (time < $drained)
{
	reap();
	$left = eval { sql($node, q{SELECT string_agg(queue || ' ' || state || ' ' || n, ', ') FROM (SELECT queue, state, count(*) AS n FROM queue.job GROUP BY 1, 2) x}) } // 'no answer';
	last if $left eq '';
	usleep(200_000);
}
is($left, '', 'all jobs end');
$stopping = 1;
kill 'TERM', keys %client;
reap(), usleep(20_000) while %client;
if ($pgbouncer) { kill 'KILL', $bouncer; waitpid $bouncer, 0; }

foreach my $mode (@modes)
{
	my %done;
	$done{$_}++ foreach split /\n/, sql($node, "SELECT job_id FROM effect WHERE mode = '$mode'");
	my $jobs = keys %{ $enqueued{$mode} };
	my $lost = grep { !$done{$_} } keys %{ $enqueued{$mode} };
	my $twice = grep { $_ > 1 } values %done;
	is($lost, 0, "$mode: none of $jobs jobs is lost");
	if ($once{$mode}) { is($twice, 0, "$mode: none is done twice"); }
	else
	{
		# the effect commits before the completion: a kill in between does it again, as must be, once a kill
		cmp_ok($twice, '<=', $kills{client} + $kills{connection} + 12 * ($kills{server} + $kills{pgbouncer}), "$mode: at least once, $twice twice");
	}
}
log_clean($node, except => qr/terminated by signal 9/);
$node->stop;
done_testing();
