# Retention empties exactly the table whose turn it is, locks nothing else, and needs no standby that answers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('retention', streaming => 1, conf => "autovacuum = off\n");

# The hours of the ring begin with the full hour: the test's own begin a minute after one.
my $start = 3600 - time % 3600 + 60;

sub clock
{
	my ($hours) = @_;
	my $seconds = $start + $hours * 3600;
	$node->safe_psql('postgres', "ALTER SYSTEM SET queue.debug_clock_offset = $seconds");
	$node->reload;
	poll($node, "SELECT extract(epoch FROM current_setting('queue.debug_clock_offset')::interval) = $seconds")
	  or die 'the clock does not move';
	return;
}

# "finished_job_1: 2, ..": the tables of the rings that have rows.
my $rings = <<'EOS';
SELECT string_agg(t || ': ' || n, ', ' ORDER BY t) FROM (
	SELECT tableoid::regclass::text AS t, count(*) AS n FROM queue.finished_job GROUP BY 1
	UNION ALL SELECT tableoid::regclass::text, count(*) FROM queue.failure GROUP BY 1) r
EOS

sub complete
{
	my ($note, $n) = @_;
	sql($node, <<"EOS");
SET synchronous_commit = local;
SELECT count(*) FROM queue.enqueue_many('k', ARRAY(SELECT '"$note"'::jsonb FROM generate_series(1, $n)), 'hour');
SELECT queue.complete(id, attempt) FROM queue.fetch('hour', $n);
EOS
	return;
}

# The lines of the write-ahead log since then that tell standbys of exclusive locks, by relation.
sub exclusive_locks
{
	my ($from) = @_;
	my $to = sql($node, 'SELECT pg_switch_wal()');
	my ($out, $err) = run_command([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to, '-r', 'Standby' ]);
	my %locked;
	$locked{$1}++ while $out =~ /LOCK xid \d+ db \d+ rel (\d+)/g;
	return \%locked;
}

clock(0);
sql($node, <<'EOS');
SELECT queue.create_queue('hour', keep_completed => '1 hour');
SELECT queue.create_queue('day', keep_completed => '1 day');
SELECT queue.enqueue('k', queue => 'day') FROM generate_series(1, 5);
SELECT queue.complete(id, attempt) FROM queue.fetch('day', 3);
SELECT queue.fail(id, attempt, 'no', discard => true) FROM queue.fetch('day', 1);
SELECT queue.cancel(id) FROM queue.job WHERE queue = 'day' AND state = 'available';
EOS
complete('first', 2);
my $first = sql($node, q{SELECT tableoid::regclass FROM queue.finished_job WHERE payload = '"first"' LIMIT 1});
my $others = sql($node, $rings);
$others =~ s/(, )?\Q$first\E: 2// or die "no $first in $others";
$others =~ s/^, //;

# An hour later the first rows expire, and their table is not at rest yet.
clock(1);
complete('second', 4);
my $second = sql($node, q{SELECT tableoid::regclass FROM queue.finished_job WHERE payload = '"second"' LIMIT 1});
isnt($second, $first, 'rows of the next hour go to another table');

my $lsn = sql($node, 'SELECT pg_current_wal_lsn()');
clock(2);
wait_true($node, "SELECT count(*) = 0 FROM $first", 'the table whose turn it is is emptied');
one($node, "SELECT count(*) FROM $second", '4', 'the next one is not');
my $left = sql($node, $rings);
$left =~ s/(, )?\Q$second\E: 4//;
$left =~ s/^, //;
is($left, $others, 'nor is any table of another ring');

# Of the 51 tables only that one was locked against readers, and what hangs on it.
my $mine = sql($node, <<"EOS");
SELECT string_agg(oid::text, '|') FROM pg_class WHERE oid = '$first'::regclass
	OR oid = (SELECT reltoastrelid FROM pg_class WHERE oid = '$first'::regclass)
	OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ('$first'::regclass,
		(SELECT reltoastrelid FROM pg_class WHERE oid = '$first'::regclass)))
