# A handler is unregistered while the scheduler is in the middle of a round: what waits in the channel has no handler any
# more when it looks there.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('lost_handler', conf => "queue.executors = 1\nautovacuum = off\n");
my ($scheduler) = workers($node, 'scheduler');

my $line = sql($node, "SELECT 'queue.line'::regclass::oid");

# Waits, in a session that is open, until that process waits for the lock of queue.line.
sub waits
{
	my ($session, $pid) = @_;
	return $session->query_safe(<<"EOS");
DO \$\$
BEGIN
	FOR i IN 1 .. 300 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE relation = $line AND NOT granted AND pid = $pid);
		PERFORM pg_sleep(0.1);
	END LOOP;
END \$\$;
SELECT count(*) FROM pg_locks WHERE relation = $line AND NOT granted AND pid = $pid;
EOS
}

# one job runs, others wait in the channel behind it
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT count(*) FROM queue.enqueue_many('job', array_fill('{"lock": 1}'::jsonb, '{10}'));
EOS
wait_lock($node, 1);
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 'one job runs');
scheduler_turn($node);

# A job of a new line, and another session stands behind its enqueuer for the lock of queue.line: before the scheduler,
# which has to read that line.
my $enqueuer = queue_session($node);
my $locker = queue_session($node);
my $pid = $locker->query_safe('SELECT pg_backend_pid()');
$enqueuer->query_safe(q{BEGIN; SELECT queue.enqueue('job', '{"lock": 1}', priority => 5)});
$locker->query_safe('BEGIN');
$locker->query_until(qr/locks/, "\\echo locks\nLOCK TABLE queue.line IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n");
is(waits($enqueuer, $pid), '1', 'a session waits for queue.line');
$enqueuer->query_safe('COMMIT');
$locker->query_until(qr/locked/, "\n");
is(waits($locker, $scheduler), '1', 'the scheduler waits in the middle of its round');
$locker->query_safe("SELECT queue.unregister_handler('job'); COMMIT");
scheduler_turn($node);
is(join(' ', workers($node, 'scheduler')), $scheduler, 'the scheduler bears it');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0')");
wait_no_jobs($node, 'with a handler again all jobs run', kinds => 'job');
one($node, "SELECT count(DISTINCT job_id) || '|' || count(*) FROM seen", '11|11', 'each once');

# --- what waits in the channel is put off, or moved to a queue that is paused: it does not run when its turn there comes
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.create_queue('paused'), queue.pause('paused'), queue.enqueue('job', '{"lock": 1}')});
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 'one job runs');
sql($node, q{SELECT queue.enqueue('job', jsonb_build_object('note', note)) FROM unnest('{later,moved,stays}'::text[]) note});
scheduler_turn($node);
sql($node, q{SELECT queue.alter_job(id, run_at => now() + interval '1 day') FROM queue.job WHERE payload->>'note' = 'later'});
one($node, q{SELECT queue.move_jobs(jsonb_build_object('ids', jsonb_agg(id)), 'paused') FROM queue.job WHERE payload->>'note' = 'moved'}, '1', 'another is moved');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE note = 'stays')", 'the one behind them runs');
one($node, q{SELECT string_agg(concat_ws(' ', payload->>'note', state), ', ' ORDER BY id) FROM queue.job WHERE payload->>'note' IN ('later', 'moved')},
	'later scheduled, moved available', 'they do not');
sql($node, "SELECT queue.purge('default'), queue.purge('paused')");
$_->quit for $holder, $enqueuer, $locker;
log_clean($node);
$node->stop;
done_testing();
