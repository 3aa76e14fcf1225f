# A library over an extension of another version, older or newer: it works or refuses with one clear line, and goes on by
# itself when ALTER EXTENSION has been run, the workers as well as sessions that were open all the time.
#
# The earlier versions are made here, of the present script: statements and columns move from it into the update script.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# --- the scripts
my ($path, $extensions) = queue_installation(PostgreSQL::Test::Utils::tempdir_short());
my ($present) = slurp_file("$extensions/queue.control") =~ /^default_version = '(.*)'/m;
my $script = slurp_file("$extensions/queue--$present.sql");

sub write_script { append_to_file("$extensions/queue--$_[0].sql", $_[1]); return; }

# Cuts what matches out of the script, which is changed; returns it.
sub cut
{
	my ($text, $re) = @_;
	$$text =~ s/($re)// or die "the script has no $re";
	return $1;
}

# What an update script does first and last: it wants a library that can serve what it makes, and tells all sessions.
my $begin = "DO \$\$ BEGIN IF queue_internal.library_version() <> '%s' THEN RAISE EXCEPTION 'restart the server first'; END IF; END \$\$;\n";
my $end = "UPDATE queue.queue SET name = name WHERE false;\n";

# 0.9.5 lacks a function and a view: this library can serve it.
my $early = $script;
my $later = sprintf($begin, $present);
$later .= cut(\$early, qr/CREATE FUNCTION queue\.key_of\(.*?;\nCOMMENT ON FUNCTION queue\.key_of IS.*?;\n/s)
  . cut(\$early, qr/CREATE VIEW queue\.job_log .*?;\n/s)
  . cut(\$early, qr/COMMENT ON VIEW queue\.job_log IS .*?;\n/s);
$later .= $1 while $early =~ s/^(COMMENT ON COLUMN queue\.job_log\..*?;\n)//m;
my $rights = "REVOKE ALL ON FUNCTION queue.key_of FROM PUBLIC;\nREVOKE ALL ON queue.job_log FROM PUBLIC;\n";
write_script('0.9.5', $early);
write_script("0.9.5--$present", "$later$rights$end");

# 0.9 lacks columns and a table besides.
my $more = '';
for ([ 'unique_key', 'ended', 'boolean' ], [ 'limit_slot', 'counted', 'text COLLATE "C"' ])
{
	my ($table, $column, $type) = @$_;
	$early =~ s/(CREATE TABLE queue\.$table \(.*?),([^\n]*\n)?\s*\Q$column\E\s+\Q$type\E[^,\n]*\n/$1$2/s
	  or $early =~ s/(CREATE TABLE queue\.$table \(.*?\n)\s*\Q$column\E\s+\Q$type\E,[^\n]*\n/$1/s
	  or die "the script has no column $column of $table";
	$more .= "ALTER TABLE queue.$table ADD COLUMN $column $type;\n";
}
$more .= cut(\$early, qr/CREATE TABLE queue\.maintained \(.*?;\n/s)
  . cut(\$early, qr/ALTER TABLE queue\.maintained .*?;\n/)
  . cut(\$early, qr/COMMENT ON TABLE queue\.maintained .*?;\n/)
  . cut(\$early, qr/SELECT pg_catalog\.pg_extension_config_dump\('queue\.maintained'.*?;\n/)
  . "REVOKE ALL ON queue.maintained FROM PUBLIC;\n";
write_script('0.9', $early);
write_script("0.9--$present", "$later$more$rights$end");

# Later ones, and the way back.
write_script("$present--99.0", sprintf($begin, '99.0'));
write_script("$present--97.0", 'SELECT true');
write_script("97.0--$present", 'SELECT true');
write_script("$present--98.0", "ALTER TABLE queue.event ADD COLUMN further int;\n$end");
write_script("98.0--$present", "ALTER TABLE queue.event DROP COLUMN further;\n$end");

# What an extension is made of, but for OIDs.
my $catalog = <<'EOS';
SELECT pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::text), concat_ws(E'\n',
	(SELECT concat_ws(' ', relkind, relpersistence, relreplident, relacl, reloptions, pg_get_viewdef(oid)) FROM pg_class WHERE oid = objid),
	(SELECT string_agg(concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation, attstorage,
			pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)), E'\n' ORDER BY attnum)
		FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
		WHERE classid = 'pg_class'::regclass AND attrelid = objid AND attnum > 0 AND NOT attisdropped),
	(SELECT string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = objid),
	(SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), E'\n' ORDER BY conname) FROM pg_constraint WHERE conrelid = objid),
	(SELECT string_agg(concat_ws(' ', pg_get_triggerdef(oid), tgenabled), E'\n' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = objid),
	(SELECT concat_ws(' ', prosrc, proacl, pg_get_function_arguments(oid), pg_get_function_result(oid), proconfig, provolatile, proparallel,
		prosecdef, proisstrict, probin) FROM pg_proc WHERE oid = objid AND classid = 'pg_proc'::regclass))
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'queue') AND deptype = 'e'
UNION ALL
SELECT 'dumped', c::regclass::text, w FROM pg_extension, unnest(extconfig, extcondition) u(c, w) WHERE extname = 'queue'
UNION ALL
SELECT 'version', extversion, extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'queue'
ORDER BY 1, 2
EOS

