# Waiting fetches and await: one commit wakes one, nobody polls, and a session that waits answers at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $N = 100;
my $node = queue_node('wait', conf => "max_connections = 150\nlog_min_messages = warning\nqueue.max_wait = 5min");
my $waiting = "FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%/* waiter */%'";

# Sends a statement without waiting for its end.
sub start
{
	my ($session, $statement) = @_;
	$session->{timeout}->start;    # or it ends while it waits, by the time since its last query
	$session->{stdin} .= "$statement\n;\n\\echo done\n";
	$session->{run}->pump_nb;
	return;
}

# What it has printed, once it is done.
sub finish
{
	my ($session) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	$session->{timeout}->start;
	until ($session->{stdout} =~ /^done$/m)
	{
		die 'a session does not answer' if time > $deadline;
		$session->{run}->pump_nb;
		usleep(10_000);
	}
	my $out = $session->{stdout};
	$session->{stdout} = '';
	$out =~ s/^done\n//m;
	chomp $out;
	return $out;
}

sub pids { return split /\n/, sql($node, "SELECT pid $waiting ORDER BY pid"); }

# What processes have used of the CPU, in seconds.
sub cpu
{
	my $ticks = 0;
	foreach my $pid (@_)
	{
		my @f = split / /, (slurp_file("/proc/$pid/stat") =~ s/^.*\) //r);
		$ticks += $f[11] + $f[12];
	}
	return $ticks / 100;
}

my @session = map { queue_session($node) } 1 .. $N;
my $fetch = "/* waiter */ SELECT payload FROM queue.fetch('default', wait => '5 min', kinds => '{w}')";
sub all_wait { return wait_true($node, "SELECT count(*) = $N $waiting AND wait_event IS NOT NULL", "$N sessions wait"); }

# --- a hundred wait: an idle one costs nothing
start($_, $fetch) foreach @session;
all_wait();
my @pids = pids();
my $used;
# the quietest of some spans
for (1 .. 4)
{
	my $before = cpu(@pids);
	sleep(5);    # the span that is measured
	$used = cpu(@pids) - $before;
	last if $used <= 0.05;
}
cmp_ok($used, '<=', 0.05, 'a hundred that wait use less than 1 % of a core');

# --- one commit wakes one
sql($node, q{BEGIN; SELECT queue.enqueue('w', '"rolled back"'); ROLLBACK; SELECT queue.enqueue('other', '"not theirs"')});
sql($node, q{SELECT queue.enqueue('w', '"one"')});
wait_true($node, "SELECT count(*) = $N - 1 $waiting", 'one enqueue wakes one');
usleep(300_000);
one($node, "SELECT count(*) $waiting", $N - 1, 'and only one');

# --- as many as there are jobs
sql($node, q{SELECT count(*) FROM queue.enqueue_many('w', array_fill('"many"'::jsonb, ARRAY[60]))});
wait_true($node, "SELECT count(*) = $N - 61 $waiting", '60 jobs in one commit wake 60');
sql($node, q{DO $$ BEGIN FOR i IN 1 .. 38 LOOP PERFORM queue.enqueue('w', '"single"'); COMMIT; END LOOP; END $$});
wait_true($node, "SELECT count(*) = 1 $waiting", '38 commits wake 38');
# --- the last one gets a job that falls due meanwhile, when it does
sql($node, q{SELECT queue.enqueue('w', '"due"', delay => '700 ms')});
my $due = sql($node, q{SELECT run_at FROM queue.job WHERE payload = '"due"'});
my %got;
$got{ finish($_) }++ foreach @session;
is_deeply(\%got, { '"one"' => 1, '"many"' => 60, '"single"' => 38, '"due"' => 1 }, 'each job went to one session, once');
one($node, "SELECT started_at >= '$due' AND started_at < '$due'::timestamptz + interval '20 s' FROM queue.job WHERE payload = '\"due\"'", 't', 'the delayed one when it was due');

