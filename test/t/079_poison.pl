# Rows that cannot be written: whoever meets one - a look at a group, at dependents, at ended leases, an executor - leaves it
# alone for a while and holds up nobody for it, however many there are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

# Nobody finds by a look from afar what was lost.
my $node = queue_node('poison', far_look => 0, conf => "queue.executors = 1\n");

sql($node, <<'EOS');
SELECT queue.create_queue('q', lease => '1 s'), queue.create_queue('before', lease => '1 s');
SELECT queue.enqueue('ext', queue => 'before');
SELECT queue.purge('before');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'poison' THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION refuse_new() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.payload ? 'poison' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
EOS
sub poison { return sql($node, 'CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse()'); }
sub heal { return sql($node, 'DROP TRIGGER refuse ON queue.live_job'); }
sub state_is { my ($id, $state, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return wait_true($node, "SELECT state = '$state' FROM queue.job WHERE id = $id", $name); }
sub refuse_new { return sql($node, 'CREATE TRIGGER refuse_new BEFORE INSERT ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse_new()'); }
sub accept_new { return sql($node, 'DROP TRIGGER refuse_new ON queue.live_job'); }
my $bad = q{'{"poison": 1}'};
my $began = time;
# Found one by one, with a longer pause after each, they would take some minutes.
sub soon { local $Test::Builder::Level = $Test::Builder::Level + 1; return cmp_ok(time - $began, '<', 30, 'soon'); }

# --- the first jobs of groups
poison();
sql($node, "SELECT queue.enqueue('ext', CASE WHEN n <= 30 THEN $bad ELSE '{}' END::jsonb, 'q', group_key => 'g' || n) FROM generate_series(1, 34) n");
wait_true($node, "SELECT count(*) = 4 FROM queue.job WHERE state = 'available'", 'other groups go on');
soon();
doctor_like($node, qr/chores \| .*the promotion of groups failed/, 'doctor() tells of it');
my @told = slurp_file($node->logfile) =~ /the promotion of groups failed/g;
cmp_ok(scalar @told, '<=', 4, 'the log once, for one and for the others, and again after a minute');
heal();
wait_true($node, "SELECT count(*) = 34 FROM queue.job WHERE state = 'available'", 'and those when they can');
sql($node, "SELECT queue.purge('q')");

# --- some that depend on another
my $first = sql($node, "SELECT queue.enqueue('ext', queue => 'q')");
my @waits = split /\n/, sql($node, "SELECT queue.enqueue('ext', CASE WHEN n <= 30 THEN $bad ELSE '{}' END::jsonb, 'q', depends_on => ARRAY[$first]) FROM generate_series(1, 32) n");
$began = time;
sql($node, "SELECT id FROM queue.fetch('q')");
poison();
sql($node, "SELECT queue.complete($first)");
state_is($_, 'available', 'others that depend on the same job go on') for @waits[30, 31];
soon();
one($node, "SELECT state FROM queue.job WHERE id = $waits[0]", 'pending', 'it waits');
heal();
state_is($_, 'available', 'until it can be written') for @waits[0, 29];
sql($node, "SELECT queue.purge('q')");

# --- some that await an event
@waits = split /\n/, sql($node, "SELECT queue.enqueue('ext', CASE WHEN n <= 30 THEN $bad ELSE '{}' END::jsonb, 'q') FROM generate_series(1, 32) n");
sql($node, "SELECT queue.await_event(id, 'e', '1 hour', attempt) FROM queue.fetch('q', 32)");
poison();
$began = time;
sql($node, "SELECT queue.emit('e', '1', 'q')");
state_is($_, 'available', 'others that await the same event go on') for @waits[30, 31];
soon();
heal();
state_is($_, 'available', 'and those when they can') for @waits[0, 29];
sql($node, "SELECT queue.purge('q')");

# --- workflows whose last job cannot be enqueued
refuse_new();
sql($node, q{SELECT count(w) FROM generate_series(1, 33) n, LATERAL queue.enqueue_workflow('[{"ref": "a", "kind": "ext", "queue": "q"}]', queue => 'q', on_finished => 'last', payload => CASE WHEN n <= 30 THEN '{"poison": 1}' ELSE '{}' END::jsonb) w});
$began = time;
sql($node, "SELECT count(queue.complete(id, attempt)) FROM queue.fetch('q', 33)");
wait_true($node, q{SELECT count(*) = 3 FROM queue.job WHERE kind = 'last'}, 'others finish');
soon();
accept_new();
wait_true($node, q{SELECT count(*) = 33 FROM queue.job WHERE kind = 'last'}, 'and those when they can');
sql($node, "SELECT queue.purge('q')");

# --- deadlines
sql($node, "SELECT queue.enqueue('ext', CASE WHEN n <= 30 THEN $bad ELSE '{}' END::jsonb, 'q', expires_at => clock_timestamp() + interval '2 s') FROM generate_series(1, 33) n");
poison();
wait_true($node, q{SELECT max(run_at) + interval '3 s' < clock_timestamp() FROM queue.job}, 'their time is over');
$began = time;
wait_true($node, q{SELECT count(*) = 30 FROM queue.job WHERE state = 'available'}, 'others are cancelled');
soon();
heal();
wait_true($node, q{SELECT count(*) = 0 FROM queue.job WHERE state = 'available'}, 'and those when they can');
sql($node, "SELECT queue.purge('q')");

# --- leases that end together, one of them of a last attempt, which ends its job, in a line that is looked at before the others'
sql($node, "SELECT queue.enqueue('ext', $bad, 'before', max_attempts => 1) FROM generate_series(1, 30)");
sql($node, "SELECT queue.enqueue('ext', queue => 'q') FROM generate_series(1, 6)");
my ($scheduler) = workers($node, 'scheduler');
kill 'STOP', $scheduler;
one($node, "SELECT count(*) FROM (SELECT id FROM queue.fetch('q') UNION ALL SELECT id FROM queue.fetch('before', 30) UNION ALL SELECT id FROM queue.fetch('q', 5)) f", '36', 'jobs are leased');
poison();
wait_true($node, 'SELECT count(*) = 36 FROM queue.live_job WHERE leased_until < clock_timestamp()', 'all leases are over');
kill 'CONT', $scheduler;
$began = time;
wait_true($node, "SELECT (SELECT count(*) FROM queue.fetch('q', 10, lease => '1 h')) = 0 AND (SELECT count(*) = 6 FROM queue.live_job WHERE leased_until > clock_timestamp())",
	'all others come back');
soon();
heal();
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE queue = 'before' AND state <> 'discarded'", 'and those end when they can');
sql($node, "SELECT queue.purge('q')");

# --- so many last attempts whose lease ends at once that the scheduler ends them in slices
sql($node, q{SELECT queue.create_queue('last', max_attempts => 1, lease => '1 s', keep_discarded => '0'); SELECT count(*) FROM queue.enqueue_many('ext', array_fill('{}'::jsonb, ARRAY[4000]), 'last')});
one($node, "SELECT count(*) FROM queue.fetch('last', 4000)", '4000', 'many have their last attempt');
wait_true($node, "SELECT count(*) = 0 FROM queue.live_job l JOIN queue.line n ON n.id = l.line WHERE n.queue = 'last'", 'all are over, whether anybody fetches or not');

# --- one that an executor can neither run nor fail is found by those of another role that gets its handler
sql($node, <<'EOS');
CREATE ROLE once LOGIN;
SELECT queue.grant_queue('q', 'once', 'work');
SELECT queue.register_sql_handler('passed', 'public.h', run_as => 'once');
EOS
poison();
sql($node, "SELECT queue.enqueue('passed', $bad, 'q')");
sql($node, "SELECT queue.enqueue('passed', queue => 'q', priority => 1)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'passed'", 'the next job runs');
sql($node, <<'EOS');
BEGIN;
DROP TRIGGER refuse ON queue.live_job;
SELECT queue.register_sql_handler('passed', 'public.h');
COMMIT;
EOS
wait_no_jobs($node, 'it runs as the other role when it can', kinds => '^passed$');

# --- so too when the former role has no executor left, and is forgotten
sql($node, "SELECT queue.register_sql_handler('beside', 'public.h'), queue.register_sql_handler('passed', 'public.h', run_as => 'once')");
poison();
sql($node, "SELECT queue.enqueue('passed', $bad, 'q')");
sql($node, "SELECT queue.enqueue('passed', queue => 'q', priority => 1)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'passed'", 'the next job runs');
sql($node, "SELECT queue.enqueue('beside', queue => 'q')");
wait_no_jobs($node, 'a job of another role, for which there is one executor', kinds => '^beside$');
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'once'", 'the former role has none any more');
sql($node, <<'EOS');
BEGIN;
DROP TRIGGER refuse ON queue.live_job;
SELECT queue.register_sql_handler('passed', 'public.h');
COMMIT;
EOS
wait_no_jobs($node, 'it is found all the same', kinds => '^passed$');

# --- and by who fetches when there are no executors any more
poison();
my $left = sql($node, "SELECT queue.enqueue('passed', $bad, 'q')");
sql($node, "SELECT queue.enqueue('passed', queue => 'q', priority => 1)");
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE kind = 'passed'", 'the next job runs');
sql($node, 'ALTER SYSTEM SET queue.enabled = off');
$node->reload;
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('queue scheduler', 'queue executor')", 'the scheduler ends');
heal();
sql($node, "SELECT queue.unregister_handler('passed')");
one($node, "SELECT id FROM queue.fetch('q')", $left, 'a fetch finds it');

# --- many of them hold up no other job: only where nobody has room an executor pauses
sql($node, 'ALTER SYSTEM RESET queue.enabled');
$node->reload;
sql($node, "SELECT queue.register_sql_handler('many', 'h')");
poison();
sql($node, "SELECT queue.enqueue('many', CASE WHEN n <= 100 THEN $bad ELSE '{}' END::jsonb) FROM generate_series(1, 120) n");
$began = time;
wait_true($node, "SELECT count(*) = 100 FROM queue.job WHERE kind = 'many'", 'twenty jobs behind a hundred that cannot be written run');
soon();
heal();
# (more than a channel remembers: a look from afar finds the others, as one with which a scheduler begins)
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue scheduler'");
wait_no_jobs($node, 'and those when they can', kinds => '^many$');

# --- a schedule whose job cannot be inserted is parked by the scheduler, with the reason, and others tick
refuse_new();
sql($node, <<'EOS');
SELECT queue.schedule('bad', '1 seconds', 'tick', '{"poison": 1}', queue => 'q'), queue.schedule('good', '1 seconds', 'tick', queue => 'q');
EOS
wait_true($node, q{SELECT count(*) = 1 FROM queue.schedule_status WHERE name = 'bad' AND state = 'parked' AND reason = 'not this one'}, 'it is parked');
wait_true($node, q{SELECT count(*) > 2 FROM queue.job WHERE kind = 'tick'}, 'the other one ticks');
my $log = slurp_file($node->logfile);
like($log, qr/schedule "bad" is parked: not this one/, 'the log is told');
unlike($log, qr/ticks failed/, 'it is not the chore that fails');
accept_new();
wait_true($node, q{SELECT count(*) = 1 FROM queue.schedule_status WHERE name = 'bad' AND state = 'ready' AND last_job_id IS NOT NULL}, 'it goes on when it can');
sql($node, q{SELECT queue.unschedule('bad'), queue.unschedule('good')});

# --- nor does maintain() stop at one
poison();
sql($node, "SELECT count(queue.emit('old' || n, '1', 'q')) FROM generate_series(1, 1100) n; SELECT queue.enqueue('ext', $bad, 'q', expires_at => clock_timestamp())");
my ($out, $said) = ('', '');
$node->psql('postgres', "SET queue.debug_clock_offset = '30 d'; SELECT queue.maintain()", stdout => \$out, stderr => \$said);
like($said, qr/WARNING:  deadlines failed: not this one/, 'maintain() says what it could not do');
one($node, 'SELECT count(*) FROM queue.event', '0', 'and does the rest: old events are deleted, however many');

$node->stop;
done_testing();