my $node = queue_node('versions', install_path => $path, install => 0,
	conf => "queue.debug_serves = '0.9.5'\nmax_prepared_transactions = 2\nautovacuum = off\n");
sub log_lines { my ($re) = @_; return scalar(() = slurp_file($node->logfile) =~ /$re/g); }
# One check: an open session's statement fails so.
sub refused
{
	my ($session, $statement, $re, $name) = @_;
	$session->query($statement);
	like($session->{stderr}, $re, $name);
	$session->{stderr} = '';
	return;
}
sub oid { return sql($node, "SELECT oid FROM pg_database WHERE datname = '$_[0]'"); }

# --- an update while jobs run and sessions are open, of a version that the library serves
sql($node, "CREATE EXTENSION queue VERSION '0.9.5'");
queue_install($node, 'postgres');
sqlstate_like($node, "SELECT queue.key_of('{}')", '42883', qr/./, 'the earlier version has not what came later');
sql($node, <<'EOS');
SELECT queue.register_sql_handler('job', 'h');
SELECT queue.create_queue('out', keep_completed => '1 day');
SELECT queue.schedule('yearly', '@yearly', 'job');
SELECT queue.enqueue('job', '{"note": "grouped"}', group_key => 'g', delay => '1 day');
SELECT queue.enqueue('job', '{"note": "keyed"}', unique_key => 'k', delay => '1 day');
SELECT queue.enqueue('leased', '{}', 'out');
SELECT queue.enqueue('session', '{}', 'out');
EOS
my $gate = queue_session($node);
$gate->query_safe('SELECT pg_advisory_lock(7)');
my $running = sql($node, q{SELECT queue.enqueue('job', '{"note": "running", "lock": 7}', max_attempts => 1)});
poll($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted") or die 'the job does not run';
my $old = queue_session($node);
my ($leased) = $old->query_safe("SELECT id || ' ' || attempt FROM queue.fetch('out', kinds => '{leased}', lease => '1 h')") =~ /(.+)/;
my ($session) = $old->query_safe("SELECT id || ' ' || attempt FROM queue.fetch('out', kinds => '{session}', claim => 'session')") =~ /(.+)/;
$old->query_safe("PREPARE put AS SELECT queue.enqueue('awaited', '{}', 'out')");
my $waits = queue_session($node);
$waits->query_safe("SELECT count(*) FROM queue.fetch('out', kinds => '{never}')");
sql($node, 'ALTER EXTENSION queue UPDATE');
one($node, "SELECT extversion FROM pg_extension WHERE extname = 'queue'", $present, 'the update is made while a job runs');
one($node, "SELECT queue.key_of('{}') <> ''", 't', 'what is new is there');
$gate->query_safe('SELECT pg_advisory_unlock_all()');
wait_end($node, $running, 'completed', 'the job that ran is run to its end');
one($node, "SELECT count(*), count(DISTINCT job_id) FROM seen WHERE note = 'running'", '1|1', 'with one effect');
like($old->query_safe('EXECUTE put'), qr/^\d+$/, 'an old session enqueues');
my $ids = sub { my ($id, $attempt) = split / /, $_[0]; return "$id, $attempt" };
is($old->query_safe('SELECT queue.complete(' . $ids->($leased) . ')'), 't', 'and completes what it had leased');
is($old->query_safe('SELECT queue.complete(' . $ids->($session) . ')'), 't', 'and what its session had claimed');
is($waits->query_safe("SELECT kind FROM queue.fetch('out')"), 'awaited', 'another one fetches what was enqueued since');
one($node, "SELECT string_agg(kind || ' ' || state, ', ' ORDER BY id) FROM queue.job WHERE queue = 'default'", 'job scheduled, job scheduled', 'what waits waits on');
one($node, "SELECT state FROM queue.schedule_status", 'ready', 'and the schedule');
$node->adjust_conf('postgresql.conf', 'queue.debug_serves', "''");
$node->reload;

sql($node, 'CREATE DATABASE fresh');
sql($node, 'CREATE EXTENSION queue', db => 'fresh');
my @fresh = split /\n/, sql($node, $catalog, db => 'fresh');
sub same_catalog
{
	my ($db, $name) = @_;
	my %count;
	$count{$_}-- for @fresh;
	$count{$_}++ for split /\n/, sql($node, $catalog, db => $db);
	return is(join("\n", map { ($count{$_} < 0 ? 'missing: ' : 'more: ') . $_ } grep { $count{$_} } sort keys %count), '', $name);
}
same_catalog('postgres', 'the updated catalog is a fresh one');

# --- the library is newer than the extension, and does not serve it
sql($node, 'CREATE DATABASE behind');
my $behind = queue_session($node, 'behind');
sql($node, $_, db => 'behind')
  for "CREATE EXTENSION queue VERSION '0.9'", "INSERT INTO queue.line VALUES (nextval('queue.line_id'), 'default', 'job', 0)",
  "INSERT INTO queue.live_job (id, run_at, line, payload) SELECT nextval('queue.job_id'), clock_timestamp(), id, '{\"note\": \"from before\"}' FROM queue.line";
my $refused = qr/extension queue is of version 0\.9, but the loaded library is of version \Q$present\E.*HINT:\s+Run ALTER EXTENSION queue UPDATE/s;
for my $call ("queue.enqueue('job')", "queue.fetch('default')", "queue.complete(1)", "queue.create_queue('q')", 'queue.maintain()', 'count(*) FROM queue.stat_queue')
{
	sqlstate_like($node, "SELECT $call", '55000', $refused, "$call is refused", db => 'behind');
}
refused($behind, "SELECT queue.enqueue('job')", $refused, "in an open session, $_ times") for 1, 2;
doctor_like($node, qr/^version \| extension queue is of version 0\.9, but .* \| Run ALTER EXTENSION/m, 'doctor() tells of it', db => 'behind');
my $waiting = sub { return 'no job of database ' . oid($_[0]) . ' is run: extension queue is' };
$node->wait_for_log($waiting->('behind') . ' of version 0.9');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'behind' AND backend_type LIKE 'queue %'",
	'its scheduler waits, alone');

