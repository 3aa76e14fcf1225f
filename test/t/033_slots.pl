# Few worker slots: databases and roles share them, idle workers make place, everybody gets a turn.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# the launcher and PostgreSQL's own for logical replication take two
my $node = queue_node('slots', conf => "max_worker_processes = 8\nqueue.executors = 4\nqueue.executor_idle_timeout = 1h\n");
my $slow = '{"sleep": 0.3, "note": "slow"}';

sub database
{
	my ($db) = @_;
	sql($node, "CREATE DATABASE $db");
	queue_install($node, $db);
	sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0')", db => $db);
	return;
}

sub done
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = sql($node, q{SELECT queue.enqueue('job', '{"note": "one"}', priority => -1)}, db => $db);
	return wait_end($node, $id, 'completed', $name, db => $db);
}

# Jobs of the first database that run until the session lets go of the lock: four, or as many as slots are.
sub busy
{
	my ($n) = @_;
	my $session = queue_session($node, 'postgres');
	$session->query_safe('SELECT pg_advisory_lock(1)');
	sql($node, q{SELECT count(*) FROM queue.enqueue_many('job', array_fill('{"lock": 1}'::jsonb, '{4}'))});
	poll($node, "SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die "$n jobs do not run";
	return $session;
}

sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0')");

# --- fewer executors: those that are idle end, and not the one in a long job, even if its slot comes first
my $holder = queue_session($node, 'postgres');
$holder->query_safe('SELECT pg_advisory_lock(11), pg_advisory_lock(12)');
sql($node, q{SELECT queue.enqueue('job', '{"lock": 11}'), queue.enqueue('job', '{"lock": 12}')});
poll($node, "SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die '2 jobs do not run';
my ($lock, $later) = split /\|/, sql($node, q{SELECT payload->>'lock', pid FROM queue_internal.stat_worker_rows() WITH ORDINALITY JOIN queue.job ON id = job_id
	WHERE payload ? 'lock' ORDER BY ordinality DESC LIMIT 1});
$holder->query_safe("SELECT pg_advisory_unlock($lock)");
wait_true($node, "SELECT state = 'idle' FROM queue.stat_worker WHERE pid = $later", 'one of two executors idles');
sql($node, 'ALTER SYSTEM SET queue.executors = 1');
$node->reload;
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue executor'", 'with one that is allowed it ends');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'job' AND state = 'running'", '1', 'while the other one runs on');
sql($node, 'ALTER SYSTEM RESET queue.executors');
$node->reload;
$holder->quit;
wait_no_jobs($node, 'and its job ends');

$holder = busy(4);
database('two');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'two' AND backend_type = 'queue scheduler'",
	'a second database has its scheduler: all slots are taken');
my $id = sql($node, "SELECT queue.enqueue('job', '{\"note\": \"waits\"}')", db => 'two');
ok($node->poll_query_until('two', "SELECT queue.explain_job($id) LIKE '%no worker slot is free (max_worker_processes 8)%'"),
	'explain_job says that no worker slot is free');
$holder->quit;
wait_end($node, $id, 'completed', 'when one of the jobs ends, the other database has its turn', db => 'two');
wait_no_jobs($node, 'the first works on');

# --- idle executors, of the first database or of both, make place
$holder = busy(4);
$holder->quit;
wait_no_jobs($node, 'four executors of the first database idle');
done('two', 'a job of the second runs');
database('three');
done('three', 'a third database has its scheduler and an executor');

# --- another role
sql($node, "CREATE ROLE other LOGIN; SELECT queue.grant_queue('*', 'other', 'work'); SELECT queue.register_sql_handler('other', 'h', run_as => 'other')");
$holder = busy(3);
$holder->quit;
$id = sql($node, "SELECT queue.enqueue('other')");
wait_end($node, $id, 'completed', 'a job of another role runs at once');

# --- busy databases share
sql($node, "SELECT count(*) FROM queue.enqueue_many('job', array_fill('$slow'::jsonb, '{300}'))", db => $_) for qw(postgres two);
wait_true($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '$_' AND backend_type = 'queue executor'", "$_ works off a backlog")
  for qw(postgres two);
done('three', 'a third is served beside two backlogs');
sql($node, 'SELECT queue.purge($$default$$)', db => $_) for qw(postgres two);

# --- more databases than slots: one after the other
database("many$_") for 1 .. 7;
my %id = map { $_ => sql($node, q{SELECT queue.enqueue('job', '{"note": "many"}')}, db => "many$_") } 1 .. 7;
wait_end($node, $id{$_}, 'completed', "database $_ of seven has its turn", db => "many$_") for 1 .. 7;
# one that rests comes back for its job, its lease and its clock
done("many$_", "and again") for 1 .. 3;
$id = sql($node, q{SELECT queue.enqueue('job', delay => '2 s')}, db => 'many4');
wait_end($node, $id, 'completed', 'a job that falls due wakes its database', db => 'many4');

# A turn is a start or two for each; schedulers that change places without need start hundreds of times a second.
my $starts = () = slurp_file($node->logfile) =~ /scheduler of database \d+ started/g;
cmp_ok($starts, '<', 500, 'the schedulers do not change places without need');

# --- no scheduler at all: a fetch finds lease ends by itself
sql($node, 'ALTER SYSTEM SET queue.enabled = off');
$node->reload;
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue scheduler'", 'no scheduler runs');
$id = sql($node, "SELECT queue.enqueue('ext')");
one($node, "SELECT id FROM queue.fetch('default', lease => '300 ms')", $id, 'a lease');
one($node, "SELECT id, attempt FROM queue.fetch('default', wait => '25 s')", "$id|2", 'a waiting fetch gets it when it ends');
sql($node, "SELECT count(*) FROM queue.enqueue_many('ext', array_fill('{}'::jsonb, '{100}')); SELECT count(*) FROM queue.fetch('default', 100, lease => '300 ms')");
wait_true($node, "SELECT count(*) > 0 FROM queue.fetch('default', 1000)", 'so does one for a batch');

# gauges start at 0 in a crash, while the jobs are there: no scheduler counts them again here
$node->stop('immediate');
$node->start;
one($node, "SELECT count(*) > 0 FROM queue.complete_many((SELECT array_agg(id) FROM queue.job)) c", 't', 'jobs from before a crash end');
one($node, "SELECT bool_and(least(scheduled, available, running, retryable) >= 0) FROM queue.stat_queue", 't', 'no gauge falls below 0');

# DROP EXTENSION takes along what shared memory knows, although no scheduler sees it go
sql($node, 'SET client_min_messages = warning; DROP EXTENSION queue CASCADE; CREATE EXTENSION queue');
one($node, 'SELECT enqueued, completed FROM queue.stat_queue', '0|0', 'a new extension counts from 0');

log_clean($node);
$node->stop;
done_testing();
