# Two-phase commit: COMMIT PREPARED wakes and runs, ROLLBACK PREPARED gives back, also after a restart between.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('twophase', conf => "max_prepared_transactions = 10\n");
sql($node, "SELECT queue.register_sql_handler('job', 'h')");
# the kind's line is there and warm, its cursor at the end
my $warm = sql($node, "SELECT queue.enqueue('job', '{\"note\": \"warm\"}')");
wait_end($node, $warm, 'completed', 'warm');

sub other_jobs
{
	my ($note) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = sql($node, "SELECT count(*) FROM (SELECT queue.enqueue('job', '{\"note\": \"$note\"}') FROM generate_series(1, 50)) x");
	return wait_true($node, "SELECT count(*) = 50 FROM seen WHERE note = '$note'", 'other jobs run past it');
}

# COMMIT PREPARED, and the job that it brings runs at once, not at some later look.
sub commit_runs
{
	my ($gid, $note) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $at = sql($node, "SELECT clock_timestamp(); COMMIT PREPARED '$gid'");
	wait_true($node, "SELECT count(*) = 1 FROM seen WHERE note = '$note'", "COMMIT PREPARED '$gid' runs its job");
	return one($node, "SELECT at - '$at' < '10 s' FROM seen WHERE note = '$note'", 't', 'at once');
}

# --- enqueue
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"p1\"}'); PREPARE TRANSACTION 'p1'");
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"p2\"}'); PREPARE TRANSACTION 'p2'");
other_jobs('past 1');
one($node, "SELECT count(*) FROM seen WHERE note IN ('p1', 'p2')", '0', 'prepared jobs do not run yet');
commit_runs('p1', 'p1');
sql($node, "ROLLBACK PREPARED 'p2'");
other_jobs('past 2');
one($node, "SELECT count(*) FROM seen WHERE note = 'p2'", '0', 'ROLLBACK PREPARED: it never runs');

# --- a first job of a new kind, a new queue and handler
sql($node, <<'EOS');
BEGIN;
SELECT queue.create_queue('fresh');
SELECT queue.register_sql_handler('fresh', 'h');
SELECT queue.enqueue('fresh', '{"note": "fresh"}', 'fresh');
PREPARE TRANSACTION 'fresh';
EOS
commit_runs('fresh', 'fresh');

# --- subtransactions
sql($node, <<'EOS');
BEGIN;
SAVEPOINT a;
SELECT queue.enqueue('job', '{"note": "sub no"}');
ROLLBACK TO a;
SAVEPOINT b;
SELECT queue.enqueue('job', '{"note": "sub yes"}');
RELEASE b;
PREPARE TRANSACTION 'sub';
EOS
other_jobs('past 3');
commit_runs('sub', 'sub yes');
one($node, "SELECT count(*) FROM seen WHERE note = 'sub no'", '0', 'what a savepoint undid never runs');

# --- claims
my $id = sql($node, "SELECT queue.enqueue('outside', '{}')");
sql($node, "BEGIN; SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h'); PREPARE TRANSACTION 'claim'");
one($node, "SELECT count(*) FROM queue.fetch('default', kinds => '{outside}')", '0', 'a prepared claim holds its job');
one($node, "SELECT count(*) FROM queue.fetch('default', kinds => '{outside}')", '0', 'and goes on to');
sql($node, "ROLLBACK PREPARED 'claim'");
one($node, "SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h')", $id, 'ROLLBACK PREPARED: fetchable at once');
one($node, "SELECT queue.release($id, attempt) FROM queue.job WHERE id = $id", 't', 'released');
my $taken = sql($node, "SELECT clock_timestamp()");
sql($node, "BEGIN; SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '2 s'); PREPARE TRANSACTION 'claim'; COMMIT PREPARED 'claim'");
one($node, "SELECT state = 'running' AND leased_until IS NOT NULL OR clock_timestamp() > '$taken'::timestamptz + interval '2 s' FROM queue.job WHERE id = $id",
	't', 'COMMIT PREPARED: leased');
wait_true($node, "SELECT count(*) = 1 FROM queue.fetch('default', kinds => '{outside}')", 'and fetchable when the lease has ended');
one($node, "SELECT failures FROM queue.job WHERE id = $id", '1', 'which counted');
sql($node, "BEGIN; SELECT queue.complete($id, attempt) FROM queue.job WHERE id = $id; PREPARE TRANSACTION 'done'");
one($node, "SELECT count(*) FROM queue.job WHERE id = $id", '1', 'a prepared completion is not seen');
sql($node, "COMMIT PREPARED 'done'");
one($node, "SELECT count(*) FROM queue.job WHERE id = $id", '0', 'COMMIT PREPARED completes');