EOS
my $rest = sql($node, "SELECT string_agg(oid::text, ' ') FROM pg_class WHERE relname ~ '^(finished_job|failure|log_line)_\\d+\$'");
my $locked = exclusive_locks($lsn);
ok(scalar(grep { /^($mine)$/ } keys %$locked), 'the log tells of the lock of the table that was emptied');
is(join(' ', grep { exists $locked->{$_} && !/^($mine)$/ } split / /, $rest), '', 'no table without rows is locked');

# A reader who has the table open is not waited for, and does not wait.
my $reader = queue_session($node);
$reader->query_safe('BEGIN');
$reader->query_safe("SELECT count(*) FROM $second");
clock(3);
complete('third', 1);
wait_true($node, "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted", 'nobody waits for a lock');
one($node, "SELECT count(*) FROM $second", '4', 'a table in use is left');
$reader->quit;

# Without a standby that answers: the scheduler's commits wait for none, so readers do not wait for it.
$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
$node->reload;
poll($node, "SELECT setting = 'nobody' FROM pg_settings WHERE name = 'synchronous_standby_names'") or die;
sql($node, <<'EOS');
SET synchronous_commit = local;
SELECT queue.enqueue('late', queue => 'day', expires_at => now() + '9 hours');
EOS
complete('fourth', 2);
my $fourth = sql($node, q{SELECT tableoid::regclass FROM queue.finished_job WHERE payload = '"fourth"' LIMIT 1});
clock(5);
wait_true($node, "SET statement_timeout = '60s'; SELECT count(*) = 0 FROM $fourth", 'a table is emptied');
one($node, "SET statement_timeout = '60s'; SELECT count(*) > 0 FROM queue.job", 't', 'and read');
clock(11);
wait_true($node, "SET statement_timeout = '60s'; SELECT state = 'cancelled' FROM queue.job WHERE kind = 'late'",
	'and the other chores go on');
one($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'queue %' AND wait_event = 'SyncRep'", '0',
	'no worker waits for a standby');

# What jobs logged goes the same way.
$node->safe_psql('postgres', "ALTER SYSTEM SET queue.keep_errors = '1h'");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
$node->reload;
poll($node, "SELECT setting = '3600' FROM pg_settings WHERE name = 'queue.keep_errors'") or die;
sql($node, <<'EOS');
SELECT queue.enqueue('talks', queue => 'day');
SELECT queue.log('hello', 'info', id, attempt) FROM queue.fetch('day', kinds => '{talks}');
EOS
one($node, 'SELECT message FROM queue.job_log', 'hello', 'a log line is kept');
clock(13);
wait_true($node, 'SELECT count(*) = 0 FROM queue.log_line', 'and goes when its time is over');
# Kept for no time is not written.
$node->safe_psql('postgres', "ALTER SYSTEM SET queue.keep_errors = 0");
$node->reload;
poll($node, "SELECT setting = '0' FROM pg_settings WHERE name = 'queue.keep_errors'") or die;
one($node, <<'EOS', '0', 'with keep_errors 0 neither an error nor a log line is written');
BEGIN;
SET LOCAL client_min_messages = error;
CREATE FUNCTION loud(jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''loud''; END';
DO $$
BEGIN
	PERFORM queue.register_sql_handler('loud', 'loud', '{day}');
	PERFORM queue.test_run(queue.enqueue('loud', queue => 'day')), queue.enqueue('talks', queue => 'day');
	PERFORM queue.log('hello', 'info', id, attempt), queue.fail(id, attempt, 'no') FROM queue.fetch('day', kinds => '{talks}');
END $$;
SELECT (SELECT count(*) FROM queue.log_line) + (SELECT count(*) FROM queue.failure WHERE kind = 'talks');
ROLLBACK;
EOS

# A table that somebody uses when its turn has come goes soon after that.
complete('fifth', 3);
my $fifth = sql($node, q{SELECT tableoid::regclass FROM queue.finished_job WHERE payload = '"fifth"' LIMIT 1});
$reader = queue_session($node);
$reader->query_safe('BEGIN');
$reader->query_safe("SELECT count(*) FROM $fifth");
clock(15);
$node->wait_for_log(qr/\Q@{[ $fifth =~ s{^queue\.}{}r ]}\E is in use/);
$reader->quit;
clock(15 + 2 / 60);
wait_true($node, "SELECT count(*) = 0 FROM $fifth", 'a table that was in use is tried again soon');

log_clean($node);
$node->stop;
done_testing();
