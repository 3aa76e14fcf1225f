# Who has a job keeps it: what an executor or the http worker took ahead and somebody else leased meanwhile, an answer
# that comes when its job is another's; and what becomes of a wait whose session may not go on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('claims', conf => "queue.executors = 1\nqueue.http_max_in_flight = 1");
sql($node, q{SELECT queue.alter_queue('default', keep_completed => '1 day')});

# Takes a job that stands in a channel, by a snapshot that sees it before its line's cursor.
sub take
{
	my ($kind, $mode) = @_;
	return sql($node, "BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT id || ' ' || attempt FROM queue.fetch('default', kinds => '{$kind}', lease => '1 hour', claim => 'lease'); COMMIT");
}
# Waits until the scheduler has put all of a kind into a channel: a look in the line finds nothing.
sub ahead
{
	my ($kind, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "BEGIN; SELECT count(*) = 0 FROM queue.fetch('default', 10, kinds => '{$kind}'); ROLLBACK", $name);
}

# --- an executor's entry, alone and in company
sql($node, q{SELECT queue.register_sql_handler('x', 'h'), queue.register_sql_handler('j', 'h')});
foreach my $warm (0, 1)
{
	my $as = $warm ? ' (short)' : '';
	if ($warm)
	{
		sql($node, q{SELECT count(*) FROM queue.enqueue_many('j', array_fill('{}'::jsonb, ARRAY[30]))});
		wait_no_jobs($node, 'warm', kinds => '^j$');
	}
	my $holder = queue_session($node);
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $x = sql($node, q{SELECT queue.enqueue('x', '{"lock": 1}')});
	wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $x", "the only executor is busy$as");
	my $j = sql($node, q{SELECT queue.enqueue('j', '{"note": "mine"}')});
	ahead('j', "the next job waits in the channel$as") if $warm;
	my ($id, $attempt) = split / /, take('j');
	is($id, $j, "somebody leases it meanwhile$as");
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $x", "the executor goes on$as");
	my $after = sql($node, q{SELECT queue.enqueue('j', '{"note": "after"}')});
	wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $after", "and runs the one after it$as");
	one($node, "SELECT count(*) FROM seen WHERE job_id = $j", '0', "but not what is leased$as");
	one($node, "SELECT queue.complete($j, $attempt)", 't', "which its holder completes$as");
	$holder->quit;
}

