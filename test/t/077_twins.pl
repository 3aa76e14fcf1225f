# Two databases with the same queues, lines, handlers, roles, keys and job ids: what happens in one is not seen in the
# other, and when one of them is dropped, the other one keeps what it knows.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# Nobody finds by a look from afar what was lost.
my $node = queue_node('twins', far_look => 0, install => 0, conf => 'autovacuum = off');
my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my ($hang, $fails) = ($server->url('/hang'), $server->url('/status/500'));
my @both = qw(left right);
my $under_way = "SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'hook'";
sub left { return sql($node, $_[0], db => 'left') }
sub right { return sql($node, $_[0], db => 'right') }

for my $db (@both)
{
	sql($node, "CREATE DATABASE \"$db\"");
	queue_install($node, $db);
	sql($node, <<"EOS", db => $db);
SELECT queue.create_queue('past', lease => '1 hour'), queue.create_queue('one', max_running => 1, max_running_per_key => 1, lease => '1 hour'),
       queue.create_queue('quick', lease => '1 s'), queue.create_queue('still');
SELECT queue.register_sql_handler('job', 'h', timeout => '0'),
       queue.register_http_handler('hook', '$hang', timeout => '1 h', max_running => 1),
       queue.register_http_handler('broken', '$fails', backoff => '{"type": "fixed", "base": "1 hour"}',
                                   breaker => '{"consecutive_failures": 1, "pause": "1 hour", "cap": "1 hour"}');
SELECT queue.enqueue('k', '1', 'past', run_at => '2001-01-01 00:00+00'), queue.enqueue('k', '2', 'one', concurrency_key => 'c'),
       queue.enqueue('k', '3', 'quick'), queue.enqueue('hook', '4'), queue.enqueue('broken', '5', run_at => now() + interval '1 hour'),
       queue.pause('still'), queue.enqueue('job', '{"lock": 7}', 'still');
EOS
	# before the other database's http worker starts
	wait_true($node, "SELECT ($under_way) = 1", "$db: a request of the handler that may have one under way", db => $db);
}
# what is the same in both, or nothing would tell the two apart
my $same = q{SELECT string_agg(concat_ws('|', l.id, l.queue, l.kind), ' ' ORDER BY l.id), (SELECT string_agg(id::text, ' ' ORDER BY id) FROM queue.handler),
	(SELECT string_agg(id || kind, ' ' ORDER BY id) FROM queue.job) FROM queue.line l};
is(left($same), right($same), 'the lines, the handlers and the jobs have the same ids in both');

# --- sessions' claims: by the id of the job
my $claims = queue_session($node, 'left');
is($claims->query_safe("SELECT count(*) FROM queue.fetch('past', claim => 'session')"), '1', 'a session claims');
my $other = queue_session($node, 'right');
is($other->query_safe("SELECT count(*) FROM queue.fetch('quick', claim => 'session')"), '1', 'so does one of the other database, another job');
my $past = "SELECT state FROM queue.job WHERE queue = 'past'";
is(left($past), 'running', 'and has that job');
is(right($past), 'available', "not the other database's of the same id");
is(right(q{SELECT count(*) FROM queue.find_jobs('{"queue": "past", "state": "available"}')}), '1', 'nor for who looks for many');
$_->quit for $claims, $other;
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'quick' AND state = 'available'", 'that one is given back', db => 'right');
wait_true($node, "SELECT ($past) = 'available'", 'it is given back', db => 'left');

# --- dependencies: one waits for a later job than the one of the same id in the other database
my @ids;
for my $db (qw(right left))
{
	sql($node, "SELECT queue.create_queue('chain')", db => $db);
	my ($first, $second) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'chain') FROM generate_series(1, 2)", db => $db);
	my $on = $db eq 'left' ? "$first, $second" : $first;
	push @ids, sql($node, "SELECT queue.enqueue('waits', queue => 'chain', depends_on => ARRAY[$on])", db => $db);
	scheduler_turn($node, db => $db);
}
is($ids[0], $ids[1], 'two that wait have the same id');
right("SELECT queue.complete(id, attempt) FROM queue.fetch('chain')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $ids[0]", 'the end of the earlier one lets in whom it is about', db => 'right');
sql($node, "SELECT queue.drop_queue('chain', force => true)", db => $_) for @both;

