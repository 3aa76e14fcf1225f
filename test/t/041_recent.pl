# The memory of recent jobs: what queue.recent_job tells, to whom, and what it forgets.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('recent', conf => "queue.recent_jobs = 100\nmax_prepared_transactions = 5\n");
sql($node, "SELECT queue.create_queue(q, keep_discarded => '0') FROM unnest('{own,other}'::text[]) q");
sql($node, "SELECT queue.register_sql_handler(k, 'h', max_attempts => 1) FROM unnest('{run,boom}'::text[]) k");
my $all = "SELECT string_agg(concat_ws(' ', kind, state, attempt, error), ', ' ORDER BY finished_at, id) FROM queue.recent_job";

# --- jobs of an executor
my $run = sql($node, "SELECT queue.enqueue('run', queue => 'own')");
wait_end($node, $run, 'completed', 'a job runs');
one($node, "SELECT id, queue, kind, state, attempt, enqueued_at <= started_at, started_at <= finished_at, finished_at <= clock_timestamp(), worker = 'executor ' || (SELECT pid FROM queue.stat_worker WHERE type = 'executor'), error FROM queue.recent_job",
	"$run|own|run|completed|1|t|t|t|t|", 'and is remembered, with who ran it and when');
sql($node, "SELECT queue.enqueue_many('run', array_fill('{}'::jsonb, ARRAY[20]), 'own')");
wait_no_jobs($node, 'some more end, in groups');
one($node, "SELECT count(*), count(DISTINCT id), bool_and(worker LIKE 'executor %' AND enqueued_at <= started_at AND started_at <= finished_at AND attempt = 1) FROM queue.recent_job",
	'21|21|t', 'each is');
my $boom = sql($node, q{SELECT queue.enqueue('boom', '{"raise": "22012", "note": "one\ntwo"}', 'own')});
wait_end($node, $boom, 'discarded', 'one fails');
one($node, "SELECT state, attempt, worker LIKE 'executor %', error FROM queue.recent_job WHERE id = $boom", 'discarded|1|t|boom one',
	'its error is there, as its first line');
like(sql($node, "SELECT queue.explain_job($boom)"), qr/^discarded \d+ s ago, not kept; reason: boom one; .*'own', keep_discarded/, 'explain_job has it too');

# --- jobs of others
my $fetched = sql($node, "SELECT queue.enqueue('outside', queue => 'own')");
sql($node, "SELECT id FROM queue.fetch('own', worker => 'w1')");
one($node, "SELECT count(*) FROM queue.recent_job WHERE id = $fetched", '0', 'a claim is no end');
sql($node, "SELECT queue.complete($fetched, 1)");
one($node, "SELECT state, attempt, worker, started_at BETWEEN enqueued_at AND finished_at FROM queue.recent_job WHERE id = $fetched",
	'completed|1|w1|t', 'an external one has its worker and the time of its claim');
$fetched = sql($node, "SELECT queue.enqueue('outside', queue => 'own')");
sql($node, "SELECT id FROM queue.fetch('own', worker => repeat('w', 200)); SELECT queue.fail($fetched, 1, repeat('e', 250), discard => true)");
one($node, "SELECT length(worker), left(error, 20) = repeat('e', 20) FROM queue.recent_job WHERE id = $fetched", '64|t', 'a long name leaves room for the error');
my ($cancelled, $purged) = split /\n/, sql($node, "SELECT queue.enqueue('outside', queue => q) FROM unnest('{own,other}'::text[]) q");
sql($node, "SELECT queue.cancel($cancelled, 'not needed')");
sql($node, "SELECT queue.purge('other')");
one($node, "SELECT string_agg(concat_ws(' ', state, attempt, started_at, worker, error), ', ' ORDER BY id) FROM queue.recent_job WHERE id IN ($cancelled, $purged)",
	'cancelled 0 not needed, deleted 0', 'cancelled and purged ones');

# --- what does not commit
my @id = split /\n/, sql($node, "SELECT queue.enqueue('outside', queue => 'other') FROM generate_series(1, 4)");
sql($node, "BEGIN; SELECT queue.cancel($id[0]); ROLLBACK");
sql($node, "BEGIN; SAVEPOINT a; SELECT queue.cancel($id[0]); ROLLBACK TO a; SAVEPOINT b; SELECT queue.cancel($id[1], 'in a savepoint'); RELEASE b; COMMIT");
one($node, "SELECT string_agg(id || ' ' || error, ', ') FROM queue.recent_job WHERE id = ANY ('{$id[0],$id[1]}')", "$id[1] in a savepoint",
	'only what committed is remembered');
sql($node, "BEGIN; SELECT queue.cancel($id[2], 'prepared'); PREPARE TRANSACTION 'yes'");
sql($node, "BEGIN; SELECT queue.cancel($id[3], 'undone'); PREPARE TRANSACTION 'no'");
my $like = "SELECT string_agg(concat_ws(' ', queue, kind, state, error), ', ') FROM queue.recent_job WHERE id IN ($id[2], $id[3])";
one($node, $like, '', 'not while it is prepared');
sql($node, "ROLLBACK PREPARED 'no'");
sql($node, "COMMIT PREPARED 'yes'");
one($node, $like, 'other outside cancelled prepared', 'but after COMMIT PREPARED, with all that was known then');
# a prepared transaction that ended many remembers the last 32 of them
sql($node, "SELECT count(queue.enqueue('many', jsonb_build_object('n', n), 'other')) FROM generate_series(1, 50) n");
sql($node, "BEGIN; SELECT count(queue.cancel(id, 'many')) FROM (SELECT id FROM queue.job WHERE kind = 'many' ORDER BY id) j; PREPARE TRANSACTION 'many'");
my $last = sql($node, "SELECT max(id) FROM queue.job WHERE kind = 'many'");
sql($node, "COMMIT PREPARED 'many'");
one($node, "SELECT count(*), max(id) FROM queue.recent_job WHERE kind = 'many'", "32|$last", 'of many in a prepared transaction the last 32');

