# overlap => 'replace' with the last job in an executor's hands, and a key or a row that somebody holds: no other schedule
# waits for it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# The minute began five seconds ago, so that few of the test's steps meet the end of one.
my $offset = 65 - time % 60;
my $node = queue_node('overlap', conf => "queue.executors = 2\nqueue.debug_clock_offset = ${offset}s\n");
sql($node, "SELECT queue.register_sql_handler('job', 'h', timeout => '0')");

sub move_clock
{
	my ($seconds) = @_;
	$offset += $seconds;
	sql($node, "ALTER SYSTEM SET queue.debug_clock_offset = '${offset}s'");
	$node->reload;
	return;
}

# The schedule's tick of the present minute was made.
sub wait_tick
{
	my ($schedule, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "SELECT last_tick = date_trunc('minute', clock_timestamp() + interval '$offset s') FROM queue.schedule_status WHERE name = '$schedule'", $what);
}

# --- the job of the last tick runs
my $blocker = queue_session($node);
$blocker->query_safe('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.schedule('replace', '* * * * *', 'job', '{"lock": 1, "note": "replace"}', overlap => 'replace')});
sql($node, q{SELECT queue.schedule('beside', '* * * * *', 'job', '{"note": "beside"}')});
move_clock(60);
my $running = "SELECT id FROM queue.job WHERE kind = 'job' AND state = 'running' AND payload->>'note' = 'replace'";
wait_true($node, "SELECT EXISTS ($running)", 'the job of a tick runs, and waits for a lock');
my $first = sql($node, $running);
move_clock(60);
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE id = $first AND state = 'cancelled' AND last_error ~ 'schedule \"replace\"'", 'the next tick cancels it');
wait_true($node, "SELECT EXISTS ($running AND id > $first)", 'and its own job comes');
wait_tick('beside', 'another schedule ticks');
is(sql($node, "SELECT count(*) FROM seen WHERE note = 'replace'"), '0', 'what the cancelled one did is undone');
$blocker->query_safe('SELECT pg_advisory_unlock(1)');
wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = 'replace'", 'it ends');
sql($node, "SELECT queue.unschedule('replace')");

# --- a client holds the job's row in an open transaction: that schedule waits, the other does not
sql($node, q{SELECT queue.schedule('held', '* * * * *', 'ext', overlap => 'replace')});
move_clock(60);
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'ext'", 'a job for a worker outside');
my $worker = queue_session($node);
$worker->query_safe(q{BEGIN; SELECT queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{ext}')});
move_clock(60);
wait_tick('beside', 'another schedule ticks');
is(sql($node, "SELECT count(*) FROM queue.job WHERE kind = 'ext'"), '1', 'the tick waits for the end of the job that it replaces');
$worker->query_safe('COMMIT');
wait_tick('held', 'then it comes');
is(sql($node, "SELECT count(*), count(*) FILTER (WHERE state = 'available') FROM queue.job WHERE kind = 'ext'"), '1|1', 'with one job, the other was completed');
sql($node, "SELECT queue.unschedule('held')");

# --- somebody enqueues the unique key in an open transaction
sql($node, q{SELECT queue.schedule('key', '* * * * *', 'ext', options => '{"unique_key": "u"}')});
$worker->query_safe(q{BEGIN; SELECT queue.enqueue('ext', unique_key => 'u')});
move_clock(60);
wait_tick('beside', 'another schedule ticks');
is(sql($node, "SELECT skipped, state FROM queue.schedule_status WHERE name = 'key'"), '0|ready', 'that one waits');
$worker->query_safe('COMMIT');
wait_tick('key', 'and goes on');
is(sql($node, "SELECT skipped FROM queue.schedule_status WHERE name = 'key'"), '1', 'the key was taken');
sql($node, "SELECT queue.unschedule('key')");

# --- somebody holds the row of its state
$worker->query_safe("BEGIN; SELECT queue.pause_schedule('beside')");
sql($node, q{SELECT queue.schedule('other', '* * * * *', 'ext')});
move_clock(60);
wait_tick('other', 'a schedule whose row is held stops no other');
$worker->query_safe('ROLLBACK');
wait_tick('beside', 'and ticks when it is let go');

# --- the clock stood ahead while that was so
$worker->query_safe("BEGIN; SELECT queue.pause_schedule('beside')");
move_clock(7200);
wait_tick('other', 'another schedule ticks, ahead of its time');
move_clock(-7200);
$worker->query_safe('ROLLBACK');
move_clock(60);
wait_tick('beside', 'the one that waited does not wait for the time that the clock showed');

# --- it stood ahead by more than a day: who registers a schedule again need not wait for that day
move_clock(172800);
wait_tick('beside', 'a tick in two days');
move_clock(-172800);
sql($node, q{SELECT queue.schedule('beside', '* * * * *', 'job', '{"note": "beside"}')});
move_clock(60);
wait_tick('beside', 'registered again it ticks when the clock is right again');
$worker->quit;
$blocker->quit;

# --- what HTTP handlers are told
my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
sql($node, "SELECT queue.alter_queue('default', keep_completed => '1 day')");
sql($node, "SELECT queue.register_http_handler('hook', '" . $server->url('/echo/200') . "'), queue.schedule('by hook', '\@yearly', 'hook')");
my $hook = sql($node, "SELECT queue.run_schedule('by hook')");
wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $hook", 'a request for a schedule');
my $headers = sql($node, "SELECT result->>'body' FROM queue.job WHERE id = $hook");
like($headers, qr/"queue-schedule" ?: ?"by%20hook"/i, 'header Queue-Schedule');
like($headers, qr/"queue-scheduled-at" ?: ?"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*\+00:00"/i, 'header Queue-Scheduled-At');

# --- what SQL handlers are told: origin; and a schedule that is dropped with the extension leaves nothing
like(sql($node, "SELECT origin FROM queue.job WHERE kind = 'ext' ORDER BY id DESC LIMIT 1"), qr/^\{"late": (true|false), "tick": "[-0-9]+T[0-9:]+\+00:00", "schedule": "other"\}$/, 'origin');
sql($node, 'DROP EXTENSION queue CASCADE');
sql($node, 'CREATE EXTENSION queue');
one($node, 'SELECT count(*) FROM queue.schedule_status', '0', 'a new extension has no schedules');

log_clean($node);
$node->stop;
done_testing();
