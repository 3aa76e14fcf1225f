# Turns of concurrency keys, and ageing, where the scheduler pulls ahead: executors, the http worker; beside fetches in
# several sessions; after a restart.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('fair', conf => "queue.executors = 1");

sql($node, <<'EOS');
SELECT queue.create_queue('f', fair => 2);
SELECT queue.create_queue('old', ageing => '1 min');
SELECT queue.create_queue('p');
SELECT queue.register_sql_handler(k, 'public.h') FROM unnest('{k,l,slow,block}'::text[]) k;
CREATE FUNCTION add(tenant text, n int, queue text DEFAULT 'f', kind text DEFAULT 'k', priority int DEFAULT 0) RETURNS bigint
LANGUAGE sql AS $$
	SELECT count(queue.enqueue(kind, jsonb_build_object('note', tenant || i), queue, priority, concurrency_key => tenant))
	FROM generate_series(1, n) i $$;
EOS

# The notes of the jobs that ran, in order.
sub ran { return split / /, sql($node, "SELECT coalesce(string_agg(note, ' ' ORDER BY n), '') FROM seen WHERE note IS NOT NULL"); }
# How many of a tenant's jobs ran before this one.
sub before
{
	my ($tenant, $note) = @_;
	my $n = 0;
	for (ran()) { return $n if $_ eq $note; $n++ if /^$tenant\d/; }
	return -1;
}
sub begin { sql($node, "TRUNCATE seen"); return; }

# The one executor is held while what follows is enqueued.
my $holder = queue_session($node);
sub hold
{
	$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");
	sql($node, q{SELECT queue.enqueue('block', '{"lock": 1}')});
	wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id IS NOT NULL AND kind = 'block'", 'the executor is held');
	return;
}
# The scheduler has seen what was enqueued.
sub let_go { scheduler_turn($node); $holder->query_safe("COMMIT"); return; }

# --- short jobs: hundreds are pulled ahead of the tenant that is alone
sql($node, "SELECT add('w', 20), add('w', 20, kind => 'l')");
wait_no_jobs($node, 'the kinds are known to be short');
begin();
hold();
sql($node, "SELECT add('a', 600)");
wait_true($node, "SELECT available >= 600 FROM queue.stat_queue WHERE queue = 'f'", "a tenant's jobs wait");
sql($node, "SELECT add('b', 4)");
sql($node, "SELECT add('c', 1, kind => 'l')");
sql($node, "SELECT add('p', 3, 'p', priority => 1)");
like(sql($node, "SELECT queue.explain_job(max(id)) FROM queue.job WHERE concurrency_key = 'b'"),
	qr/behind \d+ jobs; concurrency keys take turns of 2 jobs/, 'explain_job tells of turns');
let_go();
wait_no_jobs($node, 'all ran');
cmp_ok(before('a', 'b1'), '<=', 2, 'a newcomer waits for no more than one turn');
cmp_ok(before('a', 'c1'), '<=', 2, 'so does one with jobs of another kind');
cmp_ok(before('a', 'b4'), '<=', 4, 'and its later jobs for as many turns as they take');
cmp_ok(before('a', 'b4'), '>=', 2, 'but turns they are');
is(join(' ', grep { /^a/ } ran()), join(' ', map { "a$_" } 1 .. 600), "the first tenant's jobs ran in their order");
is(join(' ', grep { /^p/ } ran()), 'p1 p2 p3', 'and those of lower priority');
is(before('a', 'p1'), 600, 'after all others');

# --- a kind that nobody knows: the channel is full with two of them
begin();
hold();
sql($node, "SELECT add('a', 10, kind => 'slow')");
wait_true($node, "SELECT available >= 10 FROM queue.stat_queue WHERE queue = 'f'", "long jobs wait");
sql($node, "SELECT add('b', 2, kind => 'slow')");
let_go();
wait_no_jobs($node, 'all ran');
cmp_ok(before('a', 'b1'), '<=', 2, 'a newcomer takes the place of one that was pulled');
cmp_ok(before('a', 'b2'), '<=', 4, 'and so on');

# --- the same, where older jobs of another queue fill the channel, and more of them wait behind it
begin();
hold();
sql($node, "SELECT add('a', 10), add('p', 600, 'p')");
wait_true($node, "SELECT available >= 600 FROM queue.stat_queue WHERE queue = 'p'", 'jobs of another queue wait');
sql($node, "SELECT add('b', 1)");
let_go();
wait_no_jobs($node, 'all ran');
is(before('p', 'b1'), 0, 'a newcomer takes the place of one of its own queue') or diag(join ' ', grep { defined } (ran())[0 .. 20]);
cmp_ok(before('p', 'a9'), '==', 0, 'and nobody loses more than that');

