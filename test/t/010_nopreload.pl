# Without shared_preload_libraries the client API works, and whatever needs workers says what to set.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('nopreload', preload => 0, conf => "max_prepared_transactions = 5\n");

# --- CREATE EXTENSION says what is missing, unless the session wants no notices
sql($node, 'CREATE DATABASE fresh');
my (undef, undef, $said) = $node->psql('fresh', 'CREATE EXTENSION queue');
like($said, qr/NOTICE:  the server runs no jobs yet\nHINT:  Put shared_preload_libraries = 'queue' into postgresql\.conf and restart the server/m,
	'CREATE EXTENSION asks for the line and a restart');
(undef, undef, $said) = do
{
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	$node->psql('fresh', 'DROP EXTENSION queue; CREATE EXTENSION queue');
};
is($said, '', 'and is silent where notices are not wanted');

# --- so does a schedule that nobody ticks for
my $schedule = q{SELECT queue.schedule('s', '0 0 1 1 *', 'k')};
(undef, undef, $said) = $node->psql('fresh', $schedule);
like($said, qr/WARNING:  nobody ticks for schedules: .*shared_preload_libraries\nHINT:  .* call queue\.tick\(\) each minute\./, 'a schedule asks for a clock');
sql($node, 'SELECT queue.tick()', db => 'fresh');
(undef, undef, $said) = $node->psql('fresh', $schedule);
is($said, '', 'and is content with one');
my $clock = q{SELECT ok FROM queue.doctor() WHERE check_name = 'clock'};
one($node, $clock, 't', 'as doctor() is', db => 'fresh');
sql($node, "UPDATE queue.maintained SET at = at + interval '1 day'", db => 'fresh');
one($node, $clock, 'f', 'but not with a word from a time to come', db => 'fresh');
sql($node, "SELECT queue.pause_schedule('s')", db => 'fresh');
one($node, $clock, 't', 'what is paused needs none', db => 'fresh');
sql($node, 'DROP DATABASE fresh');

# --- jobs in and out
my $id = sql($node, "SELECT queue.enqueue('mail', '{\"n\": 1}')");
one($node, "SELECT id, kind, payload, attempt, state FROM queue.fetch('default', worker => 'w')", qq($id|mail|{"n": 1}|1|running), 'fetch');
one($node, "SELECT count(*) FROM queue.fetch('default')", '0', 'once');
one($node, "SELECT queue.heartbeat($id, attempt => 1) > clock_timestamp()", 't', 'heartbeat');
one($node, "SELECT queue.progress($id, '{\"p\": 1}', 1)", 't', 'progress');
one($node, "SELECT queue.complete($id, 1)", 't', 'complete');
one($node, "SELECT queue.complete($id, 1)", 'f', 'once');
one($node, "SELECT count(*) FROM queue.job", '0', 'the job is gone');

$id = sql($node, "SELECT queue.enqueue('mail', '{}')");
one($node, "SELECT queue.release(id, attempt) FROM queue.fetch('default')", 't', 'release');
one($node, "SELECT queue.fail(id, attempt, 'no luck', '0') FROM queue.fetch('default')", 'retryable', 'fail');
one($node, "SELECT failures, attempt, last_error FROM queue.job WHERE id = $id", '1|2|no luck', 'counts');
one($node, "SELECT queue.snooze(id, '0', attempt) FROM queue.fetch('default')", 't', 'snooze');
one($node, "SELECT id FROM queue.fetch('default', lease => '200 ms')", $id, 'fetched again');
wait_true($node, "SELECT count(*) = 1 FROM queue.fetch('default')", 'an expired lease can be fetched');
one($node, "SELECT failures, attempt FROM queue.job WHERE id = $id", '2|5', 'the expired claim counted');
one($node, "SELECT queue.complete($id, 4), queue.complete($id, 5)", 'f|t', 'fenced');

