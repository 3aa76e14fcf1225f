# Limits with processes that die: executors, sessions and leases count together; a session that waits is woken by a
# give-back; after kill -9 of an executor, of the server, and after a restart what is in force is counted again; a limit
# that is set while executors run jobs finds them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('limits', conf => 'max_prepared_transactions = 2');
sql($node, <<'EOS');
SELECT queue.create_queue('q', max_running => 3, lease => '1 hour');
SELECT queue.register_sql_handler('k', 'h', '{q}', timeout => '0');
EOS
my $holder = queue_session($node);
my $worker = queue_session($node);
my $running = "SELECT count(*) FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL";

# jobs that wait for lock 1 run until $holder lets go
$holder->query_safe('SELECT pg_advisory_lock(1)');
sub enqueue { return sql($node, "SELECT count(queue.enqueue('k', '{\"lock\": 1}', 'q')) FROM generate_series(1, $_[0])") }
enqueue(5);
wait_true($node, "SELECT ($running) = 3", 'executors run three');
one($node, "SELECT count(*) FROM queue.enqueue_many('ext', '{1,2,3,4}', 'q')", '4', 'external jobs wait');
one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'and get no unit');
one($node, "SELECT queue.explain_job(min(id)) ~ 'max_running of queue q is 3, and 3 run' FROM queue.job WHERE kind = 'ext'", 't', 'explained');

# below what runs, and above
sql($node, "SELECT queue.alter_queue('q', max_running => 5)");
wait_true($node, "SELECT ($running) = 4", 'more room: as many executors as there are run');
one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '1', 'and one external job');
sql($node, "SELECT queue.alter_queue('q', max_running => 2)");
one($node, "SELECT queue.complete(id) FROM queue.job WHERE kind = 'ext' AND state = 'running'", 't', 'one ends');
one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'none begins, because more run than may');

# a session that waits for a unit is woken by who gives it back
sql($node, "SELECT queue.alter_queue('q', max_running => 4)");
$worker->query_until(qr/sent/, "\\echo sent\nSELECT 'got ' || count(*) FROM queue.fetch('q', kinds => '{ext}', wait => '30 s');\n");
wait_true($node, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%wait => ''30 s''%' AND wait_event_type IN ('Extension', 'IPC', 'Client') AND pid <> pg_backend_pid())",
	'it waits');
sql($node, "SELECT queue.pause_handler('k', 'q')");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
like($worker->query_until(qr/got \d/, "\\echo\n"), qr/got 1/, 'a give-back wakes it');
wait_true($node, "SELECT ($running) = 0", 'the others have ended');
sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'ext' AND state = 'running'");

# a limit that is new while executors and sessions work
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, "SELECT queue.alter_queue('q', reset => '{max_running}'); SELECT queue.purge('q'); SELECT queue.resume_handler('k', 'q')");
enqueue(3);
sql($node, "SELECT count(*) FROM queue.enqueue_many('ext', '{1,2,3,4,5,6}', 'q')");
wait_true($node, "SELECT ($running) = 3", 'three run without a limit');
like($worker->query_safe("SELECT count(*) FROM queue.fetch('q', claim => 'session')"), qr/^\s*1$/, 'and a session has one');
one($node, "SELECT count(*) FROM queue.fetch('q')", '1', 'and a lease');
sql($node, "SELECT queue.alter_queue('q', max_running => 6)");
one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '1', 'all are counted for the new limit');
$worker->quit;
wait_true($node, "SELECT count(*) = 1 FROM queue.fetch('q', 5)", 'the session gave its unit back by its end');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_true($node, "SELECT ($running) = 0", 'the executors have ended');
wait_true($node, "SELECT count(*) = 3 FROM queue.fetch('q', 5)", 'and gave back');
one($node, "SELECT count(*) FROM queue.job WHERE state = 'running'", '6', 'six leases');

