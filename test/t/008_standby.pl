# A streaming standby: read-only with clear errors, no workers; after promotion jobs run by themselves.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $primary = queue_node('primary', streaming => 1);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sql($primary, <<'EOS');
SELECT queue.register_sql_handler('job', 'h');
SELECT queue.create_queue('held');
SELECT queue.pause('held');
SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "before"}') FROM generate_series(1, 100)) x;
SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "held"}', 'held') FROM generate_series(1, 100)) x;
EOS
my $id = sql($primary, "SELECT queue.enqueue('outside', '{}')");
wait_true($primary, "SELECT count(*) = 100 FROM seen WHERE note = 'before'", 'jobs run on the primary');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

# --- read-only
for my $call (
	"enqueue('job')", "enqueue_many('job', ARRAY['{}']::jsonb[])",
	q(enqueue_json('{"kind": "job"}')), "fetch('default')", "fetch_any('{default}')",
	"complete($id, 1)", "complete_many(ARRAY[$id])", "fail($id, 1)",
	"snooze($id, '1 s')", "release($id)", "heartbeat($id)",
	"progress($id, '{}')", "cancel($id)", "discard($id)",
	"retry($id)", "alter_job($id, priority => 1)", "create_queue('q')",
	"alter_queue('held', max_attempts => 2)", "drop_queue('held')", "pause('default')",
	"resume('held')", "purge('held')", "cancel_jobs('{\"queue\": \"held\"}')", "move_jobs('{\"queue\": \"held\"}', 'default')", "grant_queue('held', 'postgres')",
	"register_sql_handler('job', 'h')", "unregister_handler('job')", "adopt()")
{
	sqlstate_like($standby, "SELECT * FROM queue.$call", '25006', $call =~ /^(fetch|complete|fail|snooze|release|heartbeat|progress|cancel|discard|retry|alter_job)/ ?
		qr/during recovery.*connect to the primary/s : qr/./, "$call on a standby");
}
one($standby, "SELECT count(*) FROM queue.job WHERE queue = 'held' AND state = 'available'", '100', 'the views can be read');
one($standby, "SELECT count(*) FROM queue.stat_queue", '2', 'and the statistics');
like(sql($standby, "SELECT queue.explain_job($id)"), qr/available/, 'and explain_job');
one($standby, "SELECT count(*) FROM queue.find_jobs('{\"queue\": \"held\"}')", '100', 'and find_jobs');
one($standby, "SELECT queue.wait_for($id, '100 ms')", 'available', 'and wait_for');
one($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('queue scheduler', 'queue executor')", '0', 'no workers on a standby');
doctor_like($standby, qr/standby|recovery/i, 'doctor() says why');

# --- promotion, with a snapshot held over it
my $held = queue_session($standby);
$held->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$held->query_safe('SELECT count(*) FROM queue.job');
sql($primary, q{SELECT queue.enqueue('job', '{"note": "due later"}', delay => '1500 ms')});
my $last = sql($primary, 'SELECT max(id) FROM queue.job');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->stop('immediate');
$standby->promote;
wait_true($standby, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler'", 'a scheduler starts after promotion');
wait_true($standby, "SELECT count(*) = 1 FROM seen WHERE note = 'due later'", 'a job of the old primary runs when it is due');
sql($standby, "SELECT queue.resume('held')");
wait_true($standby, "SELECT count(*) = 100 FROM seen WHERE note = 'held'", 'and all that waited');
one($standby, "SELECT queue.enqueue('job', '{\"note\": \"new\"}') > $last", 't', 'ids go on');
wait_true($standby, "SELECT count(*) = 1 FROM seen WHERE note = 'new'", 'a new job runs');
one($standby, "SELECT note, count(*), count(DISTINCT job_id) FROM seen GROUP BY note ORDER BY note", "before|100|100\ndue later|1|1\nheld|100|100\nnew|1|1", 'each once');
one($standby, "SELECT id FROM queue.fetch('default')", $id, 'external jobs are fetchable');
$held->query_safe('ROLLBACK');
$held->quit;

log_clean($standby);
$standby->stop;
done_testing();
