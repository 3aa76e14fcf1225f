# Where nothing can be written the http worker neither tries one job after the other without a pause, nor fills the log, nor
# forgets what became of the requests that it sent.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
# Nobody finds by a look from afar what was lost; an analyze of its tables has the scheduler place all lines anew.
my $node = queue_node('http_room', far_look => 0, conf => "autovacuum = off\nlog_min_messages = log\nlog_line_prefix = '%n %b '");

sql($node, <<'EOS');
CREATE TABLE room (claims bool, outcomes bool);
INSERT INTO room VALUES (true, true);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT OLD.payload ? 'claim' AND NOT claims OR OLD.payload ? 'outcome' AND OLD.attempt > 0 AND NOT outcomes FROM public.room) THEN
		RAISE LOG 'refused';
		RAISE 'no room' USING ERRCODE = 'disk_full';
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse();
EOS
# Without DDL, after which the scheduler would place all lines anew.
sub room { my ($what, $is) = @_; disk_room($node, $is eq 'true'); return sql($node, "UPDATE room SET $what = $is"); }
sql($node, "SELECT queue.register_http_handler('k', '" . $server->url('/status/200') . "', max_running => 100, timeout => '10 min')");

# when each write was refused, from the nth line of the log on
sub refused { my ($after) = @_; my @all = slurp_file($node->logfile) =~ /^(\d+\.\d+) queue http LOG:  refused$/mg; return @all[ $after .. $#all ]; }
sub told { my ($what) = @_; return scalar(() = slurp_file($node->logfile) =~ /\Q$what\E: no room/g); }
# waits until writes were refused n more times
sub wait_refused
{
	my ($n, $after) = @_;
	for (1 .. 1800)
	{
		my @times = refused($after);
		return @times if @times >= $n;
		die 'an outcome was forgotten' if slurp_file($node->logfile) =~ /http_lost/;
		usleep(100_000);
	}
	die "not refused $n times";
}

# --- jobs that can be neither claimed nor failed
room(claims => 'false');
sql($node, q{SELECT count(queue.enqueue('k', '{"claim": 1}')) FROM generate_series(1, 40)});
my @times = wait_refused(20, 0);
# a try of a job takes two; pauses of 0.1, 0.2, 0.4 s and so on
cmp_ok($times[19] - $times[0], '>', 0.3, 'twenty tries take their time');
is(told('a job could be neither sent nor failed'), 1, 'and the log is told once a minute');
room(claims => 'true');
wait_no_jobs($node, 'when there is room again all are sent');
is(scalar(@{ [ $server->seen('request') ] }), 40, 'once each');

# --- outcomes that cannot be recorded
$server->forget;
my $before = () = refused(0);
room(outcomes => 'false');
sql($node, q{SELECT count(queue.enqueue('k', '{"outcome": 1}')) FROM generate_series(1, 10)});
@times = wait_refused(8, $before);
# (the first is that of all together)
cmp_ok($times[7] - $times[1], '>', 0.3, 'outcomes wait more and more patiently');
is(told('outcomes of jobs could not be recorded'), 1, 'and the log is told once a minute');
room(outcomes => 'true');
wait_no_jobs($node, 'when there is room again they are recorded');
is(scalar(@{ [ $server->seen('request') ] }), 10, 'and nothing was sent again');

# --- one alone waits alone
$before = () = refused(0);
room(outcomes => 'false');
sql($node, q{SELECT queue.enqueue('k', '{"outcome": 1}')});
@times = wait_refused(8, $before);
cmp_ok($times[7] - $times[0], '>', 1, 'it is tried less and less often');
my $since = time;
sql($node, q{SELECT queue.enqueue('k')});
wait_true($node, q{SELECT count(*) = 1 FROM queue.job}, 'others are sent and recorded');
cmp_ok(time - $since, '<', 3, 'without its pauses');
room(outcomes => 'true');
wait_no_jobs($node, 'and it as well when it can');

# --- at the end of the worker an outcome that waits for its next try is recorded
$server->forget;
$before = () = refused(0);
room(outcomes => 'false');
sql($node, q{SELECT queue.enqueue('k', '{"outcome": 1}')});
wait_refused(8, $before);
room(outcomes => 'true');
$node->restart;
wait_no_jobs($node, 'the next worker has nothing to do');
is(scalar(@{ [ $server->seen('request') ] }), 1, 'the job was sent once');

# --- what was left alone goes to whoever runs its kind next (the http worker stays, for another one)
sql($node, "SELECT queue.register_http_handler('other', '" . $server->url('/status/200') . "', timeout => '10 min'), queue.enqueue('other')");
wait_no_jobs($node, 'the lines are placed');
$before = () = refused(0);
sql($node, 'CREATE FUNCTION done(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$');
room(claims => 'false');
sql($node, q{SELECT queue.enqueue('k', '{"claim": 1}')});
disk_room($node, 1);
@times = wait_refused(6, $before);
cmp_ok($times[5] - $times[0], '>', 4, 'one that can be neither sent nor failed is left alone for a while');
room(claims => 'true');
sql($node, q{SELECT queue.alter_job(id, priority => 3) FROM queue.job});
wait_no_jobs($node, 'one that was altered meanwhile is found as what it has become');
room(claims => 'false');
disk_room($node, 1);
$before = () = refused(0);
sql($node, q{SELECT queue.enqueue('k', '{"claim": 1}')});
wait_refused(2, $before);
sql($node, q{BEGIN; UPDATE room SET claims = true; SELECT queue.unregister_handler('k'); SELECT queue.register_sql_handler('k', 'done'); COMMIT});
wait_no_jobs($node, 'an executor runs what the http worker left alone');

# --- a new worker begins although it cannot end what the one before it had under way
sql($node, "SELECT queue.register_http_handler('slow', '" . $server->url('/sleep/60') . "', timeout => '10 min')");
$server->forget;
sql($node, q{SELECT queue.enqueue('slow', '{"outcome": 1}')});
$server->seen('request') or usleep(50_000) for 1 .. 600;
room(outcomes => 'false');
disk_room($node, 1);
kill_9($node, workers($node, 'http'));
sql($node, q{SELECT queue.enqueue('other')});
my $killed = time;
wait_no_jobs($node, 'others are sent', kinds => '^other$');
cmp_ok(time - $killed, '<', 30, 'soon');
room(outcomes => 'true');
sql($node, q{SELECT queue.cancel(id) FROM queue.job WHERE kind = 'slow'});

# --- rows that have themselves to blame, a user's trigger say, hold up nobody, here or elsewhere
sql($node, <<'EOS');
CREATE FUNCTION dislike() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'disliked' OR OLD.payload ? 'kept' AND OLD.attempt > 0 THEN RAISE 'not this one'; END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER dislike BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION dislike();
EOS
$node->append_conf('postgresql.conf', 'queue.http_max_in_flight = 10');
$node->reload;
my $from = -s $node->logfile;
sql($node, q{SELECT queue.enqueue('other', CASE WHEN i <= 10 THEN '{"kept": 1}' WHEN i <= 40 THEN '{"disliked": 1}' ELSE '{}' END::jsonb) FROM generate_series(1, 60) i});
my $began = time;
wait_true($node, q{SELECT count(*) = 40 FROM queue.job WHERE state NOT IN ('completed', 'cancelled')}, 'twenty jobs behind forty that cannot be written are sent');
cmp_ok(time - $began, '<', 30, 'soon');
like(slurp_file($node->logfile, $from), qr/http_lost/, 'outcomes that cannot be recorded keep no places, and the log is told of them');
sql($node, q{DROP TRIGGER dislike ON queue.live_job; SELECT queue.cancel(id) FROM queue.job});
wait_no_jobs($node, 'they can be cancelled');

# --- what became of a request that its row does not take is a failed attempt, with the reason, and frees its place
sql($node, <<'EOS');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.payload ? 'kept' THEN RAISE 'not this one'; END IF; RETURN OLD; END $$;
CREATE TRIGGER keep BEFORE DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION keep();
EOS
sql($node, "SELECT queue.register_http_handler('four', '" . $server->url('/status/200') . "', max_running => 4, timeout => '10 min')");
$server->forget;
sql($node, q{SELECT queue.enqueue('four', CASE WHEN i <= 8 THEN '{"kept": 1}' ELSE '{}' END::jsonb) FROM generate_series(1, 12) i});
wait_true($node, q{SELECT count(*) = 8 FROM queue.live_job}, 'four jobs behind eight that cannot be deleted are done');
wait_true($node, q{SELECT count(*) = 8 FROM queue.job WHERE failures = 1 AND state = 'retryable' AND last_error ~ 'could not be recorded: not this one'}, 'these have failed');
is(scalar(@{ [ $server->seen('request') ] }), 12, 'all were sent once');
sql($node, q{DROP TRIGGER keep ON queue.live_job; SELECT queue.cancel(id) FROM queue.job WHERE state = 'retryable'});

# --- claims that fail use no tokens of a rate
sql($node, <<'EOS');
CREATE FUNCTION dislike_http() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.payload ? 'disliked' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
CREATE TRIGGER dislike BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION dislike_http();
SELECT queue.create_queue('rated', rate_limit => 10, rate_period => '1 s');
EOS
sql($node, q{SELECT queue.enqueue('other', CASE WHEN i <= 40 THEN '{"disliked": 1}' ELSE '{}' END::jsonb, 'rated') FROM generate_series(1, 60) i});
$began = time;
wait_true($node, q{SELECT count(*) = 0 FROM queue.live_job WHERE NOT payload ? 'disliked'}, 'twenty jobs behind forty that cannot be claimed are sent');
cmp_ok(time - $began, '<', 20, 'soon');
$server->stop;
$node->stop('fast');
done_testing();
