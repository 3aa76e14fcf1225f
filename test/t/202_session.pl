# Claims by advisory lock: back the moment the session ends, in a lock space of their own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $claim = "SELECT id FROM queue.fetch('default', claim => 'session')";
# a connection without psql's echo: kill -9 of the client, by its own process id
sub client_pid { my ($s) = @_; return $s->{run}->{KIDS}[0]{PID}; }

# Polls fetch and returns (id, seconds since).
sub back
{
	my ($session, $since, $how) = @_;
	while (1)
	{
		my $id = $session->query_safe($how // "SELECT id FROM queue.fetch('default')");
		return ($id, time - $since) if $id ne '';
		die 'it does not come back' if time - $since > 100;
		usleep(2_000);
	}
}

foreach my $preload (1, 0)
{
	my $as = $preload ? '' : ' (no preload)';
	my $node = queue_node("session$preload", preload => $preload, far_look => 0);
	my $poll = queue_session($node);
	$poll->query_safe("SELECT count(*) FROM queue.fetch('default')");

	# --- a job whose lease ended: counted as failed, then a session's like any other
	for my $rolled_back (0, 1)
	{
		my $worker = queue_session($node);
		my $id = sql($node, q{SELECT queue.enqueue('k')});
		is(sql($node, q{SELECT attempt FROM queue.fetch('default', lease => '1 ms')}), '1', "a lease of a moment$as");
		wait_true($node, "SELECT state <> 'running' FROM queue.job WHERE id = $id", 'it ends');
		$worker->query_safe('BEGIN') if $rolled_back;
		# that the lease is over is told within 50 ms of its end
		my ($since, $got, $token, $failures) = time;
		until ($got)
		{
			die 'it does not come back' if time - $since > 100;
			($got, $token, $failures) =
			  split /\|/, $worker->query_safe("SELECT id, attempt, failures FROM queue.fetch('default', claim => 'session')");
		}
		ok($got == $id && $token < 0 && $failures == 1, "a session's claim has a negative attempt also then$as");
		is($poll->query_safe("SELECT count(*) FROM queue.fetch('default')"), '0', 'nobody else has it');
		$worker->query_safe('ROLLBACK') if $rolled_back;
		one($node, "SELECT failures, (SELECT count(*) FROM queue.job_error WHERE job_id = $id AND error ~ 'lease') FROM queue.job WHERE id = $id",
			$rolled_back ? '0|0' : '1|1', $rolled_back ? 'rolled back, the failure is not counted' : 'the failure is counted');
		if ($rolled_back)
		{
			is($poll->query_safe("SELECT queue.complete(id, attempt) FROM queue.fetch('default') WHERE failures = 1"), 't', 'and the claim is gone');
			$worker->quit;
			next;
		}
		is($poll->query_safe("SELECT queue.complete($id, 1)"), 'f', 'the old claim completes nothing');
		is($worker->query_safe("SELECT queue.complete($id, $token)"), 't', 'the new one does');
		$worker->quit;
	}

	# --- kill -9 of an idle client
	my @took;
	for (1 .. 5)
	{
		my $id = sql($node, q{SELECT queue.enqueue('k')});
		my $worker = queue_session($node);
		is($worker->query_safe($claim), $id, "claimed$as");
		is($poll->query_safe("SELECT id FROM queue.fetch('default')"), '', "not by others$as");
		my $since = time;
		kill 'KILL', client_pid($worker);
		my ($got, $seconds) = back($poll, $since);
		is($got, $id, "its client was killed: the job is back$as");
		push @took, $seconds;
		one($node, "SELECT attempt, failures FROM queue.job WHERE id = $id", '1|0', "uncounted$as");
		one($node, "SELECT queue.complete($id, 1)", 't', "completed by the other$as");
		eval { $worker->{run}->kill_kill };
	}
	@took = sort { $a <=> $b } @took;
	# (the far look comes after 30 s)
	cmp_ok($took[2], '<', 20, sprintf('at once (%.0f ms, worst %.0f)%s', 1000 * $took[2], 1000 * $took[4], $as));

	# --- pg_terminate_backend, DISCARD ALL, pg_advisory_unlock_all
	foreach my $way ('terminate', 'DISCARD ALL', 'SELECT pg_advisory_unlock_all()')
	{
		my $id = sql($node, q{SELECT queue.enqueue('k')});
		my $worker = queue_session($node);
		is($worker->query_safe($claim), $id, "claimed$as");
		my $since = time;
		if ($way eq 'terminate')
		{
			my $pid = $worker->query_safe('SELECT pg_backend_pid()');
			sql($node, "SELECT pg_terminate_backend($pid)");
		}
		else
		{
			$worker->query_safe($way);
			is($worker->query_safe("SELECT queue.complete($id)"), 'f', "$way: not its holder any more$as");
		}
		my ($got, $seconds) = back($poll, $since);
		is($got, $id, "$way: back$as");
		cmp_ok($seconds, '<', 20, "$way: soon$as");
		one($node, "SELECT queue.complete($id, 1)", 't', "completed$as");
		eval { $worker->{run}->kill_kill };
	}

	# --- the application's locks, and other databases', never meet ours
	sql($node, 'CREATE DATABASE other');
	my $id = sql($node, q{SELECT queue.enqueue('k')});
	my $app = queue_session($node);
	my $other = queue_session($node, 'other');
	$app->query_safe("SELECT pg_advisory_lock($id), pg_advisory_lock(0, $id), pg_advisory_lock_shared($id)");
	$other->query_safe("SELECT pg_advisory_lock($id), pg_advisory_lock(0, $id)");
	my $worker = queue_session($node);
	is($worker->query_safe($claim), $id, "foreign advisory locks with equal keys do not matter$as");
	is($app->query_safe("SELECT pg_try_advisory_lock($id), pg_try_advisory_lock(0, $id)"), 't|t', "nor ours to them$as");
	is($worker->query_safe("SELECT queue.complete($id)"), 't', "completed$as");

	# --- a waiting session gets what a session lets go of
	$id = sql($node, q{SELECT queue.enqueue('k')});
	is($worker->query_safe($claim), $id, "claimed$as");
	$poll->{stdin} .= "SELECT id FROM queue.fetch('default', wait => '30 s');\n\\echo done\n";
	$poll->{run}->pump_nb;
	usleep(300_000);
	my $since = time;
	kill 'KILL', client_pid($worker);
	until ($poll->{stdout} =~ /^done$/m) { $poll->{run}->pump_nb; usleep(2_000); die if time - $since > 100; }
	like($poll->{stdout}, qr/^$id$/m, "a waiting fetch gets the job of a session that ends$as");
	$poll->{stdout} = '';
	cmp_ok(time - $since, '<', 15, "at once$as");
	sql($node, "SELECT queue.complete($id, 1)");
	eval { $worker->{run}->kill_kill };

	# --- an error in the transaction gives back what it claimed, and only that
	my @ids = split /\n/, sql($node, q{SELECT queue.enqueue_many('k', '{1,2}')});
	$worker = queue_session($node);
	is($worker->query_safe($claim), $ids[0], "one claimed and committed$as");
	$worker->query_safe("BEGIN; $claim");
	$worker->query('SELECT 1 / 0');
	$worker->{stderr} = '';
	$worker->query_safe('ROLLBACK');
	is($poll->query_safe("SELECT id FROM queue.fetch('default', 5)"), $ids[1], "an error gives its own claims back$as");
	is($worker->query_safe("SELECT queue.complete($ids[0])"), 't', "not those before$as");
	sql($node, "SELECT queue.complete($ids[1], 1)");

	# --- a lock that is dropped in a transaction that goes on, so that nobody tells of it
	my $dropped = sql($node, q{SELECT queue.enqueue('k')});
	is($worker->query_safe($claim), $dropped, "one more is claimed$as");
	$worker->query_safe('BEGIN; SELECT pg_advisory_unlock_all()');
	is($poll->query_safe("SELECT id FROM queue.fetch('default', wait => '20 s')"), $dropped, "its lock is dropped: another session gets it$as");
	$worker->query_safe('COMMIT');
	sql($node, "SELECT queue.complete($dropped, 1)");

	# --- sessions that end are not counted, however many jobs they had
	sql($node, q{SELECT count(*) FROM queue.enqueue_many('ended', array_fill('{}'::jsonb, ARRAY[900]))});
	for (1 .. 3)
	{
		my $ends = queue_session($node);
		is($ends->query_safe("SELECT count(*) FROM queue.fetch('default', 900, claim => 'session')"), '900', "many are claimed$as");
		$ends->quit;
		wait_true($node, "SELECT count(*) = 900 FROM queue.job WHERE kind = 'ended' AND state = 'available'", "and given back$as");
	}
	sql($node, q{SELECT queue.purge('default')});

	# --- many: a cap, not a full lock table
	sql($node, q{SELECT count(*) FROM queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[20000]))});
	$worker->query("SELECT count(*) FROM queue.fetch('default', 20000, claim => 'session')");
	like($worker->{stderr}, qr/too many session claims/, "too many is an error$as");
	$worker->{stderr} = '';
	is($worker->query_safe("SELECT count(*) FROM queue.fetch('default', 100, claim => 'session')"), '100', "which gives all back$as");
	is($poll->query_safe("SELECT count(*) FROM queue.fetch('default', 20000)"), '19900', "to everybody$as");

	# --- a claim ends with its extension, and is counted where it was taken
	$worker->quit;
	$worker = queue_session($node);
	$worker->query_safe("SELECT count(*) FROM queue.fetch('default', 3, claim => 'session')");
	sql($node, 'DROP EXTENSION queue CASCADE');
	wait_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue scheduler' AND datname = 'postgres'}, "no scheduler$as");
	sql($node, 'CREATE EXTENSION queue');
	@ids = split /\n/, sql($node, "SELECT queue.enqueue('k') FROM generate_series(1, 3)");
	is($worker->query_safe($claim), $ids[0], "it claims anew$as");
	is($poll->query_safe($claim), $ids[1], "so do others$as");
	is($worker->query_safe("SELECT queue.complete($ids[0])") . $poll->query_safe("SELECT queue.complete($ids[1])"), 'tt', "and complete$as");
	$worker->quit;
	is($poll->query_safe("SELECT id FROM queue.fetch('default')"), $ids[2], "the last$as");
	is($poll->query_safe($claim), '', "none$as");
	my $last = sql($node, q{SELECT queue.enqueue('k')});
	is($poll->query_safe($claim), $last, "when the first session has ended as well$as");

	$_->quit foreach $poll, $app, $other;
	log_clean($node);
	$node->stop;
}

