# Marks of groups, and what the scheduler remembers beside them: nothing makes it let a second job of a group in, and a step
# of a group costs the same however many came before it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# short jobs share a commit however slow the machine is
my $node = queue_node('marks', conf => "queue.commit_interval = '10 s'\nmax_prepared_transactions = 5\n");
sql($node, "SELECT queue.create_queue('q')");

# --- a scheduler that ended and came again, without what it remembered: others have been let in since its first mark of
# the group, and a lower place comes to light while none runs
sub scheduler
{
	my ($on) = @_;
	sql($node, "ALTER SYSTEM SET queue.enabled = " . ($on ? 'on' : 'off'));
	$node->reload;
	wait_true($node, "SELECT count(*) = $on FROM pg_stat_activity WHERE backend_type = 'queue scheduler'", $on ? 'a scheduler runs' : 'no scheduler runs');
	return;
}
my $head_of = "SELECT id FROM queue.fetch('q', kinds => '{ext}', wait => '25 s')";
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'later')");
my $first_in = sql($node, $head_of);
my $late = queue_session($node);
$late->query_safe("BEGIN");
my $low = $late->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'later')");
my $in = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'later')");
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'later')");
sql($node, "SELECT queue.complete($first_in, 1)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $in", 'the scheduler lets the next one in');
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'fourth')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'fourth'", 'and has left that group');
scheduler(0);
$late->query_safe("COMMIT");
$late->quit;
scheduler(1);
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'fifth')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'fifth'", 'the new one has looked at all groups');
one($node, "SELECT string_agg(state, ' ' ORDER BY id) FROM queue.job WHERE group_key = 'later'", 'pending available pending', 'and lets no second one in');
sql($node, "SELECT queue.purge('q')");

# --- without a scheduler: who fetches finds a group in somebody's hands, which are empty in the end, and whoever comes next lets in
scheduler(0);
my $hands = queue_session($node);
$hands->query_safe("BEGIN");
my $undone = $hands->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'hands')");
like($hands->query_safe("SELECT 'job ' || id FROM queue.fetch('q', kinds => '{ext}')"), qr/job $undone$/m, 'who enqueued a job fetches it, and has the group in hand');
my $next = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'hands')");
one($node, "SELECT count(*) FROM queue.fetch('q', kinds => '{ext}')", '0', 'who fetches meanwhile gets nothing of it');
$hands->query_safe("ROLLBACK");
$hands->quit;
one($node, $head_of, $next, 'who fetches later gets the other one');
# nor does anybody else look for leases that ended
my $leased = sql($node, "SELECT queue.enqueue('lent', queue => 'q')");
one($node, "SELECT id FROM queue.fetch('q', kinds => '{lent}', lease => '1 h')", $leased, 'a worker has a job');
one($node, "SET queue.debug_clock_offset = '2h'; SELECT id FROM queue.fetch('q', kinds => '{lent}')", $leased, 'when its lease has ended another one gets it');
sql($node, "SELECT queue.cancel($leased)");
scheduler(1);
sql($node, "SELECT queue.purge('q'); SELECT queue.complete($next)");

# --- a scheduler that found a group in somebody's hands: meanwhile the next one was let in, and a lower place came to light
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'busy')");
$first_in = sql($node, $head_of);
$late = queue_session($node);
$late->query_safe("BEGIN");
$low = $late->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'busy')");
$in = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'busy')");
my $goes_on = queue_session($node);
$goes_on->query_safe("BEGIN");
like($goes_on->query_safe("SELECT 'job ' || id FROM queue.fetch('q', kinds => '{ext}', complete_ids => '{$first_in}', complete_attempts => '{1}')"),
	qr/job $in$/m, 'who ends a job goes on in its group');
for my $n (1 .. 6)
{
	# what comes last is let in after the scheduler has looked at the group in vain
	sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'busy')");
	sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'beside $n')");
	wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'beside $n'", 'others are let in');
}
$goes_on->query_safe("COMMIT");
$late->query_safe("COMMIT");
$_->quit for $goes_on, $late;
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'busy'), queue.enqueue('ext', '{}', 'q', group_key => 'sixth')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'sixth'", 'the marks were eaten');
one($node, "SELECT string_agg(DISTINCT state, ' ') FROM queue.job WHERE group_key = 'busy' AND id <> $in AND state <> 'completed'", 'pending', 'no second one is let in beside it');
sql($node, "SELECT queue.complete($in, 1)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $low", 'after its end the lower one is');
sql($node, "SELECT queue.purge('q')");

