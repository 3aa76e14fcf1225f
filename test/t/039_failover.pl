# A synchronous standby, set up as the page says (it runs 1 block of doc/scale.md), takes over under load: nothing that was
# acknowledged is lost, each job has its effect once, and jobs go on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $primary = queue_node('primary', streaming => 1);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
sql($primary, "SELECT queue.register_sql_handler('job', 'h'); CREATE TABLE sent (id bigint PRIMARY KEY)");
my ($setting) = slurp_file("$FindBin::RealBin/../../doc/scale.md") =~ /^<!-- run by test\/t\/039_failover\.pl -->\n```\n(.*?)^```$/ms;
$primary->append_conf('postgresql.conf', $setting);
$primary->reload;
wait_true($primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'", 'a synchronous standby');

# 500 a second; the log has a line for each that was acknowledged
my $log = PostgreSQL::Test::Utils::tempdir . '/acknowledged';
my $script = PostgreSQL::Test::Utils::tempdir . '/enqueue.sql';
append_to_file($script, "INSERT INTO sent SELECT queue.enqueue('job', '{\"note\": \"load\"}');\n");
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-R', '500', '-c', '4', '-T', '600', '-l', "--log-prefix=$log", '-f', $script,
	'-h', $primary->host, '-p', $primary->port, 'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
wait_true($primary, "SELECT count(*) > 300 FROM seen", 'jobs run');
$primary->stop('immediate');
my $killed = time;
$load->finish;
my $acknowledged = 0;
for my $file (glob("$log.*")) { $acknowledged += () = slurp_file($file) =~ /\n/g; }
$standby->promote;
my $id = sql($standby, "SELECT queue.enqueue('job', '{\"note\": \"after\"}')");
wait_true($standby, "SELECT count(*) = 1 FROM seen WHERE job_id = $id", 'a job of after the promotion runs');
note(sprintf('%.1f s from the kill to the first new job, this test\'s own steps included', time - $killed));
my $sent = sql($standby, 'SELECT count(*) FROM sent');
cmp_ok($acknowledged, '>', 250, 'there was load');	# a job may run before its enqueuer hears of the commit
cmp_ok($sent, '>=', $acknowledged, 'everything that was acknowledged is there');
wait_true($standby, 'SELECT count(*) = (SELECT count(*) FROM sent) + 1 FROM seen', 'and ran');
one($standby, 'SELECT count(*) FROM seen JOIN sent ON id = job_id', $sent, 'each once');
one($standby, 'SELECT count(*) FROM queue.job', '0', 'nothing is left');
$standby->stop;
done_testing();
