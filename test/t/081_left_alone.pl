# A job that can be neither run nor failed is left alone, for longer each time, whatever its error says; it wastes neither memory
# nor tokens of a rate, and nobody is busy with what cannot go on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time sleep);

# Nobody finds by a look from afar what was lost.
my $node = queue_node('left_alone', far_look => 0, conf => "autovacuum = off\ntemp_file_limit = 0\nlog_min_messages = log\nlog_line_prefix = '%n %b '\n");

sql($node, <<'EOS');
CREATE TABLE gate (shut bool);
INSERT INTO gate VALUES (true);
-- refuses what has a payload such as {"bad": "P0001"}
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'bad' AND (SELECT shut FROM public.gate) THEN
		IF OLD.payload ? 'slowly' AND TG_OP = 'UPDATE' THEN
			IF NEW.line <> OLD.line THEN RETURN NEW; END IF;
			PERFORM pg_sleep(0.5);
		END IF;
		RAISE LOG 'refused';
		RAISE EXCEPTION 'not this one' USING ERRCODE = OLD.payload ->> 'bad';
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION works(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RAISE LOG 'runs';
	PERFORM pg_sleep((j.payload ->> 'sleep')::float8);
	PERFORM pg_advisory_xact_lock_shared((j.payload ->> 'lock')::int);
	RETURN to_jsonb(repeat('x', (j.payload ->> 'returns')::int));
END $$;
SELECT queue.register_sql_handler('short', 'works'), queue.register_sql_handler('long', 'works');
EOS
sub refuse_all { return sql($node, 'CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse()'); }
sub gate { my ($shut) = @_; return sql($node, "UPDATE gate SET shut = $shut"); }
sub executors { my ($n) = @_; sql($node, "ALTER SYSTEM SET queue.executors = $n"); $node->reload; return wait_true($node, "SELECT current_setting('queue.executors') = '$n' AND (SELECT count(*) <= $n FROM pg_stat_activity WHERE backend_type = 'queue executor')", "$n executors"); }
# jobs of a kind that come before some others of it
sub enqueue { my ($kind, $n, $payload, $more) = @_; return sql($node, "SELECT count(queue.enqueue('$kind', CASE WHEN i <= $n THEN '$payload' ELSE '{}' END::jsonb" . ($more // '') . ")) FROM generate_series(1, $n + 20) i"); }
sub good_ones_run { my ($name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; my $began = time; wait_true($node, q{SELECT count(*) = 0 FROM queue.live_job WHERE NOT payload ? 'bad'}, $name); return cmp_ok(time - $began, '<', 30, 'soon'); }
sub begin_anew { gate('false'); sql($node, q{SELECT queue.purge(queue) FROM queue.stat_queue}); return gate('true'); }
# when the log was told of such a thing, from the nth time on
sub told { my ($what, $from) = @_; my @all = slurp_file($node->logfile) =~ /^(\d+\.\d+) [^:]*LOG:  $what$/mg; return @all[ ($from // 0) .. $#all ]; }
sub wait_told { my ($what, $n, $from) = @_; for (1 .. 1800) { my @told = told($what, $from); return @told if @told >= $n; sleep 0.1; } die "not $n times: $what"; }

# --- the scheduler has nothing to do while executors are busy and what is next does not fit in the channel
my ($scheduler) = workers($node, 'scheduler');
sub worked { my @stat = split / /, slurp_file("/proc/$scheduler/stat") =~ s/^.*\) //sr; return $stat[11] + $stat[12]; }
executors(4);
sql($node, q{SELECT count(queue.enqueue('short', '{"sleep": 0.003}')) FROM generate_series(1, 300)});
wait_no_jobs($node, 'it is known how long one takes');
my $holder = queue_session($node);
$holder->query('SELECT pg_advisory_lock(1)');
sql($node, q{SELECT queue.enqueue('long', '{"lock": 1}') FROM generate_series(1, 4)});
wait_true($node, q{SELECT count(*) = 4 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'executors are busy');
sql($node, q{SELECT count(queue.enqueue('short', priority => 1)) FROM generate_series(1, 400)});
scheduler_turn($node);
sql($node, q{SELECT queue.enqueue('short')});
scheduler_turn($node);
my $before = worked();
sleep 2;
cmp_ok(worked() - $before, '<', 60, 'the scheduler sleeps');
$holder->query('SELECT pg_advisory_unlock(1)');
$holder->quit;
wait_no_jobs($node, 'all run then');

# --- a code that says that there is no room is believed only if nothing else can be written either
executors(1);
refuse_all();
for my $code (qw(53100 54000 58030))
{
	enqueue('short', 40, qq({"bad": "$code"}));
	good_ones_run("others run behind forty that raise $code");
	begin_anew();
}

# --- one that is left alone again is for longer
my $from = () = told('runs');
sql($node, q{SELECT queue.enqueue('long', '{"bad": "P0001"}')});
my @runs = wait_told('runs', 3, $from);
cmp_ok($runs[1] - $runs[0], '>', 4, 'it is left alone for a while');
cmp_ok($runs[2] - $runs[1], '>', ($runs[1] - $runs[0]) * 1.5, 'and for longer the next time');

# --- and is found as it has become
begin_anew();
my $shunned = () = told('runs');
my $id = sql($node, q{SELECT queue.enqueue('long', '{"bad": "P0001"}')});
wait_told('runs', 1, $shunned);
scheduler_turn($node);
gate('false');
sql($node, "SELECT queue.alter_job($id, priority => 5)");
wait_no_jobs($node, 'one that was altered meanwhile is run');
gate('true');

# also when a copy of what it was waits in the channel meanwhile
my @holder = map { my $session = queue_session($node); $session->query("SELECT pg_advisory_lock($_)"); $session } 3, 4;
sub waits { my ($lock) = @_; return wait_true($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $lock AND NOT granted", 'it runs'); }
$id = sql($node, q{SELECT queue.enqueue('long', '{"bad": "P0001", "slowly": 1, "lock": 4}')});
waits(4);
sql($node, q{SELECT queue.enqueue('long', '{"lock": 3}', priority => -5)});
$holder[1]->quit;
waits(3);
sql($node, "SELECT queue.alter_job($id, priority => 5)");
scheduler_turn($node);
gate('false');
$holder[0]->quit;
wait_no_jobs($node, 'it is run');
gate('true');

# --- nor do such use up what a rate has
sql($node, q{SELECT queue.create_queue('rated', rate_limit => 10, rate_period => '1 s')});
enqueue('short', 60, '{"bad": "P0001"}', ", 'rated'");
good_ones_run('others have tokens');
begin_anew();

# --- but tokens of what a handler fetched are used, whatever becomes of it
sql($node, <<'EOS');
CREATE FUNCTION fetches(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
	SELECT count(*) INTO n FROM queue.fetch('fetched', 100, kinds => '{ext}');
	FOR i IN 1 .. n LOOP RAISE LOG 'got'; END LOOP;
	RAISE 'no';
END $$;
SELECT queue.register_sql_handler('fetches', 'fetches'), queue.create_queue('fetched', rate_limit => 10, rate_period => '5 s');
SELECT count(*) FROM queue.enqueue_many('ext', array_fill('{}'::jsonb, ARRAY[100]), 'fetched');
EOS
sleep 5;
my $began = time;
sql($node, q{SELECT queue.enqueue('fetches', max_attempts => 1) FROM generate_series(1, 10)});
wait_no_jobs($node, 'handlers fetch', kinds => '^fetches$');
cmp_ok(scalar(() = told('got')), '<=', 10 + 2 * (time - $began + 1), 'no more than the rate allows');
begin_anew();

# --- or memory
my ($executor) = workers($node, 'executor');
$from = () = told('refused');
sql($node, q{SELECT count(queue.enqueue('long', '{"bad": "P0001", "returns": 1000000}')) FROM generate_series(1, 60)});
wait_told('refused', 2, $from);
my $resident = resident($executor);
$began = time;
wait_told('refused', 120, $from);
cmp_ok(time - $began, '<', 25, 'it tries one after the other');
cmp_ok(resident($executor) - $resident, '<', 20_000, 'an executor does not keep what jobs made that could not end');
begin_anew();

# --- a chore puts off one whose error looks like a cancel
sql($node, q{SELECT queue.enqueue('ext', CASE WHEN n <= 5 THEN '{"bad": "57014"}' ELSE '{}' END::jsonb, group_key => 'g' || n) FROM generate_series(1, 8) n});
wait_true($node, q{SELECT count(*) = 3 FROM queue.job WHERE state = 'available'}, 'other groups go on');
doctor_like($node, qr/chores \| .*the promotion of groups failed/, 'doctor() tells of it');
begin_anew();

# --- one that cannot be fetched holds up a worker once, and no others
sql($node, q{SELECT queue.create_queue('out')});
sql($node, q{SELECT queue.enqueue('ext', '{"bad": "P0001"}', 'out') FROM generate_series(1, 2)});
for (1, 2) { sqlstate_like($node, q{SELECT * FROM queue.fetch('out')}, 'P0001', qr/not this one/, 'its error'); }
$began = time;
one($node, q{CALL queue.await('{out}', '1 s')}, 'f', 'nobody is told of them');
cmp_ok(time - $began, '>', 0.9, 'who waits does');
sql($node, q{SELECT queue.enqueue('ext', queue => 'out') FROM generate_series(1, 2)});
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('out', 10)}, '2', 'those behind them are fetched');
one($node, q{SELECT count(*) FROM queue.fetch_any('{out}', 10, claim => 'session')}, '0', 'nor is it claimed otherwise');
gate('false');
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('out', wait => '30 s')}, '1', 'until its time has come');
begin_anew();
sql($node, q{SELECT queue.enqueue('ext', CASE WHEN n <= 150 THEN '{"bad": "P0001"}' ELSE '{}' END::jsonb, 'out') FROM generate_series(1, 151) n});
sql($node, q{DO $$ BEGIN FOR i IN 1 .. 150 LOOP BEGIN PERFORM queue.fetch('out'); RAISE division_by_zero; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$});
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('out')}, '1', 'however many they are');
begin_anew();
# it is tried again, and its error is nobody's: however seldom a worker comes by, he gets what is behind it
sql($node, q{SELECT queue.enqueue('ext', '{"bad": "P0001"}', 'out')});
sqlstate_like($node, q{SELECT * FROM queue.fetch('out')}, 'P0001', qr/not this one/, 'its error');
doctor_like($node, qr/^refused claims \| \d+ jobs could not/m, 'doctor() tells');
my $refusals = () = told('refused');
one($node, q{SELECT count(*) FROM queue.fetch('out', wait => '7 s')}, '0', 'who waits meets it again without an error');
cmp_ok(scalar(() = told('refused')), '>', $refusals, 'it was tried');
sql($node, q{SELECT queue.enqueue('ext', queue => 'out')});
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('out', 10)}, '1', 'and gets what is behind it');
begin_anew();
# a claim that ran out is counted in the row, by who claims it for a session too
gate('false');
sql($node, q{SELECT queue.enqueue('ext', '{"bad": "P0001"}', 'out')});
sql($node, q{SELECT id FROM queue.fetch('out', lease => '1 s')});
gate('true');
wait_true($node, q{SELECT leased_until < clock_timestamp() FROM queue.live_job}, 'a lease has ended');
sqlstate_like($node, q{SELECT * FROM queue.fetch('out', claim => 'session')}, 'P0001', qr/not this one/, 'a session meets it');
sql($node, q{SELECT queue.enqueue('ext', queue => 'out')});
one($node, q{SELECT count(*) FROM queue.fetch('out', 10, claim => 'session')}, '1', 'once');
begin_anew();
# nor does it use up what a rate has
sql($node, q{SELECT queue.create_queue('dear', rate_limit => 2, rate_period => '4 s')});
sql($node, q{SELECT queue.enqueue('ext', p, 'dear') FROM unnest('{"{\"bad\": \"P0001\"}","{}","{}","{}"}'::jsonb[]) p});
sqlstate_like($node, q{SELECT * FROM queue.fetch('dear', wait => '10 s')}, 'P0001', qr/not this one/, 'its error');
$refusals = () = told('refused');
sql($node, q{SELECT queue.pause('dear')});
wait_true($node, q{SELECT clock_timestamp() > enqueued_at + interval '9 s' FROM queue.job WHERE queue = 'dear' AND payload ? 'bad'}, 'its pause is over');
sql($node, q{SELECT queue.resume('dear')});
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('dear', 10)}, '2', 'there are tokens for as many as the rate lets through');
cmp_ok(scalar(() = told('refused')), '>', $refusals, 'although it was tried again');
begin_anew();
# there is a place for those of each database
sql($node, q{CREATE DATABASE other});
sql($node, q{CREATE EXTENSION queue}, db => 'other');
sql($node, q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.payload ? 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse();
	SELECT queue.create_queue('q' || i) FROM generate_series(1, 42) i}, db => 'other');
sql($node, q{SELECT count(queue.enqueue('ext', '{"bad": 1}', 'q' || i % 42 + 1)) FROM generate_series(1, 4200) i}, db => 'other');
sql($node, q{DO $$ BEGIN FOR i IN 1 .. 4200 LOOP BEGIN PERFORM queue.fetch('q' || i % 42 + 1); EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$}, db => 'other');
sql($node, q{SELECT queue.enqueue('ext', p, 'out') FROM unnest('{"{\"bad\": \"P0001\"}","{}"}'::jsonb[]) p});
$began = time;
sqlstate_like($node, q{SELECT * FROM queue.fetch('out')}, 'P0001', qr/not this one/, 'beside 4,200 of another database');
$refusals = () = told('refused');
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('out')}, '1', 'it is passed by as well');
ok(time - $began >= 5 || $refusals == (() = told('refused')), 'and not tried');
doctor_like($node, qr/^refused claims \| \d{1,2} jobs? could not/m, 'doctor() tells of none of the others');
# those that have no place in a database that has most of them are nobody's error either
sql($node, q{SELECT queue.enqueue('ext', CASE WHEN n % 100 > 0 THEN '{"bad": 1}' ELSE '{}' END::jsonb, 'q1') FROM generate_series(1, 300) n}, db => 'other');
one($node, q{SELECT count(queue.complete(id, attempt)) FROM queue.fetch('q1', 10)}, '3', 'more than there are places for', db => 'other');
sql($node, 'DROP DATABASE other WITH (FORCE)');
begin_anew();
sql($node, q{SELECT queue.enqueue('ext', '{"bad": "42501"}', 'out')});
for (1, 2) { sqlstate_like($node, q{SELECT * FROM queue.fetch('out')}, '42501', qr/not this one/, 'what is the fault of who fetches is no reason to pass it by'); }
begin_anew();

# --- one that takes its process down is not run again before that can be written
$from = () = told('runs');
$holder = queue_session($node);
$holder->query('SELECT pg_advisory_lock(2)');
sql($node, q{SELECT queue.enqueue('long', '{"bad": "P0001", "lock": 2}')});
wait_true($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'it runs');
$shunned = () = told('refused');
kill_9($node, sql($node, q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}));
eval { $holder->quit };
wait_told('refused', 4, $shunned);
is(scalar(() = told('runs', $from)), 1, 'it was not');
gate('false');
wait_no_jobs($node, 'it is when it can be', kinds => '^long$');

$node->stop;
done_testing();
