# pg_dump and restore: jobs, queues, handlers and privileges go along, ids go on, and nothing runs in the copy
# before adopt().
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('dump', conf => "max_worker_processes = 40\n");
my $tmp = PostgreSQL::Test::Utils::tempdir;

# --- an empty install
sql($node, "CREATE DATABASE empty");
sql($node, "CREATE EXTENSION queue", db => 'empty');
sql($node, "CREATE DATABASE empty_copy TEMPLATE template0");
$node->command_ok([ 'pg_dump', '-f', "$tmp/empty.sql", $node->connstr('empty') ], 'pg_dump of an empty install');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('empty_copy'), '-f', "$tmp/empty.sql" ], 'restores');
one($node, "SELECT queue.enqueue('x') > 0", 't', 'and works', db => 'empty_copy');

# --- one with everything in it
sql($node, <<'EOS');
CREATE ROLE app LOGIN;
CREATE ROLE viewer LOGIN;
SELECT queue.create_queue('mail', max_attempts => 7, lease => '1 min', keep_completed => '1 day',
	backoff => '{"type": "fixed", "base": "1 h"}');
SELECT queue.grant_queue('default', 'app', 'enqueue');
SELECT queue.grant_queue('mail', 'app', 'work');
SELECT queue.grant_queue('mail', 'viewer', 'read');
SELECT queue.register_sql_handler('job', 'h');
SELECT queue.register_sql_handler('mine', 'h', ARRAY['mail'], run_as => 'app', max_attempts => 2, timeout => '1 min');
SELECT queue.enqueue('job', '{"note": "kept", "return": {"r": 1}}', 'mail');
SELECT queue.enqueue('job', '{"raise": "22012"}', 'mail', max_attempts => 1);
SELECT queue.enqueue('job', '{"raise": "22012", "note": "retry"}', 'mail');
EOS
wait_true($node, "SELECT string_agg(state, ',' ORDER BY state) = 'completed,discarded,retryable' FROM queue.job", 'some jobs ended');
sql($node, <<'EOS');
SELECT queue.enqueue('external', '{"note": "out"}');
SELECT count(*) FROM queue.fetch('default', lease => '1 h', worker => 'w1', kinds => '{external}');
SELECT queue.pause('default');
SELECT queue.pause('mail');
SELECT count(*) FROM (SELECT queue.enqueue('job', jsonb_build_object('note', 'job ' || i)) FROM generate_series(1, 20) i) x;
SELECT queue.enqueue('mine', '{"note": "mine"}', 'mail', priority => -3);
SELECT queue.enqueue('job', '{"note": "later"}', delay => '1 day', headers => '{"a": "b"}', tags => '{x,"y z"}', max_attempts => 3);
EOS
my $snapshot = q{SELECT id, queue, kind, state, payload, priority, attempt, failures, max_attempts, run_at, enqueued_at, headers, tags, result, last_error, leased_until, worker FROM queue.job ORDER BY id};
my $before = sql($node, $snapshot);
my $max = sql($node, 'SELECT max(id) FROM queue.job');

for my $format (qw(plain custom parallel))
{
	my $db = "copy_$format";
	sql($node, "CREATE DATABASE $db TEMPLATE template0");
	if ($format eq 'plain')
	{
		$node->command_ok([ 'pg_dump', '-f', "$tmp/$db.sql", $node->connstr('postgres') ], 'pg_dump');
		$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "$tmp/$db.sql" ], 'restored by psql');
	}
	elsif ($format eq 'custom')
	{
		$node->command_ok([ 'pg_dump', '-Fc', '-f', "$tmp/$db.dump", $node->connstr('postgres') ], 'pg_dump -Fc');
		$node->command_ok([ 'pg_restore', '--exit-on-error', '--single-transaction', '-d', $node->connstr($db), "$tmp/$db.dump" ], 'restored by pg_restore --single-transaction');
	}
	else
	{
		$node->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$tmp/$db.dir", $node->connstr('postgres') ], 'pg_dump -Fd -j2');
		$node->command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', $node->connstr($db), "$tmp/$db.dir" ], 'restored by pg_restore -j2');
	}
	is(sql($node, $snapshot, db => $db), $before, "$format: the jobs are the same");
	one($node, "SELECT job_id, error ~ 'boom', sqlstate FROM queue.job_error ORDER BY job_id LIMIT 1", '2|t|22012', 'and their errors', db => $db);
	is(sql($node, 'SELECT * FROM queue.queue ORDER BY name', db => $db), sql($node, 'SELECT * FROM queue.queue ORDER BY name'), 'the queues');
	is(sql($node, 'SELECT * FROM queue.handler ORDER BY kind', db => $db), sql($node, 'SELECT * FROM queue.handler ORDER BY kind'), 'the handlers');
	is(sql($node, 'SELECT * FROM queue.privilege ORDER BY 1, 2, 3', db => $db), sql($node, 'SELECT * FROM queue.privilege ORDER BY 1, 2, 3'), 'the privileges');

	# privileges work for those who had them, and for nobody else
	one($node, "SELECT queue.enqueue('job', '{\"note\": \"new\"}') > $max", 't', 'ids go on; a granted role may enqueue', db => $db, user => 'app');
	sqlstate_like($node, "SELECT queue.enqueue('job', '{}', 'mail')", '42501', qr/./, 'a role without a grant may not', db => $db, user => 'viewer');
	one($node, "SELECT count(*) > 0, bool_and(queue = 'mail') FROM queue.job", 't|t', 'a reader sees its queue', db => $db, user => 'viewer');

	# nothing runs before adopt(), whatever else is done
	sql($node, "SELECT queue.resume('default'); SELECT queue.resume('mail')", db => $db);
	wait_true($node, "SELECT count(*) = 2 FROM queue.stat_handler WHERE state = 'parked'", 'its handlers are parked', db => $db);
	wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'queue scheduler'", 'its scheduler runs');
	doctor_like($node, qr/adopt/, 'doctor() says so', db => $db);
	one($node, "SELECT count(*) FROM queue.job WHERE id > 3 AND attempt > 0 AND kind <> 'external'", '0', 'no job ran', db => $db);
	one($node, "SELECT count(*) FROM seen WHERE note LIKE 'job%'", '0', 'none had an effect', db => $db);
	sql($node, 'SELECT queue.adopt()', db => $db);
	wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind <> 'external' AND state IN ('available', 'running'))", 'all due jobs run after it', db => $db);
	one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note LIKE 'job%'", '20|20', 'each once', db => $db);
	one($node, "SELECT cu FROM seen WHERE note = 'mine'", 'app', 'as their roles', db => $db);
	one($node, "SELECT state FROM queue.job WHERE payload->>'note' = 'later'", 'scheduled', 'a later one is still to come', db => $db);
}
one($node, "SELECT count(*) FROM seen WHERE note LIKE 'job%'", '0', 'the original was not touched');

