# FIFO groups with processes that die: the order is kept, and nothing stands still for a mark that was lost.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('groups', conf => "max_prepared_transactions = 10\nqueue.commit_interval = 10\n");
sql($node, <<'EOS');
CREATE TABLE ledger (n bigserial, grp text, id bigint, failed boolean);
-- fails each tenth job's first attempt
CREATE FUNCTION step(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.id % 10 = 0 AND j.failures = 0 THEN
		RAISE 'first attempt';
	END IF;
	INSERT INTO ledger (grp, id) VALUES (j.group_key, j.id);
END $$;
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
SELECT queue.register_sql_handler('step', 'step');
CREATE VIEW disorder AS SELECT * FROM (SELECT grp, id, lag(id) OVER (PARTITION BY grp ORDER BY n) AS before FROM ledger) x WHERE before >= id;
EOS

sub add
{
	my ($groups, $jobs, $queue) = @_;
	return "SELECT count(queue.enqueue('step', '{}', '" . ($queue // 'q') . "', group_key => 'g' || (n % $groups))) FROM generate_series(1, $groups * $jobs) n";
}

# --- order, with failures and retries; each group's jobs one after the other, none lost, none twice
sql($node, add(20, 50));
sql($node, add(1, 300));
wait_no_jobs($node);
one($node, "SELECT count(*), count(DISTINCT id) FROM ledger", '1300|1300', 'each job ran once');
one($node, "SELECT count(*) FROM disorder", '0', 'in the order of each group');

# --- the next one of a group whose time has not come is not run with the one before it
sql($node, "TRUNCATE ledger");
sql($node, "SELECT queue.enqueue('step', '{}', 'q', group_key => 'd' || n % 20, delay => CASE WHEN n > 20 THEN '1 hour'::interval END) FROM generate_series(1, 40) n");
wait_true($node, "SELECT count(*) = 20 FROM queue.job WHERE state = 'scheduled'", 'those that are due run');
one($node, "SELECT count(*) FROM ledger", '20', 'and no others');
sql($node, "SELECT queue.purge('q')");

# --- more groups in one transaction than it notes, each with a second job
sql($node, "TRUNCATE ledger");
sql($node, "SELECT queue.pause('q')");
sql($node, add(3000, 2));
wait_true($node, "SELECT count(*) = 3000 FROM queue.live_job WHERE run_at < 'infinity'", 'the first job of each of 3,000 groups is let in');
one($node, "SELECT count(DISTINCT extra ->> 'group_key') FROM queue.live_job WHERE run_at < 'infinity'", '3000', 'no group has two');
sql($node, "SELECT queue.resume('q')");
wait_no_jobs($node);
one($node, "SELECT count(*), count(DISTINCT id) FROM ledger", '6000|6000', 'each job ran once');
one($node, "SELECT count(*) FROM disorder", '0', 'in order');

# .. also of jobs whose ids are older than those of the last such transaction
sql($node, "SELECT count(queue.enqueue('ext', '{}', 'q', group_key => 'o' || n)) FROM generate_series(1, 1100) n");
wait_true($node, "SELECT count(*) = 1100 FROM queue.live_job WHERE run_at < 'infinity'", 'let in');
sql($node, "SELECT queue.discard_jobs('{\"queue\": \"q\"}')");
sql($node, "SELECT queue.retry_jobs('{\"queue\": \"q\", \"kind\": \"ext\"}')");
wait_true($node, "SELECT count(*) = 1100 FROM queue.live_job WHERE run_at < 'infinity'", 'retried, they are let in again');

# .. and the ends of more than are noted, whatever a later savepoint undid
sql($node, "SELECT count(queue.enqueue('ext', '{}', 'q', group_key => 'o' || n)) FROM generate_series(0, 1100) n");
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'o0')");
sql($node, <<'EOS');
CREATE TABLE heads AS SELECT j.id, j.group_key FROM queue.live_job l JOIN queue.job j USING (id) WHERE l.run_at < 'infinity';
BEGIN;
SAVEPOINT a;
SELECT count(queue.cancel(id)) FROM heads WHERE group_key <> 'o0';
RELEASE a;
SAVEPOINT b;
SELECT count(queue.cancel(id)) FROM heads WHERE group_key = 'o0';
ROLLBACK TO b;
COMMIT;
EOS
wait_true($node, "SELECT count(*) = 1101 FROM queue.live_job WHERE run_at < 'infinity'", 'behind those that were cancelled the next are let in');
sql($node, "SELECT queue.purge('q')");

# --- an executor that goes through a group is ended: somebody else goes on
sql($node, "TRUNCATE ledger");
sql($node, "SELECT queue.pause('q')");
sql($node, add(1, 3000));
sql($node, "SELECT queue.resume('q')");
for my $round (1 .. 5)
{
	poll($node, "SELECT count(*) >= $round * 300 FROM ledger", 'some ran');
	sql($node, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'queue executor'");
}
wait_no_jobs($node);
one($node, "SELECT count(*), count(DISTINCT id) FROM ledger", '3000|3000', 'executors ended: each job ran once');
one($node, "SELECT count(*) FROM disorder", '0', 'and in order');

# --- executors, then the whole server, die by kill -9
sql($node, "TRUNCATE ledger");
sql($node, "SELECT queue.pause('q')");
sql($node, add(20, 50));
sql($node, "SELECT queue.resume('q')");
for my $round (1 .. 2)
{
	poll($node, "SELECT count(*) > $round * 100 FROM ledger", 'some ran');
	my ($pid) = workers($node, 'executor');
	next unless $pid;
	kill_9($node, $pid);
}
wait_no_jobs($node);
one($node, "SELECT count(*), count(DISTINCT id) FROM ledger", '1000|1000', 'after kill -9: each job ran once');
one($node, "SELECT count(*) FROM disorder", '0', 'and in order');

# --- a mark that was lost with the memory: the head ends while no scheduler promotes, then the server crashes
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'x'), queue.enqueue('ext', '{}', 'q', group_key => 'x')");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'ext' AND state = 'available'", 'the head is let in');
my $head = sql($node, "SELECT id FROM queue.fetch('q', kinds => '{ext}')");
# whoever holds the table so, keeps the scheduler from promoting
my $lock = queue_session($node);
$lock->query_safe("BEGIN; LOCK TABLE queue.live_key IN SHARE MODE");
my $ender = queue_session($node);
$ender->query_until(qr/go/, "\\echo go\nSELECT queue.complete($head, 1);\n");
poll($node, "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND query ~ 'queue.complete'") or die;
$lock->query_safe("COMMIT; BEGIN; LOCK TABLE queue.live_job IN SHARE MODE");
$node->stop('immediate');
$node->start;
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'ext' AND state = 'available'", 'after the crash its head is looked for');
$_->quit for $lock, $ender;

