# What the parts of the chaos program share: the dice, the mix of a run, sessions, actors and the ledger.
#
# A seed decides a run's mix (which of all operations and faults it has), and each actor's dice.  The ledger is one file
# an actor, outside of the cluster: a line is written when an answer has arrived, never before.
package Chaos;

use strict;
use warnings;

use Exporter 'import';
use IPC::Open2;
use POSIX ();
use Time::HiRes qw(time usleep);

our @EXPORT = qw(pick chance mixed setting actor actors_stop told session ask asked_well complain nap current_port);

our ($dir, $seed, %mix, %actor, %settings, $psql);
my $ledger;
my $stop = 0;

# ---- dice ----

sub pick { return $_[ rand @_ ]; }
sub chance { return rand() < $_[0]; }

# Is that part of this run?  The first question of a name decides, by the seed alone; `all` is a run of everything.
sub mixed
{
	my ($name, $likely) = @_;
	return 1 if $settings{all};
	$mix{$name} //= do {
		my $hash = 5381;
		$hash = ($hash * 33 + ord) & 0xffffffff for split //, "$seed $name";
		$hash = ($hash * 1103515245 + 12345) & 0x7fffffff for 1 .. 3;
		($hash % 1000) / 1000 < ($likely // 0.6) ? 1 : 0;
	};
	return $mix{$name};
}

sub setting { return $settings{ $_[0] }; }
sub nap { usleep(1_000_000 * $_[0]); return; }

# ---- sessions: a psql that stays, and is started again when it or its server died ----

# session(pooled => 1): through PgBouncer.
sub session
{
	my (%o) = @_;
	return { pooled => $o{pooled}, name => $o{name} // '' };
}

# Where the server is now: a failover changes it.
sub current_port
{
	open(my $in, '<', "$dir/port") or die "no port: $!";
	return scalar <$in>;
}

sub hang_up
{
	my ($s) = @_;
	my $pid = delete $s->{pid} or return;
	close $s->{in};
	close $s->{out};
	kill 'KILL', $pid;
	waitpid($pid, 0);
	return;
}

sub dial
{
	my ($s) = @_;
	my ($host, $port) = ($settings{host}, $s->{pooled} ? $settings{pool_port} : current_port());
	local $ENV{PGCONNECT_TIMEOUT} = 20;
	$s->{pid} = open2($s->{out}, $s->{in},
		"exec $psql -XAtq -v VERBOSITY=verbose -d 'host=$host port=$port dbname=postgres user=$settings{user} application_name=$s->{name}' 2>&1");
	$s->{in}->autoflush(1);
	$s->{out}->blocking(0);
	$s->{calls} = 0;
	return;
}

# Runs a script; gives its lines, or undef when it is not known to have worked (an error, or nobody answered).  The
# reason is in $s->{error}.
sub ask
{
	my ($s, $text, %o) = @_;
	local $SIG{PIPE} = 'IGNORE';
	$s->{error} = '';
	dial($s) unless $s->{pid};
	my $mark = 'done ' . ++$s->{calls};
	my $in = $s->{in};
	print $in "$text\n;\n\\echo $mark\n";
	my $deadline = time + ($o{timeout} // $settings{patience});
	my $got = '';
	until ($got =~ /^\Q$mark\E\n/m)
	{
		my $bits = '';
		vec($bits, fileno $s->{out}, 1) = 1;
		if (select($bits, undef, undef, 1) > 0)
		{
			my $n = sysread($s->{out}, $got, 65536, length $got);
			if (defined $n && $n == 0)
			{
				hang_up($s);
				$s->{error} = "gone: $got";
				nap(0.1);
				return;
			}
		}
		$o{meanwhile}->($s) if $o{meanwhile};
		if (time > $deadline)
		{
			complain("a statement does not end: $text");
			hang_up($s);
			return;
		}
	}
	$got =~ s/^\Q$mark\E\n.*//ms;
	complain("an internal error: $got\n$text") if $got =~ /(?:ERROR|FATAL|PANIC): +XX/ && $got !~ /$settings{internal}/;
	# a commit that did not wait for its standby may be lost with the primary
	if ($got =~ /^(?:psql:[^ ]* )?(ERROR|FATAL|PANIC|WARNING: +canceling|server closed)/m)
	{
		$s->{error} = $got;
		my $broken = $got =~ /FATAL|PANIC|server closed|connection to server was lost|terminating connection/;
		if ($broken) { hang_up($s); }
		elsif ($text !~ /^ROLLBACK$/) { my $error = $s->{error}; ask($s, 'ROLLBACK'); $s->{error} = $error; }
		return;
	}
	# a session that a kill ended and psql connected anew
	if ($got =~ /The connection to the server was lost/) { $s->{error} = $got; hang_up($s); return; }
	return grep { !/^(?:psql:[^ ]* )?(WARNING|NOTICE|DETAIL|HINT|LINE|CONTEXT|LOCATION|\s+\^)/ } split /\n/, $got;
}

# The same for who must know whether it worked although it gives nothing.
sub asked_well { my ($s, $text, %o) = @_; my @lines = ask($s, "$text;\n\\echo well\n", %o); return (@lines && $lines[-1] eq 'well') ? 1 : 0; }

# ---- actors ----

# Something that is wrong whatever happened: it fails the run.
sub complain
{
	my ($what) = @_;
	open(my $out, '>>', "$dir/complaints") or die $!;
	syswrite($out, POSIX::strftime('%H:%M:%S ', localtime) . $what . "\n");
	print STDERR "# $what\n";
	return;
}

# The answer that has arrived: a line of the ledger.
sub told { print $ledger join(' ', @_), "\n"; return; }

# A process that does something again and again until it is stopped.
sub actor
{
	my ($name, $code) = @_;
	my $number = keys %actor;
	my $pid = fork() // die "fork: $!";
	if ($pid) { $actor{$pid} = $name; return; }
	srand($seed + 7919 * $number);
	$SIG{TERM} = sub { $stop = 1 };
	$SIG{INT} = 'DEFAULT';
	open($ledger, '>>', "$dir/ledger." . ($name =~ s/\W/_/gr)) or POSIX::_exit(3);
	$ledger->autoflush(1);
	my $s = session(name => $name =~ s/\W/_/gr);
	my $fine = eval {
		until ($stop) { $code->($s); nap($settings{pause} * (0.3 + rand 1.4)); }
		1;
	};
	complain("$name: $@") unless $fine;
	hang_up($s);
	POSIX::_exit($fine ? 0 : 1);
}

# Stops them; gives the names of those that did not end well.  meanwhile: called again and again until they have ended.
sub actors_stop
{
	my ($meanwhile) = @_;
	my @bad;
	kill 'TERM', keys %actor;
	while (%actor)
	{
		for my $pid (keys %actor)
		{
			next if waitpid($pid, POSIX::WNOHANG()) != $pid;
			push @bad, $actor{$pid} if $? != 0;
			delete $actor{$pid};
		}
		$meanwhile->();
		nap(0.05);
	}
	return @bad;
}

1;
