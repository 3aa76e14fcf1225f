# DDL on whole databases and on the extension while jobs run: workers make way and come back.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# (what must make way at once does not wait for queue.shutdown_timeout: the test's patience ends long before that)
my $node = queue_node('ddl', conf => "allow_in_place_tablespaces = on\nmax_worker_processes = 40\nautovacuum = off\nqueue.shutdown_timeout = '10min'\n");
my $busy = <<'EOS';
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT queue.enqueue('job', '{"note": "long", "lock": 7, "sleep": 600}');
SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "backlog", "sleep": 0.2}') FROM generate_series(1, 300)) x;
EOS

# A database with the extension, a long job and a backlog running.
sub busy_database
{
	my ($db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql($node, "CREATE DATABASE $db");
	queue_install($node, $db);
	sql($node, $busy, db => $db);
	return running($db);
}

sub running
{
	my ($db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node,
		"SELECT count(*) > 0 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND objid = 7 AND granted AND datname = '$db'",
		"jobs run in database $db");
}

# A statement that waits for what does not make way does not end in time: the long job sleeps for ten minutes.
sub quickly
{
	my ($statement, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $rc = eval { sql($node, $statement, %o); 1 };
	return ok($rc, $name) || diag $@;
}

sub works
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = sql($node, "SELECT queue.enqueue('job', '{\"note\": \"works\"}', priority => -1)", db => $db);
	return wait_end($node, $id, 'completed', $name, db => $db);
}

sub no_workers
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '$db' AND backend_type LIKE 'queue %'", $name);
}

# --- the extension in a second database is found by itself
sql($node, "SELECT queue.register_sql_handler('job', 'h')");
busy_database('one');
works('postgres', 'the first database works beside it');

# --- ALTER DATABASE
quickly('ALTER DATABASE one RENAME TO two', 'RENAME of a database whose jobs run');
running('two');
works('two', 'it works under its new name');
sql($node, "CREATE TABLESPACE elsewhere LOCATION ''");
quickly('ALTER DATABASE two SET TABLESPACE elsewhere', 'SET TABLESPACE');
running('two');

# --- a template: the copy's handlers are parked until adopt()
quickly('CREATE DATABASE copy TEMPLATE two', 'CREATE DATABASE TEMPLATE of a database whose jobs run');
running('two');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'queue scheduler'", 'the copy has a scheduler');
wait_true($node, "SELECT state = 'parked' FROM queue.stat_handler WHERE kind = 'job'", 'its handler is parked', db => 'copy');
my $id = sql($node, "SELECT queue.enqueue('job', '{\"note\": \"copied\"}', priority => -1)", db => 'copy');
like(sql($node, "SELECT queue.explain_job($id)", db => 'copy'), qr/another database/, 'explain_job says so');
doctor_like($node, qr/adopt/, 'doctor() says so', db => 'copy');
one($node, "SELECT count(*) FROM queue.job WHERE state = 'running' OR attempt > 0 AND id >= $id", '0', 'nothing runs', db => 'copy');
sql($node, 'SELECT queue.adopt()', db => 'copy');
wait_end($node, $id, 'completed', 'it runs when adopted', db => 'copy');
running('copy');

