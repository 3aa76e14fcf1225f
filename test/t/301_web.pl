# queue-web's endpoints: what they answer, to whom, and what they refuse.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Temp;
use IO::Select;
use IO::Socket::INET;
use IPC::Run ();
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

# What it says and its exit code, of a call that ends by itself.
sub call
{
	my (@args) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $ENV{QUEUE_WEB}, @args ], '>', \$out, '2>', \$err);
	return ($? >> 8) . ": $out$err";
}

# --- the command line
my $secrets = File::Temp->newdir;
sub token_file
{
	my ($name, $content, $mode) = @_;
	append_to_file("$secrets/$name", $content);
	chmod $mode, "$secrets/$name";
	return "$secrets/$name";
}
my $token = 'correct horse battery staple';
my $token_file = token_file('token', "$token\n", oct 600);
like(call('--help'), qr/^0: .*Usage: queue-web.*--token-file/s, '--help');
like(call('--version'), qr/^0: queue-web \d/, '--version');
like(call(), qr/^2: .*no database given/, 'no database');
like(call('--nonsense', 'x'), qr/^2: /, 'an unknown option');
like(call('--listen', '0.0.0.0:0', 'dbname=x'), qr/^2: .*without --token-file.*loopback/, 'no other address than loopback without a token');
like(call('--listen', '[::]:0', 'dbname=x'), qr/^2: .*without --token-file/, 'nor of IPv6');
like(call('--listen', '8432', 'dbname=x'), qr/^2: .*HOST:PORT/, 'no address');
like(call('--token-file', token_file('open', "$token\n", oct 644), 'dbname=x'), qr/^1: .*others may read or write/, 'a token that others may read');
like(call('--token-file', token_file('short', "secret\n", oct 600), 'dbname=x'), qr/^1: .*16 to 256/, 'a short token');
like(call('--timeout', '0', 'dbname=x'), qr/^2: .*seconds/, 'a timeout of 0');
like(call('--socket', "$secrets/s", '--socket-mode', $_, 'dbname=x'), qr/^2: .*octal/, "mode $_") for 'rw', '0888', '7777', '-1', '';
like(call('app'), qr/^1: .*write dbname=NAME/s, 'a name alone');
like(call('host=x nonsense=y'), qr/^1: .*connection string/, 'a wrong connection string');

