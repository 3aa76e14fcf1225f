# A workflow is undone step by step, through everything that ends its processes while a compensation runs: a fast stop, SIGTERM
# of the executor and of the scheduler, a crash, the promotion of a standby.  Each compensation takes effect once, in order.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('compensations', streaming => 1, conf => "queue.shutdown_timeout = '200ms'\n");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

# a compensation runs, and holds its number as an advisory lock, until the gate lets it end
sql($node, <<'EOS');
CREATE TABLE gate (lets int);
INSERT INTO gate VALUES (99);
CREATE TABLE undone (n bigserial, step int);
CREATE FUNCTION step(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ? 'bad' THEN
		RAISE EXCEPTION 'for good' USING ERRCODE = 'QU001';
	END IF;
	RETURN j.payload->'step';
END $$;
CREATE FUNCTION undo(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	number int := j.payload->'payload'->'step';
BEGIN
	PERFORM pg_advisory_xact_lock_shared(number);
	INSERT INTO undone (step) VALUES (number);
	WHILE number < (SELECT lets FROM gate) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT queue.create_queue('q');
SELECT queue.register_sql_handler('step', 'step'), queue.register_sql_handler('undo', 'undo', timeout => '0');
SELECT count(*) FROM queue.enqueue_workflow((SELECT jsonb_agg(jsonb_build_object('ref', 's' || i, 'kind', 'step', 'queue', 'q', 'compensate_with', 'undo',
	'payload', jsonb_build_object('step', i) || CASE i WHEN 7 THEN '{"bad": 1}' ELSE '{}' END::jsonb,
	'depends_on', CASE WHEN i > 1 THEN jsonb_build_array('s' || i - 1) ELSE '[]' END)) FROM generate_series(1, 7) i), 'saga', 'q');
EOS

# The compensation of this step runs in another process than $old, and nothing but what came before it has been done.
sub runs
{
	my ($at, $step, $old, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_true($at, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = $step AND granted AND pid <> $old", $name);
	one($at, "SELECT state, (SELECT count(*) FROM undone), (SELECT count(*) FROM queue.workflow_job WHERE compensation > 0) FROM queue.workflow",
		join('|', 'compensating', 6 - $step, 7 - $step), '.. and nothing but what comes before it is undone');
	return;
}

runs($node, 6, 0, 'the last step is undone first');
my $pid = wait_lock($node, 6);
$node->stop('fast');
$node->start;
runs($node, 6, $pid, 'after a fast stop it runs again');
$pid = wait_lock($node, 6);
sql($node, "SELECT pg_terminate_backend($pid)");
runs($node, 6, $pid, 'after SIGTERM of its executor too');
sql($node, 'UPDATE gate SET lets = 6');
runs($node, 5, 0, 'it ends, and the next one comes');

# the scheduler is gone when the compensation ends
my ($scheduler) = workers($node, 'scheduler');
sql($node, "SELECT pg_terminate_backend($scheduler)");
sql($node, 'UPDATE gate SET lets = 5');
runs($node, 4, 0, 'the next scheduler goes on');
$pid = wait_lock($node, 4);
kill 'KILL', $pid;
runs($node, 4, $pid, 'after a crash it runs again');
sql($node, 'UPDATE gate SET lets = 4');
runs($node, 3, 0, 'the next one comes');

# ended by a stop in order: it returns within queue.shutdown_timeout, or runs again
sql($node, 'UPDATE gate SET lets = 3');
$node->stop('fast');
$node->start;
runs($node, 2, 0, 'a stop while one ends skips none');

$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
$node->stop('immediate');
$standby->promote;
runs($standby, 2, 0, 'after the promotion of a standby it runs there');
sql($standby, 'UPDATE gate SET lets = 0');
wait_true($standby, "SELECT state = 'compensated' FROM queue.workflow", 'all is undone');
one($standby, "SELECT string_agg(step::text, ',' ORDER BY n) FROM undone", '6,5,4,3,2,1', 'each step once, in the reverse order');
one($standby, "SELECT jobs, completed, discarded, cancelled FROM queue.workflow", '7|6|1|0', 'the counts are of its jobs');
one($standby, 'SELECT count(*) FROM queue.live_job', '0', 'nothing is left');

log_clean($_) for $node, $standby;
$standby->stop;
done_testing();
