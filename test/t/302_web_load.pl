# queue-web under load and without its database: 200 requests at once cost one query, a database that is down shows as
# down and comes back, nothing waits longer than its timeout, and memory stays small.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use QueueTest;
use QueueWeb;
use Test::More;

if (web_missing())
{
	SKIP: { skip 'libmicrohttpd or libpq has no development files here', 1; }
	done_testing();
	exit 0;
}

my $node = queue_node('web_load');
sql($node, <<'EOS');
CREATE ROLE web LOGIN;
SELECT queue.create_queue('q'), queue.grant_queue('*', 'web', 'manage');
SELECT count(*) FROM queue.enqueue_many('ext', array_fill(jsonb_build_object('text', repeat('x', 1000)), '{3000}'), 'q');
SELECT queue.enqueue('ext', jsonb_build_object('text', repeat('y', 1900000)), 'q') FROM generate_series(1, 5);
SELECT queue.enqueue('ext', jsonb_build_object('text', repeat('z', 3000000)), 'q');
EOS
my $first = sql($node, 'SELECT min(id) FROM queue.job');
my $web = QueueWeb->start($node, [ '--write', '--timeout', '600' ], user => 'web');

# Opens n connections and sends a request on each.
sub ask
{
	my ($n, $path, $method, $body, @headers) = @_;
	my @sockets;
	for (1 .. $n)
	{
		my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $web->{port}) or die "connect: $!";
		print $socket join("\r\n", ($method // 'GET') . " $path HTTP/1.1", 'Host: localhost', 'Connection: close', @headers,
			defined $body ? 'Content-Length: ' . length($body) : (), '', $body // '');
		$socket->flush;
		push @sockets, $socket;
	}
	return @sockets;
}

# What each of them gets.
sub answers
{
	my @answers;
	for my $socket (@_)
	{
		my $got = '';
		while (sysread($socket, my $piece, 1 << 20)) { $got .= $piece; }
		push @answers, $got;
	}
	return @answers;
}

# How many queries of queue-web wait for a lock.
sub waiting { return sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock'}); }

# --- many browsers, one query
my $began = time;
my $lock = queue_session($node);
$lock->query_safe('BEGIN; LOCK TABLE queue.live_job');
my @sockets = ask(200, '/api/d/postgres/jobs');
wait_true($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock')}, 'a query waits');
is($web->get('/healthz')->{status}, 200, 'nobody else does');
is(waiting(), 1, 'for 200 browsers it is one');
$lock->query_safe('COMMIT');
my @got = answers(@sockets);
is(scalar(grep { m{^HTTP/1.1 200 } } @got), 200, 'all get their answer');
my %at = map { /"at" : "([^"]+)"/ ? ($1 => 1) : () } @got;
cmp_ok(scalar(keys %at), '<=', 2 + time - $began, 'at most a new one each second');
# one address has at most 384 connections
@got = answers(ask(100, '/api/session'), ask(100, '/metrics'), ask(100, '/'));
is(scalar(grep { m{^HTTP/1.1 (200|404) } } @got), 300, '300 more, of other sorts');

# --- different questions at once
@got = answers(map { ask(1, "/api/d/postgres/job?id=$_") } $first .. $first + 199);
is(scalar(grep { m{^HTTP/1.1 200 } } @got), 200, '200 jobs at once');
my @large = map { ask(1, "/api/d/postgres/payload?id=$_") } map { ($first + 3000 .. $first + 3004) } 1 .. 10;
@got = answers(@large);
is(scalar(grep { m{^HTTP/1.1 (200|503) } } @got), 50, 'large payloads');
like($web->view('payload', id => $first + 3005), qr/^404 /, 'but not the largest');
cmp_ok(length($web->view('job', id => $first + 3005)->{job}{payload}), '==', 65536, 'of which the beginning is shown');
like($web->view('jobs', qty => 10)->{jobs}[0]{payload}, qr/^(\(large\)|\{"text": "z+)$/, 'and less in lists');

# --- an action does not stop the pages, nor is it done twice
$lock->query_safe("BEGIN; SELECT FROM queue.live_job WHERE id = $first FOR UPDATE");
@sockets = ask(2, '/api/d/postgres/do/cancel_job', 'POST', qq({"id": "$first"}), 'Content-Type: application/json', "X-Queue-CSRF: $web->{csrf}");
wait_true($node, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock'}, 'two actions wait');
is(ref $web->view('overview'), 'HASH', 'the pages do not');
@sockets = (@sockets, ask(10, '/api/d/postgres/do/cancel_job', 'POST', qq({"id": "$first"}), 'Content-Type: application/json', "X-Queue-CSRF: $web->{csrf}"));
$lock->query_safe('ROLLBACK');
is(join(' ', sort map { /"done" : (\d)/ ? $1 : 'none' } answers(@sockets)), '0 0 0 0 0 0 0 0 0 0 0 1', 'one of twelve did it');

# --- timeouts
my $quick = QueueWeb->start($node, [ '--timeout', '1' ], user => 'web');
$lock->query_safe('BEGIN; LOCK TABLE queue.live_job');
my $late = $quick->get('/api/d/postgres/jobs');
is("$late->{status} $late->{json}{error}{code}", '504 57014', 'a query ends at its timeout');
$lock->query_safe('COMMIT');

# --- browsers that go away while they wait
$lock->query_safe('BEGIN; LOCK TABLE queue.live_job');
@sockets = ask(50, '/api/d/postgres/jobs?qty=7');
wait_true($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock')}, 'a query waits again');
close $_ for @sockets;
$lock->query_safe('COMMIT');
is(ref $web->view('jobs', qty => 7), 'HASH', 'nothing is lost with them');
$lock->quit;

# --- lost connections: an idle one is made again, what was asked of a backend that dies is asked again or told
my $other = QueueWeb->start($node, [], user => 'web', down => 1, more => [ sprintf('host=%s port=%d dbname=nothere user=web', $node->host, $node->port) ]);
is($other->get('/healthz')->{status}, 503, 'a database that is not there');
like($other->get('/healthz')->{content}, qr/^down: nothere\n\z/, 'is named');
my ($there, $not) = @{ $other->get('/api/databases')->{json} };
ok($there->{up} && !$not->{up} && $not->{error} =~ /"nothere" does not exist/, 'with the reason');
is($other->get('/api/d/nothere/overview')->{json}{error}{code}, 'down', 'as is whoever asks it');
is(ref $other->view('overview'), 'HASH', 'the other one answers');
like($other->get('/metrics')->{content}, qr/^queue_database_up\{database="postgres"\} 1\nqueue_database_up\{database="nothere"\} 0$/m, 'so in the metrics');
sql($node, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'queue-web'});
is(ref $web->view('overview'), 'HASH', 'sessions that were ended are made again');

# --- the server goes and comes back
$node->stop('fast');
ok($web->await_health(503), 'the database is down');
my $down = $web->get('/api/d/postgres/overview');
is("$down->{status} $down->{json}{error}{code}", '503 down', 'as a view says');
isnt($web->get('/')->{status}, 503, 'the page is still there');
is($web->act('pause_queue', { queue => 'q' })->{status}, 503, 'no action is kept for later');
like($web->get('/metrics')->{content}, qr/^queue_database_up\{database="postgres"\} 0$/m, 'the metrics tell');
$node->start;
ok($web->await_health(200), 'it is up again');
is(ref $web->view('overview'), 'HASH', 'and answers');
is(sql($node, q{SELECT paused_at IS NULL FROM queue.stat_queue WHERE queue = 'q'}), 't', 'and nothing was done meanwhile');
like($web->log_text, qr/is up.*is down: .*is up/s, 'the log tells');

# --- a Unix socket
my $path = PostgreSQL::Test::Utils::tempdir_short() . '/web.sock';
my $local = QueueWeb->start($node, [ '--socket', $path ], user => 'web');
is(sprintf('%04o', (stat $path)[2] & oct 7777), '0600', 'a socket for its owner');
my $socket = IO::Socket::UNIX->new(Peer => $path) or die "connect: $!";
print $socket "GET /api/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
$socket->flush;
like((answers($socket))[0], qr{^HTTP/1.1 200 }, 'answers');
$local->stop('KILL');
ok(-S $path, 'one that was left behind');
$local = QueueWeb->start($node, [ '--socket', $path ], user => 'web');
is($local->stop, 0, 'is taken over');
ok(!-e $path, 'and goes with the program');

# --- its end, while somebody waits
$lock = queue_session($node);
$lock->query_safe('BEGIN; LOCK TABLE queue.live_job');
@sockets = ask(3, '/api/d/postgres/jobs?qty=9');
wait_true($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock')}, 'a query waits');
cmp_ok($web->memory, '<', 50_000, 'less than 50 MB');
note(sprintf('memory: %d kB', $web->memory));
is($web->stop, 0, 'it ends');
wait_true($node, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'queue-web' AND wait_event_type = 'Lock')}, 'and its query');
$lock->quit;
is($_->stop, 0, 'so do the others') for $quick, $other;
$node->stop;
done_testing();
