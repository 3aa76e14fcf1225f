# Everything at once, at random, while everything that can fail fails: what clients were told is written down outside of
# the cluster, and in the end nothing may be missing, doubled, stuck or out of order.  test/chaos has the parts.
#
# QUEUE_CHAOS_SEED=n replays the mix and the dice of each actor (not their timing).  QUEUE_CHAOS_SECONDS=n: for how long
# (20).  QUEUE_CHAOS_MIX=a,b: only these faults.  QUEUE_CHAOS_ALL=1: everything in one run.  QUEUE_CHAOS_STRICT=1: also
# complains of jobs that start late, which a loaded machine does as well.  QUEUE_CHAOS_SMALL=folder: a small file system.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../chaos";
use Chaos;
use ChaosClients;
use ChaosFaults;
use ChaosLedger;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{QUEUE_CHAOS_SECONDS} // 20;
# make check, whose outcome is to depend on what changed alone, always has the same mix
my $seed = $ENV{QUEUE_CHAOS_SEED} // ($ENV{QUEUE_CHAOS_SECONDS} ? (time * 1000 ^ $$) % 1_000_000_000 : 300);
note "QUEUE_CHAOS_SEED=$seed QUEUE_CHAOS_SECONDS=$seconds";

$Chaos::dir = $PostgreSQL::Test::Utils::tmp_check;
$Chaos::seed = $seed;
$Chaos::psql = 'psql';
%Chaos::settings = (all => $ENV{QUEUE_CHAOS_ALL}, strict => $ENV{QUEUE_CHAOS_STRICT}, small => $ENV{QUEUE_CHAOS_SMALL},
	standby => $seconds >= 40, patience => 120, stop_limit => 60, pause => 0.03, internal => 'File too large|No space left|tuple concurrently');
srand($seed);

my $server = HttpServer->new(dir => $Chaos::dir);
my $node = queue_node('chaos', streaming => 1, initdb => ['--wal-segsize=1'], conf => <<"EOS");
max_connections = 40
queue.executors = 3
queue.shutdown_timeout = 1s
max_wal_size = 2GB
wal_keep_size = 1GB
max_prepared_transactions = 20
max_worker_processes = ${\pick(10, 24)}
wal_level = replica
EOS
$Chaos::settings{host} = $node->host;
$Chaos::settings{user} = getpwuid $<;
$Chaos::settings{url} = $server->url('');
sql($node, slurp_file("$FindBin::RealBin/../chaos/setup.sql"));
sql($node, <<"EOS");
SELECT queue.register_http_handler('web', '@{[ $server->url('/flaky/20') ]}', max_running => 5, backoff => '{"type": "fixed", "base": "20 ms"}');
SELECT queue.register_http_handler('wstep', '@{[ $server->url('/flaky/20') ]}', backoff => '{"type": "fixed", "base": "20 ms"}');
SELECT queue.register_http_handler('webslow', '@{[ $server->url('/sleep/0.05') ]}', max_running => 3, backoff => '{"type": "fixed", "base": "20 ms"}');
SELECT queue.register_http_handler('webawait', '@{[ $server->url('/await/hook?timeout=1') ]}', body => 'job', backoff => '{"type": "fixed", "base": "20 ms"}');
EOS
if (setting('small'))
{
	sql($node, "CREATE TABLESPACE small LOCATION '$ENV{QUEUE_CHAOS_SMALL}'");
	sql($node, "ALTER TABLE queue.$_ SET TABLESPACE small") for qw(live_job live_key unique_key);
	sql($node, 'ALTER TABLE ran SET TABLESPACE small');
}
my @faults = faults_of(split /,/, $ENV{QUEUE_CHAOS_MIX} // '');
faults_begin($node);

actor("enqueuer $_", \&enqueuer) for 1 .. 3;
actor("worker $_", do { my $mode = $_; sub { worker($_[0], $mode); } }) for qw(lease session lease);
for my $mode (grep { setting('pool_port') } qw(lease session))
{
	actor("pooled $mode", sub { $_[0]{pooled} = 1; worker($_[0], $mode); });
}
actor('batch', \&batch_worker) if mixed('enqueue batch');
actor("operator $_", sub { operator($_[0]); nap(0.1); }) for 1 .. 2;
actor('watcher', \&watcher);

srand($seed);
my %done;
my $end = time + $seconds;
while (time < $end)
{
	nap(0.2 + rand 1.2);
	my $what = pick(@faults) // 'nothing';
	$done{$what}++;
	note(sprintf('%.1f %s', $seconds - ($end - time), $what)) if $ENV{QUEUE_CHAOS_STRICT};
	fault($what);
}
note 'faults: ' . join(', ', map { "$_ $done{$_}" } sort keys %done);
note 'left out: ' . join(', ', grep { !$Chaos::mix{$_} } sort keys %Chaos::mix);
is(join(', ', actors_stop(\&ChaosFaults::commit_prepared)), '', 'all actors worked to the end');
ChaosFaults::faults_end();
$node = $ChaosFaults::node;

quieten($node);
check_ledger($server, %done);
is(-e "$Chaos::dir/complaints" ? slurp_file("$Chaos::dir/complaints") : '', '', 'nobody complained meanwhile');
log_clean($node, except => qr/terminated by signal 9|crash of another server process/);
$node->stop;
diag("QUEUE_CHAOS_SEED=$seed QUEUE_CHAOS_SECONDS=$seconds replays it") unless Test::More->builder->is_passing;
done_testing();
