# What psql -XAtq does for a test, without a process: of a file's calls most are one statement in a session of its own,
# and to start psql for it takes more than all that the server does.  The output, the messages and the exit code are psql's.
#
# What takes more of psql than to send statements one by one (its own commands, COPY, LISTEN) is left to it.
package QueueClient;

use strict;
use warnings;

use Errno qw(EINTR);
use Socket;
use Time::HiRes qw(time);


# The statements of a script, each as [ text, line of its end ]; none: psql is needed.
sub statements
{
	my ($script) = @_;
	my ($statement, $line, $empty, @all) = ('', 1, 1);
	return if $script =~ /\\|\bE'|\b(?:COPY|LISTEN|RULE)\b|\bBEGIN\s+ATOMIC\b/i;
	while ($script =~ m{\G('[^']*'|"[^"]*"|\$(\w*)\$.*?\$\2\$|--[^\n]*|/\*.*?\*/|\s+|[^\s;'"\$/-]+|.)}gs)
	{
		my $token = $1;
		$line += $token =~ tr/\n//;
		$empty &&= $token =~ m{^(?:\s|--|/\*)};
		$statement .= $token unless $empty;
		next if $token ne ';';
		push @all, [ $statement, $line ] if $statement ne ';';
		($statement, $empty) = ('', 1);
	}
	push @all, [ $statement, $line ] unless $empty;
	return @all;
}

# One message of the server: its type and what it holds.  None: it hung up.  Dies at the deadline.
sub message
{
	my ($c) = @_;
	while (1)
	{
		if (length $c->{in} >= 5)
		{
			my $length = unpack('N', substr($c->{in}, 1, 4));
			if (length $c->{in} > $length)
			{
				my $whole = substr($c->{in}, 0, $length + 1, '');
				return (substr($whole, 0, 1), substr($whole, 5));
			}
		}
		vec(my $ready = '', fileno $c->{socket}, 1) = 1;
		my $left = defined $c->{deadline} ? $c->{deadline} - time : undef;
		die "timeout\n" if defined $left && $left <= 0;
		next if select($ready, undef, undef, $left) <= 0;
		my $got = sysread($c->{socket}, $c->{in}, 65536, length $c->{in});
		next if !defined $got && $! == EINTR;
		return if !$got;
	}
}

sub say_to
{
	my ($c, $bytes) = @_;
	while (length $bytes)
	{
		my $sent = send($c->{socket}, $bytes, MSG_NOSIGNAL);
		return 0 if !defined $sent && $! != EINTR;
		substr($bytes, 0, $sent // 0, '');
	}
	return 1;
}

# An ErrorResponse or NoticeResponse as psql shows it.
sub told
{
	my ($body) = @_;
	my %field = map { (substr($_, 0, 1) => substr($_, 1)) } grep { length } split /\0/, $body;
	my $text = "$field{S}:  $field{M}\n";
	$text .= "DETAIL:  $field{D}\n" if defined $field{D};
	$text .= "HINT:  $field{H}\n" if defined $field{H};
	$text .= "CONTEXT:  $field{W}\n" if defined $field{W} && $field{S} =~ /ERROR|FATAL|PANIC/;
	return $text;
}

# The row of a DataRow message.
sub row
{
	my ($body) = @_;
	my ($n, $at, @fields) = (unpack('n', $body), 2);
	for (1 .. $n)
	{
		my $length = unpack('N', substr($body, $at, 4));
		my $null = $length == 0xFFFFFFFF;
		push @fields, $null ? '' : substr($body, $at + 4, $length);
		$at += 4 + ($null ? 0 : $length);
	}
	return $n == 0 ? '' : join('|', @fields) . "\n";
}

# Opens a session: the exit code (0: $c has it), and what psql would complain of.
sub begin
{
	my ($c, $path, $database, $user) = @_;
	my $failed = qq{psql: error: connection to server on socket "$path" failed: };

	$c->{in} = '';
	socket($c->{socket}, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
	connect($c->{socket}, pack_sockaddr_un($path))
	  or return (2, "$failed$!\n\tIs the server running locally and accepting connections on that socket?\n");
	my %start = (user => $user, database => $database, application_name => $ENV{PGAPPNAME} // 'psql');
	$start{options} = $ENV{PGOPTIONS} if defined $ENV{PGOPTIONS};
	my $start = pack('N', 196608) . join('', map { "$_\0$start{$_}\0" } sort keys %start) . "\0";
	say_to($c, pack('N', 4 + length $start) . $start);
	while (1)
	{
		my ($type, $body) = message($c);
		return (2, $failed . (defined $type ? told($body) : "server closed the connection unexpectedly\n"))
		  if !defined $type || $type eq 'E';
		die "password\n" if $type eq 'R' && unpack('N', $body) != 0;
		return (0, '') if $type eq 'Z';
	}
}

# Runs one statement: the exit code, what psql would print, and what it would complain of.
sub run
{
	my ($c, $statement, $line) = @_;
	my ($out, $err, $broke) = ('', '', 0);

	say_to($c, pack('a N Z*', 'Q', 5 + length $statement, $statement));
	while (1)
	{
		my ($type, $body) = message($c);
		return (2, $out, $err
			  . "psql:<stdin>:$line: server closed the connection unexpectedly\n"
			  . "\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n"
			  . "psql:<stdin>:$line: error: connection to server was lost\n")
		  if !defined $type;
		$out .= row($body) if $type eq 'D';
		$err .= "psql:<stdin>:$line: " . told($body) if $type eq 'E' || $type eq 'N';
		$broke ||= $type eq 'E';
		return ($broke ? 3 : 0, $out, $err) if $type eq 'Z';
	}
}

sub end
{
	my ($c) = @_;
	return if !$c->{socket};
	say_to($c, pack('a N', 'X', 4));
	close $c->{socket};
	delete $c->{socket};
	return;
}

# Runs a script in a session of its own: the exit code (undef: the timeout came first), what psql would print and what it
# would complain of.  The empty list: psql is needed, and nothing was run.  With $kept, an empty hash at first, the
# session stays for the next call with it, as long as all goes well, and until end($kept).
sub ask
{
	my ($host, $port, $database, $user, $script, $timeout, $kept) = @_;
	my $c = $kept // {};
	my ($code, $out, $err) = (0, '', '');
	utf8::encode($script) if utf8::is_utf8($script);
	my @statements = statements($script) or return;

	$c->{deadline} = defined $timeout ? time + $timeout : undef;
	my $done = eval {
		($code, $err) = begin($c, "$host/.s.PGSQL.$port", $database, $user) if !$c->{socket};
		for (@statements)
		{
			last if $code != 0;
			($code, my @more) = run($c, @$_);
			$out .= $more[0];
			$err .= $more[1];
		}
		1;
	};
	die $@ if !$done && $@ ne "password\n" && $@ ne "timeout\n";
	end($c) if !$done || $code != 0 || !$kept;
	return if !$done && $@ eq "password\n";
	return ($done ? $code : undef, $out, $err);
}

1;
