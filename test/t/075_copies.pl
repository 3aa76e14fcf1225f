# Copies of a database that has some of everything: by pg_dump in each format, by pg_upgrade, and by logical replication.
# Each has the same rows, runs nothing before adopt(), and everything after it.
#
# QUEUE_OLD_PG_CONFIG: of the server that pg_upgrade upgrades from, with queue installed; without it
# from this version to itself.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(usleep);

my $old_config = $ENV{QUEUE_OLD_PG_CONFIG};
my $new_bin = qx($ENV{PG_CONFIG} --bindir);
chomp $new_bin;
my $old_bin = $old_config ? dirname($old_config) : $new_bin;
my $conf = "max_worker_processes = 40\nwal_level = logical\nmax_wal_senders = 10\n";
my $node = queue_node('original', conf => $conf, ($old_config ? (install_path => dirname($old_bin)) : ()));
my $tmp = PostgreSQL::Test::Utils::tempdir;

# --- some of everything.  Nothing of it is due before an hour has passed, but what runs while its queue is not paused.
sql($node, <<'EOS');
CREATE ROLE app LOGIN;
SELECT queue.create_queue('dead');
SELECT queue.create_queue('mail', max_attempts => 7, keep_completed => '1 day', max_running => 50, dead_letter => 'dead');
SELECT queue.create_queue('fair', fair => 2, max_running_per_key => 3, ageing => '1 min');
SELECT queue.create_queue('held', on_group_discard => 'hold');
SELECT queue.grant_queue('mail', 'app', 'manage');
SELECT queue.register_sql_handler('job', 'h', max_running => 7, rate_limit => 1000);
SELECT queue.register_http_handler('hook', 'http://127.0.0.1:9/x?secret=1', secret => 'whsec_' || encode('0123456789abcdef01234567', 'base64'), headers => '{"X-A": "b"}');
SELECT queue.add_endpoint('hook', 'http://127.0.0.1:9/y', weight => 2);
SELECT queue.schedule('yearly', '30 3 29 2 *', 'job', '{"note": "tick"}', 'mail', timezone => 'Europe/Berlin', options => '{"tags": ["a"]}', overlap => 'skip');
SELECT queue.subscribe('a.*.#', 'job', 'mail', '$.x ? (@ > 1)');
SELECT queue.enqueue('job', '{"note": "kept", "return": {"r": 1}}', 'mail');
SELECT queue.enqueue('job', '{"raise": "22012"}', 'mail', max_attempts => 1);
SELECT queue.enqueue('job', '{"raise": "22012"}', 'held', max_attempts => 1, group_key => 'g');
EOS
wait_true($node, q{SELECT string_agg(state, ',' ORDER BY state) = 'available,completed,discarded,discarded' FROM queue.job}, 'some jobs ended');
sql($node, <<'EOS');
SELECT queue.pause('*');
SELECT queue.enqueue('job', '{"note": "behind"}', 'held', group_key => 'g');
SELECT queue.log('a line', job_id => id, attempt => attempt) FROM queue.fetch('dead', lease => '1 h');
SELECT queue.enqueue('job', '{"note": "keyed"}', 'mail', unique_key => 'k', unique_for => '1 day');
SELECT queue.enqueue('job', '{"note": "grouped"}', 'mail', group_key => 'g') FROM generate_series(1, 3);
SELECT queue.enqueue('job', '{"note": "fair"}', 'fair', concurrency_key => 'tenant ' || i % 2) FROM generate_series(1, 6) i;
SELECT queue.enqueue('job', '{"note": "expires"}', 'mail', expires_at => now() + '1 year', headers => '{"traceparent": "00"}', tags => '{x,"y z"}');
SELECT queue.enqueue('job', '{"note": "after"}', 'mail', depends_on => ARRAY[queue.enqueue('job', '{"note": "first"}', 'mail')]);
SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "job", "queue": "mail", "payload": {"note": "a"}}, {"ref": "b", "kind": "job", "queue": "mail", "payload": {"note": "b"}, "depends_on": ["a"], "compensate_with": "job"}]', 'flow', 'mail', on_finished => 'job', payload => '{"note": "callback"}');
SELECT queue.enqueue('job', jsonb_build_object('note', 'wide', 'w', repeat(md5('x'), 1000)), 'mail');
SELECT queue.enqueue('outside', '{}', 'mail') FROM generate_series(1, 3);
BEGIN;	-- no executor comes between
SELECT queue.resume('*');
SELECT queue.pause(q) FROM unnest('{mail,fair,held,dead,default}'::text[]) q;
COMMIT;
SELECT queue.resume('mail');
SELECT queue.emit('paid', '{"n": 1}', 'mail');
EOS
wait_true($node, q{SELECT NOT EXISTS (SELECT FROM queue.job WHERE queue = 'mail' AND kind = 'job' AND state IN ('available', 'pending', 'running'))
	AND EXISTS (SELECT FROM seen WHERE note = 'callback')}, 'what may run has run');
