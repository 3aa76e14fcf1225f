# What stands beside queue in a server: other extensions with the same hooks, limits of connections, other databases.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = queue_node('beside', install => 0, conf => <<'EOS');
shared_preload_libraries = 'pg_stat_statements, queue'
pg_stat_statements.track_planning = on
queue.executors = 2
queue.executor_idle_timeout = 1h
autovacuum = off
EOS

# --- an extension that was loaded before has its hooks called
sql($node, 'CREATE EXTENSION pg_stat_statements');
sql($node, "SELECT 1 AS beside; CREATE TABLE beside ()");
one($node, q{SELECT sum(plans) FILTER (WHERE query = 'SELECT $1 AS beside'), sum(calls) FILTER (WHERE query ~ '^CREATE TABLE beside') FROM pg_stat_statements},
	'1|1', 'another extension sees plans and utility commands');

# --- limits of connections, which hold for no superuser
queue_install($node, 'postgres');
sql($node, 'CREATE ROLE boss SUPERUSER LOGIN CONNECTION LIMIT 0; ALTER DATABASE postgres CONNECTION LIMIT 0');
my $boss = $node->background_psql('postgres', extra_params => [ '-U', 'boss' ]);
my $id = sql($node, "SELECT queue.enqueue('boss')");
sql($node, "SELECT queue.register_sql_handler('boss', 'h', run_as => 'boss')");
wait_end($node, $id, 'completed', 'jobs of a superuser run in spite of connection limits');
$boss->quit;
sql($node, 'ALTER DATABASE postgres CONNECTION LIMIT -1');

# --- others' jobs wait, and doctor() says what for
sql($node, "CREATE ROLE few LOGIN; SELECT queue.grant_queue('default', 'few', 'work'), queue.register_sql_handler('few', 'h', run_as => 'few')");
my $few = $node->background_psql('postgres', extra_params => [ '-U', 'few' ]);
sql($node, 'ALTER ROLE few CONNECTION LIMIT 0');
$id = sql($node, "SELECT queue.enqueue('few')");
scheduler_turn($node);
doctor_like($node, qr/role "few" is at its connection limit/, 'a role at its connection limit is told of while it waits');
sql($node, 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; ALTER ROLE few CONNECTION LIMIT -1');
doctor_like($node, qr/role "few" may not connect to this database/, 'one that may not connect too');
unlike(slurp_file($node->logfile), qr/FATAL: .*permission denied for database/, 'and no executor tries to');
sql($node, 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
wait_end($node, $id, 'completed', 'its job runs when it may');
$few->quit;

# --- what a database does with its workers leaves those of the others alone
sub workers_of { my ($db) = @_; return join ' ', map { workers($node, $_, $db) } qw(scheduler executor); }

for my $db (qw(one two))
{
	sql($node, "CREATE DATABASE $db");
	queue_install($node, $db);
	sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0')", db => $db);
	wait_end($node, sql($node, "SELECT queue.enqueue('job')", db => $db), 'completed', "a job runs in database $db", db => $db);
}
my $before = workers_of('one');
like($before, qr/^\d+ \d+$/, 'a scheduler and an executor');
my $holder = queue_session($node, 'two');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.enqueue('job', '{"lock": 1}') FROM generate_series(1, 2)}, db => 'two');
wait_true($node, "SELECT count(*) = 2 FROM queue.stat_worker WHERE job_id IS NOT NULL", 'two executors in the other one', db => 'two');
$holder->quit;
wait_no_jobs($node, 'have nothing to do then', db => 'two');
sql($node, "CREATE ROLE other LOGIN; SELECT queue.grant_queue('default', 'other', 'work'), queue.register_sql_handler('other', 'h', run_as => 'other')", db => 'two');
wait_end($node, sql($node, "SELECT queue.enqueue('other')", db => 'two'), 'completed', 'one of them makes place for another role', db => 'two');
is(workers_of('one'), $before, 'not one of the first database');
sql($node, "ALTER SYSTEM SET queue.executors = 1");
$node->reload;
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'two' AND backend_type = 'queue executor'", 'nor when there are too many');
is(workers_of('one'), $before, '(the first database had one)');

# --- nor do commands that are about something else disturb the workers
my $stat = 'SELECT enqueued, completed FROM queue.stat_queue';
my ($scheduler) = workers($node, 'scheduler', 'two');
my $counted = sql($node, $stat, db => 'two');
sql($node, 'ALTER DATABASE two CONNECTION LIMIT 50');
sql($node, 'CREATE EXTENSION lo; DROP EXTENSION lo', db => 'two');
is((workers($node, 'scheduler', 'two'))[0], $scheduler, 'DDL of the database and of other extensions: the scheduler is the same');
is(sql($node, $stat, db => 'two'), $counted, 'and what was counted is still counted');
sql($node, 'SET client_min_messages = error; BEGIN; DROP EXTENSION queue CASCADE; ROLLBACK', db => 'two');
is(sql($node, $stat, db => 'two'), $counted, 'also after a DROP EXTENSION that rolled back');
is(workers_of('one'), $before, 'which ended workers of its own database only');
$counted = sql($node, $stat, db => 'one');
sql($node, 'SET client_min_messages = error; DROP EXTENSION queue CASCADE', db => 'two');
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'two' AND backend_type LIKE 'queue %'", 'a DROP EXTENSION ends them too');
sql($node, 'DROP DATABASE two');
is(workers_of('one'), $before, 'and nobody elsewhere, nor does DROP DATABASE');
is(sql($node, $stat, db => 'one'), $counted, 'where all is counted as it was');

# --- a template is not served, and is again when it is none any more
sql($node, 'ALTER DATABASE one IS_TEMPLATE true');
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'one' AND backend_type LIKE 'queue %'", 'a database that becomes a template loses its workers');
sql($node, 'ALTER DATABASE one IS_TEMPLATE false');
wait_end($node, sql($node, "SELECT queue.enqueue('job')", db => 'one'), 'completed', 'and has them again afterwards', db => 'one');

# --- a database that cannot be connected to: its scheduler is tried again after 1 s, 2 s, 4 s, and comes back
my $version = $node->data_dir . '/base/' . sql($node, "SELECT oid FROM pg_database WHERE datname = 'one'") . '/PG_VERSION';
rename $version, "$version.away" or die "cannot move $version: $!";
($scheduler) = workers($node, 'scheduler', 'one');
sql($node, "SELECT pg_terminate_backend($scheduler)");
my $refused = qr/(\d+):(\d+):([\d.]+) \w+ \[\d+\] FATAL:  "[^"]*" is not a valid data directory/;
my @at;
for (1 .. 600)
{
	my $log = slurp_file($node->logfile);
	@at = ();
	push @at, $1 * 3600 + $2 * 60 + $3 while $log =~ /$refused/g;
	last if @at > 3;
	usleep(100_000);
}
rename "$version.away", $version or die "cannot move $version: $!";
cmp_ok(scalar @at, '>', 3, 'a scheduler that cannot start is tried again');
cmp_ok(($at[3] - $at[0]) % 86400, '>=', 6, 'after a pause that doubles');
wait_end($node, sql($node, "SELECT queue.enqueue('job')", db => 'one'), 'completed', 'and serves its database when it can', db => 'one');

log_clean($node);
$node->stop;
done_testing();
