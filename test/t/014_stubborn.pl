# Handlers that do what no handler should: run their own kind with test_run, change the configuration many times,
# catch the cancels that are meant for them. None takes the server down, escapes its timeout or holds up a shutdown.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = queue_node('stubborn', far_look => 0, conf => "max_prepared_transactions = 10\nqueue.executors = 1\nqueue.shutdown_timeout = '1s'\nqueue.max_wait = '1h'\n");

# --- an SQL-language handler inside itself: its state of execution is not shared
sql($node, <<'EOS');
CREATE FUNCTION inner_run(j queue.job) RETURNS void LANGUAGE sql AS $$
	SELECT queue.test_run(k.id) FROM (SELECT id FROM queue.job WHERE kind = 'again' AND id > (j).id ORDER BY id LIMIT 1) k;
	SELECT 1;
	SELECT count(*) FROM queue.job;
$$;
SELECT queue.create_queue('manual');
SELECT queue.register_sql_handler('again', 'inner_run', '{manual}');
EOS
my $out = sql($node, <<'EOS');
BEGIN;
SELECT count(queue.enqueue('again', '{}', 'manual')) FROM generate_series(1, 3);
SELECT queue.test_run(min(id)) FROM queue.job WHERE kind = 'again';
SELECT count(*) FROM queue.job WHERE kind = 'again';
COMMIT;
EOS
is($out, "3\ncompleted\n0", 'a handler in SQL that runs its own kind');