# --- jobs of all sorts, with whatever markup and escapes may do
my $node = queue_node('web', conf => "queue.executors = 2\nlog_min_messages = log\n");
my $evil = q{</script><img src=x onerror=alert(1)> "'\\\\ &amp; } . "\x{202e}\x{2028}\x{1F600}";
utf8::encode(my $evil_bytes = $evil);
my $evil_sql = $evil_bytes =~ s/'/''/gr;
sql($node, <<"EOS");
CREATE ROLE web LOGIN; CREATE ROLE one LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE single LOGIN CONNECTION LIMIT 1;
SELECT queue.create_queue('a'), queue.create_queue('b', dead_letter => 'a'), queue.alter_queue('default', keep_completed => '1 hour');
SELECT queue.grant_queue('*', 'web', 'manage'), queue.grant_queue('b', 'one', 'read'),
	queue.grant_queue('*', 'single', 'manage');
CREATE FUNCTION evil(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN RAISE NOTICE '%', j.payload->>'text'; RAISE EXCEPTION '%', j.payload->>'text'; END \$\$;
SELECT queue.register_sql_handler('evil', 'evil', max_attempts => 1), queue.register_sql_handler('h', 'h');
SELECT queue.register_http_handler('hook', 'http://127.0.0.1:1/hook?key=S3CRET', headers => '{"Authorization": "Bearer S3CRET"}',
	secret => 'whsec_UzNDUkVUUzNDUkVUUzNDUkVU', queues => '{a}');
SELECT queue.pause_handler('hook', 'a');
SELECT queue.enqueue('evil', jsonb_build_object('text', '$evil_sql', 'number', 12345678901234567890.00100::numeric));
SELECT queue.enqueue('h', '{"return": {"n": 9007199254740993}}');
SELECT queue.enqueue('ext', jsonb_build_object('n', n), 'b', tags => ARRAY['t' || n % 3], delay => '1 hour') FROM generate_series(1, 120) n;
SELECT queue.enqueue('hook', '{}', 'a', headers => '{"traceparent": "00-S3CRET"}');
SELECT queue.schedule('s', '0 3 * * *', 'h'), queue.enqueue_workflow('[{"ref": "x", "kind": "ext2"}, {"ref": "y", "kind": "ext2", "depends_on": ["x"]}]');
EOS
wait_true($node, q{SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind IN ('evil', 'h') AND finished_at IS NULL)}, 'the jobs have run');

my $web = QueueWeb->start($node, ['--write'], user => 'web');
my $everything = '';
my %some = (history => [ queue => 'default' ], job => [ id => 1 ], payload => [ id => 1 ], workflow => [ id => 1 ]);
for my $view (qw(overview minutes history doctor kinds jobs count job payload recent handlers schedules workflows workflow workers settings))
{
	my $answer = $web->get("/api/d/postgres/$view" . QueueWeb::query(@{ $some{$view} // [] }));
	ok($answer->{status} == 200 && $answer->{json}{at} =~ /^\d{4}-\d\d-\d\dT.*\+00:00$/ && defined $answer->{json}{data}, "view $view")
	  or diag("$answer->{status} $answer->{content}");
	$everything .= $answer->{content};
}
$everything .= $web->get('/api/d/postgres/job?id=123')->{content} . $web->get('/metrics')->{content};
like($everything, qr/"traceparent"/, 'headers show by name');
unlike($everything, qr/S3CRET|UzNDUkVU/, 'and no secret, header value or query of a url anywhere');

my $job = $web->view('job', id => 1);
is($job->{job}{id}, '1', 'an id is a text');
like($web->get('/api/d/postgres/job?id=1')->{content}, qr/"id":"1"/, 'as it is sent');
is(JSON::PP->new->decode($job->{job}{payload})->{text}, $evil, 'a payload comes through as it is');
like($job->{job}{payload}, qr/\b12345678901234567890\.00100\b/, 'its numbers to the last digit');
is($job->{errors}[0]{error}, $evil, 'so does an error');
is($job->{log}[0]{message}, $evil, 'and a line of the log');
like($job->{explain}, qr/^discarded/, 'with an explanation');
like($web->view('job', id => 2)->{job}{result}, qr/9007199254740993/, 'a result');
is($web->view('payload', id => 2, part => 'result'), '{"n": 9007199254740993}', 'by itself');
like($web->view('job', id => 99999), qr/^404 .*"missing"/, 'a job that is not there');

# --- lists: filters and pages
my @seen;
my $before = 0;
do
{
	my $page = $web->view('jobs', filter => { queue => 'b' }, before => $before, qty => 50);
	push @seen, map { $_->{id} } @{ $page->{jobs} };
	$before = $page->{more} ? $seen[-1] : undef;
} while (defined $before);
is(join(' ', @seen), join(' ', reverse 3 .. 122), 'pages from the newest to the oldest');
my $page = $web->view('jobs', filter => { queue => 'b' }, after => 2, qty => 3);
is(join(' ', map { $_->{id} } @{ $page->{jobs} }) . " $page->{more}", '3 4 5 1', 'and upwards');
is(join(' ', map { $_->{id} } @{ $web->view('jobs', filter => { tags => ['t0'], payload => { n => 60 } })->{jobs} }), '62', 'by content');
is($web->view('jobs', filter => { error => 'onerror=alert(1)> "' })->{jobs}[0]{id}, 1, 'by an error with quotes');
is($web->view('count', filter => { kind => 'ext' })->{count}, 120, 'counted');
is_deeply($web->view('count', filter => { kind => 'ext' }, at_most => 100), { count => 100, more => JSON::PP::true }, 'up to a limit');
like($web->view('jobs', filter => $_), qr/^400 .*"22/, "filter $_") for '{', '[]', '{"nope": 1}', '{"state": "x"}', '{"kind": null}', "'; DROP TABLE x; --";
like($web->view('jobs', qty => $_), qr/^400 .*qty/, "qty $_") for '0', '201', '1e9', 'x', '-1', '99999999999999999999';
like($web->view('jobs', before => $_), qr/^400 /, "before $_") for '-1', '1 OR 1=1';
like($web->view('history'), qr/^400 .*queue is missing/, 'a parameter that must be there');
like($web->view($_), qr/^404 .*"view"/, "view $_") for 'nope', '%2e%2e', 'job%00';
is($web->get('/api/d/nope/overview')->{json}{error}{code}, 'database', 'no such database');
is($web->get($_)->{status}, 404, $_) for '/nope', '/api', '/api/d/', '/api/d/postgres', '/static/', '/static/nope.js', '/d';

# --- grants decide
my $one = QueueWeb->start($node, ['--write'], user => 'one');
is($one->view('jobs', qty => 200)->{jobs}[-1]{id}, 3, 'of queue b alone the reader sees jobs');
is(join(' ', map { $_->{queue} } @{ $one->view('overview')->{queues} }), 'b', 'and its row');
like($one->view('job', id => 1), qr/^404 /, 'another queue\'s job is not there');
is($one->act('retry_jobs', { filter => { kind => 'ext', state => 'scheduled' } })->{status}, 403, 'and retries nothing');
is($one->act('pause_queue', { queue => 'b' })->{status}, 403, 'nor pauses it');
is($one->act('cancel_jobs', { filter => { kind => 'ext' } })->{json}{error}{code}, '42501', 'nor cancels');
my $nobody = QueueWeb->start($node, [], user => 'nobody');
is($nobody->get('/api/d/postgres/overview')->{status}, 403, 'without grants there is nothing to see');
like($nobody->get('/metrics')->{content}, qr/^queue_database_up\{database="postgres"\} 0$/m, 'which the metrics tell');

# --- actions
is_deeply($web->act('count/cancel_jobs', { filter => { kind => 'ext', payload => { n => 7 } } })->{json}{data},
	{ count => 1, more => JSON::PP::false }, 'counted first');
is($web->act('count/delete_jobs', { filter => { kind => 'ext' } })->{json}{data}{count}, 0, 'what an action does not touch is not counted');
is($web->act('count/retry_jobs', { filter => {} })->{json}{data}{count}, 0, 'nor is an empty filter');
is($web->act('cancel_jobs', { filter => { kind => 'ext', payload => { n => 7 } }, reason => $evil })->{json}{data}{done}, 1, 'cancelled');
is($web->view('job', id => 9)->{job}{error}, $evil, 'with that reason, and seen at once');
is($web->act('retry_jobs', { filter => { ids => ['9'] } })->{json}{data}{done}, 1, 'retried');
like($web->log_text, qr/ action cancel_jobs in postgres as role web from 127\.0\.0\.1: \{"filter":\{"kind":"ext","payload":\{"n":7\}\}/, 'told on stderr');
like(slurp_file($node->logfile), qr/LOG:  queue-web: cancel_jobs \{"filter":\{"kind":"ext","payload":\{"n":7\}\}.* by role web/, 'and in the server\'s log');
is($web->act('move_jobs', { filter => { kind => 'ext' }, priority => 5, qty => 10 })->{json}{data}{done}, 10, 'moved');
is($web->act('discard_jobs', { filter => { kind => 'ext', priority => 5 } })->{json}{data}{done}, 10, 'discarded');
is($web->act('redrive', { queue => 'a' })->{json}{data}{done}, 10, 'dead letters redriven');
is($web->act('discard_job', { id => '3' })->{json}{data}{done}, 1, 'one job');
is($web->act('delete_jobs', { filter => { kind => 'ext', state => 'discarded' } })->{json}{data}{done}, 1, 'deleted');
is($web->act('cancel_job', { id => '3' })->{json}{data}{done}, 0, 'one that is gone');
is($web->act('retry_job', { id => '4', run_at => '2100-01-01' })->{json}{data}{done}, 1, 'for later');
sub b_is_paused { return scalar grep { $_->{check} eq 'queue paused' && $_->{detail} =~ /"b"/ } @{ $web->view('doctor') }; }
is(b_is_paused(), 0, 'a queue is not paused, says an answer that serves for a while');
for (qw(pause_queue resume_queue))
{
	is($web->act($_, { queue => 'b' })->{json}{data}{done}, 1, $_);
	is(b_is_paused(), $_ eq 'pause_queue' ? 1 : 0, 'which no answer from before it hides');
}
for (qw(resume_handler pause_handler)) { is($web->act($_, { kind => 'hook', queue => 'a' })->{json}{data}{done}, 1, $_); }
for (qw(pause_schedule resume_schedule)) { is($web->act($_, { schedule => 's' })->{json}{data}{done}, 1, $_); }
like($web->act('run_schedule', { schedule => 's' })->{json}{data}{id}, qr/^\d+$/, 'run_schedule');
is($web->act('cancel_workflow', { workflow => '1' })->{json}{data}{done}, 2, 'cancel_workflow');
is($web->act('retry_workflow', { workflow => '1' })->{json}{data}{done}, 0, 'retry_workflow');
is($web->act('pause_queue', { queue => 'nope' })->{status}, 404, 'an unknown queue');
is($web->act('pause_queue', {})->{status}, 400, 'none');
is($web->act('retry_jobs', $_)->{status}, 400, 'a wrong body') for '{}', '{"filter": {}}', '[]', 'x', '', '{"filter": {"kind": "\u0000"}}', "{}\0", '"' x 100, "\xff";
is($web->act('cancel_jobs', qq({"filter": {"kind": "nope"}}$_))->{status}, $_ eq '' ? 200 : 400, 'a body is read to its end') for '', "\0";
is($web->act('retry_jobs', "\e[2J\x7f")->{status}, 400, 'one that would steer the terminal of a reader of the log');
like(slurp_file($node->logfile), qr/LOG:  queue-web: retry_jobs \?\[2J\? by role web/, 'which does not');
is($web->act('nope', {})->{status}, 404, 'an unknown action');
is($web->act('count/pause_queue', {})->{status}, 404, 'one without a count');
is($web->act('cancel_jobs', '{"filter": "' . 'x' x 70_000 . '"}')->{status}, 413, 'too large');

# --- a role that may have but one connection: it shows all and says why it does nothing
my $single = QueueWeb->start($node, ['--write'], user => 'single');
for my $n (1 .. 3)
{
	my $refused = $single->act('pause_queue', { queue => 'b' });
	is("$refused->{status} $refused->{json}{error}{code}", '503 busy', "action $n needs another connection");
	like($refused->{json}{error}{message}, qr/too many connections for role "single"/, 'which is not to be had');
	is(ref $single->view('jobs', qty => $n), 'HASH', 'the pages go on');
}
is($single->get('/healthz')->{status}, 200, 'the database is up');
is(sql($node, q{SELECT paused_at IS NULL FROM queue.stat_queue WHERE queue = 'b'}), 't', 'and nothing was done');

# --- who may act
my $forged = { filter => { kind => 'ext' } };
my $there = $web->act('count/cancel_jobs', $forged)->{json}{data}{count};
cmp_ok($there, '>', 100, 'jobs are there');
is($web->act('cancel_jobs', $forged, @$_)->{status}, 403, "refused with @$_")
  for [ 'X-Queue-CSRF', '' ], [ 'X-Queue-CSRF', 'x' x 64 ], [ 'X-Queue-CSRF', substr($web->{csrf}, 0, 63) ], [ 'X-Queue-CSRF', $one->{csrf} ],
  [ 'Origin', 'http://evil.example' ], [ 'Origin', 'null' ], [ 'Origin', "https://127.0.0.1:1" ], [ 'Sec-Fetch-Site', 'cross-site' ], [ 'Sec-Fetch-Site', 'same-site' ];
is($web->act('cancel_jobs', $forged, 'Content-Type' => 'text/plain')->{status}, 415, 'not as a form sends it');
is($web->get('/api/d/postgres/do/cancel_jobs')->{status}, 404, 'nor by GET');
is($web->get('/api/d/postgres/count', @$_)->{json}{error}{code}, 'origin', "nor is anything asked with @$_")
  for [ 'Sec-Fetch-Site', 'cross-site' ], [ 'Sec-Fetch-Site', 'same-site' ], [ 'Origin', 'http://evil.example' ];
is($web->get('/api/d/postgres/count', 'Sec-Fetch-Site' => $_)->{status}, 200, "but with $_") for 'same-origin', 'none';
is($web->request('PUT', '/api/d/postgres/do/cancel_jobs', '{}')->{status}, 405, 'nor by PUT');
is($web->act('count/cancel_jobs', $forged, Origin => $_)->{json}{data}{count}, $there, 'all are still there')
  for $web->{url}, $web->{url} =~ s/^http:/https:/r;
my $readonly = QueueWeb->start($node, [], user => 'web');
is($readonly->act('cancel_jobs', $forged)->{json}{error}{message}, 'queue-web was started without --write', 'without --write nothing is done, nor asked of the database');
is($readonly->act('count/cancel_jobs', $forged)->{status}, 200, 'but counted');
is($readonly->view('jobs')->{more}, JSON::PP::true, 'and shown');

# --- what every answer carries, and whom it is for
for my $path ('/', '/d/postgres/jobs', '/api/session', '/api/nope', '/healthz')
{
	my $headers = $web->get($path)->{headers};
	like($headers->{'content-security-policy'}, qr/default-src 'none'; script-src 'self';.*frame-ancestors 'none'/, "CSP of $path");
	unlike($headers->{'content-security-policy'}, qr/unsafe/, "with nothing unsafe");
	is("$headers->{'x-content-type-options'} $headers->{'x-frame-options'}", 'nosniff DENY', 'no guessing of types, no frames');
	ok(!exists $headers->{'access-control-allow-origin'}, 'no other origin reads it');
}
for my $host ('evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:80', '[::1', '[::1]evil.example', '', 'a' x 300)
{
	like($web->raw("GET /api/session HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n"), qr{^HTTP/1.1 403 .*"host"}s, "Host '$host'");
}
for my $host ('localhost', 'LOCALHOST:8432', '[::1]:8432', '127.0.0.1')
{
	like($web->raw("GET /api/session HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n"), qr{^HTTP/1.1 200 }s, "Host $host");
}
my $named = QueueWeb->start($node, [ '--host', 'jobs.example' ], user => 'web');
like($named->raw("GET /api/session HTTP/1.1\r\nHost: jobs.example\r\nConnection: close\r\n\r\n"), qr{^HTTP/1.1 200 }, '--host');

# --- paths and parsing
for my $path ('/static/../queue-web', '/static/..%2f..%2fetc%2fpasswd', '/static/%2e%2e/x', '/static/.x', '//etc/passwd', '/static//etc/passwd', '/static/a%00b', '/static/....//')
{
	like($web->raw("GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), qr{^HTTP/1.1 404 .*"error"}s, "no file by $path");
}
like($web->raw("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), qr{^HTTP/1.[01] 4}, 'no Host header');
like($web->raw("GET /" . 'x' x 20_000 . " HTTP/1.1\r\nHost: localhost\r\n\r\n"), qr{^(HTTP/1.1 4|$)}, 'an endless address');
like($web->raw("GET / HTTP/1.1\r\nHost: localhost\r\n" . join('', map { "X-$_: " . 'y' x 1000 . "\r\n" } 1 .. 60) . "\r\n"), qr{^(HTTP/1.1 4|$)}, 'endless headers');
like($web->raw("POST /api/d/postgres/do/cancel_jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n" .
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"), qr{^HTTP/1.1 400 }, 'two lengths');
$web->raw($_, hang_up => 1) for "\0\0\0\0", "\x16\x03\x01\x02\x00", "GET\r\n\r\n", "x" x 100_000, "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", '';
is($web->get('/healthz')->{content}, "ok\n", 'it bears all that');
is($web->get('/metrics')->{headers}{'content-type'}, 'application/openmetrics-text; version=1.0.0; charset=utf-8', 'metrics');
my $metrics = $web->get('/metrics')->{content};
like($metrics, qr/^queue_jobs\{database="postgres",queue="b",state="scheduled"\} \d+$/m, 'of each database');
like($metrics, qr/\n# EOF\n\z/, 'to their end');
my %types;
$types{$_}++ for $metrics =~ /^# TYPE (\S+)/mg;
is(join(' ', grep { $types{$_} > 1 } keys %types), '', 'each family in one piece');
unlike($metrics, qr/^(?!#)[^\n]*\{(?!database=)/m, 'each sample with its database');

# --- pages from a folder: what has a plain name there, and is no link
my $folder = File::Temp->newdir;
append_to_file("$folder/$_", "of $_") for 'index.html', 'a.js', '.hidden';
symlink $token_file, "$folder/link.txt";
my $static = QueueWeb->start($node, [ '--static', "$folder" ], user => 'web');
is($static->get($_)->{content}, $_ eq '/' ? 'of index.html' : 'of a.js', "$_ of the folder") for '/', '/static/a.js';
is($static->get("/static/$_")->{status}, 404, "but not $_") for '.hidden', 'link.txt';

# --- several databases: each has its own answers
sql($node, 'CREATE DATABASE second');
queue_install($node, 'second');
sql($node, "SELECT queue.create_queue('elsewhere'), queue.grant_queue('*', 'web', 'manage')", db => 'second');
my $several = QueueWeb->start($node, [], user => 'web', more => [ sprintf('host=%s port=%d dbname=second user=web', $node->host, $node->port) ]);
is(join(' ', sort map { $_->{queue} } @{ $several->get("/api/d/$_/overview")->{json}{data}{queues} }), $_ eq 'second' ? 'default elsewhere' : 'a b default', "queues of $_")
  for 'postgres', 'second';

# --- nobody has all connections
my @taken = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $web->{port}) } 1 .. 520;
my $neighbour = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $web->{port}, LocalAddr => '127.0.0.2') or die $!;
print $neighbour "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
# (one that says nothing for 30 s is closed, and there would be room)
like(IO::Select->new($neighbour)->can_read(20) ? join('', <$neighbour>) : 'nothing', qr{^HTTP/1.1 200 }, 'one address takes none of another\'s');
close $_ for grep { defined } @taken, $neighbour;

# --- a token
my $closed = QueueWeb->start($node, [ '--token-file', $token_file, '--listen', '127.0.0.1:0' ], user => 'web', token => $token);
is($closed->get($_)->{status}, 401, "$_ asks for the token") for '/api/session', '/api/databases', '/metrics', '/api/d/postgres/overview', '/api/nope';
isnt($closed->get($_)->{status}, 401, "$_ does not") for '/', '/static/nope', '/healthz';
is($closed->get('/metrics', Authorization => $_)->{status}, 401, "refused with $_")
  for "Bearer x$token", 'Bearer ' . substr($token, 1), "Bearer $token$token", 'Bearer ', "Basic $token", $token;
is($closed->get('/metrics', Authorization => "Bearer $token")->{status}, 200, 'a program sends it as it is');
is($closed->request('POST', '/login', 'wrong' x 5)->{status}, 401, 'a wrong login');
like($closed->log_text, qr/wrong token from 127\.0\.0\.1/, 'is told');
is($closed->request('POST', '/login', $token, Origin => 'http://evil.example')->{status}, 403, 'as is one from another site');
my $login = $closed->request('POST', '/login', $token, 'Content-Type' => 'text/plain');
my ($cookie) = ($login->{headers}{'set-cookie'} // '') =~ /^([^;]+); Path=\/; HttpOnly; SameSite=Strict$/;
ok($login->{status} == 204 && defined $cookie, 'a browser gets a session') or diag($login->{headers}{'set-cookie'});
unlike($cookie, qr/correct/, 'which is not the token');
my $session = $closed->get('/api/session', Cookie => $cookie);
ok($session->{status} == 200 && $session->{json}{login}, 'and is known by it');
is($closed->get('/api/session', Cookie => $cookie =~ s/=.*/=/r)->{status}, 401, 'an empty one is none');
isnt($session->{json}{csrf}, $closed->{csrf}, 'with a CSRF token of its own');
is($closed->get('/api/session', Cookie => substr($cookie, 0, -1) . ($cookie =~ /0$/ ? '1' : '0'))->{status}, 401, 'another is not');
is($closed->act('count/cancel_jobs', $forged, Cookie => $cookie)->{status}, 403, 'whose CSRF token another\'s is not');
is($closed->act('count/cancel_jobs', $forged, Cookie => $cookie, 'X-Queue-CSRF' => $session->{json}{csrf})->{status}, 200, 'its own is');
is($closed->request('POST', '/logout', '', Cookie => $cookie)->{status}, 403, 'nobody else ends it');
is($closed->request('POST', '/logout', '', Cookie => $cookie, 'X-Queue-CSRF' => $session->{json}{csrf})->{status}, 204, 'it ends');
is($closed->get('/api/session', Cookie => $cookie)->{status}, 401, 'then the cookie is worth nothing');
my @cookies = map { $closed->request('POST', '/login', $token)->{headers}{'set-cookie'} =~ s/;.*//r } 1 .. 128;
is($closed->get('/api/session', Cookie => $cookies[0])->{status}, 200, 'of as many sessions as there may be the first one is used');
isnt($closed->request('POST', '/login', $token)->{headers}{'set-cookie'}, undef, 'one more ..');
is($closed->get('/api/session', Cookie => $cookies[0])->{status}, 200, '.. does not end that');
is($closed->get('/api/session', Cookie => $cookies[1])->{status}, 401, 'but the one that was idle longest');

cmp_ok($web->memory, '<', 50_000, 'less than 50 MB');
is($_->stop, 0, 'it ends when told to') for $web, $one, $nobody, $single, $readonly, $named, $closed, $static, $several;
$node->stop;
done_testing();
