# Wake-ups: idle costs nothing, a commit is run at once, a later job when it is due, and nothing that appears behind
# the cursor is overlooked.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = queue_node('wake', conf => "autovacuum = off\n");
sql($node, "SELECT queue.register_sql_handler('job', 'h')");

sub done
{
	my ($note, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = '$note'", $name);
}

# The job ran after the time, and not as late as a look that comes by itself.
sub late
{
	my ($note, $since, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return one($node, "SELECT at >= '$since'::timestamptz AND at < '$since'::timestamptz + interval '10 s' FROM seen WHERE note = '$note'", 't', $name);
}

sub enqueue
{
	my ($note, $options) = @_;
	return sql($node, "SELECT queue.enqueue('job', '{\"note\": \"$note\"}'" . ($options ? ", $options" : '') . ')');
}

sub switches
{
	my ($pid) = @_;
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $n;
}

# The time that it has used the CPU, in ticks of 10 ms: who looks again and again without sleeping switches seldom.
sub ticks
{
	my ($pid) = @_;
	my @f = split / /, (slurp_file("/proc/$pid/stat") =~ s/^.*\) //r);
	return $f[11] + $f[12];
}

# --- a commit is run at once
enqueue('warm 1');
done('warm 1', 'warm');
for my $i (1 .. 10)
{
	my $at = sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"soon $i\"}') IS NULL; COMMIT; SELECT clock_timestamp()");
	$at =~ s/^f\n//;
	sql($node, "UPDATE seen SET note = note WHERE false; CREATE TABLE IF NOT EXISTS sent (note text, at timestamptz); INSERT INTO sent VALUES ('soon $i', '$at')");
	done("soon $i", "commit $i is run");
}
one($node, "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM seen.at - sent.at)) < 0.5 FROM seen JOIN sent USING (note)",
	't', 'at once');

# --- idle costs nothing, also after a thread has looked a name up and a request has failed, and beside a database that has
# no extension
sql($node, 'CREATE DATABASE plain');
sql($node, "SELECT queue.register_http_handler('refused', 'http://localhost:1/', max_attempts => 1); SELECT queue.enqueue('refused')");
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE kind = 'refused'", 'a request that nobody takes fails');
my %before = map { $_ => [ switches($_), ticks($_) ] } map { workers($node, $_) } qw(launcher scheduler executor http);
cmp_ok(scalar keys %before, '>=', 4, 'launcher, scheduler, executor and http worker are there');
# a chore may be due just then, so one quiet span of several is enough
my @busy;
for (1 .. 5)
{
	sleep(5);    # the span that is measured
	@busy = ();
	for my $pid (grep { kill(0, $_) } sort keys %before)
	{
		my @now = eval { (switches($pid), ticks($pid)) } or next;
		push @busy, "process $pid: $now[0] switches, $now[1] ticks after $before{$pid}[0], $before{$pid}[1]"
		  if $now[0] - $before{$pid}[0] > 5 || $now[1] - $before{$pid}[1] > 50;
		$before{$pid} = \@now;
	}
	last unless @busy;
}
is(join("\n", @busy), '', 'idle workers are not woken in 5 s, and do nothing');

# --- later jobs
my $id = enqueue('hour', "delay => '1 hour'");
enqueue('later', "delay => '1200 ms'");
my $due = sql($node, "SELECT run_at FROM queue.job WHERE payload->>'note' = 'later'");
done('later', 'a later job runs');
late('later', $due, 'when it is due, not before');
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"at\"}', run_at => clock_timestamp() + '700 ms'); COMMIT");
done('at', 'run_at');
one($node, "SELECT state FROM queue.job WHERE id = $id", 'scheduled', 'the far one waits');
my $now = sql($node, "SELECT clock_timestamp() FROM queue.alter_job($id, run_at => clock_timestamp())");
done('hour', 'until alter_job makes it due');
late('hour', $now, 'at once');

# priorities later given
sql($node, "SELECT queue.pause('default')");
$id = enqueue('low', 'priority => 5');
enqueue('middle');
enqueue('high', 'priority => -5');
sql($node, "SELECT queue.alter_job($id, priority => -6)");
$node->append_conf('postgresql.conf', 'queue.executors = 1');
$node->reload;
sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue executor'");
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue executor'", 'no executor');
$now = sql($node, "SELECT clock_timestamp() FROM queue.resume('default')");
done('middle', 'resume runs what waited');
wait_no_jobs($node, 'all of it');
one($node, "SELECT string_agg(note, ' ' ORDER BY n) FROM seen WHERE note IN ('low', 'middle', 'high')", 'low high middle', 'by priority, lower first');
late('low', $now, 'at once');

