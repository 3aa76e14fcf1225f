# What goes wrong: one fault after the other, by the dice of the seed, and the server comes back from each.
package ChaosFaults;

use strict;
use warnings;

use Chaos;
use Exporter 'import';
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(faults_begin fault faults_of);
our ($node, $standby, $pool);
my ($s, %fault, $generation);

# Who works through PgBouncer finds the server where it is now.
sub write_pool
{
	open(my $out, '>', "$Chaos::dir/pgbouncer.ini") or die $!;
	print $out <<"END";
[databases]
postgres = host=$Chaos::settings{host} port=${\$node->port} user=$Chaos::settings{user}
[pgbouncer]
listen_addr =
listen_port = $Chaos::settings{pool_port}
unix_socket_dir = $Chaos::settings{host}
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
logfile = $Chaos::dir/pgbouncer.log
END
	close $out;
	kill 'HUP', $pool if $pool;
	return;
}

sub write_port
{
	open(my $out, '>', "$Chaos::dir/port.new") or die $!;
	print $out $node->port;
	close $out;
	rename "$Chaos::dir/port.new", "$Chaos::dir/port" or die $!;
	write_pool() if $Chaos::settings{pool_port};
	return;
}

sub faults_begin
{
	($node) = @_;
	$s = session(name => 'faults');
	my ($program) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
	$Chaos::settings{pool_port} = $node->port + 1 if $program && mixed('pgbouncer');
	write_port();
	if ($Chaos::settings{pool_port})
	{
		$pool = fork() // die "fork: $!";
		if (!$pool) { open(STDERR, '>', '/dev/null'); exec $program, '-q', "$Chaos::dir/pgbouncer.ini"; }
		for (1 .. 100) { last if -S "$Chaos::settings{host}/.s.PGSQL.$Chaos::settings{pool_port}"; nap(0.05); }
	}
	# (a tablespace has one place)
	make_standby() if setting('standby') && !setting('small') && mixed('fault failover', 0.5);
	return;
}

# What actors left prepared when they were stopped, and what others wait for.
sub commit_prepared
{
	ask($s, "COMMIT PREPARED '$_'") for ask($s, 'SELECT gid FROM pg_prepared_xacts');
	return;
}

sub faults_end { if ($pool) { kill 'TERM', $pool; waitpid($pool, 0); } return; }