# --- an entry of the http worker
sql($node, "SELECT queue.register_http_handler('w', '" . $server->url('/file') . "', timeout => '10 min')");
my $x = sql($node, q{SELECT queue.enqueue('w', '{"file": "one"}')});
wait_true($node, "SELECT state = 'running' FROM queue.job WHERE id = $x", 'one request is under way, more may not');
my $j = sql($node, q{SELECT queue.enqueue('w', '{"file": "two"}')});
ahead('w', 'the next is ahead');
my ($id, $attempt) = split / /, take('w');
is($id, $j, 'somebody leases it meanwhile');
my $after = sql($node, q{SELECT queue.enqueue('w', '{"file": "one"}')});
$server->say_status('one', 200);
wait_true($node, "SELECT count(*) = 2 FROM queue.job WHERE id IN ($x, $after) AND state = 'completed'", 'the others are sent');
is(scalar(grep { ($_->{'queue-job-id'} // '') eq $j } $server->seen('request')), 0, 'what is leased is not');
one($node, "SELECT queue.complete($j, $attempt)", 't', 'its holder completes it');

# --- an answer to a job that was given back and taken by another
$j = sql($node, q{SELECT queue.enqueue('w', '{"file": "four"}')});
wait_true($node, "SELECT state = 'running' AND attempt = 1 FROM queue.job WHERE id = $j", 'a request is under way');
is(sql($node, "BEGIN; SELECT queue.release($j); SELECT id || ' ' || attempt FROM queue.fetch('default', kinds => '{w}'); COMMIT"),
	"t\n$j 2", 'given back, and taken by a worker');
$after = sql($node, q{SELECT queue.enqueue('w', '{"file": "one"}')});
$server->say_status('four', 200);
wait_true($node, "SELECT state = 'completed' FROM queue.job WHERE id = $after", 'its answer has come, and the next');
one($node, "SELECT state, attempt FROM queue.job WHERE id = $j", 'running|2', 'which changes nothing for that worker');
one($node, "SELECT queue.complete($j, 2, '\"by hand\"')", 't', 'it completes the job');
one($node, "SELECT result FROM queue.job WHERE id = $j", '"by hand"', 'with its own result');

# --- a role loses the privilege while it waits
sub waits
{
	my ($session, $query) = @_;
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->{stdin} .= "$query;\n\\echo done\n";
	$session->{run}->pump_nb;
	poll($node, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid") or die 'it does not wait';
	return $pid;
}
sub outcome
{
	my ($session) = @_;
	my $since = time;
	until ($session->{stdout} =~ /^done$/m) { $session->{run}->pump_nb; usleep(2_000); die 'it waits on' if time - $since > 60; }
	my $out = $session->{stdout} =~ s/^done$//mr;
	$session->{stdout} = '';
	return ($out, time - $since);
}
sql($node, q{CREATE ROLE worker; SELECT queue.grant_queue('default', 'worker', 'work')});
my $s = queue_session($node);
$s->query_safe('SET ROLE worker');
waits($s, q{SELECT id FROM queue.fetch('default', wait => '30 s')});
sql($node, q{SELECT queue.revoke_queue('default', 'worker')});
my $free = sql($node, q{SELECT queue.enqueue('nobody')});
my ($out, $seconds) = outcome($s);
unlike($out, qr/\d/, 'who may not work any more gets nothing');
like($s->{stderr}, qr/work/, 'and is told why');
cmp_ok($seconds, '<', 15, 'without waiting on');
one($node, "SELECT state, attempt FROM queue.job WHERE id = $free", 'available|0', 'the job stays available');
sql($node, "SELECT queue.cancel($free)");
$s->{stderr} = '';
$s->quit;

# --- a wait that is cancelled inside an exception block leaves its place: others get the jobs.  Its queue has had
# none, so that what it gives back at the end does not wake itself; whose turn it is goes round
sql($node, q{SELECT queue.create_queue('still')});
my $caught = queue_session($node);
my $holder = queue_session($node);
$holder->query_safe('SELECT pg_advisory_lock(2)');
my $pid = waits($caught, q{DO $$ BEGIN
	BEGIN PERFORM queue.fetch('still', wait => '30 s'); EXCEPTION WHEN query_canceled THEN NULL; END;
	PERFORM pg_advisory_xact_lock(2);
END $$});
sql($node, "SELECT pg_cancel_backend($pid)");
wait_true($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid", 'cancelled, caught, and busy with something else');
my @took;
my $other = queue_session($node);
# nor does a session of another database take their wakes
sql($node, 'CREATE DATABASE apart');
sql($node, q{CREATE EXTENSION queue; SELECT queue.create_queue('still')}, db => 'apart');
my $apart = queue_session($node, 'apart');
my $apart_pid = waits($apart, q{SELECT id FROM queue.fetch('still', wait => '30 s')});
foreach my $n (1 .. 6)
{
	waits($other, q{SELECT id FROM queue.fetch('still', wait => '30 s')});
	my $job = sql($node, q{SELECT queue.enqueue('nobody', queue => 'still')});
	($out, $seconds) = outcome($other);
	like($out, qr/^$job$/m, "job $n goes to the one who waits");
	push @took, $seconds;
}
@took = sort { $b <=> $a } @took;
cmp_ok($took[0], '<', 10, sprintf('at once (%.3f s)', $took[0]));
$holder->query_safe('SELECT pg_advisory_unlock(2)');
outcome($caught);
sql($node, "SELECT pg_cancel_backend($apart_pid)");
outcome($apart);
$_->quit foreach $caught, $holder, $other, $apart;
log_clean($node);
$node->stop;
done_testing();