sql($node, <<'EOS');
SELECT queue.save_step(id, 'one', '{"done": true}', attempt) FROM queue.fetch('mail', lease => '1 h', worker => 'w1');
SELECT queue.await_event(id, 'shipped', '1 h', attempt) FROM queue.fetch('mail', lease => '1 h', worker => 'w2');
SELECT queue.pause('mail');
SELECT queue.enqueue('job', '{"note": "left"}', 'mail', group_key => 'g2') FROM generate_series(1, 3);
SELECT queue.enqueue('job', '{"note": "left after"}', 'mail', depends_on => ARRAY[queue.enqueue('job', '{"note": "left first"}', 'mail', unique_key => 'left')]);
SELECT queue.enqueue_workflow('[{"ref": "a", "kind": "job", "queue": "mail", "payload": {"note": "left a"}}, {"ref": "b", "kind": "job", "queue": "mail", "payload": {"note": "left b"}, "depends_on": ["a"]}]', 'flow 2', 'mail', on_finished => 'job', payload => '{"note": "left callback"}');
EOS
scheduler_turn($node);

# How many rows each table has, and what is in them, but for what lines are made or retired by and by.
sql($node, <<'EOS');
CREATE FUNCTION rows(OUT name text, OUT rows bigint, OUT digest text) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOR name IN SELECT c.oid::regclass::text FROM pg_extension e, unnest(e.extconfig) t JOIN pg_class c ON c.oid = t
		WHERE e.extname = 'queue' AND c.relkind = 'r' AND c.relname NOT IN ('maintained', 'line') ORDER BY 1
	LOOP
		EXECUTE format('SELECT count(*), md5(string_agg(x::text, E''\n'' ORDER BY x::text)) FROM ONLY %s x', name) INTO rows, digest;
		RETURN NEXT;
	END LOOP;
END $$;
EOS
my $rows = 'SELECT * FROM rows()';
my $expected = sql($node, $rows);
my $many = sql($node, 'SELECT count(*) FROM rows() WHERE rows > 0');
cmp_ok($many, '>=', 20, "$many tables have rows");
my $max = sql($node, 'SELECT last_value FROM queue.job_id');

