# kill -9 of every process while jobs run: nothing is lost and every effect is there once; a handler that kills
# its own process is found out and discarded.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = queue_node('crash');
my $jobs = 4000;

sql($node, <<'EOS');
SELECT queue.register_sql_handler('slow', 'h', timeout => '0');
SELECT queue.register_sql_handler('quick', 'h');
EOS

sub wait_rows
{
	my ($n) = @_;
	poll($node, "SELECT count(*) >= $n FROM seen WHERE note = 'burst'")
	  or die "less than $n jobs ran";
	return;
}

# A worker of this type, awaited: after a restart the rows may be there before it is.
sub worker
{
	my ($type) = @_;
	poll($node, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'queue $type')") or die "no $type came";
	return (workers($node, $type))[0];
}

# Kills, when so many rows are there, and waits for the server to be back.
sub kill_at
{
	my ($n, $what, $pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_rows($n);
	my $target = ref $pid ? $pid->() : $pid;
	my $rows = sql($node, "SELECT count(*) FROM seen WHERE note = 'burst'");
	ok($target, "there is a $what");
	cmp_ok($rows, '<', 2 * $jobs * 0.95, "kill -9 of the $what while jobs run ($rows done)");
	kill('KILL', $target) if $target;
	ok(gone($target), "the $what is dead");
	poll($node, 'SELECT true') or die 'the server did not come back';
	return;
}

# slow jobs, which run alone, and quick ones, which share commits; loaded while paused
sql($node, <<"EOS");
SELECT queue.pause('default');
SELECT count(*) FROM (SELECT queue.enqueue('slow', '{"note": "burst", "sleep": 0.01}'), queue.enqueue('quick', '{"note": "burst"}') FROM generate_series(1, $jobs)) x;
BEGIN;
SELECT count(*) FROM (SELECT queue.enqueue('quick', '{"note": "rolled back"}') FROM generate_series(1, 50)) x;
ROLLBACK;
SELECT queue.resume('default');
EOS

kill_at(300, 'executor', sub { worker('executor') });
kill_at(800, 'scheduler', sub { worker('scheduler') });
kill_at(1300, 'launcher', sub { worker('launcher') });

# a client's backend in the middle of an enqueue and a claim
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler'", 'the scheduler is back');
my $outside = sql($node, "SELECT queue.enqueue('outside', '{}')");
my $client = queue_session($node);
my $client_pid = $client->query_safe('SELECT pg_backend_pid()');
$client->query_safe(q{BEGIN; SELECT queue.enqueue('quick', '{"note": "rolled back"}')});
is($client->query_safe("SELECT id FROM queue.fetch('default', kinds => '{outside}')"), $outside, 'a client has a job');
kill_at(1700, "client's backend", $client_pid);
eval { $client->quit };
one($node, "SELECT id FROM queue.fetch('default', kinds => '{outside}')", $outside, 'its job is fetchable at once');

# a client that dies without its backend
$outside = sql($node, "SELECT queue.enqueue('outside', '{}')");
$client = queue_session($node);
$client->query_safe(q{BEGIN; SELECT queue.enqueue('quick', '{"note": "rolled back"}')});
is($client->query_safe("SELECT id FROM queue.fetch('default', kinds => '{outside}')"), $outside, 'a client has a job');
$client->{run}->kill_kill(grace => 0);
wait_true($node, "SELECT count(*) = 1 FROM queue.fetch('default', kinds => '{outside}')", 'it is fetchable when the client is dead');

# the whole server: immediate stop, and the postmaster alone
wait_rows(2100);
my @pids = map { workers($node, $_) } qw(launcher scheduler executor);
cmp_ok(scalar @pids, '>=', 3, 'workers run');
$node->stop('immediate');
ok((!grep { !gone($_) } @pids), 'an immediate stop ends them');
$node->start;
kill_at(2500, 'executor again', sub { worker('executor') });

wait_rows(3000);
wait_true($node, "SELECT count(*) >= 1 FROM pg_stat_activity WHERE backend_type = 'queue executor'", 'executors are back');
@pids = map { workers($node, $_) } qw(launcher scheduler executor);
cmp_ok(scalar @pids, '>=', 3, 'workers run');
$node->kill9;
ok((!grep { !gone($_) } @pids), 'workers do not survive the postmaster');
my $started = 0;
for (1 .. 100)
{
	# the last backend may still hold the shared memory
	last if $started = $node->start(fail_ok => 1);
	usleep(100_000);
}
ok($started, 'started again');

wait_no_jobs($node, 'all jobs end', kinds => '^(slow|quick)$');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'burst'", (2 * $jobs) . '|' . (2 * $jobs),
	'each effect is there exactly once');
one($node, "SELECT count(*) FROM seen WHERE note = 'rolled back'", '0', 'what rolled back never ran');
one($node, "SELECT count(*) FROM queue.job WHERE state IN ('discarded', 'cancelled')", '0', 'nothing was given up');

# --- a handler that kills its own process
sql($node, <<'EOS');
CREATE FUNCTION h_suicide(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, note) VALUES (j.id, 'suicide');
	EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid() || '; sleep 2');