# --- more groups' next ones in somebody's hands than the scheduler puts off: all are let in afterwards
sql($node, "CREATE TABLE in_hand AS SELECT queue.enqueue('ext', '{}', 'q', group_key => 'h' || n % 600) AS id FROM generate_series(1, 1200) n");
wait_true($node, "SELECT count(*) = 600 FROM queue.live_job JOIN in_hand USING (id) WHERE run_at < 'infinity'", 'the first of 600 groups are let in');
my $holds = queue_session($node);
$holds->query_safe("BEGIN; SELECT count(*) FROM (SELECT FROM queue.live_job JOIN in_hand USING (id) WHERE run_at = 'infinity' FOR UPDATE OF live_job) x");
sql($node, "SELECT count(queue.cancel(id)) FROM queue.live_job JOIN in_hand USING (id) WHERE run_at < 'infinity'");
scheduler_turn($node) for 1 .. 3;
one($node, "SELECT count(*) FROM queue.live_job JOIN in_hand USING (id) WHERE run_at < 'infinity'", '0', 'somebody has the next ones');
$holds->query_safe('COMMIT');
$holds->quit;
wait_true($node, "SELECT count(*) = 600 FROM queue.live_job JOIN in_hand USING (id) WHERE run_at < 'infinity'", 'they are let in afterwards');
sql($node, "SELECT queue.purge('q')");

# --- who ends a job does not go on in its group past one that was enqueued before and committed late
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'past')");
$first_in = sql($node, $head_of);
$late = queue_session($node);
$late->query_safe('BEGIN');
$low = $late->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'past')");
my $high = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'past')");
sql($node, "SELECT queue.complete($first_in, 1)");
is(sql($node, $head_of), $high, 'one is let in before an earlier one is committed');
my $after = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'past')");
$late->query_safe('COMMIT');
$late->quit;
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'eighth')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'eighth'", 'the marks were eaten');
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE group_key = 'eighth'");
isnt(sql($node, "SELECT id FROM queue.fetch('q', kinds => '{ext}', complete_ids => '{$high}', complete_attempts => '{1}')"), $after, 'who ends it does not take the last one');
wait_true($node, "SELECT state <> 'pending' FROM queue.job WHERE id = $low", 'but the earlier one');
one($node, "SELECT state FROM queue.job WHERE id = $after", 'pending', 'alone');
sql($node, "SELECT count(queue.cancel(id)) FROM queue.job WHERE queue = 'q' AND state <> 'completed'");

# --- where no scheduler is who fetches lets jobs in; what he looked at is looked at again if that is undone
scheduler(0);
for my $undo ("SAVEPOINT s; %s; ROLLBACK TO s; COMMIT", "%s; ROLLBACK", "%s; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'")
{
	my $fetch = "SELECT count(queue.complete(id, attempt)) FROM queue.fetch('q', 2, kinds => '{alone,behind}')";
	my $first = sql($node, "SELECT queue.enqueue('first', '{}', 'q')");
	one($node, "SELECT id FROM queue.fetch('q', kinds => '{first}')", $first, 'one has a job');
	sql($node, "SELECT queue.enqueue('alone', '{}', 'q', group_key => 'alone'), queue.enqueue('behind', '{}', 'q', depends_on => ARRAY[$first])");
	sql($node, "SELECT queue.complete($first)");
	sql($node, 'BEGIN; ' . sprintf($undo, $fetch));
	one($node, $fetch, '2', "fetched again after: $undo");
}
scheduler(1);

