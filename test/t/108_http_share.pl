# What one handler, one job or one transaction may take from the others: places in flight, memory, a batch, places in
# shared memory.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
# An analyze of its tables has the worker read its configuration anew, and the endpoints' turns begin anew.
my $node = queue_node('http_share', conf => "queue.http_max_in_flight = 10\nqueue.log_level = 'debug1'\nautovacuum = off");

sub register { my ($kind, $path, $more, %o) = @_; sql($node, "SELECT queue.register_http_handler('$kind', '" . $server->url($path) . "'" . ($more // '') . ')', %o); return; }
sub enqueue { my ($kind, $n, %o) = @_; sql($node, "SELECT count(*) FROM queue.enqueue_many('$kind', array_fill('{}'::jsonb, ARRAY[$n]))", %o); return; }
sub left { my ($kind) = @_; return sql($node, "SELECT count(*) FROM queue.job WHERE kind = '$kind' AND state NOT IN ('discarded', 'completed')"); }

# --- a handler with many slow jobs leaves room for the others, and for the probe of a breaker
my $breaker = q{, backoff => '{"type": "fixed", "base": "10 ms", "jitter": 0}', max_attempts => 1000, breaker => '{"consecutive_failures": 2, "pause": "50 ms", "cap": "50 ms", "successes": 1, "probes": 1}'};
register('probed', '/health', $breaker);
register('other', '/status/200');
enqueue('probed', 1);
wait_true($node, q{SELECT breaker <> 'closed' FROM queue.stat_endpoint WHERE kind = 'probed'}, 'the breaker of a failing endpoint opens');
register('slow', '/sleep/0.5', ', max_running => 1000');
enqueue('slow', 2000);
wait_true($node, q{SELECT in_flight >= 9 FROM queue.stat_endpoint WHERE kind = 'slow'}, '2,000 slow jobs take all that is free');
open(my $healthy, '>', "$dir/HEALTHY") or die $!;
close $healthy;
wait_true($node, q{SELECT breaker = 'closed' FROM queue.stat_endpoint WHERE kind = 'probed'}, 'the breaker is tried out meanwhile, and closes');
enqueue('other', 40);
wait_no_jobs($node, "another handler's jobs go meanwhile", kinds => '^(probed|other)$');
cmp_ok(left('slow'), '>', 200, 'long before the slow ones are done');
{
	my $most = 0;
	for ($server->seen('request')) { $most = $_->{busy} if $_->{busy} > $most; }
	cmp_ok($most, '<=', 10, 'never more than queue.http_max_in_flight');
}
sql($node, q{SELECT queue.unregister_handler(kind) FROM queue.stat_handler; SELECT queue.purge('default')});
sql($node, q{SELECT queue.cancel(id) FROM queue.job});

# --- the next request is of the handler with the fewest under way, among equals of the one that waits longest
sql($node, 'ALTER SYSTEM SET queue.http_max_in_flight = 5');
$node->reload;
wait_true($node, "SELECT setting = '5' FROM pg_settings WHERE name = 'queue.http_max_in_flight'", 'queue.http_max_in_flight is 5');
{
	my $hung = "SELECT string_agg(in_flight::text, ' ' ORDER BY kind) FROM queue.stat_endpoint";
	my $end = sub { sql($node, "SELECT queue.cancel(min(id)) FROM queue.job WHERE kind = '$_[0]' AND state = 'running'") };
	register($_, '/hang', ", timeout => '1 h'") for qw(a b c);
	enqueue('c', 1);
	wait_true($node, "SELECT ($hung) = '0 0 1'", 'a handler has its only request under way');
	enqueue('a', 20);
	wait_true($node, "SELECT ($hung) = '4 0 1'", 'another one all the rest');
	enqueue('b', 20);
	scheduler_turn($node);
	$end->('a');
	wait_true($node, "SELECT ($hung) = '3 1 1'", 'the next request is of the third, which has none');
	$end->('a');
	wait_true($node, "SELECT ($hung) = '2 2 1'", 'the next one too, because it has fewer');
	$end->('c');
	wait_true($node, "SELECT ($hung) = '3 2 0'", 'of two with as many it is of the one that was not served last');
	$end->('a');
	wait_true($node, "SELECT ($hung) = '2 3 0'", 'and then of the other one');
	sql($node, q{SELECT queue.unregister_handler(kind) FROM queue.stat_handler; SELECT queue.cancel(id) FROM queue.job});
}

# --- another queue.http_max_in_flight takes hold at a reload, a higher one too
for my $most (4, 20)
{
	sql($node, "ALTER SYSTEM SET queue.http_max_in_flight = $most");
	$node->reload;
	wait_true($node, "SELECT setting = '$most' FROM pg_settings WHERE name = 'queue.http_max_in_flight'", "queue.http_max_in_flight is $most");
	register('hang', '/hang', ', max_running => 100');
	enqueue('hang', 40);
	wait_true($node, "SELECT in_flight = $most FROM queue.stat_endpoint WHERE kind = 'hang'", "$most under way");
	sql($node, q{SELECT queue.unregister_handler('hang'); SELECT queue.cancel(id) FROM queue.job});
}
sql($node, 'ALTER SYSTEM RESET queue.http_max_in_flight');
$node->reload;

# --- an outcome that cannot be recorded keeps no other from being recorded
sql($node, <<'EOS');
CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'stay' AND OLD.attempt > 0 THEN RAISE 'stays'; END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER stay BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION stay();
EOS
register('stay', '/status/200');
sql($node, q{SELECT count(*) FROM queue.enqueue_many('stay', (SELECT array_agg(CASE WHEN i = 5 THEN '{"stay": 1}'::jsonb ELSE '{}' END) FROM generate_series(1, 10) i))});
wait_true($node, q{SELECT count(*) = 1 FROM queue.job WHERE kind = 'stay'}, 'the outcomes of the others are recorded');
sql($node, q{DROP TRIGGER stay ON queue.live_job; SELECT queue.unregister_handler('stay'); SELECT queue.cancel(id) FROM queue.job});

# --- a row that cannot be claimed fails alone, with the reason
sql($node, <<'EOS');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.payload ? 'poison' AND NEW.leased_until IS NOT NULL THEN RAISE 'poisoned'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER poison BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION poison();
EOS
register('k', '/status/200', ', max_attempts => 1');
sql($node, q{SELECT count(*) FROM queue.enqueue_many('k', (SELECT array_agg(CASE WHEN i % 10 = 5 THEN '{"poison": 1}'::jsonb ELSE '{}' END) FROM generate_series(1, 50) i))});
wait_no_jobs($node, 'jobs among which some cannot be claimed all end');
one($node, q{SELECT count(*), string_agg(DISTINCT error, ', ') FROM queue.job_error WHERE kind = 'k'}, '5|poisoned', 'those fail with the reason');
one($node, q{SELECT succeeded FROM queue.stat_endpoint WHERE kind = 'k'}, 45, 'the others are delivered');
sql($node, q{DROP TRIGGER poison ON queue.live_job});

# --- bytes that the database lets pass and JSON does not
sql($node, q{CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
queue_install($node, 'ascii');
register('k', '/status/200', '', db => 'ascii');
sql($node, <<'EOS', db => 'ascii');
SET client_encoding = 'SQL_ASCII';
SELECT queue.enqueue('k', E'{"a": "\xff"}'), queue.enqueue('k', headers => E'{"X-A": "\xff"}'), queue.enqueue('k', E'{"a": "\xc3\xa9"}');
EOS
wait_true($node, q{SELECT count(*) = 2 FROM queue.job WHERE state = 'discarded'}, 'SQL_ASCII: what is not UTF-8 is discarded', db => 'ascii');
one($node, q{SELECT string_agg(error, ', ' ORDER BY error) FROM queue.job_error}, 'header "X-A" has bytes that are not UTF-8, so it cannot be sent, the payload has bytes that are not UTF-8, so it cannot be sent as JSON',
	'with the reason', db => 'ascii');
wait_true($node, q{SELECT count(*) = 0 FROM queue.live_job}, 'the other one is delivered', db => 'ascii');

# --- large bodies: memory is bounded, and they hold no other handler up
register('large', '/hang', q{, timeout => '1 h'});
sql($node, q{SELECT queue.enqueue('large', jsonb_build_object('a', repeat('x', 10000000))) FROM generate_series(1, 10)});
wait_true($node, q{SELECT in_flight >= 6 FROM queue.stat_endpoint WHERE kind = 'large'}, 'jobs of 10 MB');
enqueue('k', 20);
wait_no_jobs($node, 'others go meanwhile', kinds => '^k$');
cmp_ok(sql($node, q{SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'large'}), '<=', 7, 'no more of them at once than 64 MB');
my $pid = sql($node, q{SELECT pid FROM queue.stat_worker WHERE type = 'http' AND database = 'postgres'});
cmp_ok(resident($pid), '<', 150_000, 'the worker holds little more than these');
sql($node, q{SELECT queue.cancel(id) FROM queue.job WHERE kind = 'large'});
wait_true($node, q{SELECT in_flight = 0 FROM queue.stat_endpoint WHERE kind = 'large'}, 'cancelled');
cmp_ok(resident($pid), '<', 60_000, 'and gives the memory back');

# --- places in shared memory: taken after COMMIT, given back, and what finds none works
my $many = "SELECT queue.add_endpoint('many', '" . $server->url('/status/200?n=') . "' || i) FROM generate_series(2, 1100) i";
sql($node, "BEGIN; SELECT queue.register_http_handler('many', '" . $server->url('/status/200?n=1') . "'); SELECT count(*) FROM ($many) x; ROLLBACK");
register('after', '/status/200');
enqueue('after', 1);
wait_true($node, q{SELECT succeeded = 1 FROM queue.stat_endpoint WHERE kind = 'after'}, '1,100 endpoints that were rolled back take no places');
$server->forget;
register('many', '/status/200?n=1');
sql($node, "SELECT count(*) FROM ($many) x");
# (if the configuration is read anew meanwhile, turns begin anew: then it takes another round)
my %to;
for (1 .. 5)
{
	enqueue('many', 1100);
	poll($node, q{SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind = 'many')}) or last;
	# (a large one from before, whose body the server has only now read, may be among them)
	%to = map { $_->{query} => 1 } grep { $_->{query} =~ /^n=/ } $server->seen('request');
	last if keys %to == 1100;
}
one($node, q{SELECT count(*) FROM queue.job WHERE kind = 'many'}, '0', '1,100 endpoints');
is(scalar(keys %to), 1100, 'all of them are sent to');
doctor_like($node, qr/http places \| 0 HTTP handlers and \d+ endpoints have no place/, 'doctor() tells that some have no place');
sql($node, q{SELECT queue.unregister_handler('many')});
wait_true($node, q{SELECT ok FROM queue.doctor() WHERE check_name = 'http places'}, 'and nothing when they are gone');
register('again', '/status/200');
enqueue('again', 1);
wait_true($node, q{SELECT succeeded = 1 FROM queue.stat_endpoint WHERE kind = 'again'}, 'their places were given back');

# --- more handlers than a database has places for: what finds none shares one
sql($node, "SELECT count(*) FROM (SELECT queue.register_http_handler('h' || i, '" . $server->url('/status/200') . "', max_running => 2) FROM generate_series(1, 600) i) x");
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('h' || i) FROM generate_series(1, 600) i, generate_series(1, 5)) x});
wait_no_jobs($node, '600 handlers: every job of each is delivered');
doctor_like($node, qr/http places \| \d\d+ HTTP handlers and 0 endpoints have no place/, 'doctor() tells that some have no place');
sql($node, q{SELECT queue.unregister_handler(kind) FROM queue.stat_handler});
wait_true($node, q{SELECT ok FROM queue.doctor() WHERE check_name = 'http places'}, 'and nothing when they are gone');

$server->stop;
$node->stop('fast');
log_clean($node);
done_testing();
