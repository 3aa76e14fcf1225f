# One handler's or one job's trouble stays its own: a library that cannot be loaded, a function that went away, what a
# job leaves in its session, a handler that gives its own job back.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('apart', conf => "queue.executors = 1\nmax_worker_processes = 12");
my $library = $node->basedir . '/gone.so';

sql($node, "SELECT queue.register_sql_handler('good', 'public.h')");

# How many transactions the database has seen: passing an entry to and fro takes thousands a second.
sub transactions
{
	return sql($node, 'SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()');
}

sub good_jobs_run
{
	my ($name) = @_;
	sql($node, "SELECT queue.enqueue('good') FROM generate_series(1, 5)");
	return wait_no_jobs($node, $name, kinds => '^good$');
}

# A library that only executors cannot load: the scheduler has it still in memory.
copy($node->config_data('--pkglibdir') . '/lo.so', $library) or die "cannot copy lo.so: $!";
sql($node, <<"EOS");
CREATE FUNCTION public.gone(jsonb) RETURNS void LANGUAGE c AS '$library', 'lo_manage';
SELECT queue.register_sql_handler('gone', 'public.gone', max_attempts => 1);
SELECT queue.enqueue('gone');
EOS
wait_no_jobs($node, 'a handler in C is called, and fails', kinds => '^gone$');
unlink($library) or die "cannot remove $library: $!";
my ($executor) = workers($node, 'executor');
sql($node, "SELECT pg_terminate_backend($executor)");
ok(gone($executor), 'its executor ended');
sql($node, "SELECT queue.enqueue('gone') FROM generate_series(1, 20)");
doctor_like($node, qr/kind "gone": .*could not (?:run it|access file)/, 'doctor() says why it does not run');
my $before = transactions();
good_jobs_run('other handlers of the role run on');
sql($node, 'SELECT pg_sleep(0.5)');
cmp_ok(transactions() - $before, '<', 2000, 'its jobs are not passed to and fro');
one($node, "SELECT count(*), max(attempt) FROM queue.job WHERE kind = 'gone' AND state = 'available'", '20|0', 'they wait, uncounted');

# When it is there again, what the executor said is forgotten.
copy($node->config_data('--pkglibdir') . '/lo.so', $library) or die "cannot copy lo.so: $!";
sql($node, "SELECT queue.alter_queue('default', description => 'a change has it tried at once')");
wait_no_jobs($node, 'with the library they are called', kinds => '^gone$');
wait_true($node, "SELECT state = 'ready' FROM queue.stat_handler WHERE kind = 'gone'", 'and the handler is not shown as parked any more');

# A library that nobody can load.
unlink($library) or die "cannot remove $library: $!";
($executor) = workers($node, 'executor');
sql($node, "SELECT pg_terminate_backend($executor)");
ok(gone($executor), 'its executor ended');
sql($node, "SELECT queue.enqueue('gone') FROM generate_series(1, 20)");
my ($scheduler) = workers($node, 'scheduler');
kill 'TERM', $scheduler;
ok(gone($scheduler), 'the scheduler ended');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND pid <> $scheduler",
	'another one started');
($scheduler) = workers($node, 'scheduler');
good_jobs_run('a scheduler that cannot load one handler\'s library runs the others');
doctor_like($node, qr/kind "gone": .*cannot be called: could not access file/, 'doctor() has the reason, and ends');
one($node, "SELECT queue.explain_job(max(id)) ~ 'is parked: function public.gone cannot be called' FROM queue.job WHERE kind = 'gone'",
	't', 'so has explain_job()');
is((workers($node, 'scheduler'))[0], $scheduler, 'the scheduler lives');

# It is looked for again from time to time, whatever nobody changes.
copy($node->config_data('--pkglibdir') . '/lo.so', $library) or die "cannot copy lo.so: $!";
sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '15 s'");
$node->reload;
wait_no_jobs($node, 'some time after the library came back its jobs run', kinds => '^gone$');
sql($node, "ALTER SYSTEM RESET queue.debug_clock_offset");
$node->reload;
sql($node, "SELECT queue.unregister_handler('gone')");