# --- an executor that has deleted a row in a group and then finds a session's claim undoes that.  The two meet within
# microseconds, but for a lock that is left of an extension that was dropped: it is looked at once there are new claims.
my $node = queue_node('session_group', conf => "queue.executors = 1\nqueue.commit_interval = '10 s'");
my $left = queue_session($node);
sql($node, q{SELECT count(*) FROM queue.enqueue_many('old', array_fill('{}'::jsonb, ARRAY[100]))});
is($left->query_safe("SELECT count(*) FROM queue.fetch('default', 100, claim => 'session')"), '100', 'a hundred claims');
sql($node, 'DROP EXTENSION queue CASCADE; DROP TABLE seen');
queue_install($node, 'postgres');
sql($node, q{SELECT queue.register_sql_handler('g', 'h')});
sql($node, q{SELECT count(*) FROM queue.enqueue_many('g', array_fill('{}'::jsonb, ARRAY[30]))});
wait_no_jobs($node, 'the kind is short');
hold_deletes($node);
my ($holder, $claimer) = (queue_session($node), queue_session($node));
$holder->query_safe('SELECT pg_advisory_lock(7)');
my $job = sql($node, q{SELECT queue.enqueue('g', '{"hold": 1}')});
cmp_ok($job, '<=', 100, 'its id is one of those');
wait_true($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue executor' AND wait_event_type = 'Lock'}, 'an executor deletes its row');
sql($node, q{SELECT setval('queue.job_id', 200)});
my $claimed = sql($node, q{SELECT queue.enqueue('other')});
is($claimer->query_safe($claim), $claimed, 'meanwhile a session claims something');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
my $next = sql($node, q{SELECT queue.enqueue('g')});
wait_true($node, "SELECT EXISTS (SELECT FROM seen WHERE job_id = $next)", 'the executor goes on');
one($node, "SELECT (SELECT count(*) FROM seen WHERE job_id = $job), (SELECT count(*) FROM queue.live_job WHERE id = $job)", '0|1',
	'the job is neither run nor ended');
is($left->query_safe("SELECT queue.complete($job)"), 'f', 'nor is it the one that the old claim was of');
$left->quit;
sql($node, "SELECT queue.retry($job)");
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.live_job WHERE id = $job)", 'when nobody holds its lock');
one($node, "SELECT count(*) FROM seen WHERE job_id = $job", '1', 'it runs, once');
$_->quit foreach $holder, $claimer;
log_clean($node);
$node->stop;
done_testing();
