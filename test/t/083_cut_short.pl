# What an error, a cancel or a change of the limits cuts short half way is done again, or taken back: nobody waits in vain
# and no place stays taken.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time sleep);

# Nobody finds by a look from afar what was lost.
my $node = queue_node('cut_short', far_look => 0, conf => "autovacuum = off\nlog_min_messages = warning\n");
my $session = queue_session($node);
sub pid { my ($s) = @_; return $s->query_safe('SELECT pg_backend_pid()'); }
sub waits { my ($s) = @_; return wait_true($node, "SELECT state = 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $s", 'it waits'); }

# --- a session that waits passes a job by whose row refuses to be claimed, and is woken all the same
sql($node, <<'SQL');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.payload ? 'bad' THEN RAISE EXCEPTION 'not this one'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
{
	my $session = queue_session($node);
	my $pid = pid($session);
	my $bad = sql($node, q{SELECT queue.enqueue('k', '{"bad": 1}')});
	$session->query(q{SELECT id FROM queue.fetch('default')});
	$session->query_until(qr/begun/, "\\echo begun\nSELECT id FROM queue.fetch('default', wait => '60 s');\n\\echo ended\n");
	waits($pid);
	# it tries it again, and then every 5 s
	$node->wait_for_log(qr/job $bad could not be claimed/);
	my $good = sql($node, q{SELECT queue.enqueue('k')});
	my $began = time;
	like($session->query_until(qr/ended/, "\n"), qr/^$good$/m, 'the next job is got');
	cmp_ok(time - $began, '<', 3.5, 'and at once');
	$session->quit;
	sql($node, q{DROP TRIGGER refuse ON queue.live_job; SELECT queue.purge('default')});
}

# --- a session's claim whose lock was taken away, and that it makes again before it has noticed
sql($node, q{SELECT queue.create_queue('two', max_running => 2)});
{
	my $id = sql($node, q{SELECT queue.enqueue('k', queue => 'two')});
	my $got = '';
	$session->query_safe('BEGIN');
	for my $time (1 .. 3)
	{
		my $began = time;
		while (time - $began < 60)
		{
			last if ($got = $session->query_safe(q{SELECT id, attempt FROM queue.fetch('two', claim => 'session')})) ne '';
			sleep(0.1);
		}
		like($got, qr/^$id\|-/, "a session has the job, time $time");
		$session->query_safe('SELECT pg_advisory_unlock_all()') if $time < 3;
	}
	is($session->query_safe("SELECT queue.complete($id, " . (split /\|/, $got)[1] . ')'), 't', 'it completes it');
	$session->query_safe('COMMIT');
	sql($node, q{SELECT queue.enqueue('k', queue => 'two') FROM generate_series(1, 3)});
	one($node, q{SELECT count(*) FROM queue.fetch('two', qty => 3)}, '2', 'and both places are free');
	sql($node, q{SELECT queue.purge('two')});
}

