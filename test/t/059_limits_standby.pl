# Limits over a promotion: leases in force are counted on the new primary, what executors and sessions of the old one had
# is not, and in the end all of the limit is usable again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use QueueTest;
use Test::More;

my $primary = queue_node('limits_primary', streaming => 1);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('limits_standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $running = "SELECT count(*) FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NOT NULL";

my $holder = queue_session($primary);
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($primary, <<'EOS');
SELECT queue.create_queue('q', max_running => 6, max_running_per_key => 2, lease => '1 hour');
SELECT queue.register_sql_handler('k', 'h', '{q}', timeout => '0');
SELECT count(queue.enqueue('k', '{"lock": 1}', 'q', concurrency_key => 'sql' || i)) FROM generate_series(1, 8) i;
SELECT count(queue.enqueue('ext', '{}', 'q', concurrency_key => 'a')) FROM generate_series(1, 5) i;
EOS
wait_true($primary, "SELECT ($running) = 4", 'executors run four');
one($primary, "SELECT count(*) FROM queue.fetch('q', 5)", '2', 'a worker has two leases of a key');
one($primary, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'that is all');
sql($primary, "SELECT queue.pause('q')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
$primary->stop('immediate');

# there are two leases, and room for four
$standby->promote;
my $lock = queue_session($standby);
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql($standby, "SELECT queue.resume('q')");
wait_true($standby, "SELECT ($running) = 4", 'executors run four again');
one($standby, "SELECT count(*) FROM queue.job WHERE kind = 'ext' AND state = 'running'", '2', 'beside two leases');
one($standby, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'which are counted');
like(sql($standby, "SELECT queue.explain_job(max(id)) FROM queue.job WHERE kind = 'ext'"), qr/max_running of (queue q is 6, and 6|concurrency key a is 2, and 2) run/, 'explained');
sql($standby, "SELECT queue.alter_queue('q', max_running => 7)");
one($standby, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'for the key, too');
sql($standby, "SELECT count(queue.enqueue('ext', '{}', 'q', concurrency_key => 'b')) FROM generate_series(1, 9) i");
one($standby, "SELECT count(*) FROM queue.fetch('q', 5)", '1', 'another key has the place that is new');
one($standby, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'ext' AND state = 'running'", '3', 'a worker of the old primary completes, and so does the other');
one($standby, "SELECT count(*) FROM queue.fetch('q', 5)", '3', 'their places are free');
one($standby, "SELECT count(*) FROM queue.fetch('q', 5)", '0', 'once');
one($standby, $running, '4', 'executors still run four');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_no_jobs($standby, 'all of executors have ended', kinds => '^k$');
one($standby, "SELECT count(queue.complete(id)) FROM queue.job WHERE kind = 'ext' AND state = 'running'", '3', 'all leases end');
sql($standby, "SELECT queue.purge('q'); SELECT count(queue.enqueue('ext', '{}', 'q', concurrency_key => 'key' || i)) FROM generate_series(1, 20) i");
wait_true($standby, "SELECT count(*) FILTER (WHERE state = 'running') = 7 FROM queue.job, (SELECT count(*) FROM queue.fetch('q', 20)) f", 'all of the limit is usable');
one($standby, "SELECT count(*) FROM queue.job WHERE state = 'running'", '7', 'and no more');
$lock->quit;
log_clean($standby);
$standby->stop;
done_testing();