# --- who may see
sql($node, 'CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor');
sql($node, "SELECT queue.grant_queue('other', 'reader', 'read'), queue.grant_queue('other', 'stranger', 'work')");
one($node, 'SELECT DISTINCT queue FROM queue.recent_job', 'other', 'a reader of one queue sees that one', user => 'reader');
like(eval { sql($node, 'SELECT * FROM queue.recent_job', user => 'stranger') } // $@, qr/permission denied/, 'who reads none sees nothing');
like(sql($node, "SELECT queue.explain_job($boom)", user => 'reader'), qr/^unknown/, 'explain_job tells no other queue');
one($node, "SELECT queue.wait_for($boom, '0') IS NULL, queue.wait_for($purged, '0') IS NULL", 't|t', 'nor wait_for', user => 'reader');
sql($node, 'CREATE DATABASE second');
sql($node, 'CREATE EXTENSION queue', db => 'second');
sql($node, "SELECT queue.enqueue('there'); SELECT queue.cancel(1)", db => 'second');
one($node, 'SELECT id, kind FROM queue.recent_job', '1|there', 'another database has its own', db => 'second');
one($node, "SELECT count(*) FROM queue.recent_job WHERE kind = 'there'", '0', 'as this one');

# --- names that are long, and names whose line is gone
my ($queue, $kind) = ('q' x 200, 'k' x 200);
sql($node, "SELECT queue.create_queue('$queue'); SELECT queue.enqueue('$kind', queue => '$queue')");
sql($node, "SELECT queue.cancel(id, 'why') FROM queue.job WHERE queue = '$queue'");
one($node, "SELECT count(*) FROM queue.recent_job WHERE queue = '$queue' AND kind = '$kind' AND error = 'why'", '1', 'names that are too long for an entry');
sql($node, "DELETE FROM queue.line WHERE kind = 'boom'");
one($node, "SELECT kind, queue FROM queue.recent_job WHERE id = $boom", 'boom|own', 'names of a line that is no more');
sql($node, "SELECT queue.drop_queue('other', force => true)");
like(sql($node, "SELECT queue.explain_job($id[0])"), qr/^deleted \d+ s ago: queue other was purged or dropped/, 'a queue that was dropped');

# --- one that ended twice, as whose second end it is told
sql($node, "SELECT queue.create_queue('twice', keep_discarded => '1 hour')");
my $twice = sql($node, "SELECT queue.enqueue('outside', queue => 'twice')");
sql($node, "SELECT id FROM queue.fetch('twice'); SELECT queue.discard($twice); SELECT queue.retry($twice)");
sql($node, "SELECT id FROM queue.fetch('twice'); SELECT queue.complete(id, attempt) FROM queue.job WHERE id = $twice");
sql($node, "SELECT queue.drop_queue('twice', force => true)");
one($node, "SELECT string_agg(state, ' ' ORDER BY finished_at) FROM queue.recent_job WHERE id = $twice", 'discarded completed', 'both ends are remembered');
one($node, "SELECT queue.wait_for($twice, '0')", 'completed', 'wait_for tells of the last');

# --- the last hundred
my @many = split /\n/, sql($node, "SELECT queue.enqueue('outside', queue => 'own') FROM generate_series(1, 150)");
sql($node, "SELECT queue.cancel(id) FROM generate_series($many[0], $many[-1]) id");
one($node, 'SELECT count(*), min(id), max(id) FROM queue.recent_job', "100|$many[50]|$many[-1]", 'the last queue.recent_jobs are remembered');
one($node, "SELECT queue.wait_for($many[50], '0'), queue.wait_for($many[49], '0') IS NULL", 'cancelled|t', 'by wait_for, too');
one($node, "SELECT ok, detail FROM queue.doctor() WHERE check_name = 'recent jobs'", 't|the last 100 jobs that end are remembered', 'doctor');
sql($node, 'DROP EXTENSION queue CASCADE; CREATE EXTENSION queue');
one($node, 'SELECT count(*) FROM queue.recent_job', '0', 'a new extension remembers nothing of the old one');
one($node, 'SELECT count(*) FROM queue.recent_job', '1', 'nor does it make others forget', db => 'second');
sql($node, "SELECT queue.enqueue('outside') FROM generate_series(1, 150)");
sql($node, "SELECT queue.cancel(1)");
one($node, 'SELECT count(*) FROM queue.recent_job', '1', 'nor when it remembers one');
sql($node, "SELECT queue.cancel(id) FROM generate_series(2, 150) id");
one($node, 'SELECT count(*), min(id) FROM queue.recent_job', '100|51', 'it remembers as many as the old one');
$node->restart;
one($node, 'SELECT count(*) FROM queue.recent_job', '0', 'a restart empties it', db => 'second');

log_clean($node);
done_testing();
