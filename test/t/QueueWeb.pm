# A queue-web under test: started with any options on a port that the kernel chooses, asked with any headers.
#
# The program is $ENV{QUEUE_WEB} (test/check.sh builds it); web_missing() tells that there is none.
package QueueWeb;

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(web_missing web_json);

my %running;
my $started = 0;

sub web_missing { return !defined $ENV{QUEUE_WEB} || !-x $ENV{QUEUE_WEB}; }

sub web_json { return JSON::PP->new->utf8->allow_nonref->decode($_[0]); }

# Starts one on a node: QueueWeb->start($node, ['--write'], db => 'postgres', user => 'reader', more => [connection ..])
sub start
{
	my ($class, $node, $options, %o) = @_;
	my $self = bless {
		log => sprintf('%s/queue-web.%d.log', $PostgreSQL::Test::Utils::tmp_check, ++$started) }, $class;
	my $connection = sprintf("host=%s port=%d dbname=%s user=%s", $node->host, $node->port, $o{db} // 'postgres', $o{user});
	# the machine may be as slow as it likes
	my @timeouts = grep({ $_ eq '--timeout' } @$options) ? () : ('--timeout', '600', '--action-timeout', '600');
	my @listen = grep({ $_ eq '--socket' } @$options) ? () : ('--listen', '127.0.0.1:0');
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', $self->{log}) or POSIX::_exit(1);
		exec($ENV{QUEUE_WEB}, @listen, @timeouts, @$options, $connection, @{ $o{more} // [] }) or POSIX::_exit(1);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	my $said = $self->await_log(qr/listening on (\S+)\n/);
	($self->{url}) = $said =~ m{listening on (http://\S+)/\n};
	($self->{port}) = $self->{url} =~ /:(\d+)$/ if defined $self->{url};
	return $self if !defined $self->{url};
	$self->{http} = HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default, max_redirect => 0, keep_alive => 0);
	$self->await_up unless $o{down};
	my $session = $self->get('/api/session', $o{token} ? (Authorization => "Bearer $o{token}") : ());
	$self->{csrf} = $session->{json}{csrf} if $session->{status} == 200;
	return $self;
}

sub await_log
{
	my ($self, $pattern) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $deadline)
	{
		my $said = -f $self->{log} ? slurp_file($self->{log}) : '';
		return $said if $said =~ $pattern;
		die "queue-web ended: $said" if waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
		usleep(20_000);
	}
	die "queue-web did not say $pattern: " . slurp_file($self->{log});
}

# Waits until /healthz says so: up (200) or down (503).
sub await_health
{
	my ($self, $status) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $last;
	while (time < $deadline)
	{
		$last = $self->get('/healthz');
		return 1 if $last->{status} == $status;
		usleep(50_000);
	}
	diag("healthz stays $last->{status}: $last->{content}");
	return 0;
}

sub await_up { return $_[0]->await_health(200); }

# A request: {status, headers, content, json}.
sub request
{
	my ($self, $method, $path, $content, %headers) = @_;
	my $answer = $self->{http}->request($method, $self->{url} . $path,
		{ headers => { %headers }, defined $content ? (content => $content) : () });
	$answer->{json} = eval { web_json($answer->{content}) } if ($answer->{headers}{'content-type'} // '') eq 'application/json';
	return $answer;
}

sub get { my ($self, $path, %headers) = @_; return $self->request('GET', $path, undef, %headers); }

# The data of a view of database postgres, or what went wrong.
sub view
{
	my ($self, $view, %params) = @_;
	my $answer = $self->get("/api/d/postgres/$view" . query(%params));
	return $answer->{status} == 200 ? $answer->{json}{data} : "$answer->{status} $answer->{content}";
}

sub query
{
	my (%params) = @_;
	my $json = JSON::PP->new->utf8->canonical;
	my @pairs;
	for my $name (sort keys %params)
	{
		my $value = ref $params{$name} ? $json->encode($params{$name}) : $params{$name};
		$value =~ s/([^A-Za-z0-9_-])/sprintf '%%%02X', ord $1/ge;
		push @pairs, "$name=$value";
	}
	return @pairs ? '?' . join('&', @pairs) : '';
}

# An action; what is a hash becomes JSON.
sub act
{
	my ($self, $action, $body, %headers) = @_;
	return $self->request('POST', '/api/d/postgres/' . ($action =~ m{/} ? $action : "do/$action"),
		ref $body ? JSON::PP->new->utf8->canonical->encode($body) : $body,
		'Content-Type' => 'application/json', 'X-Queue-CSRF' => $self->{csrf} // '', %headers);
}

# Sends bytes as they are; for what no client would send.  Reads what comes until the end, if that will come.
sub raw
{
	my ($self, $bytes, %o) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or die "connect: $!";
	my $got = '';

	local $SIG{PIPE} = 'IGNORE';
	print $socket $bytes;
	$socket->flush;
	return if $o{hang_up};
	while (sysread($socket, my $piece, 65536)) { $got .= $piece; }
	return $got;
}

sub log_text { return slurp_file($_[0]{log}); }

# Most memory that it ever had, in kB.
sub memory
{
	my ($self) = @_;
	return slurp_file("/proc/$self->{pid}/status") =~ /VmHWM:\s+(\d+)/ ? $1 : undef;
}

# Ends it; its exit code.
sub stop
{
	my ($self, $signal) = @_;
	kill $signal // 'TERM', $self->{pid};
	waitpid($self->{pid}, 0);
	delete $running{ $self->{pid} };
	return $? & 127 ? "signal $?" : $? >> 8;
}

END
{
	my $rc = $?;
	for my $pid (keys %running) { kill 'TERM', $pid; waitpid($pid, 0); }
	$? = $rc;
}

1;
