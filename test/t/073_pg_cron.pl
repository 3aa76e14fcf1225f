# pg_cron as the clock of a server that does not preload queue: its row comes and goes with the schedules, makes ticks and
# all else that time brings, in its own database and in another; doctor() tells what is missing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my ($library) = run_command([ 'pg_config', '--pkglibdir' ]);
plan skip_all => 'pg_cron is not installed' unless -f "$library/pg_cron.so";

my $node = queue_node('pg_cron', preload => 0, conf => <<'EOS');
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
EOS
my $row = 'queue_maintain_' . sql($node, 'SELECT oid FROM pg_database WHERE datname = current_database()');

# What doctor() says of a check.
sub doctor
{
	my ($check, $expected, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like(sql($node, "SELECT ok, detail, coalesce(hint, '') FROM queue.doctor() WHERE check_name = '$check'", %o), $expected, $name);
}

# Runs what the row of a database would run there.
sub run_row
{
	my ($db) = @_;
	my $command = sql($node, "SELECT command FROM cron.job WHERE database = '$db'");
	return sql($node, $command, db => $db);
}

# --- before pg_cron is there, and before anything is scheduled
doctor('clock', qr/^t\|no clock is needed/, 'nothing is scheduled');
sql($node, "SELECT queue.schedule('early', '\@daily', 'job')");
doctor('clock', qr/^f\|no clock.*\|CREATE EXTENSION pg_cron; then SELECT cron\.schedule\('$row'/, 'without the extension pg_cron');
sql($node, 'CREATE EXTENSION pg_cron');
doctor('clock', qr/^f\|no clock.*\|SELECT cron\.schedule\('$row'/, 'its row is missing');
doctor('pg_cron', qr/^f\|pg_cron has no row "$row"/, 'and told so');

# --- the row comes with a schedule
sql($node, "SELECT queue.schedule('minute', '* * * * *', 'job', '{\"n\": 1}')");
one($node, "SELECT schedule, database, active FROM cron.job WHERE jobname = '$row'", '* * * * *|postgres|t', 'a schedule makes the row');
sql($node, "SELECT queue.schedule('other', '\@daily', 'job')");
one($node, 'SELECT count(*) FROM cron.job', '1', 'one for all');
doctor('clock', qr/^t\|pg_cron calls/, 'there is a clock');
doctor('pg_cron', qr/^t\|.*has not run yet/, 'which did not run yet');

# --- another database: somebody makes the row, as doctor() says
sql($node, 'CREATE DATABASE shop');
sql($node, $_, db => 'shop') for 'CREATE EXTENSION queue', "SELECT queue.create_queue('kept', keep_completed => '1 hour')",
	"SELECT queue.schedule('minute', '* * * * *', 'job', options => '{\"starts_at\": \"2020-01-01\"}')";
one($node, 'SELECT count(*) FROM cron.job', '1', 'a schedule elsewhere makes no row');
doctor('clock', qr/^f\|no clock.*\|In database postgres: SELECT cron\.schedule_in_database\(/, 'doctor() prints the call to make', db => 'shop');
my $call = sql($node, "SELECT hint FROM queue.doctor() WHERE check_name = 'clock'", db => 'shop');
$call =~ s/^In database postgres: (.*)\.$/$1/ or die $call;
sql($node, $call);
my $lost = sql($node, "SELECT queue.enqueue('lease', '{}', 'kept', max_attempts => 1)", db => 'shop');
sql($node, "SELECT count(*) FROM queue.fetch('kept', lease => '1 ms')", db => 'shop');
sql($node, "SELECT queue.enqueue('expired', '{}', 'kept', expires_at => clock_timestamp())", db => 'shop');
is(run_row('shop'), '', 'the row runs there');
one($node, "SELECT string_agg(kind || ' ' || state, ', ' ORDER BY kind) FROM queue.job", 'expired cancelled, lease discarded', 'ends of leases and deadlines', db => 'shop');
doctor('clock', qr/^t\|queue\.tick\(\) or queue\.maintain\(\) was called/, 'and doctor() sees that it does', db => 'shop');

# --- left behind, it does nothing: in a copy, and without the extension
sql($node, 'CREATE DATABASE copy TEMPLATE shop');
my $before = sql($node, 'SELECT at FROM queue.maintained', db => 'copy');
sql($node, 'UPDATE queue.maintained SET at = at - interval \'1 hour\'', db => 'copy');
sql($node, "SELECT command FROM cron.job WHERE database = 'shop'");
is(sql($node, sql($node, "SELECT command FROM cron.job WHERE database = 'shop'"), db => 'copy'), '', 'in a copy');
one($node, "SELECT at < '$before' FROM queue.maintained", 't', 'nothing is done', db => 'copy');
sql($node, 'DROP EXTENSION queue CASCADE', db => 'shop');
is(run_row('shop'), '', 'without the extension');

# --- what time brings here: pg_cron itself runs it within a minute
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE origin->>'schedule' = 'minute'", 'pg_cron makes a tick');
one($node, "SELECT (origin->>'tick')::timestamptz = date_trunc('minute', enqueued_at), origin->'late' FROM queue.job", 't|false', 'in its minute');
wait_true($node, "SELECT ok AND detail ~ 'ended well' FROM queue.doctor() WHERE check_name = 'pg_cron'", 'and doctor() says that it ended well');
one($node, "SELECT complete FROM queue.fetch('default') j, LATERAL queue.complete(j.id, j.attempt)", 't', 'a worker fetches it');

# --- a run that failed, a row that is switched off
sql($node, "INSERT INTO cron.job_run_details (jobid, runid, status, return_message, start_time, end_time) SELECT jobid, 1000000, 'failed', 'no pg_hba.conf entry', now(), now() FROM cron.job WHERE jobname = '$row'");
doctor('pg_cron', qr/^f\|.*failed at .*no pg_hba\.conf entry\|/, 'a failed run, with its message');
sql($node, "UPDATE cron.job SET active = false WHERE jobname = '$row'");
doctor('pg_cron', qr/^f\|.*switched off\|UPDATE cron\.job/, 'a row that is switched off');

# --- the row goes with the last schedule
sql($node, "SELECT queue.unschedule(name) FROM queue.schedule_status WHERE name <> 'other'");
one($node, "SELECT count(*) FROM cron.job WHERE jobname = '$row'", '1', 'it stays as long as there is a schedule');
sql($node, "SELECT queue.unschedule('other')");
one($node, "SELECT count(*) FROM cron.job WHERE jobname = '$row'", '0', 'and goes with the last');

log_clean($node);
$node->stop;
done_testing();