# --- wait_for is woken by COMMIT PREPARED
$id = sql($node, "SELECT queue.enqueue('outside', '{}')");
sql($node, "BEGIN; SELECT queue.complete(id, attempt) FROM queue.fetch('default', kinds => '{outside}'); PREPARE TRANSACTION 'woken'");
my $waiter = queue_session($node);
$waiter->query_until(qr/waiting/, "\\echo waiting\nSELECT queue.wait_for($id, '60 s');\n");
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%queue.wait_for($id%' AND state = 'active' AND pid <> pg_backend_pid()", 'a waiter');
sql($node, "COMMIT PREPARED 'woken'");
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%queue.wait_for($id%' AND state = 'active' AND pid <> pg_backend_pid()", 'is woken');
is($waiter->query_safe('SELECT 1'), "completed\n1", 'and told');
$waiter->quit;

# --- more notes than the shared table keeps of one transaction, in lines that were read to their ends
my $wide = "SELECT count(queue.enqueue('wide' || i, '1', 'wide')) FROM generate_series(1, 40) i";
my $fetch_wide = "SELECT count(*) FROM queue.fetch('wide', 100)";
sql($node, "SELECT queue.create_queue('wide')");
is(sql($node, "$wide; $fetch_wide; $fetch_wide"), "40\n40\n0", 'forty lines, at their ends');
sql($node, "BEGIN; $wide; PREPARE TRANSACTION 'wide'");
one($node, $fetch_wide, '0', 'prepared jobs are not there');
sql($node, "COMMIT PREPARED 'wide'");
one($node, $fetch_wide, '40', 'committed they are, in all lines');
sql($node, "BEGIN; SELECT queue.enqueue('wide1', '1', 'wide'); PREPARE TRANSACTION 'counted'");
my $counted = "SELECT enqueued FROM queue.stat_queue WHERE queue = 'wide'";
my $before = sql($node, $counted);
is($before, 40, 'what was enqueued is counted, not what was claimed');
sql($node, "COMMIT PREPARED 'counted'");
one($node, $counted, $before + 1, 'and counted');

# --- what a drop told the others must end with its session
sqlstate_like($node, "BEGIN; SELECT queue.drop_queue('wide', force => true); PREPARE TRANSACTION 'drop'", '0A000', qr/HINT/, 'a drop cannot be prepared');
one($node, "SELECT count(*) FROM queue.enqueue('wide1', '1', 'wide')", '1', 'and is undone');

# --- a restart, clean and not, between PREPARE and its end
for my $mode (qw(fast immediate))
{
	$id = sql($node, "SELECT queue.enqueue('outside', '{}')");
	sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"r1 $mode\"}'); PREPARE TRANSACTION 'r1'");
	sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"r2 $mode\"}'); PREPARE TRANSACTION 'r2'");
	sql($node, "BEGIN; SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h'); PREPARE TRANSACTION 'r3'");
	$node->stop($mode);
	$node->start;
	other_jobs("past $mode");
	one($node, "SELECT count(*) FROM seen WHERE note LIKE 'r_ $mode'", '0', 'after a restart prepared jobs do not run yet');
	one($node, "SELECT count(*) FROM queue.fetch('default', kinds => '{outside}')", '0', 'a prepared claim holds its job');
	commit_runs('r1', "r1 $mode");
	sql($node, "ROLLBACK PREPARED 'r2'");
	sql($node, "ROLLBACK PREPARED 'r3'");
	one($node, "SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h')", $id, 'ROLLBACK PREPARED gives the claim back');
	one($node, "SELECT queue.complete(id, attempt) FROM queue.job WHERE id = $id", 't', 'completed');
	one($node, "SELECT count(*) FROM seen WHERE note = 'r2 $mode'", '0', 'ROLLBACK PREPARED: it never runs');
}

# --- an extension whose CREATE was prepared
sql($node, 'CREATE DATABASE prepared');
sql($node, "BEGIN; CREATE EXTENSION queue; PREPARE TRANSACTION 'create'", db => 'prepared');
sql($node, "COMMIT PREPARED 'create'", db => 'prepared');
wait_true($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'prepared' AND backend_type = 'queue scheduler'", 'its scheduler comes with COMMIT PREPARED');

# --- PREPARE that fails gives everything back
$id = sql($node, "SELECT queue.enqueue('outside', '{}')");
sql($node, "BEGIN; SELECT queue.enqueue('job', '{\"note\": \"same\"}'); PREPARE TRANSACTION 'same'");
sqlstate_like($node, "BEGIN; SELECT id FROM queue.fetch('default', kinds => '{outside}', lease => '1 h'); PREPARE TRANSACTION 'same'", '42710', qr/./, 'a gid in use');
one($node, "SELECT id FROM queue.fetch('default', kinds => '{outside}')", $id, 'the claim of the failed PREPARE is given back');
commit_runs('same', 'same');

log_clean($node);
$node->stop;
done_testing();
