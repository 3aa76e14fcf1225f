# A subscription with two_phase prepares and ends transactions without a statement, so no hook sees it.  What a trigger
# enqueues there comes at once all the same, is counted, and takes no place for good.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $conf = "max_prepared_transactions = 3\nwal_level = logical\nmax_wal_senders = 5\n";
my $source = queue_node('source', conf => $conf, preload => 0, install => 0);
my $node = queue_node('subscriber', conf => $conf, far_look => 0);

sql($source, 'CREATE TABLE inbox (i int PRIMARY KEY, priority int, key text); CREATE PUBLICATION all_of_it FOR TABLE inbox');
sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h');
CREATE TABLE inbox (i int PRIMARY KEY, priority int, key text);
CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM queue.enqueue('job', jsonb_build_object('note', NEW.i), priority => NEW.priority, group_key => NEW.key);
	RETURN NULL;
END $$;
CREATE TRIGGER take AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION take();
ALTER TABLE inbox ENABLE ALWAYS TRIGGER take;
EOS
sql($node, "CREATE SUBSCRIPTION s CONNECTION '" . ($source->connstr('postgres') =~ s{'}{''}gr) . "' PUBLICATION all_of_it WITH (two_phase = true)");
wait_true($node, "SELECT bool_and(subtwophasestate = 'e') FROM pg_subscription", 'a subscription with two_phase');

sub prepare
{
	my ($i, $values) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql($source, "BEGIN; INSERT INTO inbox VALUES ($i, $values); PREPARE TRANSACTION 'x$i'");
	return wait_true($node, 'SELECT count(*) = 1 FROM pg_prepared_xacts', "prepared at the subscriber: $values");
}

sub ran
{
	my ($i, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = '$i'", $name);
}

# other jobs of the line run past it meanwhile
prepare(1, '0, NULL');
sql($node, "SELECT count(*) FROM (SELECT queue.enqueue('job') FROM generate_series(1, 50)) x");
wait_true($node, 'SELECT count(*) = 50 FROM seen', 'jobs that were enqueued later ran');
sql($source, "COMMIT PREPARED 'x1'");
ran(1, 'a job that was passed');

prepare(2, "0, 'a group'");
sql($source, "COMMIT PREPARED 'x2'");
ran(2, 'the first of a group');

prepare(3, '7, NULL');
sql($source, "COMMIT PREPARED 'x3'");
ran(3, 'a job of a new line');

# the worker that prepared it is not the one that ends it
prepare(4, "0, 'another'");
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'logical replication worker'");
sql($source, "COMMIT PREPARED 'x4'");
ran(4, 'and what another worker had prepared');

prepare(5, '0, NULL');
sql($source, "ROLLBACK PREPARED 'x5'");
wait_true($node, 'SELECT count(*) = 0 FROM pg_prepared_xacts', 'one that is rolled back');

# more than there are places
sql($source, join('; ', map { "BEGIN; INSERT INTO inbox VALUES ($_, 0, NULL); PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'" } 101 .. 160));
wait_true($node, 'SELECT count(*) = 114 FROM seen', 'many, one after the other');
sql($node, "BEGIN; SELECT queue.enqueue('job'); PREPARE TRANSACTION 'own'");
sql($node, "COMMIT PREPARED 'own'");
wait_true($node, 'SELECT count(*) = 115 FROM seen', 'and one of the usual kind');
wait_true($node, "SELECT enqueued = 115 AND completed = 115 AND available = 0 FROM queue.stat_queue WHERE queue = 'default'", 'all are counted');

# whose notes went with the server: the look from afar finds it, also the first of a group, which is in no line yet
sql($node, 'ALTER SYSTEM SET queue.debug_far_look = on');
prepare(6, "0, 'a third'");
$node->stop('immediate');
$node->start;
sql($source, "COMMIT PREPARED 'x6'");
wait_true($node, 'SELECT count(*) = 0 FROM pg_prepared_xacts', 'a transaction that was prepared before a crash ends');
sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '1 min'");
$node->reload;
ran(6, 'and its job is found');

log_clean($node);
$node->stop;
$source->stop;
done_testing();
