# A small HTTP server for the tests: one process, one loop, nothing but core Perl.  What a request gets is told by its
# path, and every request and answer is a line in a log.
#
#   /status/503              that status; ?retry=7 adds Retry-After: 7, ?date=7 the same as a date, ?body=x a body,
#                            ?repeat=n that n times
#   /echo/500                that status and as the body a JSON object of the request's headers and its query
#   /say/500/text            that status and the text
#   /drop                    the connection is closed without an answer
#   /sleep/1.5               200 after so long
#   /flaky/80                500 for so many percent, else 200
#   /hang                    never an answer
#   /drip                    headers, then a byte each 50 ms, for ever
#   /endless  /headers       a body, or headers, without end
#   /gzip                    1 kB that is 1 MB, again and again
#   /reset                   half an answer, then a reset
#   /half/text               200 and the text, as the beginning of an answer whose rest does not come
#   /redirect?to=URL         302 there
#   /health                  200 when the file HEALTHY stands beside the log, else 503
#   /file                    what the file beside the log says whose name is the body's "file": a status, as soon as it is there
#   /await/name?timeout=2    202 with Queue-Await: name and Queue-Await-Timeout: 2, until the body tells of that event; then 200
#   /early/202               a 103 with Retry-After: 300, then that status
#   /count                   200 with how many requests are under way at this moment
package HttpServer;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(:DEFAULT SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

# Starts one: HttpServer->new(dir => ..., [port => ..., host => ...]).  Its log is dir/http.log.
sub new
{
	my ($class, %o) = @_;
	my $listen = IO::Socket::INET->new(
		LocalAddr => $o{host} // '127.0.0.1',
		LocalPort => $o{port} // 0,
		Listen => 4096,
		ReuseAddr => 1,
		Blocking => 0) or die "cannot listen: $!";
	my $self = bless {
		dir => $o{dir},
		log => "$o{dir}/http.log",
		port => $listen->sockport,
		host => $o{host} // '127.0.0.1'
	}, $class;
	open(my $touch, '>>', $self->{log}) or die $!;
	close $touch;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		local $SIG{TERM} = sub { POSIX::_exit(0) };
		local $SIG{PIPE} = 'IGNORE';
		eval { serve($self, $listen) };
		print STDERR $@ if $@;
		POSIX::_exit(1);
	}
	close $listen;
	$self->{pid} = $pid;
	return $self;
}

sub url { my ($self, $path) = @_; return "http://$self->{host}:$self->{port}$path"; }

sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	kill 'TERM', $self->{pid};
	waitpid($self->{pid}, 0);
	delete $self->{pid};
	return;
}

sub DESTROY { my ($self) = @_; local $?; $self->stop; return; }

# What it saw: a list of hashes: at, what (request | answer), path, status, body (of a large one its beginning), and the
# headers, lower case.
sub seen
{
	my ($self, $what) = @_;
	my @rows;
	open(my $in, '<', $self->{log}) or die $!;
	while (my $line = <$in>)
	{
		chomp $line;
		next unless $line =~ s/\|\z//;    # not whole yet
		my %row;
		for my $pair (split /\t/, $line)
		{
			my ($name, $value) = split /=/, $pair, 2;
			$value =~ s/%([0-9A-F]{2})/chr hex $1/ge;
			$row{$name} = $value;
		}
		push @rows, \%row if !$what || $row{what} eq $what;
	}
	return @rows;
}

# How many requests are under way now, this one aside.
sub under_way
{
	my ($self) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => $self->{host}, PeerPort => $self->{port}) or die $!;
	my $answer = '';
	print $socket "GET /count HTTP/1.1\r\nHost: x\r\n\r\n";
	sysread($socket, $answer, 4096, length $answer) or die 'no answer' until $answer =~ /\r\n\r\n(\d+)$/;
	return $1 - 1;
}

# Lets requests of /file for this name be answered with the status.
sub say_status
{
	my ($self, $name, $status) = @_;
	open(my $out, '>', "$self->{dir}/$name.new") or die $!;
	print $out $status;
	close $out;
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die $!;
	return;
}

sub forget { my ($self) = @_; truncate($self->{log}, 0); return; }

# ---- the server process ----

my ($log, %conn, $in, $out, @timers, $under_way);

sub note
{
	my (%row) = @_;
	$row{at} = sprintf '%.6f', time;
	my $line = join("\t",
		map { my $v = $row{$_}; $v =~ s/([^ -\$&-~]|[\t%])/sprintf '%%%02X', ord $1/ge; "$_=$v" } sort keys %row);
	syswrite($log, "$line|\n");
	return;
}