# --- cursors: what is taken from a line in one leaves the older job in the other
is(left("SELECT count(*) FROM queue.enqueue_many('k', '{1,2,3}', 'past')"), '3', 'later jobs in the same line');
is(left("SELECT count(*) FROM queue.fetch('past', 10)"), '4', 'all are taken');
is(left("SELECT count(*) FROM queue.fetch('past', 10)"), '0', 'and there are no more');
is(right("SELECT count(*) FROM queue.fetch('past', 10)"), '1', "the other database's is there");

# --- limits and keys
is(left("SELECT count(*) FROM queue.fetch('one', 10)"), '1', 'one takes the only place of a queue, and of a key');
is(right("SELECT count(*) FROM queue.fetch('one', 10)"), '1', 'the other one has a place of its own');
for my $db (@both)
{
	one($node, "SELECT queue.enqueue('k', '1', 'one', concurrency_key => 'c') > 0", 't', "$db: another job", db => $db);
	one($node, "SELECT count(*) FROM queue.fetch('one', 10)", '0', "$db: for which there is no room", db => $db);
}

# --- HTTP handlers' limits, requests under way and breakers
for my $db (@both)
{
	one($node, $under_way, '1', "$db: the request is under way", db => $db);
	one($node, "SELECT running FROM queue.stat_handler WHERE kind = 'hook'", '1', "$db: and counts for its handler", db => $db);
}
my $breaker = "SELECT breaker FROM queue.stat_endpoint WHERE kind = 'broken'";
left("SELECT queue.enqueue('broken')");
wait_true($node, "SELECT ($breaker) = 'open'", 'the breaker of an endpoint that fails opens', db => 'left');
is(right($breaker), 'closed', "the same one's in the other database is closed");
right("SELECT queue.enqueue('broken')");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'broken' AND failures = 1", 'so its job is sent', db => 'right');
is(right($breaker), 'open', 'and opens it');
one($node, "SELECT failed, completed FROM queue.stat_handler WHERE kind = 'broken'", '1|0', "$_: one that failed", db => $_) for @both;

left('SELECT queue.stat_reset()');
is(left("SELECT sum(failed) FROM queue.stat_handler"), '0', 'totals that begin anew');
is(right("SELECT failed, (SELECT enqueued FROM queue.stat_queue WHERE queue = 'past') FROM queue.stat_handler WHERE kind = 'broken'"), '1|1', 'do not in the other database');

# --- who runs and who fetches
my $holder = queue_session($node, 'left');
$holder->query_safe('SELECT pg_advisory_lock(7)');
my $id = left("SELECT max(id) FROM queue.job WHERE queue = 'still'");
left("SELECT queue.resume('still')");
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id", 'a job runs', db => 'left');
is(right("SELECT state FROM queue.job WHERE id = $id"), 'available', "the other database's of the same id does not");
is(right("SELECT count(*) FROM queue.stat_worker WHERE job_id = $id"), '0', 'nobody there has it');
is(right("SELECT string_agg(queue || running, ' ' ORDER BY queue) FROM queue.stat_queue"), 'default1 one1 past1 quick0 still0', 'and it counts nowhere');
is(left("SELECT running FROM queue.stat_queue WHERE queue = 'still'"), '1', '(where it runs it does)');
is(right("SELECT queue.cancel($id)"), 't', 'it is cancelled');
is(left("SELECT state FROM queue.job WHERE id = $id"), 'running', 'and the one that runs goes on');
my $worker = queue_session($node, 'left');
$worker->query_safe("SELECT count(*) FROM queue.fetch('past', worker => 'of left')");
is(left("SELECT count(*) FROM queue.stat_worker WHERE worker = 'of left'"), '1', 'a session that fetches');
is(right("SELECT count(*) FROM queue.stat_worker WHERE worker = 'of left'"), '0', 'is none of the other database');