END $$;
SELECT queue.register_sql_handler('suicide', 'h_suicide');
EOS
my $log_before = length slurp_file($node->logfile);
# (the first death may come before this session has heard that its COMMIT is done)
eval { sql($node, <<'EOS') };
BEGIN;
SELECT count(*) FROM (SELECT queue.enqueue('quick', '{"note": "innocent"}') FROM generate_series(1, 300)) x;
SELECT count(*) FROM (SELECT queue.enqueue('slow', '{"note": "innocent", "sleep": 0.05}') FROM generate_series(1, 100)) x;
SELECT queue.enqueue('slow', '{"note": "innocent", "sleep": 1}') FROM generate_series(1, 3);
SELECT queue.enqueue('suicide');
SELECT count(*) FROM (SELECT queue.enqueue('quick', '{"note": "innocent"}') FROM generate_series(1, 300)) x;
COMMIT;
EOS
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE kind = 'suicide'", 'a handler that kills its process is discarded');
one($node, "SELECT last_error ~* 'died|killed|terminated' FROM queue.job WHERE kind = 'suicide'", 't', 'its error says so');
one($node, "SELECT discarded FROM queue.stat_handler WHERE kind = 'suicide'", '1', 'and it counts for its handler');
my $log = substr slurp_file($node->logfile), $log_before;
my $deaths = () = $log =~ /terminated by signal 9/g;
cmp_ok($deaths, '>=', 2, 'it had two chances');
cmp_ok($deaths, '<=', 3, 'and not many more');
wait_no_jobs($node, 'all others end', kinds => '^(slow|quick|suicide)$');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'innocent'", '703|703', 'innocents ran exactly once');
my $suspects = join(', ', 0, $log =~ /job (\d+) was running in a process that died/g);
isnt($suspects, '0', 'the log tells who was suspected');
one($node, "SELECT count(*) FROM seen WHERE kind = 'slow' AND job_id IN ($suspects)", '0', 'not those that ran in other processes');
one($node, "SELECT count(*) FROM seen WHERE note = 'suicide'", '0', 'the killer left nothing');
one($node, "SELECT count(*) FROM queue.job WHERE state = 'discarded'", '1', 'nobody else was blamed');

# --- what a machine that went down left behind accuses nobody: the file names its boot
sql($node, q{SELECT queue.register_sql_handler('long', 'h', timeout => '0'); SELECT queue.enqueue('long', '{"sleep": 600}')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'executor' AND kind = 'long'", 'a job runs');
my ($executor, $running) = split /\|/, sql($node, "SELECT pid, job_id FROM queue.stat_worker WHERE type = 'executor' AND kind = 'long'");
my $file = $node->data_dir . '/pg_stat_tmp/queue.' . sql($node, "SELECT oid FROM pg_database WHERE datname = 'postgres'");
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
{
	# the server does not see the death before the file is another machine's
	kill 'STOP', $postmaster;
	kill 'KILL', $executor;
	my $out;
	my $written = open($out, '+<', $file) && print($out 'another boot') && close($out);
	kill 'CONT', $postmaster;
	ok($written, 'an executor dies, and the machine boots');
}
ok(gone($executor), 'its executor is dead');
poll($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'executor' AND kind = 'long' AND pid <> $executor") or die 'the job does not run again';
one($node, "SELECT extra->>'deaths' FROM queue.live_job WHERE id = $running", '', 'it runs again as if nothing had been');
sql($node, "SELECT queue.cancel($running)");

# --- a suspect under a full limit waits with the attempt that it is owed
sql($node, <<'EOS');
SELECT queue.create_queue('narrow', max_running => 2, lease => '10 min');
SELECT queue.enqueue('external', queue => 'narrow');
EOS
one($node, q{SELECT count(*) FROM queue.fetch('narrow', kinds => '{external}', wait => '20 s')}, '1', 'a lease takes a place');
sql($node, q{SELECT queue.enqueue('long', '{"sleep": 600}', 'narrow')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'executor' AND kind = 'long'", 'and a job another');
$executor = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'executor' AND kind = 'long'");
sql($node, "SELECT queue.alter_queue('narrow', max_running => 1)");
kill('KILL', $executor);
ok(gone($executor), 'its executor is dead');
poll($node, 'SELECT true') or die 'the server is not back';
sql($node, 'SELECT queue.enqueue(\'quick\', \'{"note": "after"}\')');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'after'", 'other jobs run');
one($node, q{SELECT state, attempt, (SELECT extra->>'deaths' FROM queue.live_job l WHERE l.id = j.id) FROM queue.job j WHERE kind = 'long' AND queue = 'narrow'},
	'available|0|', 'the suspect has burnt no attempt');
# it comes to an end then, if not to a good one: whoever dies with it later is not its second death
sql($node, q{UPDATE queue.live_job SET payload = '{"raise": "22012"}' WHERE payload ? 'sleep';
	SELECT queue.complete(id) FROM queue.job WHERE kind = 'external'});
wait_true($node, "SELECT failures > 0 FROM queue.job WHERE kind = 'long' AND queue = 'narrow'", 'it runs when there is room');
one($node, "SELECT extra ? 'deaths' FROM queue.live_job WHERE payload ? 'raise'", 'f', 'and no death is laid to its charge any more');
log_clean($node);
$node->stop;
done_testing();
