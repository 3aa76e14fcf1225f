# What is kept of the jobs that an executor ends in one transaction is written together, when somebody reads or at the end:
# a handler that runs later in the transaction finds all that ended before, whatever it looks with.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('kept', conf => "queue.executors = 1\nqueue.commit_interval = '10 s'\n");
my $file = $node->data_dir . '/copied';
sql($node, <<"EOS");
CREATE TABLE gate ();
CREATE TABLE other AS SELECT 1;
CREATE SEQUENCE once;
CREATE TABLE looked (n bigserial, id bigint, xid xid8 DEFAULT pg_current_xact_id(), way text, found bigint);
SELECT queue.create_queue('q', keep_completed => '1000 years');	-- in finished_job_15
CREATE FUNCTION there() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS \$\$
BEGIN RETURN (SELECT count(*) FROM queue.finished_job WHERE queue = 'q'); END \$\$;
-- how many jobs of the queue are kept, by each way to look
CREATE FUNCTION look(way text) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	found bigint;
	c refcursor;
BEGIN
	CASE way
		WHEN 'view' THEN SELECT count(*) INTO found FROM queue.job j WHERE j.queue = 'q' AND j.state = 'completed';
		WHEN 'table' THEN SELECT count(*) INTO found FROM queue.finished_job_15;
		WHEN 'stable function' THEN found := there();
		WHEN 'find_jobs' THEN SELECT count(*) INTO found FROM queue.find_jobs('{"queue": "q", "state": "completed"}', 1000);
		WHEN 'result' THEN SELECT count(queue.result(s.id)) INTO found FROM looked s;
		WHEN 'cursor' THEN
			OPEN c FOR SELECT 1 FROM queue.finished_job WHERE queue = 'q';
			MOVE FORWARD ALL FROM c;
			GET DIAGNOSTICS found = ROW_COUNT;
		WHEN 'copy' THEN
			COPY queue.finished_job_15 (id) TO '$file';
			found := regexp_count(pg_read_file('$file'), E'\\n');
		WHEN 'parallel' THEN
			PERFORM set_config(name, 'on', true) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
			EXECUTE 'SELECT there() FROM other' INTO found;
		WHEN 'rolled back' THEN
			BEGIN
				IF there() > 0 THEN RAISE EXCEPTION 'never mind'; END IF;
			EXCEPTION WHEN raise_exception THEN
				found := there();
			END;
		WHEN 'error' THEN
			IF there() >= 0 AND nextval('once') = 1 THEN RAISE EXCEPTION 'once'; END IF;
			found := there();
	END CASE;
	RETURN found;
END \$\$;
CREATE FUNCTION handle(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
	expected bigint := (SELECT count(*) FROM looked);
	way text := j.payload ->> 'way';
	-- as it is where nothing was looked at before: the first look is that of the way
	found bigint := CASE WHEN way IS NOT NULL AND expected > 0 THEN look(way) - expected END;
BEGIN
	INSERT INTO looked (id, way, found) VALUES (j.id, way, found);
	RETURN 1;
END \$\$;
CREATE FUNCTION wait_at(j queue.job) RETURNS void LANGUAGE plpgsql AS 'BEGIN LOCK TABLE gate IN ACCESS SHARE MODE; END';
SELECT queue.register_sql_handler('h', 'handle'), queue.register_sql_handler('gate', 'wait_at');
EOS

# fills the queue while the only executor waits, so that its jobs then share transactions
sub run_together
{
	my ($jobs) = @_;
	my $gate = queue_session($node);
	$gate->query_safe('BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE');
	sql($node, "SELECT queue.enqueue('gate')");
	poll($node, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted");
	sql($node, $jobs);
	scheduler_turn($node);
	$gate->query_safe('COMMIT');
	$gate->quit;
	return wait_no_jobs($node, 'all jobs end', kinds => '^h$');
}

sql($node, "SELECT queue.enqueue('h', queue => 'q') FROM generate_series(1, 5)");
wait_no_jobs($node, 'the kind is short');

# each way looks twice, behind jobs that ended without a look
my @ways = ('view', 'table', 'stable function', 'find_jobs', 'result', 'cursor', 'copy', 'parallel', 'rolled back', 'error');
my $ways = join ', ', map { "'$_', NULL" } @ways;
run_together("SELECT queue.enqueue('h', jsonb_build_object('way', way), 'q') FROM generate_series(1, 2), unnest(ARRAY[$ways]) way");
one($node, "SELECT way, found FROM looked WHERE found <> 0", '', 'each finds all that ended before it');
one($node, "SELECT count(*), count(DISTINCT id), count(found) FROM looked", '45|45|20', '.. and ran once');
# so it is unless the machine is so busy that the kind looks long
note('of the ways, those behind jobs of the same transaction: ' . sql($node,
	"SELECT count(DISTINCT way) FROM looked s WHERE found IS NOT NULL AND EXISTS (SELECT FROM looked b WHERE b.xid = s.xid AND b.n < s.n)"));
one($node, "SELECT count(*), count(DISTINCT id) FROM queue.job WHERE queue = 'q' AND state = 'completed'", '45|45', 'each job is kept once');
one($node, "SET enable_seqscan = off; SELECT count(*) FROM queue.finished_job WHERE id IN (SELECT id FROM looked)", '45', '.. and in the index');

# a user's index and trigger see each row
sql($node, "CREATE UNIQUE INDEX mine ON queue.finished_job_15 (abs(id)) WHERE queue = 'q'");
run_together("SELECT queue.enqueue('h', jsonb_build_object('way', way), 'q') FROM unnest(ARRAY[$ways]) way");
one($node, "SET enable_seqscan = off; SET enable_sort = off; SELECT count(*) FROM queue.finished_job_15 WHERE queue = 'q' AND abs(id) > 0", '65', 'through an index on an expression');
sql($node, "CREATE TABLE told (id bigint); CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO told VALUES (NEW.id); RETURN NULL; END'");
sql($node, "CREATE TRIGGER tell AFTER INSERT ON queue.finished_job_15 FOR EACH ROW EXECUTE FUNCTION tell()");
run_together("SELECT queue.enqueue('h', jsonb_build_object('way', way), 'q') FROM unnest(ARRAY[$ways]) way");
one($node, 'SELECT count(*), count(DISTINCT id) FROM told', '20|20', 'a trigger is told of each');
one($node, "SELECT way, found FROM looked WHERE found <> 0", '', 'and again each finds all that ended before it');

# what is large is not kept in memory
sql($node, "DROP INDEX queue.mine; DROP TRIGGER tell ON queue.finished_job_15");
run_together("SELECT queue.enqueue('h', jsonb_build_object('text', repeat(md5(i::text), 1500)), 'q') FROM generate_series(1, 40) i");
one($node, "SELECT count(*) FROM queue.job WHERE queue = 'q' AND state = 'completed' AND length(payload ->> 'text') = 48000", '40', 'large payloads are kept whole');

log_clean($node);
done_testing();