sub drop
{
	my ($c, $reset) = @_;
	return unless $conn{ fileno $c->{fh} };
	$under_way-- if delete $c->{busy};
	setsockopt($c->{fh}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $reset;
	delete $conn{ fileno $c->{fh} };
	$in->remove($c->{fh});
	$out->remove($c->{fh});
	close $c->{fh};
	$c->{gone} = 1;
	return;
}

# Later, unless the connection is gone by then.
sub after
{
	my ($seconds, $c, $code) = @_;
	my $timer = [ time + $seconds, $c, $code ];
	my $i = @timers;
	$i-- while $i > 0 && $timers[ $i - 1 ][0] > $timer->[0];
	splice @timers, $i, 0, $timer;
	return;
}

sub send_bytes
{
	my ($c, $bytes) = @_;
	$c->{out} .= $bytes;
	$out->add($c->{fh});
	flush_out($c);
	return;
}

sub flush_out
{
	my ($c) = @_;
	while (length $c->{out})
	{
		my $n = syswrite($c->{fh}, $c->{out});
		if (!defined $n)
		{
			drop($c) unless $!{EAGAIN} || $!{EWOULDBLOCK};
			return;
		}
		substr($c->{out}, 0, $n) = '';
	}
	$out->remove($c->{fh});
	$c->{more}->() if $c->{more};
	return;
}

sub answer
{
	my ($c, $status, $body, @headers) = @_;
	my $r = $c->{request};
	note(what => 'answer', status => $status, path => $r->{path}, 'idempotency-key' => $r->{'idempotency-key'} // '',
		attempt => $r->{'queue-job-attempt'} // '', job => $r->{'queue-job-id'} // '',
		took => sprintf('%.6f', time - $c->{began}));
	$under_way-- if delete $c->{busy};
	my $none = $status == 204 || $status == 304;
	send_bytes($c, join("\r\n", "HTTP/1.1 $status X", @headers, ($none ? () : 'Content-Length: ' . length $body), '', $none ? '' : $body));
	return;
}

sub respond
{
	my ($c, $path, $query) = @_;
	my %q = map { my ($k, $v) = split /=/, $_, 2; $v //= ''; $v =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge; ($k, $v) }
	  split /&/, $query // '';
	my $dir = $log eq '' ? '' : $main::http_dir;

	if ($path =~ m{^/status/(\d+)})
	{
		my @h;
		push @h, "Retry-After: $q{retry}" if defined $q{retry};
		push @h, 'Retry-After: ' . POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + $q{date}))
		  if defined $q{date};
		my $body = $q{body} // 'ok';
		return answer($c, $1, $body x ($q{repeat} // 1), @h);
	}
	if ($path =~ m{^/sleep/([\d.]+)})
	{
		after($1, $c, sub { answer($c, 200, 'slept') });
		return;
	}
	if ($path =~ m{^/await/(\w+)})
	{
		my $name = $1;
		return answer($c, 200, 'so it is') if $c->{request}{body} =~ /"event": \{"name": "$name"/;
		return answer($c, 202, 'not yet', "Queue-Await: $name", defined $q{timeout} ? "Queue-Await-Timeout: $q{timeout}" : ());
	}
	return answer($c, rand(100) < $1 ? 500 : 200, 'flaky') if $path =~ m{^/flaky/(\d+)};
	if ($path =~ m{^/say/(\d+)/(.*)})
	{
		my ($status, $text) = ($1, $2);
		$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
		return answer($c, $status, $text);
	}
	if ($path =~ m{^/echo/(\d+)})
	{
		my $h = { %{ $c->{request} } };
		delete $h->{body};
		return answer($c, $1, '{' . join(', ', map { my $v = $h->{$_}; $v =~ s/(["\\])/\\$1/g; "\"$_\": \"$v\"" }
			sort keys %$h) . ', "query": "' . ($query // '') . '"}');
	}
	if ($path eq '/drop')
	{
		note(what => 'drop', path => $path);
		return drop($c);
	}
	return if $path eq '/hang';
	return answer($c, -e "$dir/HEALTHY" ? 200 : 503, 'health') if $path eq '/health';
	return answer($c, 200, $under_way) if $path eq '/count';
	return answer($c, 302, '', "Location: $q{to}") if $path eq '/redirect';
	if ($path eq '/file')
	{
		my ($file) = $c->{request}{body} =~ /"file": "(\w+)"/ or return answer($c, 404, 'no file in the body');
		my $look;
		$look = sub {
			my $in;
			return answer($c, scalar <$in>, 'as the file says') if open($in, '<', "$dir/$file");
			after(0.02, $c, $look);
		};
		return $look->();
	}
	if ($path =~ m{^/early/(\d+)})
	{
		send_bytes($c, "HTTP/1.1 103 Early Hints\r\nRetry-After: 300\r\n\r\n");
		return answer($c, $1, 'at last');
	}
	if ($path eq '/drip')
	{
		my $drip;
		$drip = sub { send_bytes($c, "1\r\nx\r\n"); after(0.05, $c, $drip) unless $c->{gone}; };
		send_bytes($c, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n");
		return $drip->();
	}
	if ($path eq '/endless')
	{
		$c->{more} = sub { $c->{out} .= sprintf("%x\r\n", 65536) . ('x' x 65536) . "\r\n"; $out->add($c->{fh}); };
		return send_bytes($c, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n");
	}
	if ($path eq '/headers')
	{
		$c->{more} = sub { $c->{out} .= join('', map { "X-$_: " . ('y' x 80) . "\r\n" } 1 .. 100); $out->add($c->{fh}); };
		return send_bytes($c, "HTTP/1.1 200 X\r\n");
	}
	return send_bytes($c, "HTTP/1.1 200 X\r\n X-Rest: of a header\r\nContent-Length: 0\r\n\r\n") if $path eq '/continued';
	if ($path eq '/gzip')
	{
		require Compress::Zlib;
		my $bomb = Compress::Zlib::memGzip("\0" x (64 * 1024 * 1024));
		return answer($c, 200, $bomb, 'Content-Encoding: gzip');
	}
	if ($path =~ m{^/half/(.*)})
	{
		my $text = $1;
		$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
		send_bytes($c, "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n$text");
		return drop($c);
	}
	if ($path eq '/reset')
	{
		send_bytes($c, "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\nhalf");
		after(0.1, $c, sub { drop($c, 1) });
		return;
	}
	return answer($c, 404, 'no such path');
}

sub readable
{
	my ($c) = @_;
	my $n = sysread($c->{fh}, my $data, 65536);
	if (!defined $n)
	{
		drop($c) unless $!{EAGAIN} || $!{EWOULDBLOCK};
		return;
	}
	return drop($c) if $n == 0;
	$c->{in} .= $data;
	while ($c->{in} =~ /\r\n\r\n/)
	{
		my $end = $+[0];
		my ($first, @lines) = split /\r\n/, substr($c->{in}, 0, $end);
		# a header that comes twice is a list
		my %h;
		for my $line (@lines)
		{
			my ($name, $value) = $line =~ /^([^:]+):\s*(.*)$/ or next;
			$h{ lc $name } = defined $h{ lc $name } ? "$h{ lc $name }, $value" : $value;
		}
		my $length = $h{'content-length'} // 0;
		return if length($c->{in}) < $end + $length;
		my $body = substr($c->{in}, $end, $length);
		substr($c->{in}, 0, $end + $length) = '';
		my ($method, $target) = split / /, $first;
		my ($path, $query) = split /\?/, $target, 2;
		$c->{request} = { %h, path => $path, body => $body };
		$c->{began} = time;
		$c->{busy} = 1;
		$under_way++;
		note(%h, what => 'request', method => $method, path => $path, query => $query // '',
			body => length $body > 100_000 ? substr($body, 0, 1000) : $body, busy => $under_way);
		respond($c, $path, $query);
		return if $c->{gone};
	}
	return;
}

sub serve
{
	my ($self, $listen) = @_;
	open($log, '>>', $self->{log}) or die $!;
	$main::http_dir = $self->{dir};
	$in = IO::Select->new($listen);
	$out = IO::Select->new;
	$under_way = 0;
	for (;;)
	{
		my $wait = @timers ? $timers[0][0] - time : 1;
		$wait = 0 if $wait < 0;
		my ($r, $w) = IO::Select->select($in, $out, undef, $wait);
		for my $fh (@{ $r // [] })
		{
			if ($fh == $listen)
			{
				while (my $new = $listen->accept)
				{
					$new->blocking(0);
					$conn{ fileno $new } = { fh => $new, in => '', out => '' };
					$in->add($new);
				}
				next;
			}
			my $c = defined fileno $fh ? $conn{ fileno $fh } : undef;
			readable($c) if $c;
		}
		for my $fh (@{ $w // [] })
		{
			my $c = defined fileno $fh ? $conn{ fileno $fh } : undef;
			flush_out($c) if $c;
		}
		while (@timers && $timers[0][0] <= time)
		{
			my $t = shift @timers;
			$t->[2]->() unless $t->[1]{gone};
		}
		exit 0 if getppid() == 1;
	}
	return;
}

1;