# --- await: no snapshot, no transaction id, and the same wakes
my $await = "/* waiter */ CALL queue.await('{default}', '10 min', '{a}')";
start($_, $await) foreach @session[ 0 .. 9 ];
wait_true($node, "SELECT count(*) = 10 $waiting AND wait_event IS NOT NULL AND backend_xmin IS NULL AND backend_xid IS NULL", 'ten in await hold no snapshot');
one($node, "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relnamespace = 'queue'::regnamespace AND l.pid <> pg_backend_pid() AND l.pid IN (SELECT pid $waiting)", '0', 'and no lock on our tables');
sql($node, q{SELECT queue.enqueue('a', '"for one"')});
wait_true($node, "SELECT count(*) <= 9 $waiting", 'an enqueue wakes one of them');
# the one that was woken takes nothing: its wake was a loan
my $lent = time;
wait_true($node, "SELECT count(*) <= 8 $waiting", 'it took nothing, so the next one is woken');
cmp_ok(time - $lent, '<', 60, 'soon');
sql($node, q{SELECT queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{a}')});
my $left = sql($node, "SELECT count(*) $waiting");
usleep(500_000);
cmp_ok(sql($node, "SELECT count(*) $waiting"), '>=', $left - 1, 'once it is taken, no more are woken');

# --- cancelled, terminated, left by their clients: at once, and nothing is claimed by the dead
sql($node, "SELECT count(pg_cancel_backend(pid)) $waiting");
wait_true($node, "SELECT count(*) = 0 $waiting", 'cancel ends an await');
foreach (@session[ 0 .. 9 ]) { finish($_); $_->{stderr} = ''; }
start($_, $fetch) foreach @session[ 0 .. 9 ];
wait_true($node, "SELECT count(*) = 10 $waiting", 'ten wait again');
sql($node, "SELECT count(pg_cancel_backend(pid)) $waiting");
wait_true($node, "SELECT count(*) = 0 $waiting", 'cancel ends a fetch');
foreach (@session[ 0 .. 9 ]) { finish($_); $_->{stderr} = ''; }

foreach my $statement ($fetch, $await =~ s/\{a\}/{w}/r)
{
	start($_, $statement) foreach @session[ 0 .. 4 ];
	wait_true($node, "SELECT count(*) = 5 $waiting AND wait_event IS NOT NULL", 'five wait');
	my $gone = time;
	foreach my $s (@session[ 0 .. 4 ]) { $s->{run}->kill_kill; }
	splice @session, 0, 5;
	my $id = sql($node, q{SELECT queue.enqueue('w', '"for the living"')});
	wait_true($node, "SELECT count(*) = 0 $waiting", 'their clients were killed: the server notices');
	cmp_ok(time - $gone, '<', 60, 'at once');
	one($node, "SELECT id, attempt FROM queue.fetch('default', kinds => '{w}')", "$id|1", 'a dead client claims nothing');
	one($node, "SELECT queue.complete($id, 1)", 't', 'completed');
}
my $many = $#session;
start($_, $fetch) foreach @session;
wait_true($node, "SELECT count(*) = $many + 1 $waiting", 'all wait');
sql($node, "SELECT pg_terminate_backend(pid) $waiting LIMIT 1");
sql($node, q{SELECT queue.pause('default')});
sql($node, q{SELECT queue.enqueue('w', '"paused"')});
usleep(200_000);
one($node, "SELECT count(*) $waiting", $many, 'a paused queue wakes nobody for good');
sql($node, q{SELECT queue.resume('default')});
wait_true($node, "SELECT count(*) = $many - 1 $waiting", 'resume does');
# ending a transaction that claimed wakes another
my $claimer = queue_session($node);
my $id = sql($node, q{SELECT queue.enqueue('x', '1')});
$claimer->query_safe("BEGIN; SELECT id FROM queue.fetch('default', kinds => '{x}')");
my $x = queue_session($node);
start($x, "SELECT id FROM queue.fetch('default', wait => '30 s', kinds => '{x}')");
usleep(200_000);
$claimer->query_safe('ROLLBACK');
is(finish($x), $id, 'a claim that rolls back goes to one that waits');
sql($node, "SELECT queue.release($id, 1)");
start($x, "SELECT id FROM queue.fetch('default', wait => '30 s', kinds => '{x}')");
is(finish($x), $id, 'a released job too');
start($claimer, "SELECT id FROM queue.fetch('default', wait => '30 s', kinds => '{x}')");
usleep(200_000);
sql($node, "SELECT queue.heartbeat($id, '1 s', 2)");
is(finish($claimer), $id, 'and one whose lease ends');
one($node, "SELECT failures FROM queue.job WHERE id = $id", '1', 'which counts as a failure');

# --- a later job is not forgotten when the session that knew of it leaves with another one
my @few = map { queue_session($node) } 1 .. 2;
foreach my $rotate (0, 1)
{
	start($_, "/* waiter */ SELECT payload FROM queue.fetch('default', wait => '1 min', kinds => '{d}')") foreach @few;
	my $few = "$waiting AND query LIKE '%{d}%'";
	wait_true($node, "SELECT count(*) = 2 $few AND wait_event IS NOT NULL", 'two wait');
	my $then = sql($node, q{SELECT clock_timestamp() FROM queue.enqueue('d', '"later"', delay => '2 s')});
	usleep(100_000);
	sql($node, q{SELECT queue.enqueue('other')}) if $rotate;    # another one is woken next
	sql($node, q{SELECT queue.enqueue('d', '"now"')});
	is(join(' ', sort map { finish($_) } @few), '"later" "now"', 'both have their job');
	one($node, "SELECT started_at - '$then' BETWEEN '1.9 s' AND '20 s' FROM queue.job WHERE payload = '\"later\"' AND kind = 'd'", 't', 'the later one when it fell due');
	sql($node, q{SELECT queue.complete(id) FROM queue.job WHERE kind = 'd'});
}
# --- a wake goes to a session that can use it, and who leaves with another job passes on the one that came while it
# looked; twice each, because who is asked first changes with each wake
sql($node, <<'EOS');
SELECT queue.create_queue('p', lease => '1 hour');
SET client_min_messages = error;
SELECT queue.register_http_handler('served', 'http://127.0.0.1:1/', queues => '{p}'), queue.add_endpoint('served', 'http://127.0.0.1:1/', 0);
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.payload = '"slow"' THEN PERFORM pg_advisory_xact_lock(4721); END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION hold();
EOS
my $holder = queue_session($node);
my $in_p = "SELECT payload FROM queue.fetch('p', wait => '5 min'";
my $soon = time;
sub asleep
{
	my ($n, $type) = @_;
	return wait_true($node, "SELECT count(*) = $n FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%fetch(''p''%' AND state = 'active' AND wait_event_type = '$type'", "$n in $type");
}
foreach my $round (1, 2)
{
	start($few[0], "$in_p)");
	asleep(1, 'Extension');
	start($few[1], "$in_p, kinds => '{served}')");
	asleep(2, 'Extension');
	sql($node, q{SELECT queue.enqueue('served', '"served"', 'p')});
	is(finish($few[1]), '"served"', 'a job of a served kind wakes who waits for that kind');
	sql($node, q{SELECT queue.enqueue('k', '"other"', 'p')});
	is(finish($few[0]), '"other"', 'and no other session');

	$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(4721)');
	start($few[0], "$in_p)");
	asleep(1, 'Extension');
	sql($node, q{SELECT queue.enqueue('k', '"slow"', 'p')});
	asleep(1, 'Lock');
	start($few[1], "$in_p)");
	asleep(1, 'Extension');
	sql($node, q{SELECT queue.enqueue('k', '"quick"', 'p')});
	$holder->query_safe('COMMIT');
	is(finish($few[0]), '"slow"', 'one leaves with the job that it was at');
	is(finish($few[1]), '"quick"', 'another has what came meanwhile');
}
cmp_ok(time - $soon, '<', 150, 'at once, each time');
$holder->quit;
sql($node, 'DROP TRIGGER hold ON queue.live_job; DROP FUNCTION hold()');
# --- one that waits for more queues, or kinds, than a place has room for
sql($node, "SELECT count(queue.create_queue('q' || i)) FROM generate_series(1, 20) i");
sub waits { my ($n) = @_; return wait_true($node, "SELECT count(*) = $n $waiting AND wait_event_type = 'Extension' AND query LIKE '%wait => ''2 min''%'", "$n wait"); }
$soon = time;
start($few[0], "/* waiter */ SELECT queue FROM queue.fetch_any((SELECT array_agg('q' || i) FROM generate_series(1, 20) i), wait => '2 min')");
waits(1);
sql($node, q{SELECT queue.enqueue('k', queue => 'q20')});
is(finish($few[0]), 'q20', 'a job of the last of twenty queues');
start($few[0], "/* waiter */ SELECT kind FROM queue.fetch('q1', wait => '2 min', kinds => (SELECT array_agg('k' || i) FROM generate_series(1, 20) i))");
waits(1);
sql($node, q{SELECT queue.enqueue('k20', queue => 'q1')});
is(finish($few[0]), 'k20', 'and of the last of twenty kinds');
cmp_ok(time - $soon, '<', 60, 'wake it at once');

# --- sessions that wait for kinds of their own under one limit that is full: what ends wakes somebody
sql($node, q{SELECT queue.create_queue('one', max_running => 1, lease => '1 hour'); SELECT count(queue.enqueue('k' || i, queue => 'one')) FROM generate_series(0, 7) i});
my $first = sql($node, q{SELECT id FROM queue.fetch('one', kinds => '{k0}')});
my %worker = map { $_ => queue_session($node) } 1 .. 7;
$soon = time;
start($worker{$_}, "/* waiter */ SELECT id FROM queue.fetch('one', wait => '2 min', kinds => '{k$_}')") foreach sort keys %worker;
waits(7);
while (%worker)
{
	sql($node, "SELECT queue.complete($first)");
	wait_true($node, q{SELECT count(*) = 1 FROM queue.job WHERE queue = 'one' AND state = 'running'}, 'one of those that are left has its job');
	$first = sql($node, q{SELECT id FROM queue.job WHERE queue = 'one' AND state = 'running'});
	my ($who) = sql($node, "SELECT kind FROM queue.job WHERE id = $first") =~ /k(\d+)/;
	is(finish($worker{$who}), $first, 'and is told');
	$worker{$who}->quit;
	delete $worker{$who};
}
cmp_ok(time - $soon, '<', 60, 'each at once');
# --- a fast stop with sessions that wait
my $stop = time;
$node->stop('fast');
cmp_ok(time - $stop, '<', 60, 'a fast stop does not wait for them');
foreach (@session, @few, $x, $claimer) { eval { $_->{run}->kill_kill }; }
log_clean($node);
done_testing();