# also if it is told that it serves that version: the tables are others
sqlstate_like($node, "SET queue.debug_serves = '0.9'; SELECT queue.enqueue('job')", '55000',
	qr/column 7 of table queue\.unique_key is not "ended" of type boolean.*HINT:\s+Run ALTER EXTENSION queue UPDATE/s,
	'a table without a column that the library needs is refused', db => 'behind');

sql($node, 'ALTER EXTENSION queue UPDATE', db => 'behind');
like($behind->query_safe("SELECT queue.enqueue('other')"), qr/^\d+$/, 'after the update the session that was refused goes on');
queue_install($node, 'behind');
sql($node, "SELECT queue.register_sql_handler('job', 'h')", db => 'behind');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'from before'", 'and so do the workers, with a job from before it', db => 'behind');
same_catalog('behind', 'the catalog is a fresh one');
$behind->quit;

# --- the extension is newer than the library
sqlstate_like($node, "ALTER EXTENSION queue UPDATE TO '99.0'", 'P0001', qr/restart the server first/, 'an update that needs a newer library is refused');
like($old->query_safe("SELECT queue.enqueue('before')"), qr/^\d+$/, 'and everything goes on');
sql($node, q{SELECT queue.enqueue('job', '{"note": "later"}', delay => '1 hour')});
sql($node, "ALTER EXTENSION queue UPDATE TO '98.0'");
my $newer = qr/extension queue is of version 98\.0, but the loaded library is of version \Q$present\E.*HINT:\s+Restart the server/s;
sqlstate_like($node, "SELECT queue.enqueue('job')", '55000', $newer, 'a new session is refused');
refused($old, "SELECT queue.enqueue('after')", $newer, 'an open one too');
$node->wait_for_log($waiting->('postgres') . ' of version 98.0');
sql($node, "ALTER EXTENSION queue UPDATE TO '$present'");
$old->query_safe("SELECT queue.enqueue('after')");
sql($node, q{SELECT queue.enqueue('job', '{"note": "back"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'back'", 'back again jobs are run');
one($node, "SELECT count(*) FROM queue.job WHERE kind IN ('before', 'after') OR payload ->> 'note' = 'later'", '3', 'and none was lost');

# --- scripts that change nothing and tell nobody
$old->query_safe("SELECT queue.enqueue('after')");
sql($node, "ALTER EXTENSION queue UPDATE TO '97.0'");
refused($old, "SELECT queue.enqueue('after')", qr/extension queue is of version 97\.0/, 'ALTER EXTENSION itself tells open sessions');
$node->wait_for_log($waiting->('postgres') . ' of version 97.0');
sql($node, "ALTER EXTENSION queue UPDATE TO '$present'");
$old->query_safe("SELECT queue.enqueue('after')");
sql($node, q{SELECT queue.enqueue('job', '{"note": "on"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'on'", 'and the workers');

# --- by hand
sql($node, 'ALTER TABLE queue.unique_key DROP COLUMN ended');
sqlstate_like($node, "SELECT queue.enqueue('job')", '55000', qr/the loaded library was built for: column 7 of table queue\.unique_key/, 'a table that somebody changed is refused');
refused($old, "SELECT queue.enqueue('job')", qr/the loaded library was built for/, 'by open sessions too');
$node->wait_for_log($waiting->('postgres') . ' not the one');
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type IN ('queue executor', 'queue http')", 'no executor is left');
$old->quit;
$waits->quit;
$gate->quit;
sql($node, 'DROP EXTENSION queue CASCADE');
sql($node, 'DROP TABLE seen; DROP FUNCTION IF EXISTS h');
queue_install($node, 'postgres');
sql($node, q{SELECT queue.register_sql_handler('job', 'h'); SELECT queue.enqueue('job', '{"note": "anew"}')});
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'anew'", 'it can be dropped and created anew');

is(log_lines(qr/WARNING:.*no job of database \d+ is run/), 4, 'each of these was told once');
unlike(slurp_file($node->logfile), qr/exited with exit code [^0]|queue scheduler: .* failed/, 'and nothing failed');

# --- without preload
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$old = queue_session($node);
like($old->query_safe("SELECT queue.enqueue('plain')"), qr/^\d+$/, 'without preload');
sql($node, "ALTER EXTENSION queue UPDATE TO '98.0'");
refused($old, "SELECT queue.enqueue('plain')", qr/extension queue is of version 98\.0.*Connect again/s, 'an open session is refused');
sql($node, "ALTER EXTENSION queue UPDATE TO '$present'");
like($old->query_safe("SELECT queue.enqueue('plain')"), qr/^\d+$/, 'and goes on after the way back');
$old->quit;

log_clean($node);
$node->stop;
done_testing();