# who counts for a new limit waits for no open transaction that claimed other kinds, but for one that claimed these
sql($node, <<'EOS');
SELECT queue.create_queue('two');
SELECT count(queue.enqueue(kind, queue => 'two')) FROM unnest('{apple,apple,pear}'::text[]) kind;
EOS
my $open = queue_session($node);
like($open->query_safe("BEGIN; SELECT count(*) FROM queue.fetch('two', kinds => '{apple}')"), qr/^\s*1$/, 'one has an apple');
sql($node, <<'EOS');
SELECT queue.register_sql_handler('pear', 'h', '{two}', max_running => 1), queue.pause_handler('pear', 'two');
SELECT queue.register_sql_handler('apple', 'h', '{two}', max_running => 1), queue.pause_handler('apple', 'two');
EOS
one($node, "SELECT count(*) FROM queue.fetch('two', kinds => '{pear}')", '1', 'a new limit of pears is counted beside it');
one($node, "SELECT count(*) FROM queue.fetch('two', kinds => '{apple}')", '0', 'one of apples is not');
$open->query_safe('COMMIT');
one($node, "SELECT count(*) FROM queue.fetch('two', kinds => '{apple}')", '0', 'its apple is the one that may be');
one($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE queue = 'two' AND kind = 'apple' AND state = 'running'", '1', 'it ends');
one($node, "SELECT count(*) FROM queue.fetch('two', kinds => '{apple}')", '1', 'and the other begins');
$open->quit;
sql($node, "SELECT queue.drop_queue('two', force => true)");

# after a restart and after a crash they are counted from the table
for my $how ('restart', 'kill -9')
{
	if ($how eq 'restart')
	{
		$holder->quit;
		$node->restart;
	}
	else
	{
		my $victim = queue_session($node);
		my $v = $victim->query_safe('SELECT pg_backend_pid()');
		kill_9($node, $v);
	}
	sql($node, "SELECT count(*) FROM queue.enqueue_many('ext', '{1,2,3,4}', 'q')");
	one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '0', "$how: six are counted, none fits");
	one($node, "SELECT count(queue.complete(id)) FROM (SELECT min(id) AS id FROM queue.job WHERE state = 'running') x", '1', "$how: one ends");
	one($node, "SELECT count(*) FROM queue.fetch('q', 5)", '1', "$how: its place is taken");
}

# an executor that dies takes its unit along
my $lock = queue_session($node);
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql($node, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'ext' AND state = 'running'; SELECT queue.purge('q'); SELECT queue.alter_queue('q', max_running => 1)");
enqueue(2);
wait_true($node, "SELECT ($running) = 1", 'one runs');
sql($node, "SELECT pg_terminate_backend(pid) FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL");
wait_true($node, "SELECT ($running) = 1", 'another executor runs one');
one($node, $running, '1', 'and no more than one');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'all ended', kinds => '^k$');

# whatever is killed, and however often, the whole limit is used again, and no more
sql($node, <<'EOS');
ALTER SYSTEM SET queue.shutdown_timeout = '10ms';
SELECT pg_reload_conf();
SELECT queue.alter_queue('q', max_running => 3), queue.enqueue('ext', queue => 'q');
-- a prepared transaction keeps its lock while the server crashes
BEGIN;
SELECT pg_advisory_xact_lock(2);
PREPARE TRANSACTION 'lock';
SELECT count(queue.enqueue('k', '{"lock": 2}', 'q')) FROM generate_series(1, 6);
EOS
my ($whole, $more) = (0, 0);
for my $round (1 .. 10)
{
	poll($node, "SELECT ($running) = 3");
	my $victim = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL ORDER BY pid LIMIT 1");
	if ($round % 5 == 0)
	{
		kill 9, $victim;		# and with it the whole server
	}
	else
	{
		sql($node, "SELECT pg_terminate_backend($victim)");
	}
	poll($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $victim)");
	$whole++ if poll($node, "SELECT ($running) = 3");
	$more++ if sql($node, $running) ne '3' || sql($node, "SELECT count(*) FROM queue.fetch('q', kinds => '{ext}')") ne '0';
}
is($whole, 10, 'after each of ten kills all of the limit is used again');
is($more, 0, 'and never more');
sql($node, "COMMIT PREPARED 'lock'");
sql($node, "ALTER SYSTEM RESET queue.shutdown_timeout");
$node->reload;
wait_no_jobs($node, 'all ended', kinds => '^k$');
$lock->quit;
$lock = queue_session($node);

