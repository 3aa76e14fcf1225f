# Workflows with executors that die: counts, callbacks and compensations against a ledger; cancels while jobs run; prepared
# transactions; retention.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('workflows', conf => "max_prepared_transactions = 10\nqueue.commit_interval = 10\n");
sql($node, slurp_file("$FindBin::RealBin/../graphs.sql"));

sql($node, "SELECT queue.pause('q')");
sql($node, 'SELECT setseed(0.4); DO $$ BEGIN FOR i IN 1..40 LOOP PERFORM graph(1 + i % 30, i % 3 = 0); COMMIT; END LOOP; END $$');
sql($node, "SELECT queue.resume('q')");
for my $round (1 .. 3)
{
	poll($node, "SELECT count(*) > $round * 80 FROM ledger");
	my ($pid) = workers($node, 'executor');
	next unless $pid;
	kill_9($node, $pid);
}
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.workflow WHERE finished_at IS NULL) AND NOT EXISTS (SELECT FROM queue.live_job)", 'all workflows finish');
# a job that takes two processes down is discarded, which nobody could foresee
my $died = sql($node, "SELECT count(*) FROM queue.finished_job WHERE extra ->> 'last_error' ~ 'died'");
SKIP:
{
	skip 'a job was discarded because its process was killed twice', 1 if $died > 0;
	one($node, "SELECT what, count(*) FROM wrong GROUP BY 1", '', 'counts, callbacks and compensations are those of the ledger');
}
one($node, "SELECT count(DISTINCT state) >= 3 FROM queue.workflow", 't', '.. of workflows that ended in different ways');

# --- cancelled while they run: nothing of them is live, nothing starts any more
sql($node, "TRUNCATE ledger");
sql($node, <<'EOS');
DO $$ BEGIN FOR i IN 1..10 LOOP PERFORM queue.enqueue_workflow((SELECT jsonb_agg(jsonb_build_object('kind', 'slow', 'queue', 'q', 'payload', '{"sleep": 0.02}'::jsonb)) FROM generate_series(1, 8)), 'cancel', 'q'); END LOOP; END $$;
EOS
poll($node, 'SELECT count(*) > 3 FROM ledger');
sql($node, "DO \$\$ DECLARE w bigint; BEGIN FOR w IN SELECT id FROM queue.workflow WHERE name = 'cancel' LOOP PERFORM queue.cancel_workflow(w); COMMIT; END LOOP; END \$\$");
my $until = sql($node, 'SELECT clock_timestamp()');
one($node, "SELECT count(*) FROM queue.job JOIN queue.workflow w ON w.id = workflow AND w.name = 'cancel' WHERE job.state NOT IN ('completed', 'cancelled')", '0', 'nothing of them is live');
wait_true($node, "SELECT count(*) = 10 FROM queue.workflow WHERE name = 'cancel' AND state IN ('cancelled', 'completed')", 'they are cancelled');
one($node, "SELECT count(*) FROM ledger WHERE at > '$until'", '0', 'nothing ran after that');

# --- from inside: a job enqueues into its closed workflow, and cancels it
sql($node, <<'EOS');
CREATE FUNCTION parent(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM queue.enqueue('step', queue => 'q', workflow => j.workflow); END $$;
CREATE FUNCTION quitter(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM queue.cancel_workflow(j.workflow); END $$;
SELECT queue.register_sql_handler('parent', 'parent'), queue.register_sql_handler('quitter', 'quitter');
EOS
sql($node, q{SELECT queue.enqueue_workflow('[{"kind": "parent", "queue": "q"}, {"kind": "parent", "queue": "q"}]', 'inside', 'q')});
wait_true($node, "SELECT state = 'completed' AND jobs = 4 AND completed = 4 FROM queue.workflow WHERE name = 'inside'", 'jobs of a closed workflow enqueue into it');
sql($node, q{SELECT queue.enqueue_workflow('[{"kind": "quitter", "queue": "q"}, {"kind": "ext", "queue": "q", "delay": "1 h"}]', 'quits', 'q')});
wait_true($node, "SELECT state = 'cancelled' AND cancelled = 2 FROM queue.workflow WHERE name = 'quits'", 'a job cancels its own workflow');

# who cancels it does not wait for a job that holds it, because it has just enqueued into it
sql($node, <<'EOS');
CREATE FUNCTION joiner(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.enqueue('step', queue => 'q', workflow => j.workflow);
	PERFORM pg_advisory_xact_lock_shared(5), pg_advisory_xact_lock_shared(6);
END $$;
SELECT queue.register_sql_handler('joiner', 'joiner', timeout => '0');
EOS
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(6)');
sql($node, q{SELECT queue.enqueue_workflow('[{"kind": "joiner", "queue": "q"}]', 'joined', 'q')});
wait_lock($node, 5);
one($node, "SELECT queue.cancel_workflow(id) FROM queue.workflow WHERE name = 'joined'", '1', 'a job that enqueues into its workflow is cancelled with it');
wait_true($node, "SELECT state = 'cancelled' AND jobs = 1 FROM queue.workflow WHERE name = 'joined'", 'with what it enqueued');
$holder->quit;

# --- prepared transactions: a joiner holds the workflow, across a restart
my $w = sql($node, "SELECT queue.create_workflow('prepared', 'q')");
sql($node, "BEGIN; SELECT queue.enqueue('step', queue => 'q', workflow => $w); PREPARE TRANSACTION 'join'");
sql($node, "SELECT queue.close_workflow($w)");
$node->stop('immediate');
$node->start;
one($node, "SELECT state FROM queue.workflow WHERE id = $w", 'running', 'it does not finish while one joins');
sql($node, "COMMIT PREPARED 'join'");
wait_true($node, "SELECT state = 'completed' AND jobs = 1 FROM queue.workflow WHERE id = $w", 'then it runs that too');

# --- kept for queue.keep_workflows
$node->append_conf('postgresql.conf', "queue.keep_workflows = '1 d'\nqueue.debug_clock_offset = '2 d'");
$node->restart;
wait_true($node, 'SELECT (SELECT count(*) FROM queue.workflow) + (SELECT count(*) FROM queue.workflow_job) + (SELECT count(*) FROM queue.workflow_end) = 0', 'they go when their time is over');

log_clean($node);
done_testing();
