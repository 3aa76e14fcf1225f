# max_running and rate_limit of a handler hold over its own worker and everybody who fetches its kinds: HTTP and SQL
# handlers, leases and session claims, test_run.
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
my $node = queue_node('http_limits', far_look => 0);
my $url = $server->url('/file');
# requests under way are those that wait for a file: $server->say_status lets them go
my $sent = "SELECT coalesce(sum(in_flight), 0) FROM queue.stat_endpoint WHERE kind = 'k'";

sql($node, <<"EOS");
SELECT queue.create_queue('q', lease => '1 hour');
SELECT queue.register_http_handler('k', '$url', '{q}', max_running => 3, timeout => '10 min');
SELECT queue.pause_handler('k', 'q');
SELECT count(*) FROM queue.enqueue_many('k', array_fill('{"file": "one"}'::jsonb, '{6}'), 'q');
EOS
one($node, "SELECT count(*) FROM queue.fetch('q', 2)", '2', 'a worker of its own takes two jobs of a paused HTTP handler');
sql($node, "SELECT queue.resume_handler('k', 'q')");
wait_true($node, "SELECT ($sent) = 1", 'one request is sent beside them');
wait_true($node, "SELECT bool_or(queue.explain_job(id) ~ 'max_running of handler k is 3, and 3 run') FROM queue.job WHERE state = 'available'", 'explained');
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{k}')", '0', 'no fourth');
one($node, $sent, '1', 'not as a request either');
one($node, "SELECT queue.complete(min(id)) FROM queue.job WHERE worker IS NULL AND state = 'running'", 't', 'the worker ends one');
wait_true($node, "SELECT ($sent) = 2", 'and another request is sent');
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{k}')", '0', 'so there is no room');
# a worker that waits for one of the kind is woken when a request ends
sql($node, "SELECT queue.pause_handler('k', 'q')");
$server->say_status('one', 200);
wait_true($node, "SELECT ($sent) = 0", 'the requests end');
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE worker LIKE 'queue http%'", 'and are recorded');
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{k}')", '2', 'their places are free again');
sql($node, "SELECT count(queue.complete(id)) FROM queue.job; SELECT queue.purge('q')");

# session claims
my $session = queue_session($node);
sql($node, q{SELECT count(*) FROM queue.enqueue_many('k', array_fill('{"file": "two"}'::jsonb, '{6}'), 'q')});
like($session->query_safe("SELECT count(*) FROM queue.fetch('q', 2, claim => 'session')"), qr/^\s*2$/, 'a session claims two');
sql($node, "SELECT queue.resume_handler('k', 'q')");
wait_true($node, "SELECT ($sent) = 1", 'one request is sent beside them');
$session->quit;
wait_true($node, "SELECT ($sent) = 3", 'and two more when the session has ended');
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{k}', claim => 'session')", '0', 'no room for a session');
# after a crash what was sent is not counted for ever, and the rest goes on
my $victim = queue_session($node);
my $pid = $victim->query_safe('SELECT pg_backend_pid()');
kill_9($node, $pid);
$server->say_status('two', 200);
wait_no_jobs($node, 'all are delivered', kinds => '^k$');

# what is read ahead of its requests is bounded by what its endpoints take, but for those that are down: the rest is there
# for whoever fetches
sql($node, <<"EOS");
SELECT queue.register_http_handler('e', '$url', '{q}', timeout => '10 min');
SELECT queue.add_endpoint('e', '$url?one', max_running => 1);
SELECT queue.add_endpoint('e', '$url?down', max_running => 50, health_url => '@{[ $server->url('/status/503') ]}');
SELECT queue.remove_endpoint('e', '$url');
SELECT count(*) FROM queue.enqueue_many('e', array_fill('{"file": "three"}'::jsonb, '{10}'), 'q');
EOS
wait_true($node, "SELECT sum(in_flight) = 1 FROM queue.stat_endpoint WHERE kind = 'e'", 'an endpoint that takes one request, and one that is down');
scheduler_turn($node);
one($node, "SELECT count(*) FROM queue.fetch('q', 10, kinds => '{e}')", '8', 'one job is read ahead, the others can be fetched');
$server->say_status('three', 200);
sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'e' AND state = 'running' AND worker IS NULL");
wait_no_jobs($node, 'all end', kinds => '^e$');

