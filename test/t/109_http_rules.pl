# Breakers by the number, what an answer says of its endpoint, outcomes whose rows somebody has locked, jobs of a worker
# that died.  Each request waits for a file and is answered by it, so nothing here depends on how fast anything is.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
my $node = queue_node('http_rules', conf => "queue.log_level = 'debug1'");

sub register { my ($kind, $more) = @_; sql($node, "SELECT queue.register_http_handler('$kind', '" . $server->url('/file') . "', max_attempts => 1" . (($more // '') =~ /timeout =>/ ? '' : ", timeout => '10 min'") . ($more // '') . ')'); return; }
sub breaker { my ($kind, $json, $more) = @_; register($kind, ", breaker => '{$json, \"jitter\": 0}'" . ($more // '')); return; }
sub enqueue { my ($kind, $file, $more) = @_; return sql($node, "SELECT queue.enqueue('$kind', '{\"file\": \"$file\"}'" . ($more // '') . ')'); }
sub is_over { my ($id) = @_; return poll($node, "SELECT NOT EXISTS (SELECT FROM queue.live_job WHERE id = $id)"); }

# Sends a job for each file, one after the other.
sub run { my ($kind, @files) = @_; for my $file (@files) { is_over(enqueue($kind, $file)) or diag "$kind, $file: no end"; } return; }

sub state_is { my ($kind, $state, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return one($node, "SELECT breaker FROM queue.stat_endpoint WHERE kind = '$kind' AND url ~ 'file'", $state, $name); }
sub in_flight { my ($kind, $n) = @_; return wait_true($node, "SELECT in_flight = $n FROM queue.stat_endpoint WHERE kind = '$kind' AND url ~ 'file'", "$kind: $n under way"); }

$server->say_status($_, $_ =~ s/s//r) for qw(s200 s404 s429 s500 s503);

# --- a breaker opens by the share of failures, of enough requests, or by failures in a row
breaker('share', '"consecutive_failures": 0, "min_requests": 4, "failure_rate": 0.75, "pause": "1 h", "cap": "1 h"');
run('share', ('s500') x 3);
state_is('share', 'closed', 'three failures of fewer than min_requests');
run('share', 's200');
state_is('share', 'closed', 'a success opens nothing, whatever went before');
run('share', 's500');
state_is('share', 'open', 'min_requests, and four failures of five');

breaker('rate', '"consecutive_failures": 0, "min_requests": 4, "failure_rate": 0.75, "pause": "1 h", "cap": "1 h"');
run('rate', qw(s500 s200 s200 s500 s500 s500 s500));
state_is('rate', 'closed', 'five failures of seven are less than failure_rate');
run('rate', 's500');
state_is('rate', 'open', 'six of eight are not');

breaker('row', '"consecutive_failures": 3, "min_requests": 1000, "pause": "1 h", "cap": "1 h"');
run('row', qw(s500 s500 s200 s500 s500));
state_is('row', 'closed', 'a success ends the row of failures');
run('row', 's500');
state_is('row', 'open', 'three in a row');

# --- half-open: no more than `probes` at once, closed after `successes`, open again after a failure
breaker('half', '"consecutive_failures": 1, "min_requests": 1000, "pause": "1 ms", "cap": "1 ms", "probes": 2, "successes": 3');
sql($node, "SELECT queue.add_endpoint('half', '" . $server->url('/status/200') . "', 0)");
run('half', 's500');
state_is('half', 'open', 'open');
sql($node, "SELECT queue.add_endpoint('half', '" . $server->url('/status/200') . "', 1)");
my @probes = map { enqueue('half', 'probe') } 1 .. 20;
wait_true($node, "SELECT count(*) > 0 AND count(*) = (SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'half' AND url ~ 'file') FROM queue.live_job",
	'all others went to the other endpoint');
in_flight('half', 2);
state_is('half', 'half-open', 'it is tried out');
$server->say_status('probe', 200);
is_over($_) for @probes;
state_is('half', 'half-open', 'two successes are fewer than `successes`');
run('half', 's200');
state_is('half', 'closed', 'the third closes it');
run('half', 's500', 's500', 's500');
wait_true($node, "SELECT breaker = 'open' FROM queue.stat_endpoint WHERE kind = 'half' AND url ~ 'file'", 'a failure opens it');

# --- one that closed begins with a short pause again: with one that grew, the last success would come too early to close it
breaker('again', '"consecutive_failures": 1, "min_requests": 1000, "pause": "1 ms", "factor": 100, "cap": "1 h", "probes": 1, "successes": 1');
run('again', ('s500', 's200') x 4);
state_is('again', 'closed', 'each time it is soon tried out');

# --- an answer to what was sent before it opened says nothing about how it is now
breaker('old', '"consecutive_failures": 1, "min_requests": 1000, "pause": "1 ms", "cap": "1 ms", "probes": 1, "successes": 1');
my $before = enqueue('old', 'before');
in_flight('old', 1);
is_over(enqueue('old', 'never', ", timeout => '300 ms'"));
state_is('old', 'open', 'a timeout opens it');
my $probe = enqueue('old', 'later');
in_flight('old', 2);
state_is('old', 'half-open', 'and another request tries it out');
$server->say_status('before', 200);
is_over($before);
state_is('old', 'half-open', 'the success of one from before does not close it');
$server->say_status('later', 200);
is_over($probe);
state_is('old', 'closed', 'that of the probe does');

# --- which answers are the endpoint's fault
register('fault');
run('fault', qw(s404 s429 s503));
one($node, "SELECT succeeded, failed FROM queue.stat_endpoint WHERE kind = 'fault'", '1|2', '404 is an answer, 429 and 503 are failures');
register('wanted', ", complete_on => '{503}'");
run('wanted', 's503');
one($node, "SELECT succeeded, failed FROM queue.stat_endpoint WHERE kind = 'wanted'", '1|0', 'and 503 none where it completes');

# --- when its breaker opens, an endpoint with a health_url is asked before it gets more
open(my $healthy, '>', "$dir/HEALTHY") or die $!;
close $healthy;
breaker('doubt', '"consecutive_failures": 1, "pause": "1 ms", "cap": "1 ms"', ", health_url => '" . $server->url('/health') . "'");
run('doubt', 's200');
unlink "$dir/HEALTHY";
run('doubt', 's500');
wait_true($node, "SELECT NOT healthy FROM queue.stat_endpoint WHERE kind = 'doubt'", 'the endpoint whose breaker opened is doubted');

# --- an outcome whose row somebody has locked is recorded as soon as it is free, and never waited for
register('locked');
$server->forget;
my $locked = enqueue('locked', 'locked');
in_flight('locked', 1);
my $session = queue_session($node);
$session->query_safe("BEGIN; SELECT FROM queue.live_job WHERE id = $locked FOR UPDATE");
$server->say_status('locked', 200);
in_flight('locked', 0);
run('fault', 's200');
pass('meanwhile others are recorded');
one($node, "SELECT state FROM queue.job WHERE id = $locked", 'running', 'the locked one is not');
$session->query_safe('COMMIT');
ok(is_over($locked), 'then it is');
is(scalar(grep { $_->{'queue-job-id'} == $locked } $server->seen('request')), 1, 'without another request');
one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $locked", 0, 'and not when its lease ends');

# --- and one whose job was cancelled or given back meanwhile is none
my %attempts = (cancel => '', release => ', 1');
for my $what (sort keys %attempts)
{
	my $late = enqueue('locked', "late_$what");
	in_flight('locked', 1);
	$session->query_safe("BEGIN; SELECT queue.pause_handler('locked'), queue.$what($late$attempts{$what})");
	$server->say_status("late_$what", 200);
	in_flight('locked', 0);
	run('fault', 's200');
	$session->query_safe('COMMIT');
	run('fault', qw(s200 s200 s200));
	one($node, "SELECT state, attempt FROM queue.job WHERE id = $late", $what eq 'cancel' ? 'cancelled|1' : 'available|1', "$what goes before an answer that comes late");
	sql($node, "SELECT queue.resume_handler('locked')");
	ok(is_over($late), "$what: it ends");
	is(scalar(grep { $_->{'queue-job-id'} == $late } $server->seen('request')), $what eq 'cancel' ? 1 : 2, "$what: sent as often as it was taken");
}
$session->quit;
# one that is given back is not sent again before the answer is there
my $twice = enqueue('locked', 'twice');
in_flight('locked', 1);
sql($node, "SELECT queue.release($twice, 1)");
run('fault', qw(s200 s200));
is(scalar(grep { $_->{'queue-job-id'} == $twice } $server->seen('request')), 1, 'given back: not sent twice at a time');
$server->say_status('twice', 200);
ok(is_over($twice), 'but when the answer has come');
is(scalar(grep { $_->{'queue-job-id'} == $twice } $server->seen('request')), 2, 'once more');

# --- a probe of a worker that ended amidst it is no probe: the next worker tries the endpoint out
breaker('lost', '"consecutive_failures": 1, "min_requests": 1000, "pause": "1 ms", "cap": "1 ms", "probes": 1, "successes": 1');
run('lost', 's500');
my $lost = enqueue('lost', 'lost');
in_flight('lost', 1);
state_is('lost', 'half-open', 'the breaker is being tried out');
sql($node, "SELECT queue.add_endpoint('lost', '" . $server->url('/status/200') . "', 1)");
sql($node, "ALTER SYSTEM SET queue.shutdown_timeout = '10ms'");
my $waiting = enqueue('fault', 'waiting');
in_flight('fault', 1);
$node->reload;
run('fault', 's200');
my $worker = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
$session = queue_session($node);
$session->query_safe('BEGIN; LOCK TABLE queue.live_job');
$server->say_status('waiting', 200);
wait_true($node, "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $worker AND NOT granted)", 'a worker that waits for a lock');
kill 'TERM', $worker;
ok(gone($worker), 'ends with its requests under way');
$session->query_safe('ROLLBACK');
$session->quit;
ok(is_over($lost), 'the job has had its attempt');
run('lost', 's200');
state_is('lost', 'closed', 'and the next one goes to the endpoint that is to be tried out');
sql($node, 'ALTER SYSTEM RESET queue.shutdown_timeout');
$node->reload;

# --- what a worker that was killed had under way is sent again at once, not when its lease ends; what others have they keep
register('killed', ", timeout => '1 h'");
sql($node, "SELECT queue.pause_handler('killed')");
my $theirs = enqueue('killed', 'theirs');
one($node, "SELECT id FROM queue.fetch('default', lease => '1 h', worker => 'w', kinds => '{killed}')", $theirs, 'a session takes one');
sql($node, "SELECT queue.resume_handler('killed')");
sql($node, "SELECT queue.alter_http_handler('killed', max_attempts => 5, backoff => '{\"type\": \"fixed\", \"base\": \"0\"}')");
my $killed = enqueue('killed', 'killed');
in_flight('killed', 1);
sql($node, 'CREATE TABLE flushed ()');    # a claim for HTTP commits asynchronously: this commit takes it along
kill 'KILL', sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
wait_true($node, "SELECT attempt = 2 FROM queue.job WHERE id = $killed", 'another worker sends it');
one($node, "SELECT attempt, worker, leased_until > clock_timestamp() FROM queue.job WHERE id = $theirs", '1|w|t', 'and not the one that a session has');
$server->say_status('killed', 200);
ok(is_over($killed), 'and it is delivered');

$server->stop;
$node->stop('fast');
done_testing();
