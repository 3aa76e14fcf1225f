# Who runs what, since when, and why a job waits: stat_worker, explain_job, and failures in the server's log.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('who_runs', conf => "queue.executors = 2\nqueue.log_format = json\n");

# --- two jobs occupy both executors, three wait behind them
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, "SELECT queue.register_sql_handler('nap', 'h')");
my @nap = split /\n/, sql($node, q{SELECT queue.enqueue_many('nap', array_fill('{"lock": 1}'::jsonb, ARRAY[2]))});
wait_true($node, "SELECT count(*) = 2 FROM queue.job WHERE state = 'running'", 'two jobs run');
my ($first, $second, $third) = split /\n/, sql($node, q{SELECT queue.enqueue_many('nap', array_fill('{"lock": 1}'::jsonb, ARRAY[3]))});
like(sql($node, "SELECT queue.explain_job($nap[0])"), qr/^running for \d+ s in executor \d+$/, 'since when and where a job runs');
one($node, "SELECT said ~ (' s in ' || worker || '\$') AND substring(said FROM '\\d+')::int BETWEEN before AND floor(extract(epoch FROM clock_timestamp() - started_at))
	FROM (SELECT *, floor(extract(epoch FROM clock_timestamp() - started_at)) AS before, queue.explain_job(id) AS said FROM queue.job WHERE id = $nap[1] OFFSET 0) j",
	't', 'as the view has it');
one($node, "SELECT (SELECT attempt FROM queue.job WHERE id = $nap[0]), (SELECT attempt FROM queue.find_jobs('{\"ids\": $nap[0]}')), (SELECT attempt FROM queue.job WHERE id = $first)",
	'1|1|0', 'a run is an attempt, although its claim has not committed; what waits has none');
one($node, "SELECT f.id FROM queue.job j, queue.find_jobs(jsonb_build_object('worker', j.worker)) f WHERE j.id = $nap[1]", $nap[1], 'find_jobs finds it by its executor');
like(sql($node, "SELECT queue.explain_job($first)"), qr/^available; waits: 2 of 2 executors busy \(nap 2, the longest \d+ s\)$/,
	'the next one waits for an executor');
like(sql($node, "SELECT queue.explain_job($third)"), qr/^available; waits: behind 2 jobs; 2 of 2 executors busy \(nap 2, the longest \d+ s\)$/,
	'the last one is behind two jobs');
like(sql($node, "SELECT queue.explain_job($second)"), qr/waits: behind 1 job; /, 'and that one behind one');
my $urgent = sql($node, q{SELECT queue.enqueue('nap', '{"lock": 1}', priority => -1)});
like(sql($node, "SELECT queue.explain_job($urgent)"), qr/^available; waits: 2 of 2/, 'an urgent one behind none');
like(sql($node, "SELECT queue.explain_job($third)"), qr/behind 3 jobs/, 'but before others');
sql($node, "SELECT queue.enqueue('far'); SELECT id FROM queue.fetch('default', kinds => '{far}', lease => '1 h')");
like(sql($node, "SELECT queue.explain_job($third)"), qr/behind 3 jobs/, 'one behind it that a worker has changes nothing');
sql($node, "SELECT queue.complete(id) FROM queue.job WHERE kind = 'far'");
one($node, "SELECT string_agg(concat_ws(' ', kind, queue, worker = 'executor ' || pid, job_started_at <= clock_timestamp()), ', ') FROM queue.stat_worker WHERE job_id IS NOT NULL",
	'nap default t t, nap default t t', 'stat_worker tells it as well');
sql($node, 'CREATE ROLE stranger LOGIN');
sql($node, "SELECT queue.create_queue('strange'), queue.grant_queue('strange', 'stranger', 'read')");
one($node, "SELECT count(*), count(job_id), count(queue), count(job_started_at) FROM queue.stat_worker WHERE type = 'executor'",
	'2|0|0|0', 'who may not read the queue learns of the executors only', user => 'stranger');
# a job of a queue that the reader may not see is one of others; those of another priority and what is not due are not ahead
sql($node, 'CREATE ROLE narrow LOGIN');
sql($node, "SELECT queue.grant_queue('strange', 'narrow', 'read'); SELECT queue.enqueue('nap', '{}', 'strange')");
like(sql($node, "SELECT queue.explain_job(max(id)) FROM queue.job WHERE queue = 'strange'", user => 'narrow'),
	qr/^available; waits: 2 of 2 executors busy \(others 2, the longest \d+ s\)$/, 'what runs elsewhere has no name for who may not read there');
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE queue = 'strange'");