# requests of a handler that is gone are counted on, and not for another one
sql($node, <<"EOS");
SELECT queue.register_http_handler('old', '$url', '{q}', timeout => '10 min'), queue.enqueue('old', '{"file": "old"}', 'q');
EOS
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'old'", 'a request is under way');
sql($node, <<"EOS");
SELECT queue.unregister_handler('old', 'q');
SELECT queue.register_http_handler('new', '$url', '{q}', timeout => '10 min', max_running => 1);
SELECT count(*) FROM queue.enqueue_many('new', array_fill('{"file": "new"}'::jsonb, '{3}'), 'q');
EOS
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'new'", 'another handler has as many as it may');
$server->say_status('old', 200);
wait_no_jobs($node, 'the one that is gone gets its answer', kinds => '^old$');
sql($node, "SELECT queue.register_http_handler('mark', '" . $server->url('/status/200') . "', '{q}'), queue.enqueue('mark', queue => 'q')");
wait_no_jobs($node, 'another request goes', kinds => '^mark$');
one($node, "SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'new'", '1', 'and none beside it');
$server->say_status('new', 200);
wait_no_jobs($node, 'all end', kinds => '^new$');

# --- what the worker has in stock beside the one request that may be under way
sub stock
{
	my ($kind, $more) = @_;
	sql($node, "SELECT queue.register_http_handler('$kind', '$url', '{q}', timeout => '10 min', max_running => 1$more)");
	sql($node, "SELECT count(*) FROM queue.enqueue_many('$kind', array_fill('{\"file\": \"$kind\"}'::jsonb, '{3}'), 'q')");
	wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = '$kind'", "$kind: one request is under way");
	scheduler_turn($node);
	return;
}
# a job that was cancelled meanwhile takes nobody's place
stock('cancelled', '');
one($node, "SELECT queue.cancel(min(id)) FROM queue.job WHERE kind = 'cancelled' AND state = 'available'", 't', 'one that waits is cancelled');
$server->say_status('cancelled', 200);
wait_no_jobs($node, 'the one behind it is sent', kinds => '^cancelled$');
# nor does one that no endpoint takes: this one is in doubt after each answer, until its health_url is asked
open(my $healthy, '>', "$dir/HEALTHY") or die $!;
close $healthy;
stock('doubted', ", max_attempts => 1, health_url => '@{[ $server->url('/health') ]}', breaker => '{\"consecutive_failures\": 1, \"pause\": \"10 ms\"}'");
$server->say_status('doubted', 500);
wait_no_jobs($node, 'all are sent', kinds => '^doubted$');
# nothing is sent of a queue that is paused
sql($node, "SELECT queue.create_queue('p')");
sql($node, "SELECT queue.register_http_handler('pausing', '$url', '{p}', timeout => '10 min', max_running => 1), (SELECT count(*) FROM queue.enqueue_many('pausing', array_fill('{\"file\": \"pausing\"}'::jsonb, '{3}'), 'p'))");
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'pausing'", 'one request is under way');
scheduler_turn($node);
sql($node, "SELECT queue.pause('p')");
$server->say_status('pausing', 200);
wait_true($node, "SELECT succeeded = 1 FROM queue.stat_endpoint WHERE kind = 'pausing'", 'it ends');
sql($node, "SELECT queue.enqueue('mark', queue => 'q')");
wait_no_jobs($node, 'another kind is sent', kinds => '^mark$');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'pausing' AND state = 'available' AND attempt = 0", '2', 'the others of the paused queue are not');
sql($node, "SELECT queue.resume('p')");
wait_no_jobs($node, 'until it goes on', kinds => '^pausing$');
# what the limit of its queue refuses, though there was room when it was read, is read again
sql($node, "SELECT queue.create_queue('full', max_running => 3, lease => '1 hour')");
sql($node, "SELECT queue.register_http_handler('full', '$url', '{full}', timeout => '10 min', max_running => 1), (SELECT count(*) FROM queue.enqueue_many('full', array_fill('{\"file\": \"full\"}'::jsonb, '{3}'), 'full'))");
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'full'", 'one request is under way');
scheduler_turn($node);
sql($node, "SELECT count(*) FROM queue.enqueue_many('ext', '{1,2}', 'full')");
one($node, "SELECT count(*) FROM queue.fetch('full', 5)", '2', 'a worker has two others of its queue');
sql($node, "SELECT queue.alter_queue('full', max_running => 2)");
$server->say_status('full', 200);
wait_true($node, "SELECT succeeded = 1 FROM queue.stat_endpoint WHERE kind = 'full'", 'it ends');
sql($node, "SELECT queue.enqueue('mark', queue => 'q')");
wait_no_jobs($node, 'another kind is sent', kinds => '^mark$');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'full' AND state = 'available'", '2', 'the others of the full queue are not');
sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'ext' AND queue = 'full'");
wait_no_jobs($node, 'until there is room', kinds => '^full$');