# --- privileges are dumped by the role's name: one that is gone, or missing where it is restored, is skipped
sql($node, <<'EOS');
CREATE ROLE gone;
CREATE ROLE missing;
CREATE ROLE before_it;
SELECT queue.grant_queue('mail', role, 'manage') FROM unnest('{gone,missing,before_it}'::name[]) role;
DROP OWNED BY gone;
DROP ROLE gone;
ALTER ROLE before_it RENAME TO renamed;
EOS
$node->command_ok([ 'pg_dump', '-x', '-f', "$tmp/roles.sql", $node->connstr('postgres') ], 'pg_dump with a role that is gone');
sql($node, 'DROP OWNED BY missing; DROP ROLE missing');
sql($node, 'CREATE DATABASE roles TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('roles'), '-f', "$tmp/roles.sql" ], 'restores');
one($node, 'SELECT queue, role, privilege FROM queue.privilege ORDER BY role::text, queue', "default|app|enqueue\nmail|app|work\nmail|renamed|manage\nmail|viewer|read",
	'the privileges of those who are there', db => 'roles');

# --- a dump of a copy restores over nothing: schema only, and one that was never adopted
sql($node, "CREATE DATABASE bare TEMPLATE template0");
# The extension's tables by name: a partition among them made pg_dump crash.
$node->command_ok([ 'pg_dump', '-t', 'queue.*', '-f', "$tmp/tables.sql", $node->connstr('postgres') ], "pg_dump -t 'queue.*'");
like(slurp_file("$tmp/tables.sql"), qr/^COPY queue\.finished_job_\d+ /m, 'with the rows of the rings');
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$tmp/bare.sql", $node->connstr('postgres') ], 'pg_dump --schema-only');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('bare'), '-f', "$tmp/bare.sql" ], 'restores');
one($node, "SELECT queue.enqueue('x') > 0", 't', 'and works', db => 'bare');

# --- the database's owner may not read jobs and secrets: the dump needs a role that may, or leaves the queue out
sql($node, 'CREATE ROLE landlord LOGIN; CREATE DATABASE owned OWNER landlord');
sql($node, $_, db => 'owned') for 'CREATE EXTENSION queue', "SELECT queue.grant_queue('*', 'landlord', 'manage')",
	'CREATE TABLE mine (); ALTER TABLE mine OWNER TO landlord';
my @dump = ('pg_dump', '-U', 'landlord', '-f', "$tmp/owned.sql");
$node->command_fails_like([ @dump, $node->connstr('owned') ], qr/permission denied for (table|sequence)|lack SELECT privilege on the sequence/, 'pg_dump as an owner that is no superuser');
$node->command_ok([ @dump, '-N', 'queue', $node->connstr('owned') ], 'but without schema queue');
unlike(slurp_file("$tmp/owned.sql"), qr/^COPY queue\./m, 'which leaves out the jobs');
like(slurp_file("$tmp/owned.sql"), qr/^CREATE EXTENSION .*queue.*^CREATE TABLE public\.mine/ms, 'and nothing else');
sql($node, 'GRANT pg_read_all_data TO landlord');
$node->command_ok([ @dump, $node->connstr('owned') ], 'and with pg_read_all_data');
like(slurp_file("$tmp/owned.sql"), qr/^COPY queue\.live_job /m, 'whole');

log_clean($node);
$node->stop;
done_testing();
