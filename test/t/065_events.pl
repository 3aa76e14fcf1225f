# Events beyond one server's calm life: HTTP endpoints that await, executors, kills and crashes, prepared transactions, many
# that await one event, and a server without the library preloaded.
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
my $node = queue_node('events', far_look => 0, conf => "max_prepared_transactions = 10\n");
sql($node, <<'EOS');
CREATE TABLE done (id bigint, attempt int, status text, payload jsonb);
-- awaits the event that its payload names
CREATE FUNCTION step(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE e record;
BEGIN
	SELECT * INTO e FROM queue.await_event(j.id, j.payload ->> 'event', (j.payload ->> 'timeout')::interval);
	INSERT INTO done VALUES (j.id, j.attempt, e.status, e.payload);
END $$;
CREATE FUNCTION tell(j queue.job) RETURNS void LANGUAGE sql AS $$ SELECT queue.emit(j.payload ->> 'event', '"told"', 'q') $$;
SELECT queue.create_queue('q', keep_completed => '1 day', backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
SELECT queue.register_sql_handler('step', 'step'), queue.register_sql_handler('tell', 'tell');
EOS

sub enqueue { my ($kind, $payload) = @_; return sql($node, "SELECT queue.enqueue('$kind', '$payload', 'q')"); }
sub state_is { my ($id, $state, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return wait_true($node, "SELECT state = '$state' FROM queue.job WHERE id = $id", $name); }

# --- HTTP: 202 with Queue-Await
sub register { my ($kind, $path) = @_; return sql($node, "SELECT queue.register_http_handler('$kind', '" . $server->url($path) . "', body => 'job')"); }
register('approve', '/await/approved');
my $id = enqueue('approve', '{"order": 7}');
state_is($id, 'pending', 'an endpoint awaits');
one($node, "SELECT failures, attempt FROM queue.job WHERE id = $id", '0|1', 'uncounted');
sql($node, "SELECT queue.emit('approved', '{\"by\": \"ada\"}', 'q')");
state_is($id, 'completed', 'the event sends it again');
my @r = $server->seen('request');
is(scalar(@r), 2, 'two requests');
like($r[0]{body}, qr/^\{"job": \{.*"payload": \{"order": 7\}/, "body => 'job': the job");
unlike($r[0]{body}, qr/"event"|"dependencies"/, 'no event yet, nor anything that it depends on');
like($r[0]{body}, qr/"steps": \{\}/, 'no steps');
like($r[1]{body}, qr/"event": \{"name": "approved", "status": "event", "payload": \{"by": "ada"\}\}/, 'then the event');
like($r[1]{body}, qr/"attempt": 2/, 'of the second attempt');
$server->forget;
$id = enqueue('approve', '{}');
state_is($id, 'completed', 'one that was emitted before is told at once');
is(scalar($server->seen('request')), 2, 'by a second request');
# (whose body does not tell of the event)
sql($node, "SELECT queue.register_http_handler('again', '" . $server->url('/await/approved') . "')");
$server->forget;
my $since = time;
$id = enqueue('again', '{}');
# the first time it is told at once
usleep(20_000) while $server->seen('request') < 4 && time - $since < 60;
cmp_ok(time - $since, '>', 1.8, 'an endpoint that awaits again what it was told of is asked again after a second');
sql($node, "SELECT queue.cancel($id)");
register('late', '/await/late?timeout=0.2');
$server->forget;
$id = enqueue('late', '{}');
state_is($id, 'completed', 'a timeout is told too');
@r = $server->seen('request');
like($r[1]{body}, qr/"event": \{"name": "late", "status": "timeout"\}/, 'by its name');
for (['soon', '/await/x?timeout=soon', 'Queue-Await-Timeout is no number of seconds'], ['past', '/await/x?timeout=-1', 'Queue-Await-Timeout is no number of seconds'],
	['long', '/await/' . 'x' x 201, 'Queue-Await is longer than 200 bytes'])
{
	my ($kind, $path, $error) = @$_;
	register($kind, $path);
	$id = enqueue($kind, '{}');
	wait_true($node, "SELECT failures > 0 AND last_error ~ '$error' FROM queue.job WHERE id = $id", "$kind: what makes no sense fails the attempt");
	sql($node, "SELECT queue.cancel($id)");
}
# one whose wait could not be written, because an enqueue has its key, and that is cancelled before it can
register('held', '/await/never');
kill 'STOP', $server->{pid};
$id = sql($node, "SELECT queue.enqueue('held', '{}', 'q', unique_key => 'k')");
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $id", 'a request is under way');
my $enqueuer = queue_session($node);
$enqueuer->query("BEGIN; SELECT queue.enqueue('held', '{}', 'q', unique_key => 'k', on_conflict => 'replace')");
$server->forget;
kill 'CONT', $server->{pid};
for (1 .. 600) { last if $server->seen('request'); usleep(50_000); }
usleep(300_000);
my $canceller = queue_session($node);
$canceller->query_until(qr/cancels/, "\\echo cancels\nSELECT queue.cancel($id);\n");
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^SELECT queue.cancel' AND wait_event_type = 'Lock'", 'cancel waits for the key as well');
$enqueuer->query('ROLLBACK');
$enqueuer->quit;
state_is($id, 'cancelled', 'it is cancelled');
$canceller->quit;
one($node, "SELECT count(*) FROM queue.event_wait WHERE job_id = $id", '0', 'and awaits nothing');
# the job is as it is claimed, whatever was before
$server->forget;
register('lost', '/status/200');
sql($node, "SELECT queue.pause_handler('lost')");
$id = enqueue('lost', '{}');
sql($node, "SELECT id FROM queue.fetch('q', kinds => '{lost}', lease => '1 ms')");
sql($node, "SELECT queue.resume_handler('lost')");
state_is($id, 'completed', 'one whose lease ended before');
@r = $server->seen('request');
like($r[0]{body}, qr/"leased_until": null/, 'is told without that lease');
# what it stored on the way
$server->forget;
register('steps', '/file');
$id = sql($node, q(SELECT queue.enqueue('steps', '{"file": "one"}', 'q', backoff => '{"type": "fixed", "base": "1 hour"}')));
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $id", 'under way');
one($node, "SELECT queue.save_step($id, 'charged', '{\"receipt\": 1}', 1)", '{"receipt": 1}', 'an endpoint stores a step');
$server->say_status('one', 500);
state_is($id, 'retryable', 'and fails');
$server->say_status('one', 200);
one($node, "SELECT queue.retry($id)", 't', 'its next attempt');
state_is($id, 'completed', 'is the last');
@r = $server->seen('request');
like($r[1]{body}, qr/"steps": \{"charged": \{"receipt": 1\}\}/, 'and is told of it');

# and what the jobs returned that it depends on, by ref in a workflow, else by id
$server->forget;
register('after', '/status/200');
my $other = enqueue('by hand', '{}');
sql($node, "SELECT count(*) FROM queue.enqueue_workflow('[{\"ref\": \"first\", \"kind\": \"by hand\", \"queue\": \"q\"},
	{\"ref\": \"second\", \"kind\": \"after\", \"queue\": \"q\", \"depends_on\": [\"first\", $other]}]')");
sql($node, "SELECT queue.complete(id, attempt, result => to_jsonb(id = $other)) FROM queue.fetch('q', 2, kinds => '{by hand}')");
wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE kind = 'after'", 'an endpoint that depends on others');
@r = $server->seen('request');
like($r[0]{body}, qr/"dependencies": \{"$other": true, "first": false\}/, 'is told what they returned');

# what an endpoint answered is told too, though its queue keeps nothing; a workflow keeps it for the compensation
sql($node, "SELECT queue.create_queue('none')");
register('answers', '/say/200/done');
$id = sql($node, "SELECT queue.enqueue('by hand', '{}', 'q', depends_on => ARRAY[queue.enqueue('answers', '{}', 'none')])");
state_is($id, 'available', 'one that depends on an endpoint');
one($node, "SELECT r.value ->> 'body' FROM jsonb_each(queue.dependency_results($id)) r", 'done', 'knows its answer');
sql($node, "SELECT queue.cancel($id)");
sql($node, "SELECT queue.enqueue_workflow('[{\"kind\": \"answers\", \"queue\": \"none\"}]', 'answer')");
wait_true($node, "SELECT result ->> 'body' = 'done' FROM queue.workflow_end WHERE workflow = (SELECT id FROM queue.workflow WHERE name = 'answer')", 'and so does a workflow');

# it asks by SQL while its request is under way, and the event comes before the answer, which counts for nothing then
$server->forget;
$id = enqueue('steps', '{"file": "two"}');
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $id", 'under way');
one($node, "SELECT status FROM queue.await_event($id, 'by sql', attempt => 1)", 'waiting', 'an endpoint asks by SQL');
sql($node, "SELECT queue.emit('by sql', '1', 'q')");
state_is($id, 'available', 'its job is let in');
my $behind = enqueue('steps', '{"file": "three"}');
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $behind", 'but not sent while its request is under way');
$server->say_status($_, 200) for qw(two three);
state_is($id, 'completed', 'and is sent again after the answer');
one($node, "SELECT attempt FROM queue.job WHERE id = $id", '2', 'as another attempt');

# --- executors: the effects of the run that waits are kept, and it runs again once
$id = enqueue('step', '{"event": "go", "timeout": "1 hour"}');
state_is($id, 'pending', 'a handler awaits');
one($node, "SELECT attempt, status FROM done WHERE id = $id", '1|waiting', 'with its effects');
$node->stop('immediate');
$node->start;
state_is($id, 'pending', 'through a crash');
sql($node, "SELECT queue.emit('go', '1', 'q')");
state_is($id, 'completed', 'the event lets it in');
one($node, "SELECT string_agg(attempt || ' ' || status, ',' ORDER BY attempt) FROM done WHERE id = $id", '1 waiting,2 event', 'once');
$id = enqueue('step', '{"event": "never", "timeout": "300 ms"}');
state_is($id, 'completed', 'or its timeout does');
one($node, "SELECT string_agg(attempt || ' ' || status, ',' ORDER BY attempt) FROM done WHERE id = $id", '1 waiting,2 timeout', 'by name');

$id = enqueue('step', '{"event": "told"}');
enqueue('tell', '{"event": "told"}') for 1 .. 3;
state_is($id, 'completed', 'a handler may emit');
one($node, "SELECT payload FROM done WHERE id = $id AND status = 'event'", '"told"', 'its event');

# --- an emit of which nobody was told before the server crashed
$id = enqueue('step', '{"event": "lost"}');
state_is($id, 'pending', 'a handler awaits');
my $lock = queue_session($node);
$lock->query_safe("BEGIN; LOCK TABLE queue.live_job IN SHARE MODE");
sql($node, "SELECT queue.emit('lost', '1', 'q')");
$node->stop('immediate');
$node->start;
state_is($id, 'completed', 'after the crash it is looked for');
$lock->quit;

# --- somebody has the row of one that waits when the event comes
($id, $other) = map { enqueue('ext', '{}') } 1 .. 2;
sql($node, "SELECT count(*) FROM queue.fetch('q', 2) j, queue.await_event(j.id, 'busy', attempt => j.attempt) e WHERE e.status = 'waiting'");
$lock = queue_session($node);
$lock->query_safe("BEGIN; SELECT FROM queue.live_job WHERE id = $id FOR UPDATE");
sql($node, "SELECT queue.emit('busy', '1', 'q')");
state_is($other, 'available', 'the one behind it is let in');
one($node, "SELECT state FROM queue.job WHERE id = $id", 'pending', 'and nobody waits for the row');
$lock->query_safe('COMMIT');
state_is($id, 'available', 'it is let in when its row is free');
$lock->quit;
sql($node, "SELECT queue.cancel($id), queue.cancel($other)");

# --- prepared transactions
$id = enqueue('step', '{"event": "p1"}');
$other = enqueue('step', '{"event": "p2"}');
state_is($_, 'pending', 'a handler awaits') for $id, $other;
sql($node, "BEGIN; SELECT queue.emit('$_', '1', 'q'); PREPARE TRANSACTION '$_'") for qw(p1 p2);
sql($node, "COMMIT PREPARED 'p1'");
state_is($id, 'completed', 'COMMIT PREPARED emits');
$node->restart;
sql($node, "COMMIT PREPARED 'p2'");
state_is($other, 'completed', 'also after a restart');
$id = enqueue('ext', '{}');
sql($node, "SELECT * FROM queue.fetch('q')");
sql($node, "BEGIN; SELECT queue.await_event($id, 'p3', attempt => 1); PREPARE TRANSACTION 'p3'");
sql($node, "SELECT queue.emit('p3', '1', 'q')");
sql($node, "COMMIT PREPARED 'p3'");
state_is($id, 'available', 'an await that was prepared before the emit');
sql($node, "SELECT queue.cancel($id)");

# --- many await one event
sql($node, "SELECT count(queue.enqueue('ext', '{}', 'q')) FROM generate_series(1, 1500)");
sql($node, "SELECT count(*) FROM queue.fetch('q', 1500) j, queue.await_event(j.id, 'all', attempt => j.attempt) e WHERE e.status = 'waiting'");
one($node, "SELECT count(*) FROM queue.event_wait WHERE status = 0", '1500', 'they wait');
sql($node, "SELECT queue.emit('all', '1', 'q')");
wait_true($node, "SELECT count(*) = 1500 FROM queue.job WHERE kind = 'ext' AND state = 'available'", 'all are let in');
sql($node, "SELECT queue.purge('q')");
one($node, "SELECT count(*) FROM queue.event_wait w WHERE NOT EXISTS (SELECT FROM queue.live_job j WHERE j.id = w.job_id)", '0', 'and leave nothing');

# --- rows that come past the extension, as a restore brings them: the event last
$id = enqueue('ext', '{}');
sql($node, "SELECT * FROM queue.fetch('q')");
one($node, "SELECT status FROM queue.await_event($id, 'restored', attempt => 1)", 'waiting', 'one more');
sql($node, "INSERT INTO queue.event SELECT nextval('queue.event_id'), clock_timestamp(), 'q', 'restored', '1'");
state_is($id, 'available', 'restored events are looked at');
# those that are old may come before the jobs that have awaited them
sql($node, "INSERT INTO queue.event SELECT nextval('queue.event_id'), clock_timestamp() - interval '1 year', 'q', 'old', '1'; SELECT queue.maintain()");
one($node, "SELECT count(*) FROM queue.event WHERE name = 'old'", '1', 'an old one that was restored is kept for a while');
sql($node, "SELECT queue.purge('q')");

# --- emits and awaits at the same time, while processes are killed: nobody waits for ever
sql($node, "TRUNCATE done");
sql($node, "SELECT count(queue.enqueue('step', jsonb_build_object('event', 'e' || n), 'q')) FROM generate_series(1, 400) n");
for my $round (0 .. 3)
{
	my ($pid) = workers($node, $round % 2 ? 'scheduler' : 'executor');
	kill 'KILL', $pid if $pid;
	# again and again, because the crash may come in the middle of it
	for (1 .. 100)
	{
		last if $node->psql('postgres', "DO \$\$ BEGIN FOR n IN 1 .. 100 LOOP PERFORM queue.emit('e' || " . (100 * $round) . " + n, to_jsonb(n), 'q'); COMMIT; END LOOP; END \$\$") == 0;
		poll($node, 'SELECT true');
	}
}
wait_no_jobs($node);
one($node, "SELECT count(*), count(DISTINCT id) FROM done WHERE status = 'event'", '400|400', 'each was told once');
one($node, "SELECT count(*) FROM queue.event_wait", '0', 'and nothing is left');

# --- without shared memory: rows remind, and fetch and maintain() take them
my $plain = queue_node('events_plain', preload => 0);
sql($plain, "SELECT queue.create_queue('q')");
$id = sql($plain, "SELECT queue.enqueue('k', '{}', 'q')");
one($plain, "SELECT e.status FROM queue.fetch('q') j, queue.await_event(j.id, 'e', '1 hour', j.attempt) e", 'waiting', 'no preload: it waits');
one($plain, "SELECT count(*) FROM queue.fetch('q')", '0', 'until');
sql($plain, "SELECT queue.emit('e', '1', 'q')");
one($plain, "SELECT e.status, e.payload FROM queue.fetch('q') j, queue.await_event(j.id, 'e', '1 hour', j.attempt) e", 'event|1', 'a fetch lets it in');
one($plain, "SELECT e.status FROM queue.await_event($id, 'f', '0.1 s', 2) e", 'waiting', 'another one');
wait_true($plain, "SELECT queue.maintain()::text = '' AND (SELECT state = 'available' FROM queue.job WHERE id = $id)", 'maintain() ends it');
one($plain, "SELECT e.status FROM queue.fetch('q') j, queue.await_event(j.id, 'f', NULL, j.attempt) e", 'timeout', 'with a timeout');
done_testing();