# its rate, too: no token for an hour
sql($node, <<"EOS");
SELECT queue.register_http_handler('r', '$url', '{q}', rate_limit => 1, rate_period => '1 hour');
SELECT count(*) FROM queue.enqueue_many('r', array_fill('{"file": "two"}'::jsonb, '{3}'), 'q');
EOS
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{r}')", '0', 'no token: not for who fetches');
wait_true($node, "SELECT bool_and(queue.explain_job(id) ~ 'rate_limit of handler r') FROM queue.job WHERE kind = 'r'", 'explained');
one($node, "SELECT sum(succeeded + in_flight) FROM queue.stat_endpoint WHERE kind = 'r'", '0', 'nor a request');
sql($node, "SELECT queue.alter_http_handler('r', rate_limit => 1000, rate_period => '1 s')");
wait_no_jobs($node, 'with more tokens they go', kinds => '^r$');

# an SQL handler's
my $holder = queue_session($node);
my $running = "SELECT count(*) FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL";
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<'EOS');
SELECT queue.register_sql_handler('s', 'h', '{q}', timeout => '0', max_running => 3);
SELECT count(*) FROM queue.enqueue_many('s', array_fill('{"lock": 1}'::jsonb, '{2}'), 'q');
EOS
wait_true($node, "SELECT ($running) = 2", 'executors run two');
sql($node, "SELECT count(*) FROM queue.enqueue_many('s', array_fill('{}'::jsonb, '{3}'), 'q', run_at => clock_timestamp() + interval '1 day')");
sql($node, "SELECT queue.pause_handler('s', 'q'); SELECT count(queue.alter_job(id, run_at => clock_timestamp())) FROM queue.job WHERE state = 'scheduled'");
one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '1', 'a worker gets one beside them');
sql($node, "SELECT queue.resume_handler('s', 'q')");
one($node, "SELECT count(*) FROM queue.fetch('q', 5, kinds => '{s}', claim => 'session')", '0', 'a session none');
sqlstate_like($node, "SELECT queue.test_run(max(id)) FROM queue.job WHERE kind = 's' AND state = 'available'", '55000', qr/max_running of handler s is 3, and 3 run/, 'nor test_run');
one($node, $running, '2', 'nor a third executor');
one($node, "SELECT queue.complete(id) FROM queue.job WHERE kind = 's' AND leased_until IS NOT NULL", 't', 'the worker ends its job');
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE kind = 's' AND job_id = (SELECT max(job_id) FROM seen WHERE kind = 's'))", 'and an executor has the next');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'all have ended', kinds => '^s$');

