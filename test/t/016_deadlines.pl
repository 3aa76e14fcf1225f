# Deadlines: a job that nobody starts before its expires_at is cancelled, whatever its line, also after a restart and a
# crash; one that somebody has just then is looked at again.  The clock is moved, nothing sleeps for a deadline.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = queue_node('deadlines', conf => "max_prepared_transactions = 2\n");

sub states
{
	my ($kind) = @_;
	return "SELECT coalesce(string_agg(n || ' ' || state, ', ' ORDER BY state), 'none') FROM"
	  . " (SELECT state, count(*) AS n FROM queue.job WHERE kind = '$kind' GROUP BY state) s";
}

# Moves the clock of every process to so many seconds from the start of the test.
sub clock
{
	my ($seconds) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET queue.debug_clock_offset = $seconds");
	$node->reload;
	poll($node, "SELECT extract(epoch FROM current_setting('queue.debug_clock_offset')::interval) = $seconds")
	  or die 'the clock does not move';
	return;
}

# 1. A batch in a kind without handler, more than a transaction's notes are kept apart for.
sql($node, <<'EOS');
SELECT count(*) FROM queue.enqueue_json_many((
	SELECT jsonb_agg(jsonb_build_object('kind', 'batch', 'expires_at', now() + interval '1 hour'))::text
	FROM generate_series(1, 200)));
SELECT queue.enqueue('later', expires_at => now() + interval '20 hours');
SELECT queue.enqueue('started', expires_at => now() + interval '1 hour');
SELECT count(*) FROM queue.fetch('default', kinds => '{started}', lease => '1 min');
EOS
clock(3601);
wait_true($node, "SELECT (" . states('batch') . ") = '200 cancelled'", 'a whole batch that nobody reads is cancelled');
one($node, states('later'), '1 available', 'one whose time has not come is left');
one($node, states('started'), '1 available', 'one that was started is not cancelled, even when its lease has ended');
one($node, "SELECT last_error FROM queue.job WHERE kind = 'batch' LIMIT 1",
	'the job was not started before expires_at', 'the reason is told');
wait_true($node, 'SELECT count(*) = 1 FROM queue.deadline', 'deadlines that came are gone, also those of started jobs');

# 2. A commit that comes after later deadlines were read, by PREPARE too.
my $late = queue_session($node);
$late->query_safe("BEGIN");
$late->query_safe("SELECT queue.enqueue('late', expires_at => now() + interval '65 minutes')");
sql($node, "BEGIN; SELECT queue.enqueue('late', expires_at => now() + interval '66 minutes'); PREPARE TRANSACTION 'late'");
sql($node, "SELECT queue.enqueue('marker', expires_at => now() + interval '70 minutes')");
clock(3600 + 11 * 60);
wait_true($node, "SELECT (" . states('marker') . ") = '1 cancelled'", 'a later deadline fires first');
# At once, not only when the scheduler looks from the front again, which it does every half minute.
my @late = split /\n/, sql($node, 'SELECT id FROM generate_series((SELECT last_value - 2 FROM queue.job_id), (SELECT last_value - 1 FROM queue.job_id)) id');
$late->query_safe('COMMIT');
one($node, "SELECT queue.wait_for($late[0], '20 s')", 'cancelled', 'then an earlier one that was committed late');
sql($node, "COMMIT PREPARED 'late'");
one($node, "SELECT queue.wait_for($late[1], '20 s')", 'cancelled', 'and one that was prepared');

# so with the earliest of many in one transaction; just now the scheduler has looked from the front
sql($node, "SELECT queue.enqueue('marker', expires_at => now() + interval '72 minutes')");
clock(3600 + 13 * 60);
wait_true($node, "SELECT (" . states('marker') . ") = '2 cancelled'", 'a deadline fires');
sql($node, "SELECT count(queue.enqueue('most', expires_at => clock_timestamp() + CASE WHEN i < 200 THEN interval '20 hours' ELSE '0' END)) FROM generate_series(1, 200) i");
one($node, "SELECT queue.wait_for(max(id), '20 s') FROM queue.job WHERE kind = 'most'", 'cancelled', 'the earliest of those that are told as one');

