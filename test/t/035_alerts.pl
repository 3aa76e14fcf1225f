# doctor() WHERE NOT ok is something to alert on: what is wrong comes first, and nothing that is well is told as wrong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# The session's own clock goes forward where time must have passed.
my $node = queue_node('alerts', conf => 'max_logical_replication_workers = 0');
my $bad = q{SELECT coalesce(string_agg(concat_ws(' | ', check_name, detail, hint), E'\n'), '') FROM queue.doctor() WHERE NOT ok};

sub complaint { return sql($node, ($_[1] ? "SET queue.debug_clock_offset = '$_[1]'; " : '') . "$bad AND check_name = '$_[0]'"); }

wait_true($node, 'SELECT bool_and(ok) FROM queue.doctor()', 'at rest doctor() has no complaint');
sql($node, "SELECT queue.create_queue('q'), queue.pause('q')");
one($node, 'SELECT string_agg(ok::text, \',\') ~ \'^(false,)+(true,?)+$\' FROM queue.doctor()', 't', 'what is wrong comes first');
sql($node, "SELECT queue.resume('q')");

# --- a kind that nobody serves, but somebody fetches
sql($node, q{SELECT queue.enqueue('ext', '{}', 'q', n % 2) FROM generate_series(1, 4) n});
like(complaint('kind without handler'), qr/kind "ext" wait in queue "q".*nobody fetched.*or start a worker/, 'a kind that nobody takes');
one($node, q{SELECT count(*) FROM queue.fetch('q', 1, lease => '1 day')}, 1, 'a worker fetches');
is(complaint('kind without handler'), '', 'then all is well');
like(complaint('kind without handler', '61 min'), qr/"ext"/, 'for an hour');
sql($node, q{SELECT queue.enqueue('other', '{}', 'q')});
like(complaint('kind without handler'), qr/kind "other"/, 'what it did not fetch is another kind');
sql($node, q{SELECT queue.enqueue('many' || n, '{}', 'q') FROM generate_series(1, 55) n});
one($node, q{SELECT count(*), count(*) FILTER (WHERE detail ~ 'more kinds') FROM queue.doctor() WHERE check_name = 'kind without handler'}, '51|1', 'of many kinds fifty are told, and that there are more');
sql($node, q{SELECT queue.purge('q')});

# --- a backlog.  What was due in each of the last minutes is kept in a ring of six; here it begins with the ring, and what
# came before is too old for it
my $begin = 721 - time % 360;
sub at { return 'SET queue.debug_clock_offset = ' . ($begin + $_[0] * 60) . '; '; }
sql($node, at(0) . q{SELECT queue.enqueue('ext', '{}', 'q') FROM generate_series(1, 20)});
is(complaint('backlog', $begin + 10 * 60), '', 'a backlog that does not grow is none');
sql($node, at(3) . q{SELECT queue.enqueue('ext', '{}', 'q') FROM generate_series(1, 5)});
like(complaint('backlog', $begin + 3 * 60), qr/queue "q" falls behind: 2\d jobs are due, [01] were \d minutes ago; the oldest waits since/, 'one that grows');
sql($node, q{CREATE ROLE watches; SELECT queue.create_queue('its'), queue.grant_queue('its', 'watches', 'read')});
my $see = at(3) . qq{SET ROLE watches; $bad AND check_name = 'backlog'};
is(sql($node, $see), '', 'which concerns nobody who may not read the queue');
sql($node, q{SELECT queue.grant_queue('q', 'watches', 'read')});
like(sql($node, $see), qr/queue "q" falls behind/, 'but whoever may');
sql($node, at(3) . q{SELECT queue.purge('q'); SELECT queue.enqueue('ext', '{}', 'q') FROM generate_series(1, 12)});
is(complaint('backlog', $begin + 7 * 60), '', 'nor is one that shrinks, however long its jobs wait');
sql($node, at(3) . q{SELECT queue.enqueue('ext', '{}', 'q') FROM generate_series(1, 20)});
like(complaint('backlog', $begin + 7 * 60), qr/queue "q" falls behind: 3\d jobs are due, 2\d were \d minutes ago/, 'until it grows again');
sql($node, q{SELECT queue.pause('q')});
is(complaint('backlog', $begin + 3 * 60), '', 'a paused queue is told as paused');
sql($node, q{SELECT queue.resume('q'), queue.purge('q')});
is(complaint('backlog', $begin + 3 * 60), '', 'and one that is done is no backlog');

# --- a job that runs long
sql($node, q{SELECT queue.register_sql_handler('job', 'h', timeout => '0'), queue.register_sql_handler('brief', 'h', timeout => '0')});
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.enqueue('brief') FROM generate_series(1, 10)});
wait_no_jobs($node, 'a kind that is known to be brief', kinds => 'brief');
my ($long, $brief) = split /\|/, sql($node, q{SELECT queue.enqueue('job', '{"lock": 1}'), queue.enqueue('brief', '{"lock": 1}')});
wait_true($node, "SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted", 'two jobs wait for a lock');
is(complaint('long run'), '', 'a run is not long at once');
my $said = complaint('long run', '2 min');
like($said, qr/^long run \| job $brief of kind "brief" runs in executor \d+ since .*; its kind takes 0\.\d+ s on average \| .*pg_blocking_pids.*queue\.cancel\($brief\)/,
	'it is when it takes ten times as long as its kind does');
