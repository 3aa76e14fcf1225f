# A chore of the scheduler that fails is logged, backs off, and stops no other; the process goes on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# The hours of the ring begin with the full hour: the test's own begin a minute after one.
my $start = 3600 - time % 3600 + 60;
my $node = queue_node('chores', conf => "queue.shutdown_timeout = 1s\nqueue.debug_clock_offset = $start\n");

sql($node, <<'EOS');
SELECT queue.create_queue('kept', keep_completed => '1 hour');
SELECT queue.register_sql_handler('job', 'h');
CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
EOS
my $id = sql($node, "SELECT queue.enqueue('job', '{}', 'kept')");
wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $id", 'a job that is kept for an hour');
my $pid = (workers($node, 'scheduler'))[0];

# when is it to go?
my $offset = sql($node, <<"EOS");
BEGIN;
DO \$\$
BEGIN
	FOR h IN 1 .. 72 LOOP
		PERFORM set_config('queue.debug_clock_offset', ($start + h * 3600)::text, false);
		PERFORM queue.maintain();
		EXIT WHEN NOT EXISTS (SELECT FROM queue.finished_job WHERE id = $id);
	END LOOP;
END \$\$;
SELECT extract(epoch FROM current_setting('queue.debug_clock_offset')::interval)::int;
ROLLBACK;
EOS
sql($node, <<'EOS');
SELECT format('CREATE TRIGGER boom BEFORE TRUNCATE ON %s EXECUTE FUNCTION boom()', inhrelid::regclass)
FROM pg_inherits WHERE inhparent = 'queue.finished_job'::regclass \gexec
EOS
set_clock();
ok(poll_log(qr/retention failed: boom.*retention failed: boom/s), 'the chore fails, says so, and is tried again')
  or diag(slurp_file($node->logfile));
doctor_like($node, qr/retention failed/, 'doctor() names it');
sql($node, q{SELECT queue.enqueue('job', '{"note": "beside"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'beside'", 'jobs run all the same');
$id = sql($node, q{SELECT queue.enqueue('ext', expires_at => queue_internal.clock() + '200 ms')});
wait_true($node, "SELECT coalesce((SELECT state FROM queue.job WHERE id = $id), 'cancelled') = 'cancelled'", 'other chores are done');
is((workers($node, 'scheduler'))[0], $pid, 'the scheduler is the same process');
# asked of the catalog alone: a lock on the table would put its TRUNCATE off to the next turn
my $files = "SELECT string_agg(pg_relation_filenode(inhrelid)::text, ' ' ORDER BY inhrelid) FROM pg_inherits WHERE inhparent = 'queue.finished_job'::regclass";
my $old = sql($node, $files);
sql($node, 'DROP FUNCTION boom() CASCADE');
wait_true($node, "SELECT ($files) <> '$old'", 'what failed is done when it can be');
wait_true($node, "SELECT bool_and(ok) FROM queue.doctor() WHERE check_name = 'chores'", 'and doctor() says no more of it');

# what changes while a chore reads makes that chore due at once, and nothing else
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE queue.schedule');
sql($node, q{SELECT queue.create_queue('one')});
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'queue.schedule'::regclass AND pid = $pid",
	'the scheduler reads the schedules anew');
sql($node, q{SELECT queue.create_queue('two')});
$holder->query_safe('COMMIT');
$holder->quit;
sql($node, q{SELECT queue.enqueue('job', '{"note": "after"}', 'two')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'after'", 'jobs go on');
is((workers($node, 'scheduler'))[0], $pid, 'in the same scheduler');

# A clock set ahead while retention has passed some tables: they are looked at again at once, not in ten minutes.  The
# job of the day stands in a later table than the one of the hour.  It is half past ten.
my $day = 24 * 3600 + $offset;
$day += 24 * 3600 - (time + $day) % (24 * 3600) + 10 * 3600 + 1800;
$offset = $day - 48 * 3600;
set_clock();
sql($node, q{SELECT queue.create_queue('day', keep_completed => '1 day')});
done('day');
my $of_day = sql($node, q{SELECT tableoid::oid FROM queue.finished_job WHERE id = (SELECT id FROM queue.job WHERE queue = 'day')});
sql($node, <<"EOS");
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
\$\$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END \$\$;
DO \$\$ BEGIN EXECUTE format('CREATE TRIGGER gate BEFORE TRUNCATE ON %s EXECUTE FUNCTION gate()', $of_day\::regclass); END \$\$;
EOS
$holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(77)');
$offset = $day;
set_clock();
wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND pid = $pid", 'retention stands at a table');
done('kept');
# by its number among three, the hour since 1970 when it may go: the tables cannot be asked, one is locked
my $of_hour = q{'queue.finished_job_2'::regclass};
$old = sql($node, "SELECT pg_relation_filenode($of_hour)");
$offset += 2 * 3600;
set_clock();
$holder->query_safe('SELECT pg_advisory_unlock(77)');
$holder->quit;
wait_true($node, "SELECT pg_relation_filenode($of_hour) <> $old", 'and comes back to one that it passed when the clock was another');

log_clean($node);
$node->stop;
done_testing();

# A job of that queue is fetched and completed.
sub done
{
	my ($queue) = @_;
	sql($node, "SELECT queue.enqueue('ext', '{}', '$queue')");
	sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('$queue')");
	return;
}

sub set_clock
{
	sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '$offset'");
	$node->reload;
	poll($node, "SELECT current_setting('queue.debug_clock_offset', true)::interval = '$offset s'");
	return;
}

sub poll_log
{
	my ($re) = @_;
	for (1 .. 2400)
	{
		return 1 if slurp_file($node->logfile) =~ $re;
		Time::HiRes::usleep(50_000);
	}
	return 0;
}