# --- an executor that goes on in a group from one transaction to the next, which then fails at its COMMIT: the group is
# looked at again, so that the job fails by itself, and lets the one behind it go on
sql($node, <<'EOS');
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'too late'; END $$;
CREATE TABLE refused (id bigint);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON refused DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
CREATE FUNCTION step(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	-- after this one a transaction has no room for another's subtransactions
	FOR i IN 1 .. CASE WHEN j.payload = '"many"' THEN 30 ELSE 0 END LOOP
		BEGIN
			INSERT INTO seen (job_id) VALUES (j.id);
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
	INSERT INTO refused SELECT j.id WHERE j.payload = '"refused"';
END $$;
SELECT queue.register_sql_handler('step', 'step', max_attempts => 1);
SELECT count(queue.enqueue('step', queue => 'q')) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'the kind is known to be short');
sql($node, <<'EOS');
SELECT queue.pause('q');
SELECT queue.enqueue('step', p, 'q', group_key => 'step') FROM unnest('{"\"many\"", "\"refused\"", "{}"}'::jsonb[]) p;
EOS
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'step' AND state = 'available'", 'the first of the group is let in');
sql($node, "SELECT queue.resume('q')");
wait_no_jobs($node, 'all of the group end', kinds => 'step');
one($node, "SELECT string_agg(state, ' ' ORDER BY id) FROM queue.job WHERE group_key = 'step' AND last_error = 'too late'", 'discarded', 'the one that failed at COMMIT is discarded');
one($node, "SELECT count(*), count(DISTINCT xid) FROM seen", '30|1', 'the one before it ran once');

# --- nor does an executor go on with one whose time has not come
sql($node, <<'EOS');
SELECT queue.pause('q');
SELECT queue.enqueue('step', '"many"', 'q', group_key => 'timed'), queue.enqueue('step', '{}', 'q', group_key => 'timed', delay => '1 day');
EOS
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'timed' AND state = 'available'", 'the first of the group is let in');
sql($node, "SELECT queue.resume('q')");
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE group_key = 'timed' AND state IN ('available', 'running', 'pending')", 'the first one ends');
one($node, "SELECT string_agg(state, ' ') FROM queue.job WHERE group_key = 'timed'", 'scheduled', 'the next one waits for its time');
sql($node, "SELECT queue.purge('q')");

# --- a snapshot that is held makes no step of a group longer: a step looks at as many blocks at the end as at the beginning
my $held = queue_session($node);
$held->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue.live_key");
sql($node, "SELECT count(queue.enqueue('ext', '{}', 'q', group_key => 'long')) FROM generate_series(1, 2100)");
sql($node, <<'EOS');
CREATE FUNCTION looked() RETURNS bigint LANGUAGE sql AS
$$ SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class WHERE relnamespace = 'queue'::regnamespace $$;
CREATE TABLE steps (n serial, blocks bigint);
-- takes jobs of the group, each in the transaction that completes the one before it
CREATE PROCEDURE walk(qty int) LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	attempts int[];
	j queue.job;
	before bigint;
BEGIN
	WHILE qty > 0 LOOP
		before := looked();
		IF ids IS NULL THEN
			SELECT * INTO j FROM queue.fetch('q', kinds => '{ext}', wait => '25 s');
		ELSE
			SELECT * INTO j FROM queue.fetch('q', kinds => '{ext}', complete_ids => ids, complete_attempts => attempts);
			IF j.id IS NOT NULL THEN
				INSERT INTO steps (blocks) VALUES (looked() - before);
			END IF;
		END IF;
		COMMIT;
		ids := ARRAY[j.id];
		attempts := ARRAY[j.attempt];
		IF j.id IS NULL THEN
			ids := NULL;		-- the scheduler was looking at the group, and lets the next one in
		ELSE
			qty := qty - 1;
		END IF;
	END LOOP;
	PERFORM queue.release(ids[1], attempts[1]);
END $$;
EOS
# what it commits waits for no disk
sql($node, "SET synchronous_commit = off; CALL walk(1700)");
# the scheduler has eaten all marks of these steps
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'seventh')");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'seventh' AND run_at < 'infinity'", 'another group goes on');
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE group_key = 'seventh'; SET synchronous_commit = off; CALL walk(250)");
# (the shortest of them: as long as the scheduler has a mark of the group in hand that it found busy, a fifth of a second, a
# step looks from the beginning)
my ($first, $last) = map { sql($node, "SELECT min(blocks) FROM (SELECT blocks FROM steps ORDER BY n $_ LIMIT 240) s") } '', 'DESC';
cmp_ok($last, '<=', $first + 10, "held snapshot: a step at the end looks at as many blocks as at the beginning ($first, $last)");
$held->quit;
sql($node, "SELECT queue.purge('q')");

