# One role's long jobs leave an executor to the others.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('shares', conf => "queue.executors = 4");

sql($node, <<'EOS');
CREATE ROLE a LOGIN;
CREATE ROLE b LOGIN;
SELECT queue.grant_queue('default', 'a', 'work'), queue.grant_queue('default', 'b', 'work');
SELECT queue.register_sql_handler('a', 'public.h', run_as => 'a', timeout => '0');
CREATE FUNCTION public.nothing(j jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT queue.register_sql_handler('brief', 'public.nothing', run_as => 'a');
SELECT queue.enqueue('brief', priority => -1) FROM generate_series(1, 20);
EOS
wait_no_jobs($node, 'brief jobs are known to be brief');

my $holder = queue_session($node);
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");

# Alone, a role has them all.
sql($node, q{SELECT queue.enqueue('a', '{"lock": 1}') FROM generate_series(1, 6)});
wait_true($node, "SELECT count(*) = 4 FROM queue.stat_worker WHERE job_id IS NOT NULL AND job_started_at < clock_timestamp() - interval '0.5 s'",
	'a role that is alone has all executors, for long enough that its jobs are known to be long');
$holder->query_safe("COMMIT");
wait_no_jobs($node, 'its jobs end');
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");

# With another one they are all but one, although all executors are there and idle.
sql($node, "SELECT queue.register_sql_handler('b', 'public.h', run_as => 'b'); SELECT queue.enqueue('b', delay => '1 hour')");
# a line with nothing due is the role's only once all lines are sorted
sql($node, "SELECT queue.alter_queue('default', description => 'sorted')");
sql($node, q{SELECT queue.enqueue('a', '{"lock": 1}') FROM generate_series(1, 6)});
wait_true($node, "SELECT count(*) >= 3 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'long jobs of one role run');
sql($node, q{SELECT queue.enqueue('b', '{"note": "first"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'first'", 'and leave an executor to the other');
$holder->query_safe("COMMIT");
wait_no_jobs($node, 'they end', kinds => '^a$');
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");

# Also when its jobs come first.
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE kind = 'b'; SELECT queue.enqueue('b')");
wait_no_jobs($node, 'the other role has run a job');
sql($node, q{SELECT queue.enqueue('a', '{"lock": 1}') FROM generate_series(1, 6)});
wait_true($node, "SELECT count(*) = 3 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'long jobs of one role run');
sql($node, q{SELECT queue.enqueue('b', '{"note": "beside"}') FROM generate_series(1, 3)});
wait_no_jobs($node, 'jobs of the other role run beside them', kinds => '^b$');
one($node, "SELECT count(*) FROM queue.stat_worker WHERE job_id IS NOT NULL AND kind = 'a'", 3, 'the first role still has all but one');

# An executor that is in a long job is not waited for, if another one of the role would end sooner.
sql($node, <<'EOS');
SELECT count(*) FROM queue.enqueue_many('brief', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 200000)), priority => -1);
SELECT queue.enqueue('b', '{"note": "between"}');
EOS
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'between'", 'the other role gets a place');
one($node, "SELECT count(*) FROM queue.stat_worker WHERE job_id IS NOT NULL AND kind = 'a'", 3, 'while the long jobs still run');
$holder->query_safe("COMMIT");
wait_no_jobs($node, 'all jobs of the first role run');

# With a single executor nothing can be left: doctor() says who waits.
$node->append_conf('postgresql.conf', 'queue.executors = 1');
$node->reload;
wait_true($node, "SELECT count(*) <= 1 FROM queue.stat_worker WHERE type = 'executor'", 'a single executor is left');
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");
sql($node, q{SELECT queue.enqueue('a', '{"lock": 1}')});
wait_lock($node, 1);
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'it runs a long job');
sql($node, "SELECT queue.enqueue('b')");
doctor_like($node, qr/jobs of role "b" wait since .* all 1 executors/, 'doctor() tells of the role that waits');
$holder->query_safe("COMMIT");
wait_no_jobs($node, 'it gets its turn');
one($node, "SELECT count(*) FROM queue.doctor() WHERE check_name = 'shares of executors' AND ok", 1, 'and doctor() is content');

# Free places go to the role that has fewer.
$holder->query_safe("BEGIN; SELECT pg_advisory_xact_lock(1)");
sql($node, q{SELECT queue.enqueue('a', '{"lock": 1}')});
wait_true($node, "SELECT count(*) = 1 FROM queue.stat_worker WHERE job_id IS NOT NULL AND kind = 'a'", 'a job of the first role has the one executor');
sql($node, q{SELECT queue.enqueue(k, '{"lock": 1}') FROM unnest('{a,b}'::text[]) k, generate_series(1, 4)});
scheduler_turn($node);
$node->append_conf('postgresql.conf', 'queue.executors = 4');
$node->reload;
wait_true($node, "SELECT count(*) = 4 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'four jobs run');
one($node, "SELECT string_agg(kind, ' ' ORDER BY kind) FROM queue.stat_worker WHERE job_id IS NOT NULL", 'a a b b', 'two of each role');
$holder->query_safe("COMMIT");
wait_no_jobs($node, 'they end');

log_clean($node);
$node->stop;
done_testing();