unlike($said, qr/job $long /, 'not one of a kind that nothing is known of');
like(complaint('long run', '6 min'), qr/job $long of kind "job"/, 'that one when it has taken longer than the lease of its queue');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
wait_no_jobs($node, 'they end', kinds => 'job|brief');
is(complaint('long run', '6 min'), '', 'and are no more told of');

# --- a breaker
sql($node, <<'EOS');
SELECT queue.register_http_handler('call', 'http://127.0.0.1:1/x?token=secret', breaker => '{"consecutive_failures": 2, "pause": "1 h", "cap": "1 h"}',
	backoff => '{"type": "fixed", "base": "1 h"}');
SELECT queue.enqueue('call') FROM generate_series(1, 3);
EOS
doctor_like($node, qr{circuit breaker \| kind "call": endpoint http://127\.0\.0\.1:1/x: its breaker is open after \d failures in a row \| .*WHERE kind = 'call'}, 'an open breaker');
unlike(complaint('circuit breaker'), qr/secret/, 'without the query of its url');
sql($node, "SELECT queue.unregister_handler('call')");
is(complaint('circuit breaker'), '', 'none when the handler is gone');

# --- a handler without SET search_path
sql($node, <<'EOS');
CREATE SCHEMA app; CREATE TABLE app.contact (name text);
SET search_path = app, public;
CREATE FUNCTION app.add(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO contact VALUES ('Ada'); END $$;
SELECT queue.register_sql_handler('add', 'app.add', queues => '{default}', backoff => '{"type": "fixed", "base": "1 h"}');
SELECT queue.enqueue('add');
EOS
doctor_like($node, qr/search_path \| kind "add": .*not found \(SQLSTATE 42P01\), and function app\.add has no search_path.*ALTER FUNCTION app\.add\(queue\.job\) SET search_path/,
	'a relation that is not found, and a function without search_path');
is(sql($node, "SET ROLE watches; $bad AND check_name = 'search_path'"), '', 'which concerns nobody who may not see the handler');
is(complaint('search_path', '61 min'), '', 'one that failed long ago is not told of');
sql($node, 'ALTER FUNCTION app.add SET search_path = app');
is(complaint('search_path'), '', 'one with it has the cure');
# of a handler of many kinds the last error counts
sql($node, q{SELECT queue.create_queue('errors'), queue.register_sql_handler('*', 'h', queues => '{errors}', max_attempts => 1)});
for (['found', '42P01', qr/kind "\*".*SQLSTATE 42P01/], ['other', '22012', qr/^$/], ['found', '42P01', qr/SQLSTATE 42P01/])
{
	my ($kind, $state, $says) = @$_;
	sql($node, "SELECT queue.enqueue('$kind', '{\"raise\": \"$state\"}', 'errors')");
	wait_no_jobs($node, "kind $kind fails with $state", kinds => $kind);
	like(complaint('search_path'), $says, 'the last error of a handler decides');
}
sql($node, "SELECT queue.unregister_handler('*', 'errors')");

# --- worker slots
like(sql($node, "SELECT detail FROM queue.doctor() WHERE check_name = 'worker slots' AND ok"), qr/needs up to 6 of max_worker_processes = 24: .*4 executors; 1 database/,
	'how many worker slots are needed and there');
sql($node, 'ALTER SYSTEM SET queue.executors = 40; SELECT pg_reload_conf()');
doctor_like($node, qr/worker slots \| this database needs up to 42 of max_worker_processes = 24.*Set max_worker_processes to 42/, 'too many executors for them');
sql($node, 'ALTER SYSTEM RESET queue.executors; SELECT pg_reload_conf()');

# --- a check that fails is a row of its own
sql($node, 'ALTER SEQUENCE queue.handler_id RENAME TO gone');
like(sql($node, $bad), qr/sequences \| this check failed: relation "queue.handler_id" does not exist/, 'a check that fails says so');
one($node, "SELECT count(*) FROM queue.doctor() WHERE check_name IN ('table privileges', 'queue paused', 'long run', 'backlog') AND ok", 4, 'and the others go on');
sql($node, 'ALTER SEQUENCE queue.gone RENAME TO handler_id');
# but a cancel is the caller's: a check waits for the sequence
my $keeper = queue_session($node);
$keeper->query_safe('BEGIN; ALTER SEQUENCE queue.handler_id RENAME TO gone');
sqlstate_like($node, "SET statement_timeout = '200ms'; SELECT queue.doctor()", '57014', qr/statement timeout/, 'a cancel ends doctor()');
$keeper->quit;

log_clean($node);
done_testing();
