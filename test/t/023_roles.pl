# More roles with handlers than there are channels in shared memory: each has its turn.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $roles = 150;
my $node = queue_node('roles', conf => "queue.executors = 4\n");

# each role its own kind; some may not connect, and must not use up the places of the others
sql($node, <<"EOS");
DO \$\$
BEGIN
	FOR i IN 1 .. $roles LOOP
		EXECUTE format('CREATE ROLE r%s LOGIN', i);
		PERFORM queue.grant_queue('*', format('r%s', i), 'work');
		PERFORM queue.register_sql_handler(format('k%s', i), 'h', run_as => format('r%s', i));
	END LOOP;
	FOR i IN 1 .. 130 LOOP
		EXECUTE format('ALTER ROLE r%s NOLOGIN', i);
	END LOOP;
END \$\$;
EOS
sql($node, "SELECT count(*) FROM (SELECT queue.enqueue('k' || i) FROM generate_series(131, $roles) i) x");
wait_true($node, "SELECT count(DISTINCT cu) = $roles - 130 FROM seen", 'roles beyond 130 that cannot connect run their jobs');
sql($node, "DO \$\$ BEGIN FOR i IN 1 .. 130 LOOP EXECUTE format('ALTER ROLE r%s LOGIN', i); END LOOP; END \$\$");
sql($node, "SELECT count(*) FROM (SELECT queue.enqueue('k' || i) FROM generate_series(1, 130) i) x");
wait_true($node, "SELECT count(DISTINCT cu) = $roles FROM seen", "all $roles have their turn");
wait_no_jobs($node, 'no job is left');
one($node, 'SELECT count(*), count(DISTINCT job_id) FROM seen', "$roles|$roles", 'each ran once');

# --- whom the server would not let in waits and is told of; a change of the role lets it be tried again
sql($node, "CREATE ROLE few LOGIN; SELECT queue.grant_queue('*', 'few', 'work'), queue.register_sql_handler('few', 'h', run_as => 'few')");
my $session = $node->background_psql('postgres', extra_params => [ '-U', 'few' ]);
sql($node, "ALTER ROLE few CONNECTION LIMIT 0; SELECT queue.enqueue('few', '{\"note\": \"role\"}')");
doctor_like($node, qr/role "few" is at its connection limit/, 'a role at its connection limit is told of');
sql($node, 'ALTER ROLE few CONNECTION LIMIT 3');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'role'", 'its job runs when the limit is higher');
sql($node, q{SELECT pg_terminate_backend(pid) FROM queue.stat_worker WHERE type = 'executor'; ALTER DATABASE postgres CONNECTION LIMIT 0});
sql($node, "ALTER ROLE few CONNECTION LIMIT 4; SELECT queue.enqueue('few', '{\"note\": \"database\"}')");
doctor_like($node, qr/this database is at its connection limit/, 'a database at its connection limit is told of');
sql($node, 'ALTER DATABASE postgres CONNECTION LIMIT -1; ALTER ROLE few CONNECTION LIMIT 5');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'database'", 'its job runs when the limit is gone');
$session->quit;

log_clean($node);
$node->stop;
done_testing();
