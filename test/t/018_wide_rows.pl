# Wide rows: what is toasted is not written again, and is the same in every state of the job.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use QueueTest;
use Test::More;

# No full-page image disturbs the measurement.
my $node = queue_node('wide_rows', conf => "full_page_writes = off\nautovacuum = off\n");

sql($node, <<'EOS');
CREATE FUNCTION wide(n int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('x', string_agg(md5(g::text), '')) FROM generate_series(1, n / 32) g $$;
CREATE FUNCTION wal(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before pg_lsn := pg_current_wal_insert_lsn();
BEGIN
	EXECUTE command;
	RETURN pg_current_wal_insert_lsn() - before;
END $$;
SELECT queue.create_queue('kept', keep_completed => '1 hour');
SELECT queue.enqueue('w', wide(500000), 'kept', headers => wide(100000));
EOS
my $same = "SELECT payload = wide(500000) AND headers = wide(100000) FROM queue.job";

# A claim writes extra anew, which has the headers; nothing writes the payload.
for my $step (
	[ 'a claim', "SELECT queue.fetch('kept')", 150_000 ],
	[ 'a heartbeat', 'SELECT queue.heartbeat(1)', 1_000 ],
	[ 'progress', q{SELECT queue.progress(1, '"half"')}, 150_000 ],
	[ 'a release', 'SELECT queue.release(1)', 150_000 ],
	[ 'alter_job', "SELECT queue.alter_job(1, run_at => now())", 150_000 ])
{
	my ($name, $command, $most) = @$step;
	cmp_ok(sql($node, 'SELECT wal($wal$' . $command . '$wal$)'), '<', $most, "$name does not write the payload");
	one($node, $same, 't', "and leaves it as it is");
}
sql($node, "SELECT queue.fail(id, attempt, 'no', '0') FROM queue.fetch('kept')");
one($node, $same, 't', 'a failed attempt leaves it as it is');
sql($node, "SELECT queue.complete(id, attempt) FROM queue.fetch('kept')");
one($node, "SELECT state FROM queue.job", 'completed', 'the job is completed and kept');
one($node, $same, 't', 'with its payload and headers');
sql($node, 'VACUUM queue.live_job');
one($node, $same, 't', 'also when the live row has gone');
sql($node, 'SELECT queue.retry(1)');
one($node, $same, 't', 'and when it is retried');

log_clean($node);
$node->stop;
done_testing();