# Asks the server, which answers sooner or later.
sub must
{
	my ($text) = @_;
	my $deadline = time + 120;
	while (time < $deadline)
	{
		my @rows = ask($s, "$text;\nSELECT 'well'");
		return @rows[ 0 .. $#rows - 1 ] if @rows;
		nap(0.1);
	}
	complain("the server does not come back: $s->{error}");
	die "the server does not come back\n";
}

sub make_standby
{
	must("ALTER SYSTEM RESET synchronous_standby_names;\nSELECT pg_reload_conf()");
	my $name = 'standby' . ++$generation;
	$node->backup($name);
	$standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->start;
	must("ALTER SYSTEM SET synchronous_standby_names = '*';\nSELECT pg_reload_conf()");
	return;
}

sub stop_node
{
	my ($mode) = @_;
	must('SELECT 1');
	my $began = time;
	if (!$node->stop($mode, fail_ok => 1))
	{
		my $left = `ps -o pid=,stat=,wchan:30=,args= --ppid $node->{_pid}`;
		complain("a $mode stop does not end; left are\n$left");
		$node->stop('immediate');
	}
	my $took = time - $began;
	complain(sprintf('%s stop took %.1f s', $mode, $took)) if $took > setting('stop_limit');
	return;
}

sub start_node { $node->start; return; }

# One process of a type, of ours or not.
sub one_of
{
	my ($type) = @_;
	my ($pid) = ask($s, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
	return $pid;
}

sub strike { my ($signal, @types) = @_; my $pid = one_of(pick(@types)) or return; kill $signal, $pid; return $pid; }

# kill -9, until the server has noticed: PostgreSQL (15 to 18) does not end by a fast stop that comes between a crash and the
# beginning of redo, because its postmaster waits for a checkpointer that nobody tells to end.
sub strike_dead
{
	my (@types) = @_;
	my $checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
	my ($before) = must($checkpointer);
	strike('KILL', @types) or return;
	for (1 .. 600)
	{
		my ($now) = must($checkpointer);
		return if ($now // $before) != $before;
		nap(0.05);
	}
	complain('nothing happened after a kill -9');
	return;
}
my @ours = ('queue executor', 'queue executor', 'queue scheduler', 'queue http');

# Something that a session does for a while.  It gives up waiting for locks of what is prepared: whoever is to commit that
# may stand behind it.
sub hold
{
	my ($text) = @_;
	ask($s, "SET lock_timeout = '2s';\n$text", timeout => 120);
	return;
}

# Connections that nobody uses: all that there are.
sub use_up_connections
{
	my @held;
	for (1 .. 200)
	{
		my $socket = IO::Socket::UNIX->new(Peer => "$Chaos::settings{host}/.s.PGSQL.${\$node->port}") or last;
		my $body = pack('N', 196608) . "user\0$Chaos::settings{user}\0database\0postgres\0\0";
		print $socket pack('N', 4 + length $body) . $body;
		$socket->flush;
		push @held, $socket;
		my $n = sysread($socket, my $answer, 1) // 0;
		last if $n == 0 || $answer eq 'E';
	}
	nap(0.3 + rand 1.5);
	close $_ for @held;
	return;
}

# No file of a process grows beyond what a segment of WAL has, for a moment.
sub no_room
{
	my @pids = ask($s, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'queue %' OR backend_type = 'client backend' AND pid <> pg_backend_pid()");
	# (one that has ended meanwhile has no limit; the others must not keep theirs because of it)
	system("prlimit --pid=$_ --fsize=1048576:unlimited 2>/dev/null") for @pids;
	nap(0.3 + rand 1.2);
	system("prlimit --pid=$_ --fsize=unlimited:unlimited 2>/dev/null") for @pids;
	return;
}

# A file system of the run's own is full.
sub full_disk
{
	my $small = setting('small') or return;
	system("dd if=/dev/zero of=$small/filler bs=64k 2>/dev/null");
	nap(0.3 + rand 2);
	unlink "$small/filler";
	return;
}

# A fifth of the jobs cannot be written, for a moment, for whatever reason.
sub refuse_rows
{
	hold("CREATE TRIGGER refuse BEFORE ${\pick('UPDATE', 'DELETE', 'UPDATE OR DELETE')} ON queue.live_job FOR EACH ROW"
		. " WHEN (OLD.id % 5 = ${\int rand 5}) EXECUTE FUNCTION refuse('${\pick(qw(P0001 23514 22003 53100 54000 57014 40001 42501))}')");
	nap(0.3 + rand 2);
	must("SET lock_timeout = '2s'; DROP TRIGGER IF EXISTS refuse ON queue.live_job");
	return;
}

%fault = (
	# [ how often, what ]
	kill_executor => [ 3, sub { strike_dead('queue executor') } ],
	kill_scheduler => [ 1, sub { strike_dead('queue scheduler') } ],
	kill_launcher => [ 1, sub { strike_dead('queue launcher') } ],
	kill_http => [ 1, sub { strike_dead('queue http') } ],
	kill_backend => [ 2, sub { strike_dead('client backend') } ],
	kill_other => [ 1, sub { strike_dead('checkpointer', 'walwriter', 'autovacuum launcher', 'background writer') } ],
	terminate => [ 4, sub { strike('TERM', 'client backend') } ],
	terminate_ours => [ 4, sub { strike('TERM', @ours, 'queue launcher') } ],
	cancel_ours => [ 3, sub { strike('INT', @ours, 'client backend') } ],
	stop => [ 4, sub { my $pid = strike('STOP', @ours, 'client backend', 'queue launcher') or return; nap(rand 2.5); kill 'CONT', $pid; } ],
	stop_other => [ 1, sub { my $pid = strike('STOP', 'walwriter', 'checkpointer', 'background writer') or return; nap(rand 1.5); kill 'CONT', $pid; } ],
	stop_long => [ 1, sub { my $pid = strike('STOP', @ours, 'client backend') or return; nap(3.2); kill 'CONT', $pid; } ],
	stop_then_kill => [ 1, sub { my $pid = strike('STOP', @ours) or return; nap(rand 1); strike_dead('queue executor'); kill 'CONT', $pid; } ],
	immediate => [ 2, sub { stop_node('immediate'); start_node(); } ],
	fast => [ 2, sub { stop_node('fast'); start_node(); } ],
	unloaded => [ 1, sub {
		stop_node(pick('fast', 'immediate'));
		$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
		start_node();
		nap(1 + rand 2);
		ask($s, 'SELECT queue.maintain()') for 1 .. 3;
		stop_node(pick('fast', 'immediate'));
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'");
		start_node();
	} ],
	failover => [ 1, sub {
		return unless $standby;
		# the old one is dead before the new one lives
		stop_node('immediate');
		$standby->promote;
		$node = $standby;
		write_port();
		make_standby();
	} ],
	lock_jobs => [ 2, sub { hold("BEGIN; LOCK TABLE queue.${\pick(qw(live_job line queue handler finished_job dependency unique_key live_key deadline workflow_base failure))} IN ${\pick('ACCESS EXCLUSIVE', 'SHARE', 'EXCLUSIVE')} MODE; SELECT pg_sleep(${\rand 1}); ROLLBACK") } ],
	lock_rows => [ 2, sub { hold("BEGIN; SELECT id FROM queue.live_job ORDER BY random() LIMIT 5 FOR ${\pick('UPDATE', 'SHARE', 'KEY SHARE')}; SELECT pg_sleep(${\rand 1}); ROLLBACK") } ],
	lock_workflows => [ 1, sub { hold('BEGIN; SELECT id FROM queue.workflow_base ORDER BY id DESC LIMIT 5 FOR UPDATE; SELECT pg_sleep(0.5); ROLLBACK') } ],
	lock_data => [ 2, sub { hold("BEGIN; SELECT FROM locked FOR UPDATE; SELECT pg_sleep(${\rand 1.5}); ROLLBACK") } ],
	rewrite => [ 1, sub { hold(pick('VACUUM FULL queue.live_job', 'REINDEX TABLE queue.live_job', 'VACUUM (FREEZE) queue.live_job', 'ANALYZE queue.live_job', 'VACUUM FULL queue.line',
			'REINDEX TABLE CONCURRENTLY queue.live_job', 'VACUUM FULL queue.live_key', 'VACUUM FULL queue.unique_key', 'CLUSTER queue.live_job USING live_job_pkey')) } ],
	snapshot => [ 2, sub { hold("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue.live_job; SELECT pg_sleep(${\(0.5 + rand 2)}); COMMIT") } ],
	settings => [ 2, sub {
		hold("ALTER SYSTEM SET ${\pick('queue.executors = 1', 'queue.executors = 4', q{queue.commit_interval = '1ms'}, q{queue.commit_interval = '20ms'}, q{queue.executor_idle_timeout = '200ms'})};\nSELECT pg_reload_conf()");
	} ],
	disabled => [ 1, sub { hold("ALTER SYSTEM SET queue.enabled = off;\nSELECT pg_reload_conf(), pg_sleep(${\rand 1});\nALTER SYSTEM RESET queue.enabled;\nSELECT pg_reload_conf()") } ],
	connections => [ 2, \&use_up_connections ],
	worker_slots => [ 2, sub {
		hold('SET max_parallel_workers_per_gather = 8; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;'
			. "SELECT sum(length(pg_sleep(0.0005)::text)) FROM big;\nRESET max_parallel_workers_per_gather");
	} ],
	room => [ 2, \&no_room ],
	refuse => [ 2, \&refuse_rows ],
	disk => [ 2, \&full_disk ],
	database => [ 1, sub {
		hold('CREATE DATABASE other');
		system($Chaos::psql, '-Xqc', 'CREATE EXTENSION queue; SELECT queue.enqueue(\'x\') FROM generate_series(1, 10)', '-d', $node->connstr('other'), '-o', '/dev/null');
		nap(rand 1);
		hold(pick("ALTER DATABASE other RENAME TO another;\nDROP DATABASE another", 'DROP DATABASE other WITH (FORCE)', "CREATE DATABASE another TEMPLATE other;\nDROP DATABASE another;\nDROP DATABASE other"));
		hold("DROP DATABASE IF EXISTS other WITH (FORCE);\nDROP DATABASE IF EXISTS another WITH (FORCE)");
	} ],
	checkpoint => [ 1, sub { hold('CHECKPOINT') } ],
	nothing => [ 3, sub { } ],
);

# Those of the mix, as often as their weights say; named: these alone.
sub faults_of
{
	my (@named) = @_;
	$Chaos::mix{"fault $_"} = 1 for @named;
	@named = grep { mixed("fault $_", 0.5) } sort keys %fault unless @named;
	return map { my $name = $_; ($name) x ($fault{$name} // die "no fault $name\n")->[0] } @named;
}

# One fault.  Afterwards the server answers.
sub fault
{
	my ($name) = @_;
	$fault{$name}[1]->();
	must('SELECT 1');
	return;
}

1;