# --- retry
$id = sql($node, q{SELECT queue.enqueue('job', '{"note": "again", "raise": "QU001"}')});
wait_end($node, $id, 'discarded', 'discarded');
sql($node, "CREATE OR REPLACE FUNCTION h_fine(j queue.job) RETURNS void LANGUAGE sql AS \$\$ INSERT INTO public.seen (job_id, note) VALUES (j.id, j.payload->>'note') \$\$; SELECT queue.register_sql_handler('job', 'h_fine')");
$now = sql($node, "SELECT clock_timestamp() FROM queue.retry($id)");
done('again', 'retry runs it again');
late('again', $now, 'at once, with the new handler');
sql($node, "SELECT queue.register_sql_handler('job', 'h')");

# --- registering a handler runs what waits for it
sql($node, "SELECT queue.enqueue('newcomer', '{\"note\": \"newcomer\"}')");
$now = sql($node, "SELECT clock_timestamp() FROM queue.register_sql_handler('newcomer', 'h')");
done('newcomer', 'registering a handler runs what waited for it');
late('newcomer', $now, 'at once');

# --- a late commit behind the cursor
my $slow = queue_session($node);
my $sub = queue_session($node);
$slow->query_safe(q{BEGIN; SELECT queue.enqueue('job', '{"note": "behind"}')});
$sub->query_safe(q{BEGIN; SAVEPOINT s; SELECT queue.enqueue('job', '{"note": "undone"}'); ROLLBACK TO s; SELECT queue.enqueue('job', '{"note": "kept by savepoint"}'); SAVEPOINT t; SELECT queue.enqueue('job', '{"note": "released"}'); RELEASE t});
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "ahead"}') FROM generate_series(1, 500)) x});
wait_true($node, "SELECT count(*) = 500 FROM seen WHERE note = 'ahead'", 'later ones run past it');
one($node, "SELECT count(*) FROM seen WHERE note = 'behind'", '0', 'an open transaction keeps its job back');
$now = $slow->query_safe('SELECT clock_timestamp(); COMMIT');
done('behind', 'a commit behind the cursor is seen');
late('behind', $now, 'at once');
$now = $sub->query_safe('SELECT clock_timestamp(); COMMIT');
done('kept by savepoint', 'what a savepoint kept runs');
late('kept by savepoint', $now, 'at once');
done('released', 'and what was released into it');
late('released', $now, 'at once');
one($node, "SELECT count(*) FROM seen WHERE note = 'undone'", '0', 'what a savepoint undid does not');
# more late commits than any list holds, in any order
$slow->query_safe(q{BEGIN; SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "behind many"}') FROM generate_series(1, 300)) x});
$sub->query_safe(q{BEGIN; SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "behind many"}') FROM generate_series(1, 300)) x});
sql($node, q{SELECT count(*) FROM (SELECT queue.enqueue('job', '{"note": "ahead many"}') FROM generate_series(1, 300)) x});
wait_true($node, "SELECT count(*) = 300 FROM seen WHERE note = 'ahead many'", 'later ones run past them');
$sub->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 300 FROM seen WHERE note = 'behind many'", 'the second commits first');
$slow->query_safe('COMMIT');
wait_true($node, "SELECT count(*) = 600 FROM seen WHERE note = 'behind many'", 'then the first');

# --- claims that are given back are fetchable at once, by whatever way
$id = sql($node, "SELECT queue.enqueue('outside', '{}')");
my $fetch = "SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h')";
is($slow->query_safe("BEGIN; SAVEPOINT s; $fetch"), $id, 'claimed in a savepoint');
one($node, $fetch, '', 'not by others');
$slow->query_safe('ROLLBACK TO s');
one($node, "BEGIN; $fetch; ROLLBACK", $id, 'the savepoint rolled back: fetchable at once');
one($node, "BEGIN; $fetch; ROLLBACK", $id, 'a transaction rolled back: likewise');
$slow->query_safe('COMMIT');
one($node, $fetch, $id, 'and after the outer commit');
one($node, "SELECT queue.release(id, attempt) FROM queue.job WHERE id = $id", 't', 'released');
one($node, $fetch, $id, 'fetchable at once');
$slow->quit;
$sub->quit;

log_clean($node);
$node->stop;
done_testing();