# --- a job that is run in one transaction under one limit and then under another
{
	sql($node, <<'SQL');
SELECT queue.create_queue('one', max_running => 1), queue.create_queue('other', max_running => 1);
CREATE FUNCTION again(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM queue.release(j.id); END $$;
SELECT queue.register_sql_handler('again', 'again');
SQL
	$session->query_safe('BEGIN');
	my $id = $session->query_safe(q{SELECT queue.enqueue('again', queue => 'one')});
	$session->query_safe($_) for "SELECT queue.test_run($id)",
	  qq{SELECT queue.move_jobs('{"ids": [$id]}', queue => 'other')}, "SELECT queue.test_run($id)";
	# the place in the first queue is not the transaction's any more, so a third run takes one again
	$session->query_safe(q{SELECT queue.test_run(queue.enqueue('again', queue => 'one'))});
	sql($node, q{SELECT queue.pause_handler('again'), queue.enqueue('again', queue => 'one')});
	one($node, q{SELECT count(*) FROM queue.fetch('one')}, '0', 'as many as may run in the one queue');
	sql($node, q{SELECT queue.purge('one'), queue.resume_handler('again')});
	$session->query_safe($_) for
	  q{CREATE OR REPLACE FUNCTION again(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$}, 'COMMIT';
	wait_end($node, $id, 'completed', 'it runs in the one queue');
	wait_end($node, sql($node, q{SELECT queue.enqueue('again', queue => 'one')}), 'completed', 'and another in the other');
}

# --- who waits until a limit is counted that is taken back and set anew meanwhile
{
	sql($node, q{SELECT queue.create_queue('changes')});
	sql($node, q{SELECT queue.enqueue('k', queue => 'changes') FROM generate_series(1, 3)});
	my $other = queue_session($node);
	my $third = queue_session($node);
	$_->query_safe(q{SELECT count(*) FROM queue.fetch('default')}) for $session, $third;
	$other->query_safe('BEGIN');
	isnt($other->query_safe(q{SELECT id FROM queue.fetch('changes')}), '', 'a transaction claims as if there were no limit');
	sql($node, q{SELECT queue.alter_queue('changes', max_running => 5)});
	$session->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM queue.fetch('changes');\n\\echo ended\n");
	sleep(0.1);
	$third->query_safe(q{SELECT queue.alter_queue('changes', reset => ARRAY['max_running'])});
	$third->query_safe(q{SELECT queue.alter_queue('changes', max_running => 6)});
	$third->query_safe(q{SELECT count(*) FROM queue.fetch('changes')});
	my $began = time;
	like($session->query_until(qr/ended/, "\n"), qr/^0$/m, 'it gives up for now');
	cmp_ok(time - $began, '<', 20, 'soon');
	$other->query_safe('COMMIT');
	wait_true($node, q{SELECT count(*) = 1 FROM queue.fetch('changes')}, 'and the limit is counted');
	$_->quit for $other, $third;
}

# --- a scheduler that is cancelled while it sorts lines anew
{
	sql($node, <<'SQL');
CREATE FUNCTION works(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION stays(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('works', 'works'), queue.register_sql_handler('stays', 'stays');
SQL
	my ($scheduler) = workers($node, 'scheduler');
	my $locker = queue_session($node);
	wait_end($node, sql($node, "SELECT queue.enqueue('$_')"), 'completed', "$_ runs") for 'works', 'stays';
	# behind the back of the DDL hook
	sql($node, q{UPDATE pg_proc SET proname = 'worked' WHERE proname = 'works'});
	my $id = sql($node, q{SELECT queue.enqueue('works')});
	one($node, "SELECT queue.wait_for($id, '3 s')", 'available', 'its function is gone');
	sql($node, q{SELECT queue.enqueue('stays', run_at => clock_timestamp() + interval '1 s')});
	$locker->query_safe($_) for 'BEGIN', 'LOCK TABLE queue.line';
	sql($node, q{UPDATE pg_proc SET proname = 'works' WHERE proname = 'worked'});
	wait_true($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $scheduler", 'the scheduler sorts');
	my $log = length slurp_file($node->logfile);
	sql($node, "SELECT pg_cancel_backend($scheduler)");
	$node->wait_for_log(qr/canceling statement due to user request/, $log);
	$locker->query_safe('COMMIT');
	wait_end($node, sql($node, q{SELECT queue.enqueue('stays')}), 'completed', 'the scheduler goes on');
	wait_end($node, $id, 'completed', 'what it had not sorted runs');
	$locker->quit;
}

# --- what a rollback says of a handler that failed
{
	sql($node, <<'SQL');
CREATE FUNCTION litters(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	path text;
BEGIN
	RAISE NOTICE 'it begins';
	CREATE TABLE litter ();
	path := current_setting('data_directory') || '/' || pg_relation_filepath('litter');
	EXECUTE format('COPY (SELECT) TO PROGRAM %L', 'mkdir ' || path || '.1');
	RAISE EXCEPTION 'it fails';
END $$;
SELECT queue.register_sql_handler('litters', 'litters', max_attempts => 1);
SQL
	my $mark = -s $node->logfile;
	my $id = sql($node, q{SELECT queue.enqueue('litters')});
	wait_end($node, $id, 'discarded', 'a handler fails');
	like(slurp_file($node->logfile, $mark), qr/WARNING: .*could not (remove|truncate) file/, 'its rollback warns');
	wait_end($node, sql($node, q{SELECT queue.enqueue('stays')}), 'completed', 'and others run');
	unlike(slurp_file($node->logfile), qr/was terminated by signal/, 'nothing has crashed');
}

$session->quit;
$node->stop;
done_testing();
