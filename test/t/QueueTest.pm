# What the TAP tests share: a cluster that preloads queue, one handler that can
# misbehave in every way that a test asks for in the payload, and waiting for events.
#
# Nothing here sleeps for a fixed time: everything awaits what it needs to see.
package QueueTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use File::Copy;
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueClient;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(queue_node queue_install queue_session hold_deletes sql one poll wait_true wait_end wait_no_jobs wait_lock
  workers resident scheduler_turn sqlstate_like disk_room doctor_like log_clean gone backend_types queue_buffers queue_installation
  kill_9);

# A mutant (test/mutants.sh) is caught by the first check that fails; what comes after it would often wait in vain.
if ($ENV{QUEUE_STOP_AT_FAILURE})
{
	no warnings 'redefine';
	my $ok = \&Test::Builder::ok;
	*Test::Builder::ok = sub {
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		my $passed = $ok->(@_);
		exit 1 unless $passed;
		return $passed;
	};
}

# The handler `h` and the table `seen` that it writes.  What a payload can ask for: note (kept in seen),
# lock (a shared advisory lock in the transaction, which tells the test that the job runs, and where),
# sleep (seconds), raise (an SQLSTATE), return (the result).
our $install = <<'EOS';
CREATE EXTENSION IF NOT EXISTS queue;
CREATE TABLE seen (
	n bigserial PRIMARY KEY, job_id bigint, kind text, note text, attempt int, failures int,
	cu name DEFAULT current_user, su name DEFAULT session_user, pid int DEFAULT pg_backend_pid(),
	xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp());