# --- what an executor must not go on with in the transaction that ended the job before it
sql($node, 'ALTER SYSTEM SET queue.executors = 1');
$node->reload;
sql($node, <<'EOS');
CREATE TABLE gate ();
CREATE TABLE walked (n bigserial, id bigint, what text, began timestamptz, enqueued timestamptz, xid xid8 DEFAULT pg_current_xact_id());
-- waits at the gate; not for an advisory lock, with which a transaction ends
CREATE FUNCTION walked(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ? 'gate' THEN
		LOCK TABLE gate IN ROW EXCLUSIVE MODE;
	END IF;
	INSERT INTO walked (id, what, began, enqueued) VALUES (j.id, j.payload->>'what', now(), j.enqueued_at);
END $$;
SELECT queue.register_sql_handler('walked', 'walked', max_attempts => 1);
SELECT count(queue.enqueue('walked', '{"what": "warm"}', 'q')) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'the kind is known to be short', kinds => '^walked$');
wait_true($node, "SELECT count(*) <= 1 FROM pg_stat_activity WHERE backend_type = 'queue executor'", 'one executor is left');
my $gate = queue_session($node);

# Lets an executor run the first two jobs of a group, of which the second waits at the gate.
sub walk_to_gate
{
	my ($group, $more) = @_;
	$gate->query_safe('BEGIN; LOCK TABLE gate IN SHARE MODE');
	sql($node, <<"EOS");
SELECT queue.pause('q');
SELECT queue.enqueue('walked', p, 'q', group_key => '$group') FROM unnest('{"{\\"what\\": \\"first\\"}", "{\\"what\\": \\"second\\", \\"gate\\": 1}"}'::jsonb[]) p;
$more
SELECT queue.resume('q');
EOS
	wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted", "$group: the second of a group runs");
	return;
}
my $third = sub { my ($what, $group) = @_; return "SELECT queue.enqueue('walked', '{\"what\": \"$what\"}', 'q', group_key => '$group');" };

walk_to_gate('past');
sql($node, $third->('young', 'past'));
$gate->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 1 FROM walked WHERE what = 'young'", 'one that was enqueued meanwhile is the next');
one($node, "SELECT began >= enqueued FROM walked WHERE what = 'young'", 't', 'and its now() is not before its enqueue');

walk_to_gate('order', $third->('later', 'order'));
sql($node, "SELECT queue.enqueue('walked', '{\"what\": \"urgent\"}', 'q', priority => -10)");
scheduler_turn($node);
$gate->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 2 FROM walked WHERE what IN ('later', 'urgent')", 'a more urgent one came meanwhile');
one($node, "SELECT string_agg(what, ' ' ORDER BY n) FROM walked WHERE what IN ('later', 'urgent')", 'urgent later', 'and has its turn before the next of the group');

sql($node, "SELECT queue.register_sql_handler('strange', 'walked', max_attempts => 1)");
walk_to_gate('kinds', $third->('strange', 'kinds') =~ s/'walked'/'strange'/r);
$gate->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 1 FROM walked WHERE what = 'strange'", 'one of a kind that is not known to be short runs');
one($node, "SELECT count(*) FROM walked WHERE xid = (SELECT xid FROM walked WHERE what = 'strange')", '1', 'alone');

my $other = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
walk_to_gate('needs', "SELECT queue.enqueue('walked', '{\"what\": \"needs\"}', 'q', group_key => 'needs', depends_on => '{$other}');");
$gate->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 1 FROM queue.live_job WHERE extra->>'group_key' = 'needs' AND extra->>'blocks' = '4'", 'one whose turn it is in the group waits for the job that it depends on');
sql($node, "SELECT queue.cancel($other)");
wait_no_jobs($node, 'all have ended', kinds => '^walked$');
$gate->quit;

log_clean($node);
done_testing();