# --- a follower that was enqueued while the server was going down is let in by the next start
sql($node, "SELECT queue.purge('q')");
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'y')");
$node->stop('immediate');
$node->start;
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'y' AND state = 'available'", 'a first job is let in after a crash');

# --- prepared transactions carry their marks, across a restart too
sql($node, "BEGIN; SELECT queue.enqueue('ext', '{}', 'q', group_key => 'p1'); PREPARE TRANSACTION 'p1'");
sql($node, "BEGIN; SELECT queue.enqueue('ext', '{}', 'q', group_key => 'p2'); PREPARE TRANSACTION 'p2'");
sql($node, "BEGIN; SELECT queue.enqueue('ext', '{}', 'q', group_key => 'p3'); PREPARE TRANSACTION 'p3'");
sql($node, "COMMIT PREPARED 'p1'");
sql($node, "ROLLBACK PREPARED 'p3'");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'p1' AND state = 'available'", 'COMMIT PREPARED lets its job in');
$node->restart;
sql($node, "COMMIT PREPARED 'p2'");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 'p2' AND state = 'available'", 'also after a restart');
one($node, "SELECT count(*) FROM queue.group_mark", '0', 'the marks that were rows are eaten');
sql($node, "BEGIN; SELECT count(queue.enqueue('ext', '{}', 'q', group_key => 'many' || n)) FROM generate_series(1, 250) n; PREPARE TRANSACTION 'many'");
sql($node, "COMMIT PREPARED 'many'");
wait_true($node, "SELECT count(*) = 250 FROM queue.job WHERE group_key ~ '^many' AND state = 'available'", 'COMMIT PREPARED of more than are looked at together lets all in');
wait_true($node, "SELECT count(*) = 0 FROM queue.group_mark", 'and all their marks are eaten');

# --- what a savepoint that was released ended is told of, whatever a later one undid
sql($node, "SELECT queue.purge('q')");
my ($first) = split /\n/, sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 's') FROM generate_series(1, 2)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $first", 'the first is let in');
sql($node, "BEGIN; SAVEPOINT a; SELECT queue.complete(id) FROM queue.fetch('q', kinds => '{ext}'); RELEASE a; SAVEPOINT b; SELECT queue.pause('q'); ROLLBACK TO b; COMMIT");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE group_key = 's' AND state = 'available'", 'and the next, when it has ended in a savepoint');
sql($node, "SELECT queue.purge('q')");

