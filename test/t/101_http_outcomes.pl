# What each answer of an endpoint means for the job, and what the request says.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Digest::SHA qw(hmac_sha256_base64);
use HttpServer;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $tls_dir = $PostgreSQL::Test::Utils::tmp_check . '/tls';
my $node = queue_node('http_outcomes', conf => "queue.http_max_response = '4kB'\nqueue.log_level = 'debug1'");

sql($node, "SELECT queue.alter_queue('default', keep_completed => '1 day', max_attempts => 25)");

# One handler a path; the first attempt's outcome is looked at.  A long backoff keeps the second away.
my $n = 0;
sub outcome
{
	my ($path, %o) = @_;
	my $kind = 'k' . ++$n;
	my $url = $path =~ /^http/ ? $path : $server->url($path);
	my $more = $o{register} // '';
	my $timeout = $path =~ /hang|drip/ ? '1500 ms' : '1 min';    # short only where it is awaited: TLS takes long under valgrind
	sql($node, "SELECT queue.register_http_handler('$kind', '$url', backoff => '{\"type\": \"fixed\", \"base\": \"1 h\"}', timeout => '$timeout', connect_timeout => '$timeout'$more)");
	my $id = sql($node, "SELECT queue.enqueue('$kind', " . ($o{payload} // q('{"n": 1}')) . ($o{enqueue} // '') . ')');
	$node->poll_query_until('postgres',
		"SELECT attempt > 0 AND state <> 'running' FROM queue.job WHERE id = $id") or diag "$path: no outcome";
	return $id;
}

# state, then error text and http status of the failed attempt, if there is one
sub expect
{
	my ($name, $id, $state, $error, $status) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	one($node, "SELECT state FROM queue.job WHERE id = $id", $state, "$name: $state");
	if (!defined $error)
	{
		one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $id", 0, "$name: no failed attempt");
		return;
	}
	my ($got, $got_status) = split /\x1f/,
	  sql($node, "SELECT error || chr(31) || coalesce(http_status, 0) FROM queue.job_error WHERE job_id = $id");
	like($got, $error, "$name: the error says what happened");
	is($got_status, $status // 0, "$name: http_status");
	return;
}

# --- statuses
for my $status (200, 201, 202, 204)
{
	my $id = outcome("/status/$status");
	expect("status $status", $id, 'completed');
	one($node, "SELECT result->>'status', result->>'body', (result->>'duration_ms')::int >= 0 FROM queue.job WHERE id = $id",
		"$status|" . ($status == 204 ? '' : 'ok') . '|t', "status $status: the result");
}
expect("status $_", outcome("/status/$_"), 'retryable', qr/HTTP status $_/, $_) for (301, 302, 400, 404, 500, 503);
expect('status 410', outcome('/status/410'), 'discarded', qr/HTTP status 410/, 410);
expect('complete_on', outcome('/status/404', register => ", complete_on => '{404}'"), 'completed');
expect('discard_on', outcome('/status/404', register => ", discard_on => '{400-499}'"), 'discarded', qr/404/, 404);
expect('status 200 not in complete_on', outcome('/status/200', register => ", complete_on => '{201}'"), 'retryable', qr/200/, 200);

# --- Retry-After
{
	my $id = outcome('/status/429?retry=120');
	expect('429', $id, 'retryable', qr/HTTP status 429/, 429);
	one($node, "SELECT run_at - now() BETWEEN '100 s' AND '121 s' FROM queue.job WHERE id = $id", 't', '429: Retry-After in seconds');
	$id = outcome('/status/503?date=600');
	one($node, "SELECT run_at - now() BETWEEN '580 s' AND '601 s' FROM queue.job WHERE id = $id", 't', '503: Retry-After as a date');
	$id = outcome('/status/202?retry=300');
	expect('202 with Retry-After', $id, 'scheduled');
	one($node, "SELECT failures, run_at - now() BETWEEN '280 s' AND '301 s' FROM queue.job WHERE id = $id", '0|t', '202 with Retry-After snoozes, uncounted');
	$id = outcome('/status/429?retry=99999999999');
	one($node, "SELECT run_at - now() BETWEEN '23 h' AND '1 day' FROM queue.job WHERE id = $id", 't', 'Retry-After of ages: a day at most');
	expect("the Retry-After of a 1xx is not the answer's", outcome('/early/202'), 'completed');
	$id = outcome('/status/503?retry=soon');
	one($node, "SELECT run_at - now() > '50 min' FROM queue.job WHERE id = $id", 't', 'a Retry-After that cannot be read is none');
	$id = outcome('/status/503?retry=' . '9' x 200);
	one($node, "SELECT run_at - now() BETWEEN '50 min' AND '2 h' FROM queue.job WHERE id = $id", 't', 'nor is one that no number is so long as');
	$server->forget;
	outcome('/status/202?retry=0');
	# (answered: when it is claimed, the endpoint has not seen it yet)
	poll($node, "SELECT attempt > 1 AND state = 'scheduled' FROM queue.job WHERE kind = 'k$n'");
	my @sent = map { $_->{at} } $server->seen('request');
	cmp_ok($sent[1] - $sent[0], '>=', 0.9, '202 with Retry-After 0 waits a second');
	sql($node, "SELECT queue.unregister_handler('k$n')");
	outcome('/status/503?date=-60');
	wait_true($node, "SELECT attempt > 1 FROM queue.job WHERE kind = 'k$n'", 'a Retry-After that is over is one');
	sql($node, "SELECT queue.unregister_handler('k$n')");
}

# --- broken answers; the worker stays small
my $pid = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
my $before = resident($pid);
expect('connection refused', outcome('http://127.0.0.1:1/'), 'retryable', qr/Connection refused|Failed to connect/i);
expect('DNS failure', outcome('http://no-such-host.invalid/'), 'retryable', qr/resolve/i);
expect('timeout', outcome('/hang'), 'retryable', qr/timeout.*timed out/i);
expect('slow drip', outcome('/drip'), 'retryable', qr/timeout.*HTTP status 200/i, 200);
expect('reset mid-body', outcome('/reset'), 'retryable', qr/\S.*HTTP status 200/i, 200);
expect('endless headers', outcome('/headers'), 'retryable', qr/headers of the answer are larger/, 200);

# headers that begin with the rest of one: malformed, so what libcurl makes of it is its own; that the process lives is ours
for (1 .. 3)
{
	expect('an answer with headers', outcome('/status/200'), 'completed');
	my $id = outcome('/continued');
	one($node, "SELECT state IN ('completed', 'retryable') FROM queue.job WHERE id = $id", 't', 'the rest of a header, and no header before it');
}
for my $path ('/endless', '/gzip')
{
	my $id = outcome($path);
	expect($path, $id, 'completed');
	one($node, "SELECT length(result->>'body'), result->>'truncated' FROM queue.job WHERE id = $id", '4096|true',
		"$path: the body is cut at queue.http_max_response, after decompression");
}
cmp_ok(resident($pid) - $before, '<', 4096, 'the worker has grown by less than 4 MB');
one($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'", $pid, 'it is still the same one');

# --- one send an attempt: a kept connection that breaks before an answer is a failed attempt, not sent again
{
	$server->forget;
	for my $i (1 .. 3)
	{
		expect("an answer that keeps the connection ($i)", outcome('/status/200'), 'completed');
		expect("dropped ($i)", outcome('/drop'), 'retryable', qr/connection broke off|Empty reply/);
	}
	is(scalar(grep { $_->{path} eq '/drop' } $server->seen('request')), 3, 'each was sent once');
}

# --- redirects are not followed
{
	$server->forget;
	my $id = outcome('/redirect?to=' . $server->url('/status/200'));
	expect('redirect', $id, 'retryable', qr/302: redirects are not followed/, 302);
	is(scalar(grep { $_->{path} eq '/status/200' } $server->seen('request')), 0, 'the other place saw nothing');
}

# Does the process listen on that port of 127.0.0.1?
sub listens
{
	my ($pid, $port) = @_;
	my $address = sprintf '0100007F:%04X', $port;
	my %inode = map { $_->[9] => 1 } grep { @$_ > 9 && $_->[1] eq $address && $_->[3] eq '0A' } map { [ split ' ' ] } split /\n/, slurp_file('/proc/net/tcp');
	return scalar grep { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ && $inode{$1} } glob("/proc/$pid/fd/*");
}

# --- TLS: verified, the CA file settable, the name must match
SKIP:
{
	skip 'no openssl', 5 unless -x '/usr/bin/openssl';
	mkdir $tls_dir;
	for my $name ('localhost', 'elsewhere.example')
	{
		system('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$name", '-addext',
			"subjectAltName=DNS:$name", '-keyout', "$tls_dir/$name.key", '-out', "$tls_dir/$name.crt") == 0
		  or skip 'openssl req does not work', 5;
	}
	my %tls;
	for my $name ('localhost', 'elsewhere.example')
	{
		# somebody else may take the port between the probe and s_server, which then ends
		until ($tls{$name})
		{
			my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die $!;
			my $port = $probe->sockport;
			close $probe;
			my $child = fork();
			if ($child == 0)
			{
				open STDOUT, '>', '/dev/null';
				open STDERR, '>', '/dev/null';
				exec 'openssl', 's_server', '-accept', "127.0.0.1:$port", '-cert', "$tls_dir/$name.crt", '-key', "$tls_dir/$name.key", '-www';
				POSIX::_exit(1);
			}
			until (waitpid($child, POSIX::WNOHANG()))
			{
				# its child is the only process that listens there
				if (listens($child, $port)) { $tls{$name} = { port => $port, pid => $child }; last; }
				select undef, undef, undef, 0.02;
			}
		}
	}
	expect('unknown CA', outcome("https://localhost:$tls{localhost}{port}/"), 'retryable', qr/certificate/i);
	expect('CA file', outcome("https://localhost:$tls{localhost}{port}/", register => ", ca_file => '$tls_dir/localhost.crt', method => 'GET',
		health_url => 'https://localhost:$tls{localhost}{port}/up'"), 'completed');
	expect('unknown CA, after a request with a CA file', outcome("https://localhost:$tls{localhost}{port}/"), 'retryable', qr/certificate/i);
	expect('wrong name', outcome("https://localhost:$tls{'elsewhere.example'}{port}/", register => ", ca_file => '$tls_dir/elsewhere.example.crt'"),
		'retryable', qr/name.*does not match|no alternative certificate/i);
	for my $t (values %tls) { kill 'TERM', $t->{pid}; waitpid($t->{pid}, 0); }
}

# --- what the request says
{
	$server->forget;
	my $secret = 'whsec_' . encode_base64('a secret of some bytes', '');
	my $id = outcome('/status/500', register => ", secret => '$secret', headers => '{\"Authorization\": \"Bearer x\", \"X-Own\": \"1\"}'",
		enqueue => q{, headers => '{"X-Job": "from the job", "X-Own": "2", "User-Agent": "fake", "Queue-Job-Id": "7", "authorization": "none", "Host": "evil",
			"Webhook-Signature": "v1,fake", "webhook-id": "fake", "Proxy-Authorization": "Basic fake", "Idempotency-Key": "fake",
			"X-Flag": true, "X-Number": 1.5, "X-Null": null}'});
	sql($node, "SELECT queue.retry($id)");
	wait_true($node, "SELECT attempt = 2 AND state = 'retryable' FROM queue.job WHERE id = $id", 'a second attempt');
	my @r = $server->seen('request');
	is(scalar(@r), 2, 'two requests');
	my $r = $r[0];
	is($r->{method}, 'POST', 'POST');
	is($r->{body}, '{"n": 1}', 'the payload is the body');
	is($r->{'content-type'}, 'application/json', 'Content-Type');
	is($r->{'user-agent'}, 'queue/1.0', 'User-Agent');
	is($r->{'queue-job-id'}, $id, 'Queue-Job-Id');
	is($r->{'queue-job-kind'}, "k$n", 'Queue-Job-Kind');
	is($r->{'queue-job-queue'}, 'default', 'Queue-Job-Queue');
	is($r->{'queue-job-attempt'}, 1, 'Queue-Job-Attempt');
	is($r[1]{'queue-job-attempt'}, 2, 'of the second attempt');
	like($r->{'queue-job-enqueued-at'}, qr/^20\d\d-\d\d-\d\dT[\d:.]+Z$/, 'Queue-Job-Enqueued-At');
	is($r[1]{'queue-job-enqueued-at'}, $r->{'queue-job-enqueued-at'}, 'which stays');
	is($r[1]{'queue-job-first-attempt-at'}, $r[0]{'queue-job-first-attempt-at'}, 'Queue-Job-First-Attempt-At stays');
	is($r->{authorization}, 'Bearer x', "the handler's header; the job's does not replace it");
	is($r->{'x-own'}, '1', 'nor another one');
	is($r->{'x-job'}, 'from the job', "the job's header");
	is(join(' ', map { "$_=" . ($r->{$_} // 'none') } qw(x-flag x-number x-null)), 'x-flag=true x-number=1.5 x-null=none', 'of any plain type');
	is($r->{'proxy-authorization'}, undef, 'but no Proxy-Authorization');
	unlike(join(' ', values %$r), qr/fake|evil/, 'nor any that is ours');
	like($r->{host}, qr/^127\.0\.0\.1:/, 'Host is not to be set by a job');
	like($r->{'idempotency-key'}, qr/^[0-9a-f-]{36}-$id$/, 'Idempotency-Key');
	is($r[1]{'idempotency-key'}, $r->{'idempotency-key'}, 'equal over the attempts');
	is($r->{'webhook-id'}, $r->{'idempotency-key'}, 'webhook-id');
	# by an implementation that is not ours
	my $expected = hmac_sha256_base64("$r->{'webhook-id'}.$r->{'webhook-timestamp'}.$r->{body}", 'a secret of some bytes');
	$expected .= '=' while length($expected) % 4;
	is($r->{'webhook-signature'}, "v1,$expected", 'webhook-signature');
	cmp_ok(abs($r->{'webhook-timestamp'} - time), '<', 60, 'webhook-timestamp');

	# before a large body libcurl would wait for "100 Continue", a second where the endpoint says nothing of it
	$server->forget;
	outcome('/status/200', payload => "to_jsonb(repeat('x', 1500000))");
	($r) = $server->seen('request');
	is($r->{expect}, undef, 'a large body is sent at once');

	# a GET sends no payload
	$server->forget;
	outcome('/status/200', register => ", method => 'GET'");
	($r) = $server->seen('request');
	is(join(' ', map { $r->{$_} // 'none' } qw(method body content-type)), 'GET  none', 'a GET has no body, nor the type of one');

	# a raw secret, another method, odd names
	$server->forget;
	sql($node, "SELECT queue.register_http_handler('odd kind\n%', '" . $server->url('/status/200') . "', method => 'put', secret => 'raw secret')");
	sql($node, q{SELECT queue.enqueue(E'odd kind\n%', '{"ü": "€"}')});
	wait_true($node, q{SELECT count(*) = 0 FROM queue.live_job l JOIN queue.line n ON n.id = l.line WHERE n.kind ~ '^odd'}, 'sent');
	($r) = $server->seen('request');
	is($r->{method}, 'PUT', 'another method');
	is($r->{'queue-job-kind'}, 'odd%20kind%0A%25', 'a kind is percent-encoded');
	is($r->{body}, "{\"\xc3\xbc\": \"\xe2\x82\xac\"}", 'UTF-8');
	$expected = hmac_sha256_base64("$r->{'webhook-id'}.$r->{'webhook-timestamp'}.$r->{body}", 'raw secret');
	$expected .= '=' while length($expected) % 4;
	is($r->{'webhook-signature'}, "v1,$expected", 'signed with a raw secret');

	# a secret that is rotated: signed with both, by the same endpoint
	$server->forget;
	sql($node, q{SELECT queue.alter_http_handler(E'odd kind\n%', secrets => '{new secret,raw secret}', method => 'post')});
	sql($node, q{SELECT queue.enqueue(E'odd kind\n%', '{"ü": "€"}')});
	wait_true($node, q{SELECT count(*) = 0 FROM queue.live_job l JOIN queue.line n ON n.id = l.line WHERE n.kind ~ '^odd'}, 'sent');
	($r) = $server->seen('request');
	is($r->{method}, 'POST', 'another method');
	my @expected = map { my $s = hmac_sha256_base64("$r->{'webhook-id'}.$r->{'webhook-timestamp'}.$r->{body}", $_);
		$s .= '=' while length($s) % 4; "v1,$s" } 'new secret', 'raw secret';
	is($r->{'webhook-signature'}, "@expected", 'signed with each secret');
	one($node, q{SELECT succeeded FROM queue.stat_endpoint WHERE kind ~ '^odd'}, '2', 'the endpoint is the same');
}

# --- a type of its own, the handler's or else the job's; a header without a value
{
	$server->forget;
	my $typed = ", headers => '{\"Content-type\": \"text/plain\", \"X-Empty\": \"\"}'";
	expect('typed', outcome('/status/200', register => $typed), 'completed');
	expect('typed twice', outcome('/status/200', register => $typed, enqueue => q{, headers => '{"Content-Type": "text/html"}'}), 'completed');
	expect('typed by the job', outcome('/status/200', enqueue => q{, headers => '{"Content-Type": "text/html"}'}), 'completed');
	is(join(' ', map { "$_->{'content-type'}" . (defined $_->{'x-empty'} ? ":$_->{'x-empty'}" : '') } $server->seen('request')), 'text/plain: text/plain: text/html', 'one type each');
}

# --- a job's header that no request can carry
expect('long job header', outcome('/status/200', enqueue => q{, headers => jsonb_build_object('X-Long', repeat('x', 20000))}), 'discarded', qr/header "X-Long" cannot be sent/);
expect('bad job header', outcome('/status/200', enqueue => q{, headers => '{"X-Bad": "a\r\nb"}'}), 'discarded', qr/header "X-Bad" cannot be sent/);

# --- max_attempts, backoff, the job's own timeout
{
	my $kind = 'attempts';
	$server->forget;
	sql($node, "SELECT queue.register_http_handler('$kind', '" . $server->url('/status/500') . "', max_attempts => 3, backoff => '{\"type\": \"fixed\", \"base\": \"10 ms\"}')");
	my $id = sql($node, "SELECT queue.enqueue('$kind')");
	wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $id", 'out of attempts');
	one($node, "SELECT attempt, failures FROM queue.job WHERE id = $id", '3|3', 'after three');
	is(join(' ', map { "$_->{'queue-job-attempt'}/$_->{'queue-job-failures'}" } $server->seen('request')), '1/0 2/1 3/2', 'Queue-Job-Failures counts');
	one($node, "SELECT count(*), bool_and(http_status = 500), bool_and(worker ~ '^queue http') FROM queue.job_error WHERE job_id = $id", '3|t|t', 'all of them are told');
	sql($node, "SELECT queue.register_http_handler('own', '" . $server->url('/hang') . "', max_attempts => 1)");
	$id = sql($node, "SELECT queue.enqueue('own', timeout => '300 ms')");
	wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $id", "the job's own timeout");
	one($node, "SELECT completed, failed, discarded, timeouts, last_error_at > now() - interval '5 min' FROM queue.stat_handler WHERE kind = 'own'", '0|1|1|1|t', 'is counted');
	sql($node, "SELECT queue.register_http_handler('counted', '" . $server->url('/status/200') . "')");
	$id = sql($node, "SELECT queue.enqueue('counted')");
	wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $id", 'one that goes well');
	one($node, "SELECT completed, failed, discarded, timeouts FROM queue.stat_handler WHERE kind = 'counted'", '1|0|0|0', 'is, too');
}

# --- cancel and discard of what is under way
for my $what (qw(cancel discard))
{
	sql($node, "SELECT queue.register_http_handler('slow', '" . $server->url('/hang') . "')");
	# (a request takes a day at most, whatever the job says)
	my $id = sql($node, "SELECT queue.enqueue('slow'" . ($what eq 'discard' ? ", timeout => '10 days')" : ')'));
	wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'slow'", 'under way');
	one($node, "SELECT state, worker ~ '^queue http', leased_until - now() BETWEEN " . ($what eq 'discard' ? "'1 day' AND '25 h'" : "'30 s' AND '2 min'")
		. " FROM queue.job WHERE id = $id", 'running|t|t', 'it is running, and the lease outlives the timeout');
	one($node, "SELECT running FROM queue.stat_handler WHERE kind = 'slow'", 1, 'stat_handler counts it');
	one($node, "SELECT queue.$what($id)", 't', "$what");
	wait_true($node, "SELECT in_flight = 0 FROM queue.stat_endpoint WHERE kind = 'slow'", 'the transfer is aborted');
	one($node, "SELECT state FROM queue.job WHERE id = $id", $what eq 'cancel' ? 'cancelled' : 'discarded', 'it is ended');
	one($node, "SELECT failed, succeeded FROM queue.stat_endpoint WHERE kind = 'slow'", '0|0', 'and says nothing about the endpoint');
}

# --- pausing
{
	sql($node, "SELECT queue.register_http_handler('p', '" . $server->url('/status/200') . "'); SELECT queue.pause_handler('p')");
	my $id = sql($node, "SELECT queue.enqueue('p')");
	one($node, "SELECT state FROM queue.stat_handler WHERE kind = 'p'", 'paused', 'paused');
	one($node, "SELECT state FROM queue.job WHERE id = $id", 'available', 'its job waits');
	sql($node, "SELECT queue.resume_handler('p')");
	wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $id", 'resumed');
}

# --- the worker holds nothing while it waits, and goes when no handler is left
one($node, "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE backend_type = 'queue http'", 't', 'no snapshot');
sql($node, 'SELECT queue.unregister_handler(kind) FROM queue.stat_handler');
wait_true($node, "SELECT count(*) = 0 FROM queue.stat_worker WHERE type = 'http'", 'no handler, no worker');
one($node, 'SELECT count(*) FROM queue.endpoint', 0, 'no endpoints either');

$server->stop;
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated/, 'nothing crashed');
done_testing();