# --- the configuration is read again many times under a running handler
sql($node, <<'EOS');
CREATE FUNCTION many_queues(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM queue.create_queue('in' || i);
		PERFORM queue.enqueue('x', '{}', 'in' || i);
	END LOOP;
	RETURN to_jsonb((queue.current_job()).kind);
END $$;
SELECT queue.register_sql_handler('many', 'many_queues', '{manual}');
EOS
$out = sql($node, <<'EOS');
BEGIN;
DO $$ BEGIN FOR i IN 1 .. 80 LOOP PERFORM queue.create_queue('out' || i); PERFORM queue.enqueue('x', '{}', 'out' || i); END LOOP; END $$;
SELECT queue.enqueue('many', '{}', 'manual') AS many \gset
SELECT queue.test_run(:many);
ROLLBACK;
EOS
is($out, 'completed', 'a handler that changes the configuration a hundred times');

# --- a lock_timeout that it caught does not shield it from its own timeout
sql($node, <<'EOS');
CREATE TABLE locked (x int);
CREATE FUNCTION stubborn(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ? 'lock' THEN
		PERFORM set_config('lock_timeout', '100ms', true);
		BEGIN
			LOCK TABLE locked;
		EXCEPTION WHEN lock_not_available THEN NULL;
		END;
		PERFORM pg_sleep(600);
	END IF;
	IF j.payload ? 'snooze' THEN
		BEGIN
			PERFORM queue.snooze(j.id, '1 hour');
		EXCEPTION WHEN query_canceled THEN NULL;
		END;
	END IF;
	IF j.payload ? 'loop' THEN
		FOR i IN 1 .. 1000 LOOP
			BEGIN
				PERFORM pg_sleep(100);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
	END IF;
END $$;
SELECT queue.register_sql_handler('stubborn', 'stubborn', max_attempts => 1);
EOS
my $lock = queue_session($node);
$lock->query_safe('BEGIN; LOCK TABLE locked');
my $id = sql($node, q{SELECT queue.enqueue('stubborn', '{"lock": 1}', timeout => '2 s')});
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE id = $id", 'its timeout hits it after a lock_timeout');
one($node, "SELECT error FROM queue.job_error WHERE job_id = $id", 'the job ran longer than its timeout', 'and says so');
$lock->query_safe('ROLLBACK');
$lock->quit;

# --- in company, a call about oneself takes hold although the handler caught what it raised
sql($node, q{SELECT count(queue.enqueue('stubborn')) FROM generate_series(1, 30)});
wait_no_jobs($node);
$id = sql($node, <<'EOS');
BEGIN;
SELECT count(queue.enqueue('stubborn')) > 0 AND false FROM generate_series(1, 10);
SELECT queue.enqueue('stubborn', '{"snooze": 1}');
SELECT count(queue.enqueue('stubborn')) > 0 AND false FROM generate_series(1, 10);
COMMIT;
EOS
($id) = $id =~ /^(\d+)$/m;
wait_true($node, "SELECT state = 'scheduled' AND run_at > now() + interval '50 min' FROM queue.job WHERE id = $id", 'snooze of oneself');
sql($node, "SELECT queue.cancel($id)");

# --- an empty gid is one like any other
sql($node, q{SELECT queue.create_queue('ext'); SELECT queue.enqueue('e', '{}', 'ext')});
one($node, q{SELECT count(*) FROM queue.fetch('ext', 10)}, '1', 'the cursor is past it');
sql($node, q{BEGIN; SELECT queue.enqueue('e', '{}', 'ext'); PREPARE TRANSACTION ''});
sql($node, q{SELECT queue.enqueue('e', '{}', 'ext')});
one($node, q{SELECT count(*) FROM queue.fetch('ext', 10)}, '1', 'read past the prepared one');
sql($node, q{COMMIT PREPARED ''});
one($node, q{SELECT count(*) FROM queue.fetch('ext', 10)}, '1', 'found after COMMIT PREPARED');

# --- a session claim respects an executor that has only locked the row, also for whom an old snapshot reads all rows
sql($node, q{SELECT queue.register_sql_handler('h', 'h')});
my $gate = queue_session($node);
$gate->query_safe('SELECT pg_advisory_lock(77)');
$id = sql($node, q{SELECT queue.enqueue('h', '{"lock": 77}')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id", 'an executor runs it');
one($node, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue.fetch('default', kinds => '{h}', claim => 'session'); COMMIT},
	'0', 'nobody else gets it');
$gate->query_safe('SELECT pg_advisory_unlock(77)');
$gate->quit;
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE job_id = $id", 'it ran once');

# --- a waiter that is woken while it takes another job passes that wake on
sql($node, <<'EOS');
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.5);
	RETURN new;
END $$;
CREATE TRIGGER slowly BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION slowly();
SELECT queue.create_queue('two');
EOS
for my $round (1 .. 4)
{
	my @waiters = map { queue_session($node) } 1 .. 2;
	$_->query_until(qr/ready/, "\\echo ready\nSELECT 'got', id FROM queue.fetch('two', wait => '1 hour');\n") for @waiters;
	wait_true($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE query ~ 'queue.fetch\\(.two' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'", 'two wait');
	sql($node, q{SELECT queue.enqueue('e', '{}', 'two')});
	sql($node, q{SELECT pg_sleep(0.2); SELECT queue.enqueue('e', '{}', 'two')});
	# nobody looks by himself, and the sessions' patience ends long before the hour
	ok(eval { $_->query_until(qr/got\|\d+.*done/s, "\\echo done\n"); 1 }, 'each gets one, and nobody had to look') for @waiters;
	$_->quit for @waiters;
}
sql($node, 'DROP TRIGGER slowly ON queue.live_job');

# --- a dependency that was restored is known to whoever ends its job
sql($node, <<'EOS');
SELECT queue.create_queue('deps');
SELECT queue.enqueue('e', queue => 'deps') AS first, queue.enqueue('e', queue => 'deps') AS second \gset
SELECT queue.enqueue('after', queue => 'deps', depends_on => ARRAY[:second], depends_mode => 'finished') AS after \gset
EOS
scheduler_turn($node);
my ($first, $second, $after) = split /\n/, sql($node, "SELECT id FROM queue.job WHERE queue = 'deps' ORDER BY id");
sql($node, "BEGIN; DELETE FROM queue.dependency WHERE job_id = $after; INSERT INTO queue.dependency (job_id, depends_on) VALUES ($after, $first); COMMIT");
scheduler_turn($node);
one($node, "SELECT queue.cancel($second), queue.wait_for($after, '0')", 't|pending', 'its job ends, and the other one waits');
sql($node, "SELECT queue.cancel($first)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $after", 'and goes when the one ended that it waits for by now');

# --- nor is it lost where the transaction that brought it back is prepared, whose end runs no callback of ours; nor are
# places of groups
my ($third, $waits) = split /\|/, sql($node, "SELECT queue.enqueue('e', queue => 'deps'), queue.enqueue('e', queue => 'deps')");
$waits = sql($node, "SELECT queue.enqueue('after', queue => 'deps', depends_on => ARRAY[$waits], depends_mode => 'finished')");
sql($node, "SELECT queue.cancel($third)");
scheduler_turn($node);
sql($node, <<"EOS");
BEGIN;
DELETE FROM queue.dependency WHERE job_id = $waits;
INSERT INTO queue.dependency (job_id, depends_on) VALUES ($waits, $third);
PREPARE TRANSACTION 'dependency';
EOS
sql($node, <<'EOS');
SELECT queue.enqueue('e', queue => 'deps', group_key => 'restored');
CREATE TABLE saved AS SELECT * FROM queue.live_job WHERE extra ->> 'group_key' = 'restored';
CREATE TABLE saved_key AS SELECT * FROM queue.live_key WHERE group_key = 'restored';
SELECT queue.cancel(id) FROM saved;
UPDATE saved SET run_at = 'infinity', extra = extra || '{"blocks": 1}';
BEGIN;
INSERT INTO queue.live_job SELECT * FROM saved;
INSERT INTO queue.live_key SELECT * FROM saved_key;
PREPARE TRANSACTION 'place';
EOS
scheduler_turn($node);
one($node, "SELECT state FROM queue.job WHERE id = $waits", 'pending', 'a dependency that is prepared changes nothing yet');
sql($node, "COMMIT PREPARED 'dependency'");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $waits", 'at COMMIT PREPARED it is looked at');
sql($node, "COMMIT PREPARED 'place'");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'restored' AND state <> 'cancelled'", 'and so is a place of a group');

# --- an executor that must end in the midst of a job gives back what else it has in hand: here one job that failed in
# company and runs alone, and one behind it that has to be alone, because it failed before
sql($node, <<'EOS');
CREATE SEQUENCE first_run;
CREATE FUNCTION in_hand(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	runs bigint;
BEGIN
	IF j.payload ? 'first' THEN
		-- the first time that somebody else's effects stand in its transaction it fails, and alone after that it stays
		SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO runs FROM first_run;
		IF runs = 0 AND EXISTS (SELECT FROM seen WHERE note = 'in hand' AND xid = pg_current_xact_id()) THEN
			PERFORM nextval('first_run');
			RAISE EXCEPTION 'in company';
		ELSIF runs = 1 THEN
			PERFORM nextval('first_run');
			WHILE true LOOP
				BEGIN
					PERFORM pg_sleep(100);
				EXCEPTION WHEN query_canceled THEN NULL;
				END;
			END LOOP;
		END IF;
	ELSIF j.payload ? 'retried' AND j.failures = 0 THEN
		RAISE EXCEPTION 'for the first time';
	END IF;
	INSERT INTO seen (job_id, note) VALUES (j.id, 'in hand');
END $$;
SELECT queue.create_queue('hand', backoff => '{"type": "fixed", "base": "1 hour"}');
SELECT queue.register_sql_handler('in_hand', 'in_hand', timeout => '0');
ALTER SYSTEM SET queue.commit_interval = '1s';
SELECT pg_reload_conf();
SELECT count(queue.enqueue('in_hand', '{}', 'hand')) FROM generate_series(1, 10);
EOS
wait_true($node, "SELECT count(*) = 10 FROM seen WHERE note = 'in hand'", 'a kind that is short');
# (a machine that was busy for a moment makes it look like a kind that is long, of which each job runs alone: once more then)
for my $round (1 .. 20)
{
	sql($node, q{SELECT queue.enqueue('in_hand', '{"retried": 1}', 'hand')});
	poll($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'hand' AND state = 'retryable'") or last;
	sql($node, <<'EOS');
SELECT queue.pause('hand');
SELECT queue.enqueue('in_hand', queue => 'hand'), queue.enqueue('in_hand', '{"first": 1}', 'hand');
SELECT queue.alter_job(id, run_at => clock_timestamp()) FROM queue.job WHERE queue = 'hand' AND state = 'retryable';
SELECT queue.resume('hand');
EOS
	poll($node, "SELECT last_value = 2 OR NOT EXISTS (SELECT FROM queue.live_job WHERE line IN (SELECT id FROM queue.line WHERE queue = 'hand')) FROM first_run") or last;
	last if sql($node, 'SELECT last_value = 2 FROM first_run') eq 't';
}
one($node, 'SELECT last_value FROM first_run', '2', 'one that failed in company runs alone');
my ($doomed) = workers($node, 'executor');
sql($node, "SELECT pg_terminate_backend($doomed)");
ok(gone($doomed), 'its executor is ended');
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.live_job WHERE line IN (SELECT id FROM queue.line WHERE queue = 'hand'))",
	'both run, and nobody had to look for them');
one($node, "SELECT (count(*) - 10) % 3 FROM seen WHERE note = 'in hand'", '0', 'once each');
sql($node, 'ALTER SYSTEM RESET queue.commit_interval; SELECT pg_reload_conf()');

# --- who still runs when a new scheduler comes is not suspected to have died
sql($node, 'ALTER SYSTEM SET queue.executors = 2');
$node->reload;
my $hold = queue_session($node);
$hold->query_safe('SELECT pg_advisory_lock(78)');
$id = sql($node, q{SELECT queue.enqueue('h', '{"lock": 78}')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id", 'an executor runs it');
my $stopped = sql($node, "SELECT pid FROM queue.stat_worker WHERE job_id = $id");
kill 'STOP', $stopped;
my ($former) = workers($node, 'scheduler');
sql($node, "SELECT pg_terminate_backend($former)");
ok(gone($former), 'the scheduler ends without it');
my $other = sql($node, q{SELECT queue.enqueue('h', '{"note": "other"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE job_id = $other", 'the next one has others run');
kill 'CONT', $stopped;
ok(gone($stopped), 'it ends too');
$hold->quit;
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE job_id = $id", 'and its job runs');
unlike(slurp_file($node->logfile), qr/was running in a process that died/, 'which nobody suspected');

# --- where nothing can be written an executor does not try one job after the other without a pause, nor fill the log
$node->append_conf('postgresql.conf', "log_min_messages = log\nlog_line_prefix = '%n %b '");
$node->reload;
sql($node, <<'EOS');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'refused'; RAISE 'no room' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW WHEN (OLD.payload @> '{"refused": true}') EXECUTE FUNCTION refuse();
SELECT queue.register_sql_handler('refused', 'h');
EOS
disk_room($node, 0);
sql($node, q{SELECT count(queue.enqueue('refused', '{"refused": true}')) FROM generate_series(1, 40)});
my @refused;
for (1 .. 600)
{
	@refused = slurp_file($node->logfile) =~ /^(\d+\.\d+) queue executor LOG:  refused$/mg;
	last if @refused > 20;
	usleep(100_000);
}
# a try of a job takes one to three; pauses of 0.1, 0.2, 0.4 s and so on
cmp_ok(@refused > 20 ? $refused[20] - $refused[0] : 0, '>', 0.3, 'twenty tries take their time');
my @told = slurp_file($node->logfile) =~ /could be neither run nor failed: no room/g;
is(scalar @told, 1, 'and the log is told once a minute');
disk_room($node, 1);
sql($node, 'DROP TRIGGER refuse ON queue.live_job');
wait_no_jobs($node, 'when there is room again all run', kinds => 'refused');

# --- a handler that catches every cancel does not hold up the end
$id = sql($node, q{SELECT queue.enqueue('stubborn', '{"loop": 1}', timeout => '0')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id", 'it runs');
my $executor = sql($node, "SELECT pid FROM queue.stat_worker WHERE job_id = $id");
sql($node, "SELECT pg_terminate_backend($executor)");
ok(gone($executor), 'nor of its executor');
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id AND pid <> $executor", 'another one runs it');
my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 100, 'a fast shutdown ends it');
$node->start;
one($node, "SELECT failures FROM queue.job WHERE id = $id", '0', 'it was not counted');
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id = $id", 'it runs again');
unlike(slurp_file($node->logfile), qr/was running in a process that died/, 'and is not suspected of having killed its executor');

done_testing();
