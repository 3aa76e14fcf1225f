# Where requests go: limits, weights, breakers, health.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
# An analyze of its tables has the worker read its configuration anew, and the endpoints' turns begin anew.
my $node = queue_node('http_route', conf => "autovacuum = off\n");

sub enqueue { my ($kind, $n) = @_; return sql($node, "SELECT count(*) FROM queue.enqueue_many('$kind', array_fill('{}'::jsonb, ARRAY[$n]))"); }
sub none_left { my ($name) = @_; return wait_true($node, 'SELECT count(*) = 0 FROM queue.live_job', $name); }
sub register { my ($kind, $url, $more) = @_; sql($node, "SELECT queue.register_http_handler('$kind', '$url'" . ($more // '') . ')'); return; }
sub most { my ($path) = @_; my $max = 0; for ($server->seen('request')) { $max = $_->{busy} if (!$path || $_->{path} eq $path) && $_->{busy} > $max } return $max; }

# --- max_running of the handler, and of an endpoint
register('seven', $server->url('/sleep/0.05'), ', max_running => 7');
enqueue('seven', 200);
none_left('200 jobs, seven at once');
is(most(), 7, 'never more than seven, and seven');
$server->forget;
register('ends', $server->url('/sleep/0.05'), ', max_running => 50');
sql($node, "SELECT queue.add_endpoint('ends', '" . $server->url('/sleep/0.051') . "', max_running => 3)");
sql($node, "SELECT queue.add_endpoint('ends', '" . $server->url('/sleep/0.05') . "', max_running => 5)");
enqueue('ends', 200);
none_left('200 jobs, 5 + 3 at once');
is(most(), 8, 'never more than its endpoints take, and as many');
{
	# at most 3 at once at the second: from its requests and answers in order
	my ($now, $max) = (0, 0);
	for (grep { $_->{path} eq '/sleep/0.051' } $server->seen)
	{
		$now += $_->{what} eq 'request' ? 1 : -1;
		$max = $now if $now > $max;
	}
	is($max, 3, 'never more than three at the one with three');
}

# --- one full handler does not delay another
$server->forget;
register('stuck', $server->url('/sleep/30'), ', max_running => 5');
enqueue('stuck', 500);
wait_true($node, "SELECT in_flight = 5 FROM queue.stat_endpoint WHERE kind = 'stuck'", 'one handler is full');
register('free', $server->url('/status/200'));
my $began = time;
enqueue('free', 50);
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE kind = 'free'", 'another one goes on');
cmp_ok(time - $began, '<', 29, 'before any of those has ended');
sql($node, "SELECT queue.unregister_handler('stuck'); SELECT queue.purge('default')");
sql($node, "SELECT queue.cancel(id) FROM queue.job");
none_left('cancelled');

# --- weights 1/5/2 interleave, 0 gets nothing
$server->forget;
register('w', $server->url('/status/200?a'), ', max_running => 1');
sql($node, "SELECT queue.add_endpoint('w', '" . $server->url('/status/200?b') . "', 5), queue.add_endpoint('w', '" . $server->url('/status/200?c') . "', 2), queue.add_endpoint('w', '" . $server->url('/status/200?d') . "', 0)");
{
	# (if the configuration is read anew meanwhile, turns begin anew: another round then)
	my (@to, %n);
	for (1 .. 5)
	{
		$server->forget;
		enqueue('w', 80);
		poll($node, 'SELECT count(*) = 0 FROM queue.live_job') or last;
		@to = map { $_->{query} } $server->seen('request');
		%n = ();
		$n{$_}++ for @to;
		last if join(' ', map { "$_$n{$_}" } sort keys %n) eq 'a10 b50 c20';
	}
	none_left('80 jobs over weights 1, 5, 2, 0');
	is_deeply(\%n, { a => 10, b => 50, c => 20 }, 'by weight');
	my $longest = 0;
	for my $run (join('', @to) =~ /(b+)/g) { $longest = length $run if length $run > $longest; }
	cmp_ok($longest, '<=', 4, 'interleaved');
}

# --- a breaker opens, probes, closes
$server->forget;
register('b', $server->url('/status/500'), q{, max_running => 4, backoff => '{"type": "fixed", "base": "20 ms"}', breaker => '{"consecutive_failures": 5, "pause": "200 ms", "cap": "400 ms"}'});
my $ok = $server->url('/status/200?ok');
sql($node, "SELECT queue.add_endpoint('b', '$ok')");
enqueue('b', 300);
none_left('300 jobs, one endpoint fails');
wait_true($node, "SELECT breaker IN ('open', 'half-open') FROM queue.stat_endpoint WHERE kind = 'b' AND url ~ '/status/500'", 'its breaker is open');
one($node, "SELECT breaker FROM queue.stat_endpoint WHERE kind = 'b' AND url ~ '/status/200'", 'closed', "the other's is closed");
cmp_ok(scalar(grep { $_->{path} eq '/status/500' } $server->seen('request')), '<', 40, 'little went to the failing one');
is(scalar(grep { $_->{path} eq '/status/500' } $server->seen('request')),
	sql($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'b'"), 'each failure is told');

# its state outlives the worker
my $pid = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
kill 'TERM', $pid;
ok(gone($pid), 'the worker ends');
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'http' AND pid IS NOT NULL AND pid <> $pid", 'another one comes');
one($node, "SELECT breaker IN ('open', 'half-open'), failed > 0 FROM queue.stat_endpoint WHERE kind = 'b' AND url ~ '/status/500'", 't|t', 'breaker and totals are as they were');

# an endpoint that recovers: it fails while HEALTHY is not there
sql($node, "SELECT queue.unregister_handler('b')");
register('r', $server->url('/health'), q{, max_running => 4, backoff => '{"type": "fixed", "base": "20 ms"}', breaker => '{"consecutive_failures": 5, "pause": "100 ms", "cap": "200 ms"}'});
sql($node, "SELECT queue.add_endpoint('r', '$ok')");
enqueue('r', 100);
none_left('100 jobs');
wait_true($node, "SELECT breaker <> 'closed' FROM queue.stat_endpoint WHERE kind = 'r' AND url ~ 'health'", 'open');
open(my $healthy, '>', "$dir/HEALTHY") or die $!;
close $healthy;
for (1 .. 50)
{
	enqueue('r', 10);
	none_left('more');
	last if sql($node, "SELECT breaker FROM queue.stat_endpoint WHERE kind = 'r' AND url ~ 'health'") eq 'closed';
	usleep(50_000);
}
one($node, "SELECT breaker FROM queue.stat_endpoint WHERE kind = 'r' AND url ~ 'health'", 'closed', 'after successful probes it is closed');
{
	my $log = slurp_file($node->logfile);
	like($log, qr/breaker of \S+health of kind "r": closed -> open/, 'the log tells that it opened');
	like($log, qr/breaker of \S+health of kind "r": open -> half-open/, 'that it was probed');
	like($log, qr/breaker of \S+health of kind "r": half-open -> closed/, 'that it closed');
}

# none available: any one is taken
unlink "$dir/HEALTHY";
register('n', $server->url('/status/503'), q{, max_running => 4, max_attempts => 60, backoff => '{"type": "fixed", "base": "10 ms"}', breaker => '{"consecutive_failures": 2, "pause": "1 h", "cap": "1 h"}'});
sql($node, "SELECT queue.add_endpoint('n', '" . $server->url('/status/502') . "'), queue.add_endpoint('n', '" . $server->url('/status/504') . "', 0)");
enqueue('n', 1);
none_left('with both breakers open the system does not sit still');
is(scalar(grep { $_->{path} eq '/status/504' } $server->seen('request')), 0, 'but sends nothing to one of weight 0');
doctor_like($node, qr/circuit breaker.*kind "n"/, 'doctor() tells of them');
sql($node, "SELECT queue.pause_handler('n')");
one($node, q{SELECT count(*) FROM queue.doctor() WHERE check_name = 'circuit breaker' AND detail ~ 'kind "n"'}, 0, 'but not when the handler is paused');
sql($node, "SELECT queue.resume_handler('n')");

# with all breakers open nothing goes to an endpoint whose health check fails: only the others are any
$server->forget;
register('u', $server->url('/status/503'), q{, max_running => 4, max_attempts => 60, backoff => '{"type": "fixed", "base": "10 ms"}', breaker => '{"consecutive_failures": 2, "pause": "1 h", "cap": "1 h"}'});
sql($node, "SELECT queue.add_endpoint('u', '" . $server->url('/status/502') . "', health_url => '" . $server->url('/health') . "')");
enqueue('u', 1);
none_left('with its breaker open the one without a health check is still used');
is(scalar(grep { $_->{path} eq '/status/502' } $server->seen('request')), 0, 'the one whose health check fails never is');
cmp_ok(scalar(grep { $_->{path} eq '/status/503' } $server->seen('request')), '==', 60, 'all went to the other');
sql($node, "SELECT queue.unregister_handler('u')");

# --- the health gate; it is asked by GET, whatever was sent before
register('put', $server->url('/status/200'), ", method => 'PUT'");
enqueue('put', 1);
none_left('a PUT');
$server->forget;
register('g', $server->url('/status/200'), ", health_timeout => '1 s', health_url => '" . $server->url('/health') . "'");
enqueue('g', 20);
wait_true($node, "SELECT NOT healthy AND next_probe_at IS NOT NULL FROM queue.stat_endpoint WHERE kind = 'g'", 'down');
wait_true($node, "SELECT state = 'parked' FROM queue.stat_handler WHERE kind = 'g'", 'the handler is parked');
ok($node->wait_for_log(qr/endpoint_down: endpoint \S+ of kind "g" has been down/), 'it is reported');
one($node, "SELECT count(*) FROM queue.job WHERE state = 'available' AND attempt = 0", 20, 'its jobs are untouched');
is(scalar(grep { $_->{path} eq '/status/200' } $server->seen('request')), 0, 'nothing was sent');
{
	my @asked = grep { $_->{path} eq '/health' } $server->seen('request');
	my @probes = map { $_->{at} } @asked;
	is(scalar(grep { $_->{method} ne 'GET' } @asked), 0, 'by GET');
	cmp_ok(scalar(@probes), '>=', 2, 'it is probed');
	cmp_ok($probes[1] - $probes[0], '>', 0.2, 'with a pause');
}
open($healthy, '>', "$dir/HEALTHY") or die $!;
close $healthy;
none_left('healthy: all are sent');
one($node, "SELECT healthy FROM queue.stat_endpoint WHERE kind = 'g'", 't', 'and it shows');

# what was not asked for a while is asked before it is sent anything
sql($node, "SELECT queue.pause_handler('g')");
wait_true($node, "SELECT NOT healthy FROM queue.stat_endpoint WHERE kind = 'g'", 'nobody knows of an endpoint whose handler is paused');
unlink "$dir/HEALTHY";
$server->forget;
enqueue('g', 1);
sql($node, "SELECT queue.resume_handler('g')");
wait_true($node, "SELECT next_probe_at IS NOT NULL FROM queue.stat_endpoint WHERE kind = 'g'", 'it is asked');
is(scalar(grep { $_->{path} eq '/status/200' } $server->seen('request')), 0, 'and nothing was sent');
sql($node, "SELECT queue.unregister_handler('g'); SELECT queue.purge('default')");

# a health_url may answer with more than is kept of an answer
register('long', $server->url('/status/200'), ", health_url => '" . $server->url('/status/200?body=x&repeat=100000') . "'");
enqueue('long', 1);
none_left('one that answers with much text is up');

# another health_url is asked from then on; one of weight 0 is not asked
register('moved', $server->url('/status/200'), ", health_url => '" . $server->url('/status/503') . "'");
sql($node, "SELECT queue.add_endpoint('moved', '" . $server->url('/status/201') . "', 0, health_url => '" . $server->url('/status/404') . "')");
wait_true($node, "SELECT NOT healthy AND next_probe_at IS NOT NULL FROM queue.stat_endpoint WHERE kind = 'moved' AND weight = 1", 'down');
sql($node, "UPDATE queue.endpoint SET health_url = '" . $server->url('/status/200') . "' WHERE url ~ '/status/200' AND health_url ~ '/status/503'");
enqueue('moved', 1);
none_left('its new health_url says that it is up');
is(scalar(grep { $_->{path} eq '/status/404' } $server->seen('request')), 0, 'one of weight 0 is not asked');
sql($node, "SELECT queue.unregister_handler('moved')");

# an endpoint of another installation, as a restored row is, gets nothing
register('restored', $server->url('/status/200'));
sql($node, "SELECT queue.add_endpoint('restored', '" . $server->url('/status/409') . "'); UPDATE queue.endpoint SET system_identifier = 1 WHERE url ~ '/status/409'");
enqueue('restored', 10);
none_left('all go to the other one');
is(scalar(grep { $_->{path} eq '/status/409' } $server->seen('request')), 0, 'none to one that is not of this installation');
sql($node, "SELECT queue.unregister_handler('restored')");

# a request that tries a breaker out and is cancelled leaves its place to the next
register('tried', $server->url('/file'), q{, backoff => '{"type": "fixed", "base": "5 ms"}', breaker => '{"consecutive_failures": 1, "pause": "10 ms", "cap": "10 ms", "successes": 1}'});
sql($node, "SELECT queue.add_endpoint('tried', '$ok')");
sub try_out { my ($file) = @_; return sql($node, "SELECT max(queue.enqueue('tried', '{\"file\": \"$file\"}')) FROM generate_series(1, 2)"); }
$server->say_status('bad', 500);
try_out('bad');
none_left('one of two failed');
my $at_file = "FROM queue.stat_endpoint WHERE kind = 'tried' AND url ~ 'file'";
one($node, "SELECT breaker <> 'closed' $at_file", 't', 'its breaker is open');
for (1 .. 50) { last if sql($node, "SELECT in_flight = 1 $at_file") eq 't'; try_out('never'); }
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE kind = 'tried' AND state = 'running'");
none_left('the one that tries it out is cancelled');
$server->say_status('good', 200);
for (1 .. 50) { last if sql($node, "SELECT breaker = 'closed' $at_file") eq 't'; try_out('good'); none_left('more'); }
one($node, "SELECT breaker $at_file", 'closed', 'the next one closes it');
sql($node, "SELECT queue.unregister_handler('tried')");

# a handler with an endpoint that is not there: its jobs go once it is
# (bound, so that nobody else gets it, and not listened on)
my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', ReuseAddr => 1) or die $!;
my $port = $probe->sockport;
register('late', "http://127.0.0.1:$port/status/200", ", health_url => 'http://127.0.0.1:$port/status/200'");
enqueue('late', 5);
mkdir "$dir/late";
my $late = HttpServer->new(dir => "$dir/late", port => $port);
none_left('it came up, and the jobs went');
$late->stop;
enqueue('late', 1);
wait_true($node, "SELECT NOT healthy FROM queue.stat_endpoint WHERE kind = 'late'", 'when nobody listens any more it is doubted');
sql($node, "SELECT queue.unregister_handler('late'); SELECT queue.cancel(id) FROM queue.job");
none_left('cancelled');

# --- secrets, headers and queries are for nobody else
sql($node, q{CREATE ROLE reader LOGIN; SELECT queue.grant_queue('default', 'reader', 'read'), queue.grant_queue('default', 'reader', 'manage')});
register('s', $server->url('/status/200?token=hush'), q{, secret => 'raw', headers => '{"Authorization": "hush"}'});
one($node, "SELECT count(*) FROM queue.stat_endpoint WHERE kind = 's' AND url ~ '/status/200\$'", 1, 'a url without its query', user => 'reader');
one($node, "SELECT count(*) FROM queue.stat_handler WHERE target ~ 'hush'", 0, 'in stat_handler too', user => 'reader');
for my $table (qw(handler endpoint installation))
{
	my ($out, $err);
	$node->psql('postgres', "SELECT * FROM queue.$table", stdout => \$out, stderr => \$err, extra_params => [ '-U', 'reader' ]);
	like($err, qr/permission denied/, "queue.$table is not readable");
}
enqueue('s', 1);
none_left('sent');
is((grep { $_->{query} eq 'token=hush' } $server->seen('request'))[0]{authorization}, 'hush', 'the endpoint got both');
unlike(slurp_file($node->logfile), qr/hush/, 'the log has neither') unless sql($node, 'SHOW log_statement') ne 'none';

$server->stop;
$node->stop('fast');
done_testing();