# --- a discarded job that held its group and was cancelled has no place there any more: retried, it comes last
sql($node, "SELECT queue.create_queue('hold', on_group_discard => 'hold', keep_discarded => '1 day')");
my ($holder, $second, $third) = split /\n/, sql($node, "SELECT queue.enqueue('ext', queue => 'hold', group_key => 'h') FROM generate_series(1, 3)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $holder", 'the first is let in');
sql($node, "SELECT queue.discard($holder)");
sql($node, "SELECT queue.cancel($holder)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $second", 'the second, when the first does not hold the group any more');
one($node, "SELECT queue.retry($holder)", 't', 'that is retried');
sql($node, "SELECT queue.complete(id) FROM queue.fetch('hold')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $third", 'the third comes before it');

# --- a late commit with a lower place: it waits for the one that is in, and is the next
my $late = queue_session($node);
$late->query_safe("BEGIN");
my $low = $late->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'late')");
my $in = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'late')");
my $high = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'late')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $in", 'the first that is committed is let in');
$late->query_safe("COMMIT");
$late->quit;
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'other')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'other'", 'the marks were eaten');
one($node, "SELECT string_agg(state, ' ' ORDER BY id) FROM queue.job WHERE group_key = 'late'", 'pending available pending', 'a lower place that commits late waits');
sql($node, "SELECT queue.cancel($in)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $low", 'and is the next');
one($node, "SELECT state FROM queue.job WHERE id = $high", 'pending', 'alone');

# --- the same where the restarted scheduler must find out who is in
$late = queue_session($node);
$late->query_safe("BEGIN");
$low = $late->query_safe("SELECT queue.enqueue('ext', '{}', 'q', group_key => 'again')");
$in = sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'again')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $in", 'the first that is committed is let in');
$late->query_safe("COMMIT");
$late->quit;
$node->restart;
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'third')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'third'", 'the scheduler has looked at all groups');
one($node, "SELECT string_agg(state, ' ' ORDER BY id) FROM queue.job WHERE group_key = 'again'", 'pending available', 'a restart lets no second one in');

# --- rows that come past the extension, as a restore brings them
sql($node, "SELECT queue.purge('q')");
sql($node, "SELECT queue.enqueue('ext', '{}', 'q', group_key => 'r')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'r'", 'let in');
sql($node, <<'EOS');
CREATE TABLE saved AS SELECT * FROM queue.live_job WHERE extra ->> 'group_key' = 'r';
CREATE TABLE saved_key AS SELECT * FROM queue.live_key WHERE group_key = 'r';
SELECT queue.cancel(id) FROM saved;
UPDATE saved SET run_at = 'infinity', extra = extra || '{"blocks": 1}';
INSERT INTO queue.live_job SELECT * FROM saved;
INSERT INTO queue.live_key SELECT * FROM saved_key;
EOS
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE group_key = 'r' AND state <> 'cancelled'", 'restored rows are looked at');

# --- who lets a job in may tell of it before who enqueued it does: the numbers are right all the same
sql($node, "SELECT queue.create_queue('told')");
sql($node, <<'EOS');
DO $$ BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM queue.enqueue('ext', '{}', 'told', group_key => 't' || i || n) FROM generate_series(1, 2) n;
		COMMIT;
		FOR k IN 1 .. 5000 LOOP
			EXIT WHEN NOT EXISTS (SELECT FROM queue.job WHERE queue = 'told' AND state = 'pending');
			PERFORM pg_sleep(0.002);
			COMMIT;
		END LOOP;
	END LOOP;
END $$;
EOS
wait_true($node, "SELECT available = 200 AND pending = 0 FROM queue.stat_queue WHERE queue = 'told'", 'who was let in is pending no more');

# --- without preload: fetch and maintain() promote
$node->safe_psql('postgres', "SELECT queue.purge('q')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
sql($node, "SELECT queue.enqueue('ext', to_jsonb(n), 'q', group_key => 'u') FROM generate_series(1, 3) n");
one($node, "SELECT payload, queue.complete(id, attempt) FROM queue.fetch('q', 10, kinds => '{ext}')", "$_|t", "not preloaded: job $_ by fetch") for 1 .. 3;
sql($node, "SELECT queue.enqueue('ext', '4', 'q', group_key => 'u')");
sql($node, "SELECT queue.maintain()");
one($node, "SELECT state FROM queue.job WHERE group_key = 'u'", 'available', 'maintain() promotes');
one($node, "SELECT count(*) FROM queue.group_mark", '0', 'and eats the marks');

log_clean($node);
done_testing();
