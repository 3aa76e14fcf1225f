# SIGTERM: what runs may finish within queue.shutdown_timeout, the rest is rolled back uncounted and runs again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $node = queue_node('shutdown', conf => "queue.shutdown_timeout = 20s\n");

sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT queue.create_queue('kept', keep_completed => '1 day');
EOS

# --- shorter than shutdown_timeout: it completes
my $id = sql($node, q{SELECT queue.enqueue('job', '{"note": "short", "lock": 1, "sleep": 2}', 'kept')});
wait_lock($node, 1);
$node->stop('fast');
$node->start;
one($node, "SELECT state, attempt, failures, finished_at < pg_postmaster_start_time() FROM queue.job WHERE id = $id",
	'completed|1|0|t', 'a job that ends in time is let finish by a fast stop');
one($node, "SELECT count(*) FROM seen WHERE note = 'short'", '1', 'its effect is there once');
# nothing new is started meanwhile
$id = sql($node, q{SELECT queue.enqueue('job', '{"note": "first", "lock": 2, "sleep": 2}', 'kept')});
wait_lock($node, 2);
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "backlog", "sleep": 0.5}') FROM generate_series(1, 60)) x});
$node->stop('fast');
$node->start;
one($node, "SELECT count(*) < 60 FROM seen WHERE note = 'backlog' AND at < pg_postmaster_start_time()", 't', 'a stop does not work off the backlog');
wait_no_jobs($node, 'the backlog is done after the start');
one($node, "SELECT count(*), count(DISTINCT job_id), max(attempt), max(failures) FROM seen WHERE note = 'backlog'", '60|60|1|0', 'each once');

# --- longer: rolled back, uncounted, again after the start
sql($node, "ALTER SYSTEM SET queue.shutdown_timeout = '500ms'");
$node->reload;
poll($node, "SELECT current_setting('queue.shutdown_timeout') = '500ms'");
$id = sql($node, q{SELECT queue.enqueue('job', '{"note": "long", "lock": 3, "sleep": 600}')});
wait_lock($node, 3);
my $t0 = time;
$node->stop('fast');
cmp_ok(time - $t0, '<', 100, 'a job that takes too long does not hold the stop up');
$node->start;
wait_lock($node, 3);
one($node, "SELECT state, failures FROM queue.job WHERE id = $id", 'running|0', 'it runs again after the start, uncounted');
one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $id", '0', 'without an error');

# --- pg_terminate_backend of its executor
my $pid = wait_lock($node, 3);
sql($node, "SELECT pg_terminate_backend($pid)");
ok(gone($pid), 'an executor can be terminated');
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND granted AND pid <> $pid", 'another runs its job');
one($node, "SELECT state, failures FROM queue.job WHERE id = $id", 'running|0', 'uncounted');
one($node, "SELECT count(*) FROM queue.job_error WHERE job_id = $id", '0', 'without an error');
one($node, "SELECT queue.cancel($id)", 't', 'cancelled');

# --- of the scheduler and the launcher: they come back and executors are not lost
my $line = sql($node, "SELECT min(id) FROM queue.line WHERE kind = 'job' AND queue = 'default'");
for my $type (qw(scheduler launcher))
{
	my ($old) = workers($node, $type);
	sql($node, "SELECT pg_terminate_backend($old)");
	ok(gone($old), "the $type can be terminated");
	$id = sql($node, qq{SELECT queue.enqueue('job', '{"note": "after $type"}')});
	wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue $type' AND pid <> $old", 'it comes back');
	wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'after $type'", 'and jobs run');
}

one($node, "SELECT count(*) FROM queue.line WHERE id = $line AND retired_at IS NULL", '1', 'a new scheduler does not take lines for long unused');
unlike(slurp_file($node->logfile), qr/was running in a process that died/, 'nobody who ended in order is taken for dead');

# --- the scheduler ends while its channels are full and the configuration has changed since it last looked
$node->stop;
$node->append_conf('postgresql.conf', 'queue.executors = 1');
$node->start;
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(4)');
sql($node, q{SELECT queue.enqueue('job', '{"note": "holds", "lock": 4}')});
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4 AND NOT granted", 'the only executor waits');
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "behind"}') FROM generate_series(1, 20)) x});
scheduler_turn($node);
my ($scheduler) = workers($node, 'scheduler');
kill 'STOP', $scheduler;
sql($node, "SELECT queue.alter_queue('kept', keep_completed => '2 days')");
kill 'TERM', $scheduler;
kill 'CONT', $scheduler;
ok(gone($scheduler), 'a scheduler whose reading of the configuration is stale ends');
$holder->quit;
wait_no_jobs($node, 'what stood in its channel is run', kinds => '^job$');
one($node, "SELECT count(*) FROM seen WHERE note IN ('holds', 'behind')", '21', 'each once');

# --- a smart stop and a restart with nothing to do are quick
$t0 = time;
$node->stop('smart');
cmp_ok(time - $t0, '<', 60, 'a smart stop with idle workers');
$node->start;

log_clean($node);
$node->stop;
done_testing();