# --- who may not run a command does not disturb the workers by trying
sql($node, <<'EOS');
CREATE ROLE stranger LOGIN CREATEDB;
CREATE ROLE owner LOGIN;
CREATE TABLESPACE strange LOCATION '';
CREATE DATABASE owned OWNER owner;
EOS
queue_install($node, 'owned');
sql($node, "SELECT queue.register_sql_handler('job', 'h')", db => 'owned');
works('owned', 'a database of somebody who may not create databases');
my %schedulers = map { $_ => join(' ', workers($node, 'scheduler', $_)) } qw(copy owned);
sqlstate_like($node, $_->[1], '42501', qr/./, "refused: $_->[1]", user => $_->[0], db => $_->[2] // 'postgres')
  for [ stranger => 'DROP DATABASE copy' ], [ stranger => 'DROP DATABASE copy WITH (FORCE)' ], [ stranger => 'ALTER DATABASE copy RENAME TO mine' ],
  [ stranger => 'ALTER DATABASE copy SET TABLESPACE strange' ], [ stranger => 'CREATE DATABASE mine TEMPLATE copy' ],
  [ owner => 'ALTER DATABASE owned RENAME TO mine' ], [ owner => 'CREATE DATABASE mine TEMPLATE owned' ],
  [ stranger => 'DROP EXTENSION queue CASCADE', 'copy' ], [ stranger => 'ALTER EXTENSION queue UPDATE', 'copy' ];
sqlstate_like($node, 'DROP DATABASE copy', '55006', qr/currently open/, 'nobody drops the database that he is in', db => 'copy');
sqlstate_like($node, 'ALTER DATABASE copy RENAME TO mine', '0A000', qr/current database/, 'nor renames it', db => 'copy');
sqlstate_like($node, 'ALTER DATABASE copy SET TABLESPACE strange', '55006', qr/currently open/, 'nor moves it', db => 'copy');
sql($node, 'ALTER EXTENSION plpgsql UPDATE', db => 'copy');
is(join(' ', workers($node, 'scheduler', $_)), $schedulers{$_}, "$_ has the same scheduler") for qw(copy owned);
running('copy');
sql($node, 'DROP DATABASE owned');

# --- a command that fails brings them back
my $other = queue_session($node, 'copy');
sqlstate_like($node, 'DROP DATABASE copy', '55006', qr/other session/, 'DROP DATABASE with a client connected fails');
$other->quit;
running('copy');
works('copy', 'and the database works on');

# --- DROP DATABASE
quickly('DROP DATABASE copy', 'DROP DATABASE with jobs running');
no_workers('copy', 'its workers are gone');
works('two', 'the others work on');
my $file = 'pg_stat_tmp/queue.' . sql($node, "SELECT oid FROM pg_database WHERE datname = 'two'");
one($node, "SELECT (pg_stat_file('$file', true)).size IS NOT NULL", 't', 'a file tells what its executors run');
quickly('DROP DATABASE two WITH (FORCE)', 'DROP DATABASE WITH (FORCE)');
wait_true($node, "SELECT (pg_stat_file('$file', true)).size IS NULL", 'which goes with the database');
works('postgres', 'the first database works on');

# --- DROP EXTENSION
busy_database('three');
sql($node, "BEGIN; DROP EXTENSION queue CASCADE; ROLLBACK", db => 'three');
running('three');
works('three', 'DROP EXTENSION rolled back: workers come back');
my $ended = sql($node, "SELECT sum(completed) > 0, min(stats_reset) FROM queue.stat_queue", db => 'three');
sql($node, "BEGIN; SAVEPOINT s; DROP EXTENSION queue CASCADE; ROLLBACK TO s; COMMIT", db => 'three');
running('three');
one($node, "SELECT sum(completed) > 0, min(stats_reset) FROM queue.stat_queue", $ended, 'and to a savepoint: what was counted stays', db => 'three');
sqlstate_like($node, 'DROP EXTENSION queue', '2BP01', qr/CASCADE/, 'DROP EXTENSION without CASCADE names it', db => 'three');
running('three');
quickly('ALTER EXTENSION queue UPDATE', 'ALTER EXTENSION UPDATE with jobs running', db => 'three');
running('three');
# from a job it would end the process that runs the job, which would start over, again and again
sql($node, <<'EOS', db => 'three');
CREATE FUNCTION ddl(j jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE j->>0; END $$;
SELECT queue.register_sql_handler('ddl', 'ddl', max_attempts => 1);
EOS
for my $command ('ALTER EXTENSION queue UPDATE', 'DROP EXTENSION queue CASCADE')
{
	my $id = sql($node, qq{SELECT queue.enqueue('ddl', '["$command"]', priority => -1)}, db => 'three');
	wait_end($node, $id, 'discarded', "$command in a handler is refused", db => 'three');
	one($node, "SELECT sqlstate || error FROM queue.job_error WHERE job_id = $id",
		'55000a handler cannot alter or drop the extension queue', 'and its job tells why', db => 'three');
}
quickly('DROP EXTENSION queue CASCADE', 'DROP EXTENSION with jobs running', db => 'three');
no_workers('three', 'its workers are gone');
one($node, "SELECT count(*) FROM pg_proc WHERE proname = 'h'", '0', 'and so is f(queue.job)', db => 'three');
sql($node, 'DROP TABLE seen', db => 'three');
queue_install($node, 'three');
sql($node, "SELECT queue.register_sql_handler('job', 'h')", db => 'three');
works('three', 'created again it works');

# --- DROP EXTENSION in a transaction that enqueued, and DROP SCHEMA .. CASCADE
sql($node, "BEGIN; SELECT queue.enqueue('job'); DROP EXTENSION queue CASCADE; COMMIT", db => 'three');
no_workers('three', 'enqueue and DROP EXTENSION in one transaction');
sql($node, "BEGIN; CREATE EXTENSION queue; SELECT queue.enqueue('x'); ROLLBACK", db => 'three');
no_workers('three', 'CREATE EXTENSION rolled back leaves no worker');
one($node, "SELECT count(*) FROM pg_namespace WHERE nspname = 'queue'", '0', 'and nothing else', db => 'three');
quickly('DROP DATABASE three', 'the database can be dropped');

# --- databases that nobody connects to
sql($node, "CREATE DATABASE tmpl");
queue_install($node, 'tmpl');
sql($node, "SELECT queue.register_sql_handler('job', 'h')", db => 'tmpl');
works('tmpl', 'a database');
sql($node, "ALTER DATABASE tmpl IS_TEMPLATE true");
sql($node, "CREATE DATABASE shut ALLOW_CONNECTIONS false");
sql($node, "CREATE DATABASE plain");
my $log_before = length slurp_file($node->logfile);
$node->restart;
works('postgres', 'after a restart');
# the launcher looks at all databases at its start; by now another one is served, so it had its turn
sql($node, "CREATE DATABASE last");
queue_install($node, 'last');
sql($node, "SELECT queue.register_sql_handler('job', 'h')", db => 'last');
works('last', 'a new database is served');
one($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'tmpl' AND backend_type LIKE 'queue %'", '0', 'a template has no workers');
unlike(substr(slurp_file($node->logfile), $log_before), qr/"shut" is not currently accepting connections/, 'nobody tries to connect where that is not allowed');
doctor_like($node, qr/is a template/, 'doctor() says why', db => 'tmpl');
quickly('CREATE DATABASE from_template TEMPLATE tmpl', 'so it can be copied');
sql($node, 'BEGIN; SAVEPOINT a; ALTER DATABASE tmpl IS_TEMPLATE false; RELEASE a; SAVEPOINT b; ROLLBACK TO b; COMMIT');
works('tmpl', 'what is no template any more is served, though a later savepoint was rolled back');

# --- a database that queue.databases does not name (any more)
sql($node, "ALTER SYSTEM SET queue.databases = 'postgres'");
$node->reload;
no_workers('last', 'one that queue.databases no longer names has no workers');
works('postgres', 'one that it names has');
doctor_like($node, qr/database "last" is not among queue\.databases/, 'doctor() says why', db => 'last');
sql($node, 'ALTER SYSTEM RESET queue.databases');
$node->reload;
works('last', 'named again it is served again');

# --- several databases at once
for my $db (map { "many$_" } 1 .. 4)
{
	sql($node, "CREATE DATABASE $db");
	queue_install($node, $db);
	sql($node, "SELECT queue.register_sql_handler('job', 'h'); SELECT count(*) FROM (SELECT queue.enqueue('job', '{\"note\": \"$db\"}') FROM generate_series(1, 200)) x", db => $db);
}
for my $db (map { "many$_" } 1 .. 4)
{
	wait_no_jobs($node, "$db has run its jobs", db => $db);
	one($node, 'SELECT min(note), max(note), count(*), count(DISTINCT job_id) FROM seen', "$db|$db|200|200", 'and only its own', db => $db);
}
quickly("DROP DATABASE $_", "DROP DATABASE $_") for map { "many$_" } 1 .. 4;

# --- a database without PL/pgSQL
sql($node, 'CREATE DATABASE bare');
sql($node, 'DROP EXTENSION plpgsql; CREATE EXTENSION queue; SELECT queue.enqueue(\'x\')', db => 'bare');
one($node, 'SELECT count(*) FROM queue.fetch(\'default\')', 1, 'the extension needs no PL/pgSQL', db => 'bare');
one($node, "SELECT count(*) FROM pg_class WHERE oid = 'queue.failure_3'::regclass AND relreplident = 'f'", 1, 'all of its script was done', db => 'bare');
sqlstate_like($node, "SELECT queue_internal.execute('SELECT 1')", '55000', qr/for the scripts/, 'nobody else runs statements by it');

# a database without the extension is looked into once, not again and again
one($node, "SELECT xact_commit + xact_rollback < 20 FROM pg_stat_database WHERE datname = 'plain'", 't', 'a database without the extension is left alone');

log_clean($node);
$node->stop;
done_testing();