# A function that goes away with its table, which no configuration tells.
sql($node, <<'EOS');
CREATE TABLE t (id bigint);
CREATE FUNCTION public.atomic(jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT; END;
SELECT queue.register_sql_handler('atomic', 'public.atomic');
SELECT queue.enqueue('atomic');
EOS
wait_true($node, 'SELECT count(*) = 1 FROM t', 'an SQL handler with a parsed body runs');
sql($node, 'SET client_min_messages = warning; DROP TABLE t CASCADE');
sql($node, "SELECT queue.enqueue('atomic') FROM generate_series(1, 20)");
doctor_like($node, qr/kind "atomic": function public\.atomic\(jsonb\) does not exist/, 'doctor() says that it is gone');
$before = transactions();
good_jobs_run('other handlers run on');
sql($node, 'SELECT pg_sleep(0.5)');
cmp_ok(transactions() - $before, '<', 2000, 'its jobs are not passed to and fro');
sql($node, <<'EOS');
CREATE TABLE t (id bigint);
CREATE FUNCTION public.atomic(jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT; END;
SELECT queue.enqueue('good');
EOS
wait_no_jobs($node, 'they run when it is there again', kinds => '^atomic$');
one($node, 'SELECT count(*) FROM t', 20, 'each once');

# Rows of the configuration that cannot be read, and a style of intervals in which they say something else.
sql($node, <<'EOS');
SELECT queue.create_queue('styled', backoff => '{"type": "fixed", "base": "-1 day 25 hours", "jitter": 0}');
SELECT queue.create_queue('odd');
SELECT queue.register_sql_handler('odd', 'public.h');
SELECT queue.register_http_handler('odd_http', 'http://127.0.0.1:1/a');
SELECT queue.add_endpoint('odd_http', 'http://127.0.0.1:1/b');
SELECT queue.enqueue('odd'), queue.enqueue('good', queue => 'odd'), queue.enqueue('external', queue => 'styled');
UPDATE queue.queue SET backoff = '{"colour": 1}' WHERE name = 'odd';
UPDATE queue.handler SET backoff = '{"base": "soon"}' WHERE kind = 'odd';
UPDATE queue.endpoint SET breaker = '{"pause": "soon"}' WHERE url LIKE '%/b';
ALTER DATABASE postgres SET IntervalStyle = 'sql_standard';
EOS
($scheduler) = workers($node, 'scheduler');
kill 'TERM', $scheduler;
ok(gone($scheduler), 'the scheduler ended');
sql($node, "SELECT queue.enqueue('odd')");
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND pid <> $scheduler",
	'another one started');
good_jobs_run('one that cannot read some rows runs the jobs of the others');
doctor_like($node, qr/kind "odd": its backoff cannot be read: invalid input syntax for type interval: "soon"/,
	'a handler with such a row is parked');
doctor_like($node, qr/queue "odd": its backoff cannot be read: unknown backoff member "colour"/, 'a queue has the default');
doctor_like($node, qr{kind "odd_http": endpoint http://127.0.0.1:1/b: its breaker cannot be read}, 'nothing is sent to an endpoint');
one($node, "SELECT queue.fail(id, attempt) FROM queue.fetch('styled')", 'retryable', 'a backoff that was written in another style works');
one($node, "SELECT run_at - clock_timestamp() BETWEEN '50 min' AND '60 min' FROM queue.job WHERE queue = 'styled'", 't', 'and says the same');
sql($node, 'ALTER DATABASE postgres RESET IntervalStyle');
sql($node, "SELECT queue.register_sql_handler('odd', 'public.h'), queue.unregister_handler('odd_http')");
wait_no_jobs($node, 'the parked handler runs when it is registered again', kinds => '^odd$');

# A job that can be neither run nor failed, because its row cannot be written.
sql($node, <<'EOS');
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'poison' THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT queue.enqueue('good', '{"poison": 1}');
EOS
$before = transactions();
sql($node, "SELECT queue.enqueue('good') FROM generate_series(1, 20)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'good'", 'other jobs of its kind run');
sql($node, 'SELECT pg_sleep(0.5)');
cmp_ok(transactions() - $before, '<', 2000, 'it is not tried again and again');
sql($node, 'DROP TRIGGER refuse ON queue.live_job');
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.job WHERE payload ? 'poison') OR queue.enqueue('good') IS NULL",
	'it runs when its row can be written');
wait_no_jobs($node, 'and so did the others', kinds => '^good$');

# A user's trigger on what is kept of failed attempts: an executor is in no query, in which triggers usually run.
sql($node, <<'EOS');
CREATE TABLE public.told (job_id bigint);
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.told VALUES (NEW.job_id);
	RETURN NULL;
END $$;
SELECT format('CREATE TRIGGER tell AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.tell()', inhrelid::regclass)
FROM pg_inherits WHERE inhparent = 'queue.failure'::regclass \gexec
SELECT queue.enqueue('good', '{"raise": "22012"}', max_attempts => 1);
EOS
wait_true($node, 'SELECT count(*) = 1 FROM public.told', 'a trigger hears of a failed attempt');
sql($node, 'DROP FUNCTION public.tell() CASCADE');

# What a role takes when it logs in is not what its handlers run as.
sql($node, <<'EOS');
CREATE ROLE other;
CREATE ROLE worker LOGIN IN ROLE other;
ALTER ROLE worker SET role = 'other';
SELECT queue.grant_queue('default', 'worker', 'work');
SELECT queue.register_sql_handler('as_worker', 'public.h', run_as => 'worker');
SELECT queue.enqueue('as_worker');
EOS
wait_no_jobs($node, 'a job of a role with a role setting runs', kinds => '^as_worker$');
one($node, "SELECT cu, su FROM seen WHERE kind = 'as_worker'", 'worker|worker', 'as run_as, whatever role it takes at login');

# Neither currval nor the seed of random() comes from the job before, alone or in company; not even behind a job that failed at the
# head of its company, where no subtransaction was around it.
sql($node, q{SELECT queue.enqueue('good', '{"raise": "22012"}', max_attempts => 1)});
wait_no_jobs($node, 'a job fails', kinds => '^good$');
sql($node, <<'EOS');
CREATE SEQUENCE s;
CREATE TABLE left_over (what text);
CREATE FUNCTION public.session_state(j jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO left_over VALUES ('currval ' || currval('s'));
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		NULL;
	END;
	INSERT INTO left_over VALUES ('random ' || random());
	PERFORM nextval('s'), setseed(0.5);
END $$;
SELECT queue.register_sql_handler('session_state', 'public.session_state');
SELECT queue.enqueue('session_state') FROM generate_series(1, 50);
EOS
wait_no_jobs($node, 'jobs that leave session state behind run', kinds => '^session_state$');
one($node, "SELECT count(*) FROM left_over WHERE what LIKE 'currval%'", 0, 'no job sees the currval of another');
one($node, "SELECT count(DISTINCT what) FROM left_over WHERE what LIKE 'random%'", 50, 'no job goes on from the seed of another');

# A handler that gives its own job back at once does not run it again at once.
sql($node, <<'EOS');
CREATE FUNCTION public.giving_back(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (job_id, kind, attempt, failures) VALUES (j.id, j.kind, j.attempt, j.failures);
	IF j.attempt < 3 THEN
		PERFORM CASE WHEN j.payload ? 'snooze' THEN queue.snooze(j.id, '0') ELSE queue.release(j.id) END;
	END IF;
END $$;
SELECT queue.register_sql_handler('giving_back', 'public.giving_back');
SELECT queue.enqueue('giving_back'), queue.enqueue('giving_back', '{"snooze": true}');
EOS
wait_no_jobs($node, 'jobs that their own handler gave back end', kinds => '^giving_back$');
one($node, "SELECT count(*), max(failures) FROM seen WHERE kind = 'giving_back'", '6|0', 'they ran three times each, uncounted');
one($node, <<'EOS', 't', 'a released job waits a second each time');
SELECT min(at) + interval '2 s' <= max(at) FROM seen WHERE kind = 'giving_back' GROUP BY job_id ORDER BY job_id LIMIT 1
EOS

# An executor keeps nothing of the errors of its jobs.
sql($node, <<'EOS');
SELECT queue.register_sql_handler('failing', 'public.h', max_attempts => 1);
CREATE TABLE top_memory (at int, bytes bigint);
CREATE FUNCTION public.weigh(j jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO top_memory SELECT (j->>'at')::int, total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext'
$$;
SELECT queue.register_sql_handler('weigh', 'public.weigh');
SELECT queue.enqueue('failing', '{"raise": "P0001"}') FROM generate_series(1, 200);
EOS
wait_no_jobs($node, 'jobs fail', kinds => '^failing$');
sql($node, q{SELECT queue.enqueue('weigh', '{"at": 1}')});
wait_no_jobs($node, 'weighed', kinds => '^weigh$');
sql($node, q{SELECT queue.enqueue('failing', '{"raise": "P0001"}') FROM generate_series(1, 2000)});
wait_no_jobs($node, 'more jobs fail', kinds => '^failing$');
sql($node, q{SELECT queue.enqueue('weigh', '{"at": 2}')});
wait_no_jobs($node, 'weighed again', kinds => '^weigh$');
one($node, 'SELECT max(bytes) - min(bytes) < 50000 FROM top_memory', 't', 'an executor does not grow by its failed jobs');

log_clean($node);
$node->stop;
done_testing();