GRANT ALL ON seen TO PUBLIC;
GRANT ALL ON SEQUENCE seen_n_seq TO PUBLIC;
CREATE FUNCTION h(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen (job_id, kind, note, attempt, failures)
		VALUES (j.id, j.kind, j.payload->>'note', j.attempt, j.failures);
	IF j.payload ? 'lock' THEN
		PERFORM pg_advisory_xact_lock_shared((j.payload->>'lock')::bigint);
	END IF;
	IF j.payload ? 'sleep' THEN
		PERFORM pg_sleep((j.payload->>'sleep')::float8);
	END IF;
	IF j.payload ? 'raise' THEN
		RAISE EXCEPTION 'boom %', coalesce(j.payload->>'note', '') USING ERRCODE = j.payload->>'raise';
	END IF;
	RETURN j.payload->'return';
END $$;
EOS

# psql without a process where that will do (QueueClient.pm).  A psql that finds no server ends before it has read its
# script, and to write to it then kills the test: the server was just killed, say, and that is what is to be waited for.
# Nothing of the script was run.
{
	no warnings 'redefine';
	my $psql = \&PostgreSQL::Test::Cluster::psql;
	*PostgreSQL::Test::Cluster::psql = sub {
		my ($node, $database, $script, %o) = @_;
		my @result = asked($node, $database, $script, %o);
		return wantarray ? @result : $result[0] if @result;
		for (1 .. 100)
		{
			@result = wantarray ? eval { $psql->(@_) } : scalar eval { $psql->(@_) };
			return wantarray ? @result : $result[0] unless $@;
			die $@ unless $@ =~ /Broken pipe/;
			usleep(100_000);
		}
		die "psql never reads what it is told: $@";
	};
	*PostgreSQL::Test::Cluster::poll_query_until = sub {
		my ($node, $database, $query, $expected) = @_;
		my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
		my ($out, $err) = ('', '');
		my %kept;
		$expected //= 't';
		while (time < $deadline)
		{
			$node->psql($database, $query, stdout => \$out, stderr => \$err, kept => \%kept);
			last if $out eq $expected && $err eq '';
			usleep(50_000);
		}
		QueueClient::end(\%kept);
		return 1 if $out eq $expected && $err eq '';
		diag("waited in vain for $expected of: $query\nlast output: $out\nlast error: $err");
		return 0;
	};
}

# What Cluster.pm's psql returns, and does with its options, by QueueClient.pm; the empty list: psql is needed.
sub asked
{
	my ($node, $database, $script, %o) = @_;
	my ($user, @more) = @{ $o{extra_params} // [] };
	my %known = map { ($_ => 1) } qw(stdout stderr timeout timed_out on_error_stop on_error_die extra_params kept);
	return if grep { !$known{$_} } keys %o;
	return if defined $o{on_error_stop} && !$o{on_error_stop} || $database =~ /=/ || $node->host !~ m{^/};
	return if defined $user && ($user ne '-U' || @more != 1);
	my $role = $more[0] // $ENV{PGUSER} // scalar getpwuid($<);
	my ($code, $out, $err) = QueueClient::ask($node->host, $node->port, $database, $role, $script, $o{timeout}, $o{kept})
	  or return;
	chomp($out, $err);
	${ $o{stdout} } = $out if $o{stdout};
	${ $o{stderr} } = $err if $o{stderr};
	${ $o{timed_out} } = defined $code ? 0 : 1 if $o{timed_out};
	die "psql timed out: stderr: '$err'\nwhile running '$script'" if !defined $code && !$o{timed_out};
	die +($code == 2 ? 'connection error: ' : 'error running SQL: ') . "'$err'\nwhile running '$script'" if $code && $o{on_error_die};
	return ($code // 0, $out, $err);
}

# A new cluster.  preload => 0: without the library; streaming => 1; initdb => [ options ]; conf => more settings; start => 0;
# install => 0; install_path => of another installation;
# far_look => 0: the scheduler does not look every half minute for what nobody told it of, so what is lost is not found.
sub queue_node
{
	my ($name, %o) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $o{install_path} ? (install_path => $o{install_path}) : ());

	$node->init(
		allows_streaming => $o{streaming} ? 1 : 0,
		extra => [ '-E', 'UTF8', '--no-locale', @{ $o{initdb} // [] } ]);
	$node->append_conf('postgresql.conf', <<'EOS');
restart_after_crash = on
log_statement = none
shared_buffers = 32MB
max_connections = 40
max_worker_processes = 24
EOS
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue'")
	  unless defined $o{preload} && !$o{preload};
	$node->append_conf('postgresql.conf', slurp_file("$FindBin::RealBin/../hostile.conf")) if $ENV{QUEUE_HOSTILE};
	$node->append_conf('postgresql.conf', $o{conf}) if defined $o{conf};
	$node->append_conf('postgresql.conf', 'queue.debug_far_look = off') if defined $o{far_look} && !$o{far_look};
	return $node if defined $o{start} && !$o{start};
	$node->start;
	queue_hostile($node) if $ENV{QUEUE_HOSTILE};
	queue_install($node, 'postgres')
	  unless defined $o{install} && !$o{install};
	return $node;
}

# The cluster of somebody who has other settings, publications and default privileges.
sub queue_hostile
{
	my ($node) = @_;
	$node->safe_psql($_, slurp_file("$FindBin::RealBin/../hostile.sql")) for qw(template1 postgres);
	return;
}

sub queue_install
{
	my ($node, $db) = @_;
	$node->safe_psql($db, $install);
	return;
}

# Who deletes the row of a job whose payload has the key hold waits there, until nobody holds advisory lock 7 any more.
sub hold_deletes
{
	my ($node) = @_;
	sql($node, <<'EOS');
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'hold' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER hold BEFORE DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION hold();
EOS
	return;
}

# A copy of this server's installation, of which only what it is made of is copied: a server finds its files beside its
# program.  Returns its install_path and the folder of its extensions' scripts, in which the test may write.
sub queue_installation
{
	my ($dir) = @_;
	my %path = map { my $p = qx($ENV{PG_CONFIG} --$_); chomp $p; ($_ => $p) } qw(bindir sharedir pkglibdir);
	my $root = $path{bindir};
	$root = dirname($root) while grep { index($_, "$root/") != 0 } values %path;
	my %own = map { ($_ => $dir . substr($path{$_}, length $root)) } keys %path;
	make_path($own{bindir}, "$own{sharedir}/extension", dirname($own{pkglibdir}));
	symlink($path{pkglibdir}, $own{pkglibdir}) or die "symlink: $!";
	# (some that test/source.sh made are scripts beside the program)
	for my $program (qw(postgres initdb pg_ctl pg_config psql), grep { -e "$path{bindir}/$_" } qw(postgres.bin pg_ctl.bin))
	{
		copy("$path{bindir}/$program", "$own{bindir}/$program") or die "copy of $program: $!";
		chmod(0755, "$own{bindir}/$program");
	}
	for my $file (glob("$path{sharedir}/*"), glob("$path{sharedir}/extension/*"))
	{
		my $own = $own{sharedir} . substr($file, length $path{sharedir});
		-e $own or symlink($file, $own) or die "symlink: $!";
	}
	-e "$dir/bin" or symlink($own{bindir}, "$dir/bin") or die "symlink: $!";
	return ($dir, "$own{sharedir}/extension");
}

# A session that stays open; an error does not end it.
sub queue_session
{
	my ($node, $db) = @_;
	my $session = $node->background_psql($db // 'postgres', on_error_stop => 0);
	$session->set_query_timer_restart;
	return $session;
}

# What the server does, for who looks into why a test waited in vain.
sub show_activity
{
	my ($node) = @_;
	my ($out, $err) = ('', '');
	my $timed_out;
	$node->psql('postgres',
		q{SELECT pid, backend_type, datname, state, wait_event_type, wait_event, pg_blocking_pids(pid), left(query, 200) FROM pg_stat_activity
		WHERE backend_type LIKE 'queue %' OR backend_type = 'client backend' AND pid <> pg_backend_pid();
		SELECT * FROM queue.doctor() WHERE NOT ok; SELECT gid, prepared FROM pg_prepared_xacts},
		stdout => \$out, stderr => \$err, timeout => 10, timed_out => \$timed_out);
	diag("the server's activity:\n$out\n$err");
	return;
}

# Runs SQL in database postgres (or db => ...) and returns its output; dies of errors.
sub sql
{
	my ($node, $text, %o) = @_;
	my ($out, $err) = ('', '');
	my $timed_out;
	my $rc = $node->psql(
		$o{db} // 'postgres', $text,
		stdout => \$out,
		stderr => \$err,
		timeout => $PostgreSQL::Test::Utils::timeout_default,
		timed_out => \$timed_out,
		extra_params => [ $o{user} ? ('-U', $o{user}) : () ]);
	if ($timed_out)
	{
		show_activity($node);
		die "SQL did not end within $PostgreSQL::Test::Utils::timeout_default s: $text";
	}
	die "SQL failed: $err\n$text" if $rc != 0;
	return $out;
}

# One check: the query's output is that.
sub one
{
	my ($node, $query, $expected, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $got = eval { sql($node, $query, %o) };
	$got = "error: $@" if $@;
	return is($got, $expected, $name);
}

# Waits until the query returns true.  Unlike poll_query_until it bears a server that restarts meanwhile, also when
# psql finds that out before it has read its input.  It asks in one session: to start one each time takes the server far
# more than to answer.  Who waited in vain once has little patience left, so that the test ends before it is cut short.
my $patience;

sub poll
{
	my ($node, $query, %o) = @_;
	$patience //= $PostgreSQL::Test::Utils::timeout_default;
	my $deadline = time + $patience;
	my ($out, $err) = ('', '');
	my ($true, %kept);
	while (1)
	{
		my %call = (stdout => \$out, stderr => \$err, timeout => $patience, kept => \%kept);
		my $rc = eval { $node->psql($o{db} // 'postgres', $query, %call) } // -1;
		$true = $rc == 0 && $out eq 't';
		last if $true || time > $deadline;
		usleep(20_000);
	}
	QueueClient::end(\%kept);
	return 1 if $true;
	diag("waited in vain for: $query\nlast output: $out\nlast error: $err");
	show_activity($node);
	$patience = 10;
	return 0;
}

# One check: the query returns true sooner or later.
sub wait_true
{
	my ($node, $query, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(poll($node, $query, %o), $name);
}

# One check: the job ends sooner or later, and so.
sub wait_end
{
	my ($node, $id, $state, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ended = "SELECT queue.wait_for($id, '20 s')";
	poll($node, "$ended IN ('completed', 'cancelled', 'discarded')", %o);
	return one($node, $ended, $state, $name, %o);
}

# Waits until the scheduler has looked for work since.  It cancels jobs whose time has passed after each such look: of
# the second one here, the look came after the first was cancelled.
sub scheduler_turn
{
	my ($node, %o) = @_;
	for (1, 2)
	{
		my $id = sql($node, "SELECT queue.enqueue('a turn of the scheduler', expires_at => clock_timestamp())", %o);
		poll($node, "SELECT queue.wait_for($id, '20 s') = 'cancelled'", %o) or die 'the scheduler does not come round';
	}
	return;
}

# The memory that a process has for itself, in kB; 0 under a sanitizer or valgrind, which keep what was freed.
sub resident
{
	my ($pid) = @_;
	return 0 if $ENV{QUEUE_SERVER_UNDER} || $ENV{QUEUE_SERVER_PRELOAD};
	my ($kb) = slurp_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/ or die "no process $pid";
	return $kb;
}

# One check: no job (of these kinds, a regexp) is left unfinished.
sub wait_no_jobs
{
	my ($node, $name, %o) = @_;
	my $kinds = $o{kinds} // '';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true(
		$node,
		"SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind ~ '$kinds' AND state NOT IN ('completed', 'cancelled', 'discarded'))",
		$name, %o);
}

# Waits until some backend holds the advisory lock and returns its pid.
sub wait_lock
{
	my ($node, $lock) = @_;
	my $where =
	  "FROM pg_locks WHERE locktype = 'advisory' AND objid = $lock AND granted";
	poll($node, "SELECT count(*) > 0 $where")
	  or die "nobody took advisory lock $lock";
	return sql($node, "SELECT pid $where LIMIT 1");
}

# Takes the disk's room away from what the server wants to write into temporary files, or gives it back.
sub disk_room
{
	my ($node, $room) = @_;
	my $dir = $node->data_dir . '/base/pgsql_tmp';
	return unlink $dir if $room;
	rename $dir, "$dir.aside" if -d $dir;
	return append_to_file($dir, '');
}

# The pids of one type of worker: launcher, scheduler, executor.
sub workers
{
	my ($node, $type, $db) = @_;
	my $pids = sql($node,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue $type'"
		  . ($db ? " AND datname = '$db'" : '')
		  . " ORDER BY pid");
	return split /\n/, $pids;
}

# Kills a process of the server, which then starts anew.  Until that has begun it is still answering, so a statement that
# comes too soon is cut short; the dead one is listed until then.
sub kill_9
{
	my ($node, $pid) = @_;
	kill 'KILL', $pid;
	return poll($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
}

# "launcher 1, scheduler 2" of the whole cluster.
sub backend_types
{
	my ($node) = @_;
	return sql($node,
		"SELECT string_agg(t, ', ' ORDER BY t) FROM (SELECT substr(backend_type, 7) || ' ' || count(*) AS t"
		  . " FROM pg_stat_activity WHERE backend_type LIKE 'queue %' GROUP BY backend_type) x"
	);
}

# One check: the statement fails with this SQLSTATE, and its report (message, detail, hint) matches.
sub sqlstate_like
{
	my ($node, $text, $sqlstate, $re, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err) = ('', '');
	$node->psql(
		$o{db} // 'postgres', $text,
		stdout => \$out,
		stderr => \$err,
		extra_params =>
		  [ '-v', 'VERBOSITY=verbose', $o{user} ? ('-U', $o{user}) : () ]);
	return like($err, qr/ERROR:\s+$sqlstate:.*$re/s, $name);
}

# One check: some row of doctor() that is not ok matches (sooner or later: what it tells may take a
# moment to be noticed).
sub doctor_like
{
	my ($node, $re, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $query =
	  "SELECT coalesce(string_agg(concat_ws(' | ', check_name, detail, hint), E'\\n'), '') FROM queue.doctor() WHERE NOT ok";
	my $got = '';
	my $deadline = time + ($o{timeout} // 60);
	while (1)
	{
		$got = eval { sql($node, ($o{before} // '') . $query, %o) } // $@;
		last if $got =~ $re || time > $deadline;
		usleep(100_000);
	}
	return like($got, $re, $name);
}

# Is the process gone (within a minute)?
sub gone
{
	my ($pid) = @_;
	my $deadline = time + 60;
	while (kill(0, $pid))
	{
		return 0 if time > $deadline;
		usleep(20_000);
	}
	return 1;
}

# Makes buffers(query): how many blocks a query looks at, which a busy machine does not change.
sub queue_buffers
{
	my ($node) = @_;
	return sql($node, <<'EOS');
CREATE FUNCTION buffers(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::bigint + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::bigint;
END $$;
EOS
}

# One check: no process died in a way that the test did not ask for, and nothing leaked.
sub log_clean
{
	my ($node, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = slurp_file($node->logfile);
	my @bad = grep {
		/PANIC:|TRAP:|terminated by signal (?!9\b|15\b|3\b)|refcount leak|still referenced|was not closed|still active|corrupt|stack depth|could not find (?:the )?block|unexpected/
	} split /\n/, $log;
	@bad = grep { !/$o{except}/ } @bad if $o{except};
	# the end of what a standby has received looks like that in a file that was used before
	@bad = grep { !/LOG:  unexpected pageaddr/ } @bad;
	@bad = grep { !/unexpected EOF on client connection|closed the connection unexpectedly|abnormally and possibly corrupted/ } @bad;
	# what is said by children of a postmaster that a test has killed, and by a standby to which one said it
	@bad = grep { !/terminating connection due to unexpected postmaster exit/ } @bad;
	return is(join("\n", @bad), '', 'nothing leaked and nothing crashed by itself');
}

1;