# --- a channel in which there is room, but not for the next one of those jobs: they take 8 of its 20 ms each
sql($node, "SELECT queue.register_sql_handler('m', 'public.h')");
sql($node, q(SELECT count(queue.enqueue('m', '{"sleep": 0.008}', 'p')) FROM generate_series(1, 20)));
wait_no_jobs($node, 'how long they take is known');
begin();
hold();
sql($node, "SELECT add('a', 10)");
sql($node, q(SELECT count(queue.enqueue('m', jsonb_build_object('sleep', 0.008, 'note', 'p' || i), 'p')) FROM generate_series(1, 20) i));
wait_true($node, "SELECT available >= 20 FROM queue.stat_queue WHERE queue = 'p'", 'jobs of another queue wait');
sql($node, "SELECT add('b', 1)");
let_go();
wait_no_jobs($node, 'all ran');
is(before('p', 'b1'), 0, 'a newcomer gets past what does not fit') or diag(join ' ', ran());

# --- with other queues beside it, and turns switched on and off
begin();
sql($node, "SELECT queue.pause('f'), queue.pause('p')");
sql($node, "SELECT add('a', 6), add('p', 2, 'p'), add('b', 2)");
hold();
sql($node, "SELECT queue.resume('f'), queue.resume('p')");
let_go();
wait_no_jobs($node, 'all ran');
cmp_ok(before('a', 'p2'), '>=', 2, 'older jobs of the fair queue come before another queue');
cmp_ok(before('a', 'b2'), '<=', 4, 'and take turns');
begin();
hold();
sql($node, "SELECT add('a', 6)");
sql($node, "SELECT queue.alter_queue('f', reset => '{fair}')");
sql($node, "SELECT add('b', 2)");
sql($node, "SELECT queue.alter_queue('f', fair => 1)");
sql($node, "SELECT add('c', 2)");
let_go();
wait_no_jobs($node, 'what was enqueued with, without and with other turns all ran');
cmp_ok(before('a', 'c2'), '<=', 3, 'the last one took turns');
sql($node, "SELECT queue.alter_queue('f', fair => 2)");

# --- ageing: an old job of low priority, and urgent ones that come after it
begin();
hold();
sql($node, q{SELECT queue.enqueue('slow', '{"note": "old"}', 'old', 3, run_at => clock_timestamp() - interval '10 min')});
sql($node, "SELECT add('u', 3, 'old', 'slow')");
sql($node, q{SELECT queue.enqueue('slow', '{"note": "low"}', 'old', 3)});
let_go();
wait_no_jobs($node, 'all ran');
is(join(' ', ran()), 'old u1 u2 u3 low', 'who waited long comes before urgent newcomers');
# .. and one that has been pulled becomes more urgent while it waits
sql($node, "SELECT queue.alter_queue('old', ageing => '200 ms')");
begin();
hold();
sql($node, q{SELECT queue.enqueue('slow', '{"note": "low"}', 'old', 3)});
wait_true($node, "SELECT clock_timestamp() > run_at + interval '1.2 s' FROM queue.job WHERE queue = 'old' AND state = 'available'", 'it waits for long');
sql($node, "SELECT add('u', 3, 'old', 'slow')");
let_go();
wait_no_jobs($node, 'all ran');
is(join(' ', ran()), 'low u1 u2 u3', 'an entry of the channel ages');

# --- HTTP
my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
sql($node, "SELECT queue.alter_queue('f', keep_completed => '1 day')");
sql($node, "SELECT queue.register_http_handler('web', '" . $server->url('/status/200') . "', '{f}', max_running => 1)");
sql($node, "SELECT queue.pause('f')");
sql($node, "SELECT add('a', 20, kind => 'web')");
sql($node, "SELECT add('b', 2, kind => 'web')");
sql($node, "SELECT queue.resume('f')");
wait_no_jobs($node, 'all requests were sent', kinds => '^web$');
cmp_ok(
	sql($node, q{SELECT count(*) FROM queue.job WHERE kind = 'web' AND concurrency_key = 'a' AND finished_at <
		(SELECT max(finished_at) FROM queue.job WHERE kind = 'web' AND concurrency_key = 'b')}),
	'<=', 4, 'requests take turns');

# --- sessions that fetch give turns together; a restart forgets whose turn it was, and nothing else
sql($node, "SELECT add('a', 40, kind => 'ext'), add('b', 5, kind => 'ext')");
my @sessions = map { queue_session($node) } 1 .. 3;
my @got;
for my $i (0 .. 11)
{
	push @got, $sessions[ $i % 3 ]->query_safe("SELECT payload->>'note' FROM queue.fetch('f')");
}
is(scalar(grep { /^b/ } @got), 5, 'a small tenant has its turns whoever fetches') ;
is(join(' ', grep { /^a/ } @got), join(' ', map { "a$_" } 1 .. 7), 'the others are in order');
$_->quit for @sessions;
$holder->quit;
$node->restart;
sql($node, "SELECT add('c', 2, kind => 'ext')");
@got = split /\n/, sql($node, "SELECT payload->>'note' FROM queue.fetch('f', 6)");
is(scalar(grep { /^c/ } @got), 2, 'after a restart keys take turns') or diag("@got");
is(sql($node, "SELECT count(*) FROM queue.fetch('f', 100)"), 40 - 7 - 4, 'and all others are there');
log_clean($node);
done_testing();