$_->quit for $holder, $worker;

# --- leases: who looks for those that ended takes none of the other database's
left("SELECT count(*) FROM queue.enqueue_many('k', array_fill('1'::jsonb, ARRAY[40]), 'quick')");
left("SELECT count(*) FROM generate_series(1, 40) i, queue.fetch('quick', lease => i * interval '50 ms')");
is(right("SELECT count(*) FROM queue.fetch('quick')"), '1', 'a lease of 1 s, while many end in the other database');
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'quick' AND state = 'available'", 'it ends', db => 'right');
is(right("SELECT count(*) FROM queue.fetch('quick', wait => '30 s')"), '1', 'and the job is fetched again');
left("SELECT queue.purge('quick')");

# --- the other one is dropped
right("SELECT queue.enqueue('waits', '1', 'one') FROM generate_series(1, 7)");
right(<<'EOS');
SELECT queue.create_queue('led');
SELECT count(queue.enqueue('job', to_jsonb(i), 'led', group_key => 'g')) FROM generate_series(1, 3) i;
SELECT queue.enqueue('late', '1', 'past', depends_on => ARRAY[(SELECT id FROM queue.job WHERE queue = 'past' AND state = 'running')]);
EOS
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE queue = 'led'", 'a group', db => 'right');
my $stat = q{SELECT string_agg(concat_ws('|', queue, available, running, retryable, enqueued, completed, failed), ' ' ORDER BY queue) FROM queue.stat_queue WHERE queue <> 'quick'};
my $kinds = q{SELECT string_agg(concat_ws('|', queue, kind, available, running, completed, failed), ' ' ORDER BY queue, kind) FROM queue.stat_kind WHERE queue <> 'quick'};
my @known = (right($stat), right($kinds));
right("SELECT count(*) FROM queue.fetch('quick', lease => '3 s')");
my $waiting = queue_session($node, 'right');
$waiting->query_until(qr/waiting/, "\\echo waiting\nSELECT kind FROM queue.fetch('past', wait => '60 s');\n");
poll($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%60 s%' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()}, db => 'right');
sql($node, 'DROP DATABASE "left" WITH (FORCE)');
# (the launcher forgets it at its next look)
poll($node, q{SELECT count(*) = 0 FROM queue.stat_worker WHERE type = 'scheduler' AND database IS DISTINCT FROM 'right'}, db => 'right');
is(right($breaker), 'open', 'the breaker stays open');
is(right($under_way), '1', 'the request is under way');
is(right("SELECT count(*) FROM queue.fetch('one', 10)"), '0', 'there is still no room');
is(right($stat), $known[0], 'what was counted is still counted');
is(right($kinds), $known[1], 'by kind, too');
is(right("SELECT queue.complete(id, attempt) FROM queue.job WHERE queue = 'one' AND state = 'running'"), 't', 'who has the only place of the queue');
is(right("SELECT count(*) FROM queue.fetch('one', 10)"), '1', 'gives it back');
is(right("SELECT queue.complete(id, attempt) FROM queue.job WHERE queue = 'past' AND state = 'running'"), 't', 'a job ends on which another one depends');
like($waiting->query_safe('SELECT 1'), qr/^late$/m, 'that one is fetched by the session that waits');
$waiting->quit;
right("SELECT count(queue.enqueue('job', to_jsonb(i), 'led', group_key => 'g')) FROM generate_series(1, 3) i");
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE queue = 'led'", 'jobs run, in their group', db => 'right');
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'quick' AND state = 'available'", 'a lease that was taken before ends', db => 'right');
right("SELECT queue.cancel(id) FROM queue.job WHERE kind = 'hook'");
wait_true($node, "SELECT ($under_way) = 0", 'a cancel reaches its request', db => 'right');

$server->stop;
$node->stop('fast');
log_clean($node);
done_testing();