# a request needs no executor: those that are kept for more urgent jobs do not hold it up
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<"EOS");
SELECT queue.create_queue('kept', reserved => '{"-10": 10000}');
SELECT queue.register_sql_handler('ks', 'h', '{kept}', timeout => '0'), queue.register_http_handler('kh', '$url', '{kept}');
SELECT queue.enqueue('ks', '{"lock": 1}', 'kept') FROM generate_series(1, 2);
EOS
wait_true($node, "SELECT ($running) = 1", 'the one executor that is not kept runs a job');
wait_true($node, "SELECT bool_or(queue.explain_job(id) ~ 'executors are reserved') FROM queue.job WHERE kind = 'ks'", 'the next one waits');
my $request = sql($node, q{SELECT queue.enqueue('kh', '{"file": "kept"}', 'kept')});
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'kh'", 'a request is sent meanwhile');
$server->say_status('kept', 200);
wait_end($node, $request, 'completed', 'and ends');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'and then the jobs', kinds => '^k[sh]$');
$holder->quit;

# --- SQL and HTTP handlers have their turns at a limit that they share: those of the one have jobs without end
my $answer = $server->url('/status/200');
sql($node, <<"EOS");
SELECT queue.create_queue('both', max_running => 1);
CREATE FUNCTION again(j queue.job) RETURNS void LANGUAGE sql AS \$\$ SELECT queue.enqueue('again', queue => 'both') \$\$;
SELECT queue.register_sql_handler('again', 'again', '{both}'), queue.register_http_handler('turn', '$answer', '{both}');
SELECT queue.enqueue('again', queue => 'both') FROM generate_series(1, 3);
EOS
wait_true($node, "SELECT completed > 3 FROM queue.stat_queue WHERE queue = 'both'", 'SQL jobs that never end');
wait_end($node, sql($node, "SELECT queue.enqueue('turn', queue => 'both')"), 'completed', 'leave an HTTP job its turn');
# (whoever drops a queue waits for those who enqueue into it, and they for him)
sql($node, "SELECT queue.pause('both')");
wait_true($node, "SELECT ($running) = 0", 'none runs any more');
sql($node, "SELECT queue.drop_queue('both', force => true)");

# --- how much is read for requests
# more than the channel holds, of a handler whose requests do not end
sql($node, "SELECT queue.register_http_handler('wide', '" . $server->url('/hang') . "', '{q}', timeout => '10 min', max_running => 300)");
sql($node, q{SELECT count(*) FROM queue.enqueue_many('wide', array_fill('{}'::jsonb, '{300}'), 'q')});
wait_true($node, "SELECT in_flight = 300 FROM queue.stat_endpoint WHERE kind = 'wide'", 'a handler has more requests under way than the channel holds jobs');
sql($node, "SELECT queue.unregister_handler('wide', 'q'); SELECT count(queue.cancel(id)) FROM queue.job WHERE kind = 'wide'");
# one that got no more than its share, because others have theirs, is read again when its requests end: what stands ahead of
# it was read when there was one handler less
sql($node, 'ALTER SYSTEM SET queue.http_max_in_flight = 4');
$node->reload;
wait_true($node, "SELECT setting = '4' FROM pg_settings WHERE name = 'queue.http_max_in_flight'", 'queue.http_max_in_flight is 4');
sql($node, "SELECT queue.register_http_handler(kind, '$url', '{q}', timeout => '10 min') FROM unnest('{b1,b2,b3}'::text[]) kind");
sql($node, q{SELECT count(*) FROM queue.enqueue_many('b1', array_fill('{"file": "never"}'::jsonb, '{100}'), 'q')});
wait_true($node, "SELECT in_flight = 4 FROM queue.stat_endpoint WHERE kind = 'b1'", 'a handler has all requests that may be under way');
sql($node, q{SELECT count(*) FROM queue.enqueue_many('b2', array_fill('{"file": "go"}'::jsonb, '{100}'), 'q')});
scheduler_turn($node);
sql($node, q{SELECT queue.enqueue('b3', queue => 'q', delay => '1 day')});
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE kind = 'b1' AND state = 'running' ORDER BY id LIMIT 2");
wait_true($node, "SELECT string_agg(in_flight::text, ' ' ORDER BY kind) = '2 2 0' FROM queue.stat_endpoint WHERE kind IN ('b1', 'b2', 'b3')", 'another one gets half of them');
scheduler_turn($node);
$server->say_status('go', 200);
wait_no_jobs($node, 'all of its jobs go', kinds => '^b2$');
log_clean($node);
done_testing();