# --- what waits in the channel is looked at again by who takes it: the scheduler, which stands still here, sorts nothing out
my ($scheduler) = workers($node, 'scheduler');
kill 'STOP', $scheduler;
sql($node, "SELECT queue.pause('default')");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE id IN ($nap[0], $nap[1])", 'the first two end');
wait_true($node, "SELECT count(*) = 2 FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NULL AND state = 'idle'", 'the executors have nothing more');
one($node, "SELECT count(*), sum(attempt) FROM queue.job WHERE kind = 'nap' AND queue = 'default'", '4|0', 'what was read before the queue was paused does not run');
kill 'CONT', $scheduler;
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, "SELECT queue.resume('default')");
wait_true($node, "SELECT count(*) = 2 FROM queue.job WHERE state = 'running'", 'two run when it is resumed');
kill 'STOP', $scheduler;
sql($node, "CREATE ROLE another LOGIN; SELECT queue.grant_queue('default', 'another', 'work'); SELECT queue.register_sql_handler('nap', 'h', run_as => 'another')");
$holder->query_safe('SELECT pg_advisory_unlock(1)');
wait_true($node, "SELECT count(*) = 2 FROM queue.stat_worker WHERE type = 'executor' AND job_id IS NULL AND state = 'idle'", 'they end');
one($node, "SELECT count(*), sum(attempt) FROM queue.job WHERE kind = 'nap' AND queue = 'default'", '2|0', 'the others run no more as who they were to run as');
kill 'CONT', $scheduler;
wait_no_jobs($node, 'all end');
one($node, "SELECT count(*) FROM seen WHERE kind = 'nap' AND cu = 'another'", '2', 'as the other role');

# --- sessions that fetch
sql($node, "SELECT queue.create_queue('own')");
sql($node, "SELECT queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[3]), 'own')");
my $worker = queue_session($node);
my $pid = $worker->query_safe('SELECT pg_backend_pid()');
one($node, "SELECT count(*) FROM queue.stat_worker WHERE type = 'external'", '0', 'a session that fetches nothing is no worker');
$worker->query_safe("SELECT id FROM queue.fetch('own', 2, worker => 'w1')");
my $external = "SELECT pid, state, worker, queue, jobs, database = current_database(), role = current_user, last_seen >= started_at, last_seen <= clock_timestamp() FROM queue.stat_worker WHERE type = 'external'";
one($node, $external, "$pid|working|w1|own|2|t|t|t|t", 'a session with claims works');
$worker->query_safe("SELECT id FROM queue.fetch('own', 2, worker => 'w1')");
my $seen = sql($node, "SELECT last_seen FROM queue.stat_worker WHERE type = 'external'");
$worker->query_safe("SELECT queue.heartbeat(id, attempt => attempt) FROM queue.job WHERE queue = 'own'");
one($node, "SELECT last_seen > '$seen' FROM queue.stat_worker WHERE type = 'external'", 't', 'a heartbeat is a sign of life');
$worker->query_safe("SELECT queue.complete(id, attempt) FROM queue.job WHERE queue = 'own'");
$worker->query_until(qr/asked/, "\\echo asked\nSELECT id FROM queue.fetch('own', 1, wait => '1 min', worker => 'w2');\n");
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'external' AND state = 'waiting' AND worker = 'w2' AND jobs = 3",
	'one that waits is waiting');
one($node, "SELECT count(*) FROM queue.stat_worker WHERE type = 'external'", '0', 'only for who may read its queue', user => 'stranger');
sql($node, "SELECT queue.enqueue('k', queue => 'own')");
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE type = 'external' AND state = 'working' AND jobs = 4", 'until it has got something');
$worker->quit;
wait_true($node, "SELECT count(*) = 0 FROM queue.stat_worker WHERE type = 'external'", 'a session that ended is no worker');

# --- a failure in the server's log
sql($node, "SELECT queue.register_sql_handler('fail', 'h', max_attempts => 1)");
my $id = sql($node, q{SELECT queue.enqueue('fail', '{"note": "\"quoted\"", "raise": "22012"}')});
wait_end($node, $id, 'discarded', 'a job fails');
my ($line) = grep { /job_failed/ } split /\n/, slurp_file($node->logfile);
my ($json) = $line =~ /(\{.*\})/ or die "no JSON in the log: $line";
$json =~ s/'/''/g;
one($node, "SELECT j->>'event', j->>'job', j->>'kind', j->>'queue', j->>'attempt', j->>'error', j->>'message' LIKE '%: boom \"quoted\"' FROM (SELECT '$json'::json) l (j)",
	"job_failed|$id|fail|default|1|boom \"quoted\"|t", 'its line in the log has the job, its kind, queue, attempt and error as fields');

$holder->quit;
log_clean($node);
done_testing();