# --- batches, other isolation levels, rollback
one($node, "SELECT count(*) FROM (SELECT queue.enqueue_many('many', array_fill('{}'::jsonb, ARRAY[1000]))) x", '1000', 'enqueue_many');
one($node, "SELECT count(*) FROM queue.fetch('default', 600)", '600', 'fetch of many');
one($node, "BEGIN; SELECT count(*) FROM queue.fetch('default', 600); ROLLBACK", '400', 'fetch, rolled back');
one($node, "SELECT count(*) FROM queue.fetch('default', 600)", '400', 'fetched again');
one($node, "SELECT count(*) FROM (SELECT queue.complete_many(array_agg(id)) FROM queue.job WHERE kind = 'many') x", '1000', 'complete_many');
$id = sql($node, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT queue.enqueue('mail'); COMMIT");
one($node, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT queue.complete(id, attempt) FROM queue.fetch('default'); COMMIT", 't', 'repeatable read');

# --- control
$id = sql($node, "SELECT queue.enqueue('mail', delay => '1 hour')");
one($node, "SELECT state FROM queue.job WHERE id = $id", 'scheduled', 'scheduled');
one($node, "SELECT queue.alter_job($id, run_at => now())", 't', 'alter_job');
one($node, "SELECT queue.cancel($id, 'no')", 't', 'cancel');
one($node, "SELECT queue.wait_for($id, '1 s')", 'cancelled', 'wait_for');
one($node, "SELECT queue.retry($id)", 't', 'retry');
one($node, "SELECT queue.discard($id)", 't', 'discard');
sql($node, "SELECT queue.create_queue('kept', keep_completed => '1 day', max_attempts => 1); SELECT queue.pause('kept')");
$id = sql($node, "SELECT queue.enqueue('mail', '{}', 'kept')");
one($node, "SELECT count(*) FROM queue.fetch('kept')", '0', 'a paused queue gives nothing');
sql($node, "SELECT queue.resume('kept')");
one($node, "SELECT queue.complete(id, attempt, '{\"r\": 1}') FROM queue.fetch('kept')", 't', 'resumed');
one($node, "SELECT queue.result($id)", '{"r": 1}', 'result');
$id = sql($node, "SELECT queue.enqueue('mail', '{}', 'kept')");
one($node, "SELECT queue.fail(id, attempt, 'x') FROM queue.fetch('kept')", 'discarded', 'out of attempts');
sql($node, "SELECT queue.drop_queue('kept', force => true)");

# wait_for without wake-ups
$id = sql($node, "SELECT queue.enqueue('mail', '{}')");
my $waiter = queue_session($node);
$waiter->query_until(qr/waiting/, "\\echo waiting\nSELECT queue.wait_for($id, '60 s');\n");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('default')", 't', 'completed');
is($waiter->query_safe('SELECT 1'), "\n1", 'a waiter learns that it is gone; how it ended is remembered nowhere');
$waiter->quit;

# maintain() does what no scheduler does here: deadlines that came in kinds that nobody fetches
sql($node, "SELECT queue.enqueue('nobody', expires_at => now() - interval '1 s') FROM generate_series(1, 600)");
sql($node, "SELECT queue.enqueue('nobody', expires_at => now() + interval '1 day')");
sql($node, 'BEGIN; SELECT queue.maintain(); ROLLBACK');
one($node, "SELECT count(*) FROM queue.live_job", '601', 'maintain() in a transaction that rolls back');
sql($node, 'SELECT queue.maintain()');
one($node, "SELECT string_agg(DISTINCT state, ',') FROM queue.job WHERE kind = 'nobody' AND expires_at < now()", 'cancelled',
	'maintain() cancels what was not started before its expires_at');
one($node, 'SELECT count(*) FROM queue.deadline', '1', 'and takes the deadlines that came away');
sql($node, "SELECT queue.purge('default')");

# .. and lets in what nobody told it of, as after a restore: the first of a group, what waited for an end or for an event
sql($node, "SELECT queue.create_queue('untold')");
my ($other, $event) = split /\|/, sql($node, "SELECT queue.enqueue('other', '{}', 'untold'), queue.enqueue('event', '{}', 'untold')");
sql($node, "SELECT queue.enqueue('dependent', '{}', 'untold', depends_on => '{$other}'), queue.create_workflow('w', 'untold', on_finished => 'finished') AS w \\gset
	SELECT queue.enqueue('member', '{}', 'untold', workflow => :w), queue.close_workflow(:w)");
one($node, "SELECT (queue.await_event(id, 'e', attempt => attempt)).status FROM queue.fetch('untold', kinds => '{event}')", 'waiting', 'a job awaits an event');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('untold', 2, kinds => '{other,member}'); SELECT queue.emit('e', queue => 'untold')");
sql($node, "SELECT queue.enqueue('grouped', '{}', 'untold', group_key => 'g')");
sql($node, 'DELETE FROM queue.group_mark; DELETE FROM queue.reminder');
my $untold = "SELECT string_agg(kind || ' ' || state, ', ' ORDER BY kind) FROM queue.job WHERE queue = 'untold' AND state IN ('pending', 'available')";
one($node, $untold, 'dependent pending, event pending, grouped pending', 'nobody knows that they can go on');
sql($node, 'SELECT queue.maintain()');
one($node, $untold, 'dependent available, event available, finished available, grouped available', 'maintain() finds out');
sql($node, "SELECT queue.drop_queue('untold', true)");

# maintain() does what no scheduler does here: the tables of finished jobs are emptied when their time is over
sql($node, "SELECT queue.create_queue('kept', keep_completed => '1 hour')");
$id = sql($node, "SELECT queue.enqueue('mail', '{}', 'kept')");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('kept')", 't', 'a job that is kept for an hour');
sql($node, 'SELECT queue.maintain()');
one($node, "SELECT state FROM queue.job WHERE id = $id", 'completed', 'maintain() leaves what is to be kept');
my $last = sql($node, "SELECT queue.enqueue('never looked at again', '{}', 'kept', max_attempts => 1)");
one($node, "SELECT id FROM queue.fetch('kept', lease => '1 ms')", $last, 'the last lease of a job');
sql($node, 'SELECT pg_sleep(0.01); SELECT queue.maintain()');
one($node, "SELECT state FROM queue.job WHERE id = $last", 'discarded', 'maintain() discards it when that ended');
my $hours = sql($node, <<"EOS");
DO \$\$
BEGIN
	FOR h IN 1 .. 72 LOOP
		PERFORM set_config('queue.debug_clock_offset', h || 'h', false);
		PERFORM queue.maintain();
		EXIT WHEN NOT EXISTS (SELECT FROM queue.finished_job WHERE id = $id);
	END LOOP;
END \$\$;
SELECT extract(epoch FROM current_setting('queue.debug_clock_offset')::interval) / 3600;
EOS
cmp_ok($hours, '<', 72, 'and empties the table when its time is over');
cmp_ok($hours, '>', 1, 'not before');
sql($node, "SELECT queue.drop_queue('kept', true)");

# an open claim has its place in a limit, and its token of a rate; nobody waits for it
sql($node, "SELECT queue.create_queue('few', max_running => 1); SELECT queue.enqueue_many('mail', '{1,2}', 'few')");
sql($node, "SELECT queue.release(id, attempt) FROM queue.fetch('few')");
{
	my $session = queue_session($node);
	like($session->query_safe("BEGIN; SELECT count(*) FROM queue.fetch('few', 2)"), qr/^1$/m, 'of a limit of one a session has one');
	one($node, "SELECT count(*) FROM queue.fetch('few', 2)", '0', 'and another session none, before the first commits');
	$session->quit;
}
# nor has it who looked for a free place before another one committed that he took it: a look that waits at each row
sql($node, <<'EOS');
CREATE FUNCTION gate(slot int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF slot > 0 AND current_setting('my.gate', true) = 'on' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
	RETURN true;
END $$;
ALTER TABLE queue.limit_slot RENAME TO the_slots;
CREATE VIEW queue.limit_slot AS SELECT * FROM queue.the_slots WHERE public.gate(slot);
SELECT queue.enqueue('letter', '3', 'few');
EOS
{
	my ($gate, $session) = (queue_session($node), queue_session($node));
	$gate->query_safe('SELECT pg_advisory_lock(7)');
	$session->query_until(qr/begun/, "\\echo begun\nSET my.gate = 'on';\nSELECT 'got ' || count(*) FROM queue.fetch('few', kinds => '{mail}');\n");
	wait_true($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a session looks for a place');
	one($node, "SELECT count(*) FROM queue.fetch('few', kinds => '{letter}')", '1', 'another one takes it');
	$gate->query_safe('SELECT pg_advisory_unlock(7)');
	like($session->query_safe('SELECT 1'), qr/^got 0$/m, 'it is taken');
	$_->quit for $gate, $session;
}
sql($node, 'DROP VIEW queue.limit_slot; ALTER TABLE queue.the_slots RENAME TO limit_slot; DROP FUNCTION gate');
my (undef, undef, $refused) = $node->psql('postgres', "SELECT queue.fetch('few', claim => 'session')");
like($refused, qr/queue "few" has limits.*\nHINT:  Fetch with claim => 'lease'/, 'session claims are refused there');
sql($node, "SELECT queue.drop_queue('few', true)");

# prepared
sql($node, "BEGIN; SELECT queue.enqueue('mail'); PREPARE TRANSACTION 'g'; COMMIT PREPARED 'g'");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('default')", 't', 'two-phase commit');

# all queues paused; a queue that has nothing to do, which is polled here
sql($node, "SELECT queue.create_queue('still'), queue.pause('*')");
$id = sql($node, "SELECT queue.enqueue('mail', '{}', 'still')");
one($node, "SELECT count(*) FROM queue.fetch('still')", '0', "pause('*') stops fetch");
one($node, "CALL queue.await_idle('still', '1 ms')", 'f', 'and its queue is not idle');
sql($node, "SELECT queue.resume('*')");
{
	my $session = queue_session($node);
	$session->query_until(qr/waiting/, "\\echo waiting\nCALL queue.await_idle('still', '1 min');\n");
	one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('still')", 't', 'resumed, it gives its job');
	like($session->query_safe('SELECT 1'), qr/^t/, 'and is idle then');
	$session->quit;
}

# the next one of a group is not let in before somebody fetches: it counts, one behind a delayed job does not
$id = sql($node, "SELECT queue.enqueue('mail', '{}', 'still', group_key => 'g'); SELECT queue.enqueue('mail', '{}', 'still', group_key => 'g')");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('still', 1)", 't', 'the first of a group ends');
one($node, "CALL queue.await_idle('still', '1 ms')", 'f', 'the queue is not idle, because the next one is due');
sql($node, "SELECT queue.create_queue('calm'), queue.enqueue('mail', '{}', 'calm'); SELECT queue.complete(id, attempt) FROM queue.fetch('calm')");
one($node, "CALL queue.await_idle('calm', '1 ms')", 't', 'another one is');
one($node, "SELECT queue.snooze(id, '1 hour', attempt) FROM queue.fetch('still', 1)", 't', 'that one is put off');
sql($node, "SELECT queue.enqueue('mail', '{}', 'still', group_key => 'g')");
one($node, "CALL queue.await_idle('still', '1 ms')", 't', 'then one behind it does not count');
sql($node, "SELECT queue.enqueue('mail', '{}', 'still', group_key => 'd'); SELECT queue.enqueue('mail', '{}', 'still', group_key => 'd', delay => '1 hour')");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('still', 1)", 't', 'the first of another group ends');
one($node, "CALL queue.await_idle('still', '1 ms')", 't', 'the next one is for later, and does not count');

# so does what depended on a job that has ended, unless its group holds it, and not the first of a group that depends on another
$id = sql($node, "SELECT queue.enqueue('first', '{}', 'still')");
sql($node, "SELECT queue.enqueue('mail', '{}', 'still', group_key => 'g', depends_on => '{$id}')");
sql($node, "SELECT queue.enqueue('mail', '{}', 'still', group_key => 'h', depends_on => ARRAY[queue.enqueue('later', '{}', 'still', delay => '1 hour')])");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('still', kinds => '{first}')", 't', 'what it depended on ends');
one($node, "CALL queue.await_idle('still', '1 ms')", 't', 'one that its group holds does not count');
$id = sql($node, "SELECT queue.enqueue('first', '{}', 'still')");
sql($node, "SELECT queue.enqueue('mail', '{}', 'still', depends_on => '{$id}')");
one($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('still', kinds => '{first}')", 't', 'what another one depended on ends');
one($node, "CALL queue.await_idle('still', '1 ms')", 'f', 'that one is due');
one($node, "CALL queue.await_idle('calm', '1 ms')", 't', 'but not in another queue');
sql($node, "SELECT queue.drop_queue('calm', true)");
sql($node, "SELECT queue.drop_queue('still', true)");

# rows that refuse to be claimed: a session meets each once, and passes it by
sql($node, <<'EOS');
SELECT queue.create_queue('odd');
SELECT queue.enqueue('mail', p, 'odd') FROM unnest('{"{\"bad\": 1}","{\"bad\": 2}","{}"}'::jsonb[]) p;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF OLD.payload ? 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse();
DO $$
DECLARE
	met text := '';
BEGIN
	FOR i IN 1 .. 4 LOOP
		BEGIN
			met := met || (SELECT count(*) FROM queue.fetch('odd', 3)) || ' ';
		EXCEPTION WHEN raise_exception THEN
			met := met || SQLERRM || ', ';
		END;
	END LOOP;
	PERFORM set_config('my.met', met, false);
	CREATE TABLE met AS SELECT current_setting('my.met') AS met;
END $$;
DROP TRIGGER refuse ON queue.live_job;
EOS
one($node, 'SELECT met FROM met', 'not this one, not this one, 1 0 ', 'a session passes rows by that refuse to be claimed');
sql($node, "SELECT queue.drop_queue('odd', true); DROP TABLE met; DROP FUNCTION refuse");

# statistics do not fail
one($node, "SELECT count(*) >= 1 FROM queue.stat_queue", 't', 'stat_queue');
one($node, "SELECT count(*) FROM queue.stat_worker", '0', 'stat_worker');
one($node, "SELECT count(*) >= 1 AND count(completed) = 0 FROM queue.stat_kind", 't', 'stat_kind');
one($node, "SELECT queue.metrics() LIKE '%# EOF%'", 't', 'metrics');
one($node, "SELECT count(*) >= 0 FROM queue.stat_handler", 't', 'stat_handler');

# --- what needs workers says what to set
my ($out, $err) = ('', '');
$node->psql('postgres', "SELECT queue.register_sql_handler('job', 'h')", stdout => \$out, stderr => \$err);
like($err, qr/shared_preload_libraries/, 'register_sql_handler says what to set');
doctor_like($node, qr/shared_preload_libraries.*queue/, 'doctor() says what to set');
$id = sql($node, "SELECT queue.enqueue('job')");
like(sql($node, "SELECT queue.explain_job($id)"), qr/./, 'explain_job answers');

# --- a transaction that lets the extension go notes nothing of what it enqueued before
sql($node, "SET client_min_messages = error; BEGIN; SELECT queue.enqueue('job', group_key => 'g'); DROP EXTENSION queue CASCADE; COMMIT");
one($node, "SELECT count(*) FROM pg_extension WHERE extname = 'queue'", '0', 'the extension can be dropped by who enqueued into a group');

log_clean($node);
$node->stop;
done_testing();