# executors are kept for urgent jobs: with four, low ones get three, and an urgent one need not wait for them
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<'EOS');
SELECT queue.create_queue('u', reserved => '{"-10": 1}');
SELECT queue.register_sql_handler('uk', 'h', '{u}', timeout => '0');
SELECT count(queue.enqueue('uk', '{"lock": 1}', 'u')) FROM generate_series(1, 6);
EOS
wait_true($node, "SELECT ($running) = 3", 'low jobs run in three of four executors');
wait_true($node, "SELECT queue.explain_job(max(id)) ~ '1 of 4 executors are reserved' FROM queue.job WHERE kind = 'uk'", 'explained');
sql($node, q{SELECT queue.enqueue('uk', '{"note": "urgent"}', 'u', priority => -10)});
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'urgent')", 'an urgent one runs at once');
one($node, $running, '3', 'beside the low ones');
# the reserve of one's own priority, and of less urgent ones, is no limit
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'the low ones have ended', kinds => '^uk$');
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.alter_queue('u', reserved => '{"-10": 1, "-5": 3}'); SELECT queue.enqueue('uk', '{"lock": 1}', 'u')});
wait_true($node, "SELECT ($running) = 1", 'a low one runs, as many as may');
sql($node, q{SELECT queue.enqueue('uk', '{"note": "meanwhile"}', 'u', priority => -7)});
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'meanwhile')", 'one runs that is urgent enough for one of two reserves');
sql($node, q{SELECT queue.alter_queue('u', reserved => '{"-10": 9}', max_running => 0)});
like(sql($node, "SELECT string_agg(detail, '; ') FROM queue.doctor() WHERE NOT ok AND check_name = 'limits'"),
	qr/max_running of queue "u" is 0.*reserves 9 executors/s, 'doctor() names limits of 0, and reserves that are cut');
sql($node, q{SELECT queue.alter_queue('u', reset => '{max_running,reserved}')});
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($node, 'the low ones have ended', kinds => '^uk$');

# a rate holds for executors, too
my $empty = sql($node, 'SELECT clock_timestamp()');
sql($node, <<'EOS');
SELECT queue.create_queue('r', rate_limit => 100);
SELECT queue.pause('r');
SELECT queue.register_sql_handler('rk', 'h', '{r}');
SELECT count(*) FROM queue.enqueue_many('rk', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 150)), 'r');
SELECT queue.resume('r');
EOS
wait_no_jobs($node, 'the jobs under a rate ran', kinds => '^rk$');
# the bucket is empty at first, so the n-th starts n/100 s later or after that
one($node, "SELECT count(*), bool_and(extract(epoch FROM at - '$empty'::timestamptz) >= n / 100.0) FROM (SELECT at, row_number() OVER (ORDER BY at) AS n FROM seen WHERE kind = 'rk') s",
	'150|t', 'not faster than the rate');

# a job that fails in company runs again alone by the token that it has: the next may never come to it
sql($node, <<'EOS');
CREATE SEQUENCE failing_runs;
CREATE FUNCTION failing(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ? 'fails' AND nextval('failing_runs') < 10 THEN
		RAISE EXCEPTION 'no';
	END IF;
END $$;
SELECT queue.create_queue('dry', backoff => '{"type": "fixed", "base": "1 hour"}');
SELECT queue.register_sql_handler('failing', 'failing', '{dry}');
SELECT count(queue.enqueue('failing', queue => 'dry')) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'a kind that is short', kinds => '^failing$');
sql($node, q{SELECT queue.alter_queue('dry', rate_limit => 1)});
my $id = sql($node, q{SELECT queue.enqueue('failing', '{"fails": 1}', 'dry')});
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.job WHERE id = $id AND state IN ('available', 'running')) OR (SELECT last_value > 3 FROM failing_runs)", 'one that fails is over');
one($node, "SELECT state, failures, attempt FROM queue.job WHERE id = $id", 'retryable|1|1', 'and was counted by its first token');
done_testing();