# What is left runs after adopt(): in the groups' and the dependencies' order, once, and a new id is above all others.
sub adopted
{
	my ($copy, $name, %o) = @_;
	sql($copy, "SELECT queue.resume('mail'); SELECT queue.resume('default')", %o);
	wait_true($copy, "SELECT count(*) > 0 AND bool_and(state = 'parked') FROM queue.stat_handler", "$name: handlers are parked", %o);
	one($copy, "SELECT state FROM queue.schedule_status", 'parked', 'and the schedule', %o);
	doctor_like($copy, qr/adopt/, 'doctor() says so', %o);
	one($copy, "SELECT count(*) FROM seen WHERE note LIKE 'left%'", '0', 'nothing has run', %o);
	sql($copy, 'SELECT queue.adopt()', %o);
	wait_true($copy, "SELECT count(*) = 8 FROM seen WHERE note LIKE 'left%'", 'after adopt() all runs', %o);
	one($copy, "SELECT count(DISTINCT job_id), bool_and(attempt = 1) FROM seen WHERE note LIKE 'left%'", '8|t', 'once', %o);
	one($copy, "SELECT min(n) FILTER (WHERE note = 'left first') < min(n) FILTER (WHERE note = 'left after'),
		min(n) FILTER (WHERE note = 'left a') < min(n) FILTER (WHERE note = 'left b') FROM seen", 't|t', 'in order', %o);
	one($copy, "SELECT queue.enqueue('other', queue => 'dead') > $max", 't', 'ids go on', %o);
	one($copy, "SELECT queue.enqueue('job', queue => 'mail', unique_key => 'k') <= $max", 't', 'a key in its window is still taken', %o);
	one($copy, "SELECT state FROM queue.schedule_status", 'ready', 'the schedule goes on', %o);
	one($copy, "SELECT count(*) FROM queue.job WHERE queue = 'held' AND state IN ('pending', 'discarded')", '2', 'a group that is held stays so', %o);
	return;
}

# --- pg_dump, each format
unless ($old_config)
{
	for ([ 'plain', 'p' ], [ 'custom', 'c' ], [ 'tar', 't' ], [ 'directory', 'd' ])
	{
		my ($name, $format) = @$_;
		sql($node, "CREATE DATABASE copy_$name TEMPLATE template0");
		$node->command_ok([ 'pg_dump', "-F$format", '-f', "$tmp/$name", $node->connstr('postgres') ], "pg_dump -F$format");
		$node->command_ok($format eq 'p'
			? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy_plain'), '-f', "$tmp/plain" ]
			: [ 'pg_restore', '--exit-on-error', '-d', $node->connstr("copy_$name"), "$tmp/$name" ], 'restored');
		is(sql($node, $rows, db => "copy_$name"), $expected, 'the same rows');
	}
}

# --- a slow restore: everything that clears up behind jobs comes round after each table
unless ($old_config)
{
	my $pause = $ENV{QUEUE_TEST_PAUSE} // '';
	my $dump = slurp_file("$tmp/plain");
	$dump =~ s/^\\\.\n/\\.\nSELECT queue.maintain();\n$pause\n/mg;
	append_to_file("$tmp/slow", $dump);
	sql($node, 'CREATE DATABASE copy_slow TEMPLATE template0');
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy_slow'), '-f', "$tmp/slow" ], 'a restore with pauses');
	is(sql($node, $rows, db => 'copy_slow'), $expected, 'the same rows');
	adopted($node, 'slow', db => 'copy_slow');
}

# --- the same into an extension that is there and has given those ids, with triggers switched off
unless ($old_config)
{
	my @db = (db => 'copy_data');
	sql($node, 'CREATE DATABASE copy_data TEMPLATE template0');
	sql($node, "CREATE EXTENSION queue; SELECT setval(s::regclass, 1000) FROM unnest('{queue.job_id,queue.line_id,queue.workflow_id}'::text[]) s", @db);
	$node->command_ok([ 'pg_restore', '-a', '--disable-triggers', '-f', "$tmp/data", "$tmp/custom" ], 'pg_restore -a --disable-triggers');
	my ($schema, $data) = (scalar qx(pg_restore -s -f - $tmp/custom), slurp_file("$tmp/data"));
	$schema =~ s/^CREATE EXTENSION.*?;$//mg;
	$data =~ s/^\\\.\n/\\.\nSELECT queue.maintain();\n/mg;
	append_to_file("$tmp/data_only", $schema . $data);
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy_data'), '-f', "$tmp/data_only" ], 'a restore of the data');
	is(sql($node, $rows, @db), $expected, 'the same rows');
	is(sql($node, 'SELECT count(*) FROM queue.job', @db), sql($node, 'SELECT count(*) FROM queue.job'), 'all jobs have their lines');
	doctor_like($node, qr/^triggers \| triggers of .*queue\.line.* ALTER TABLE queue\.line ENABLE ALWAYS TRIGGER config_changed/m, 'doctor() says what to do about the triggers', @db);
	sql($node, sql($node, "SELECT substr(hint, strpos(hint, 'ALTER')) FROM queue.doctor() WHERE check_name = 'triggers'", @db), @db);
	one($node, "SELECT ok FROM queue.doctor() WHERE check_name = 'triggers'", 't', 'and that it is done', @db);
	adopted($node, 'data only', @db);
	sql($node, 'DROP DATABASE copy_data');
}

# --- a restore that has brought the rows of workflows and not yet those of their jobs: a new scheduler looks at them all
unless ($old_config)
{
	my @db = (db => 'copy_half');
	my $look = sub {
		my $scheduler = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND datname = 'copy_half'};
		wait_true($node, "SELECT EXISTS ($scheduler)", 'a scheduler');
		my $pid = sql($node, $scheduler);
		sql($node, "SELECT pg_terminate_backend($pid)");
		wait_true($node, "SELECT EXISTS ($scheduler AND pid <> $pid)", 'another one');
		scheduler_turn($node, @db);
	};
	my $bring = sub {
		my ($table, $where) = @_;
		sql($node, "COPY (SELECT * FROM queue.$table WHERE $where) TO '$tmp/$table.half'");
		sql($node, "COPY queue.$table FROM '$tmp/$table.half'", @db);
	};
	my $states = "SELECT string_agg(state, ',' ORDER BY id), (SELECT count(*) FROM queue.job WHERE kind = 'job') FROM queue.workflow_base";
	my $flow = sql($node, "SELECT id FROM queue.workflow_base WHERE name = 'flow 2'");
	sql($node, 'CREATE DATABASE copy_half TEMPLATE template0');
	sql($node, "CREATE EXTENSION queue; SELECT queue.create_queue('mail')", @db);
	$bring->('workflow_base', "id = $flow");
	sql($node, "UPDATE queue.workflow_base SET state = 'compensating' WHERE id = $flow", @db);
	$look->();
	one($node, $states, 'compensating|0', 'without its jobs a workflow is not undone: its id was not given here', @db);
	sql($node, "UPDATE queue.workflow_base SET state = 'running' WHERE id = $flow", @db);
	$look->();
	one($node, $states, 'running|0', 'nor does it finish', @db);
	$bring->('dependency', 'true');
	sql($node, "SELECT setval('queue.workflow_id', $flow)", @db);
	$look->();
	one($node, $states, 'running|0', 'nor once the sequence knows it: it is older than the restore', @db);
	sql($node, "SELECT queue.close_workflow(queue.create_workflow('none', 'mail', on_finished => 'job'))", @db);
	wait_true($node, "SELECT state = 'completed' FROM queue.workflow_base WHERE name = 'none'", 'one that was made here and has no jobs does', @db);
	$bring->('workflow_job', "workflow = $flow");
	$look->();
	one($node, $states, 'running,completed|1', 'nor with them, unfinished', @db);
	sql($node, "INSERT INTO queue.workflow_end SELECT workflow, job_id, job_id, 0, 'completed' FROM queue.workflow_job", @db);
	$look->();
	one($node, $states, 'completed,completed|2', 'but when they have ended', @db);
	# the jobs of deadlines may be to come as well, and who needs finished jobs
	sql($node, "SELECT queue.create_queue('kept', keep_completed => '1 h'), queue.enqueue('k', queue => 'kept'), setval('queue.job_id', 1000)", @db);
	sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('kept')", @db);
	sql($node, <<'EOS', @db);
CREATE FUNCTION old_ones() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
	n bigint;
	sum bigint := 0;
BEGIN
	CREATE TEMP TABLE one ON COMMIT DROP AS SELECT f.* FROM queue.finished_job f WHERE kind = 'k' LIMIT 1;
	UPDATE one SET finished_at = finished_at - interval '20 days', keep_until = keep_until - interval '20 days';
	FOR t IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'queue.finished_job'::regclass LOOP
		UPDATE one SET slot = substring(t::text FROM '\d+$')::smallint;
		EXECUTE format('INSERT INTO %s SELECT * FROM one', t);
	END LOOP;
	RETURN count(*) FROM queue.finished_job WHERE finished_at < now() - interval '19 days';
END $$;
EOS
	my $old_ones = sql($node, 'SELECT old_ones()', @db);
	sql($node, "INSERT INTO queue.deadline SELECT clock_timestamp() - interval '1 min', i FROM generate_series(500, 503) i; SELECT queue.maintain()", @db);
	one($node, "SELECT (SELECT count(*) FROM queue.deadline), (SELECT count(*) FROM queue.finished_job WHERE finished_at < now() - interval '19 days')",
		"4|$old_ones", 'neither goes at once', @db);
	sql($node, 'DROP DATABASE copy_half');
}