# 3. Whose row is locked just then is not forgotten, and holds nobody up.
sql($node, "SELECT queue.enqueue('locked', expires_at => now() + interval '100 minutes')");
sql($node, "SELECT queue.enqueue('behind', expires_at => now() + interval '101 minutes')");
$late->query_safe("BEGIN");
$late->query_safe("SELECT FROM queue.live_job l WHERE id IN (SELECT id FROM queue.job WHERE kind = 'locked') FOR UPDATE");
clock(3600 + 45 * 60);
wait_true($node, "SELECT (" . states('behind') . ") = '1 cancelled'", 'a locked row holds up nobody');
one($node, states('locked'), '1 available', 'and is not cancelled');
my $locked = sql($node, "SELECT id FROM queue.job WHERE kind = 'locked'");
$late->query_safe('ROLLBACK');
one($node, "SELECT queue.wait_for($locked, '20 s')", 'cancelled', 'it is when it is let go');

# 4. So with what a session has claimed.
sql($node, "SELECT queue.enqueue('claimed', expires_at => now() + interval '110 minutes')");
$late->query_safe("SELECT id FROM queue.fetch('default', kinds => '{claimed}', claim => 'session')");
sql($node, "SELECT queue.enqueue('behind', expires_at => now() + interval '111 minutes')");
clock(3600 + 55 * 60);
wait_true($node, "SELECT (" . states('behind') . ") = '2 cancelled'", 'a claimed job holds up nobody');
one($node, states('claimed'), '1 running', 'it is still its session\'s');
my $claimed = sql($node, "SELECT id FROM queue.job WHERE kind = 'claimed'");
$late->quit;
one($node, "SELECT queue.wait_for($claimed, '20 s')", 'cancelled', 'it is cancelled when the session has gone');

# 5. A deadline that came while the server was down; the midnight that counted as never.
sql($node, "SELECT queue.enqueue('down', expires_at => now() + interval '10 hours') FROM generate_series(1, 30)");
sql($node, "SELECT queue.enqueue('midnight', expires_at => '2000-01-01 00:00:00+00')");
wait_true($node, "SELECT (" . states('midnight') . ") = '1 cancelled'", 'midnight of 2000-01-01 UTC is a time like any other');
$node->stop('immediate');
$node->adjust_conf('postgresql.auto.conf', 'queue.debug_clock_offset', 11 * 3600);
$node->start;
wait_true($node, "SELECT (" . states('down') . ") = '30 cancelled'", 'what fell due while the server was down is cancelled at its start');

# 6. A row whose deadline cannot be handled holds up nobody.
sql($node, "SELECT queue.enqueue('poison', expires_at => now() + interval '12 hours')");
sql($node, "SELECT queue.enqueue('behind', expires_at => now() + interval '12 hours')");
sql($node, <<'EOS');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF OLD.id IN (SELECT id FROM queue.job WHERE kind = 'poison') THEN RAISE EXCEPTION 'poisoned'; END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER poison BEFORE DELETE ON queue.live_job FOR EACH ROW EXECUTE FUNCTION poison();
EOS
clock(13 * 3600);
wait_true($node, "SELECT (" . states('behind') . ") = '3 cancelled'", 'an error of one row does not keep the next from its end');
one($node, states('poison'), '1 available', 'the row itself stays');
sql($node, 'DROP TRIGGER poison ON queue.live_job');
wait_true($node, "SELECT (" . states('poison') . ") = '1 cancelled'", 'and ends when it can');

# 7. One that a restore brings, before those that were looked at: the scheduler looks from the front now and then.
my $restored = sql($node, "SELECT queue.enqueue('restored', expires_at => now() + interval '14 hours')");
sql($node, "CREATE TABLE saved AS SELECT * FROM queue.deadline WHERE id = $restored; DELETE FROM queue.deadline WHERE id = $restored");
sql($node, "SELECT queue.enqueue('behind', expires_at => now() + interval '15 hours')");
clock(16 * 3600);
wait_true($node, "SELECT (" . states('behind') . ") = '4 cancelled'", 'a later deadline is looked at');
sql($node, 'INSERT INTO queue.deadline SELECT * FROM saved');
# (of a restore, jobs may come after their deadlines)
sql($node, 'INSERT INTO queue.deadline (at, id) SELECT at, 1000000000 FROM saved');
clock(16 * 3600 + 60);
wait_true($node, "SELECT (" . states('restored') . ") = '1 cancelled'", 'one that comes without a word is found');
wait_true($node, "SELECT count(*) = 0 FROM queue.deadline WHERE id = $restored", 'and has done its duty');
one($node, 'SELECT count(*) FROM queue.deadline WHERE id = 1000000000', '1', 'one whose job is still to come stays');

log_clean($node);
$node->stop;
done_testing();