# --- logical replication, to a server that runs nothing
unless ($old_config)
{
	my $replica = queue_node('replica', conf => "${conf}queue.enabled = off\n", install => 0, initdb => ['--no-clean']);
	$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$tmp/schema", $node->connstr('postgres') ], 'pg_dump --schema-only');
	sql($replica, 'CREATE ROLE app LOGIN');
	$replica->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $replica->connstr('postgres'), '-f', "$tmp/schema" ], 'restored');
	sql($node, 'CREATE PUBLICATION whole FOR ALL TABLES');
	sql($replica, "CREATE SUBSCRIPTION whole CONNECTION '" . ($node->connstr('postgres') =~ s{'}{''}gr) . "' PUBLICATION whole");
	$replica->wait_for_subscription_sync($node, 'whole');
	is(sql($replica, $rows), $expected, 'the rows that were there are copied');
	my $late = sql($node, "SELECT queue.enqueue('job', '{\"note\": \"left late\"}', 'mail')");
	sql($node, "SELECT queue.cancel($late)");
	sql($node, "SELECT queue.discard((SELECT max(id) FROM queue.job WHERE queue = 'fair'))");
	for (1 .. $PostgreSQL::Test::Utils::timeout_default * 10)
	{
		last if sql($replica, $rows) eq ($expected = sql($node, $rows));
		usleep(100_000);
	}
	is(sql($replica, $rows), $expected, 'and those that change');
	one($replica, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'queue %' AND backend_type <> 'queue launcher'", '0', 'nothing runs there');
	$max = $late;
	sql($replica, 'DROP SUBSCRIPTION whole');
	sql($replica, "SELECT setval('seen_n_seq', 1000)");
	sql($replica, 'ALTER SYSTEM SET queue.enabled = on');
	$replica->reload;
	adopted($replica, 'a subscriber that takes over');
	log_clean($replica);
	$replica->stop;
	sql($node, 'DROP PUBLICATION whole');
	sql($node, "DROP DATABASE copy_$_") for qw(plain custom tar directory);
}

# --- pg_upgrade
$expected = sql($node, $rows);
log_clean($node);
$node->stop;
# (from 18 on clusters have checksums unless told otherwise, and both must agree)
my @initdb = $old_config && qx($new_bin/initdb --help) =~ /--no-data-checksums/ ? ('--no-data-checksums') : ();
my $new = queue_node('upgraded', conf => $conf, install => 0, start => 0, initdb => [ '--no-clean', @initdb ]);
chdir $tmp;
command_ok([ "$new_bin/pg_upgrade", '-d', $node->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new_bin,
		'-s', $new->host, '-p', $node->port, '-P', $new->port, '-U', $ENV{PGUSER} // scalar getpwuid($<) ],
	'pg_upgrade') or diag(map { grep { /error|could not|FATAL/i } split /^/m, slurp_file($_) } glob($new->data_dir . '/pg_upgrade_output.d/*/log/*.log'));
$new->start;
is(sql($new, $rows), $expected, 'the same rows');
adopted($new, 'upgraded');
log_clean($new);
$new->stop;
done_testing();
