# Dead letters of whoever discards: an executor, the http worker, the scheduler; the job that is told; a copy for which no
# line is left.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('dead_letters', conf => "queue.executors = 2\nqueue.max_lines = 60\n");
sql($node, <<"EOS");
SELECT queue.create_queue('dead'), queue.create_queue('work', max_attempts => 1, lease => '200 ms', keep_discarded => '0', dead_letter => 'dead', on_discarded => 'told');
SELECT queue.register_sql_handler('job', 'h', timeout => '0');
SELECT queue.register_sql_handler('told', 'h');
SELECT queue.register_http_handler('web', '@{[ $server->url('/status/410') ]}');
SELECT queue.enqueue('job', '{"raise": "22012", "note": "x"}', 'work'), queue.enqueue('job', '{"raise": "QU001", "note": "y"}', 'work', max_attempts => 5),
	queue.enqueue('web', '{"note": "z"}', 'work'), queue.enqueue('external', '{"note": "w"}', 'work');
SELECT count(*) FROM queue.fetch('work', 1, kinds => '{external}');
EOS
wait_true($node, "SELECT count(*) = 4 FROM queue.job WHERE queue = 'dead'", 'four letters');
wait_true($node, "SELECT count(*) = 4 FROM seen WHERE kind = 'told'", 'and as many jobs that are told of them');
wait_no_jobs($node, 'nothing is left to do in their queue', kinds => 'told');
one($node, q{SELECT string_agg(concat_ws(' ', payload->>'note', kind, state, attempt, origin->>'queue', origin->'attempt', origin#>>'{errors,-1,error}'), ', ' ORDER BY payload->>'note') FROM queue.job},
	'w external available 0 work 1 the lease ended before the job was completed, x job available 0 work 1 boom x, y job available 0 work 1 boom y, z web available 0 work 1 ' . sql($node, "SELECT error FROM queue.job_error WHERE kind = 'web'"),
	'what they say; nothing serves them, and their originals are not kept');
one($node, "SELECT available FROM queue.stat_queue WHERE queue = 'dead'", '4', 'stat_queue counts them');

# --- the executor that discards dies before its commit: there is one letter, not two
sql($node, q{SELECT queue.redrive('dead')});
wait_true($node, "SELECT count(*) = 4 FROM queue.job WHERE queue = 'dead' OR kind = 'external'", 'redriven, they fail again');
sql($node, "SELECT queue.purge('dead'), queue.purge('work')");

# --- a job that comes back depends on what it did, and who depends on it and has not started waits again
my $before = sql($node, "SELECT queue.enqueue('external')");
my $letter = sql($node, "SELECT queue.enqueue('external', queue => 'work', depends_on => '{$before}')");
my $behind = sql($node, "SELECT queue.enqueue('external', depends_on => '{$letter}', depends_mode => 'finished')");
sql($node, "SELECT queue.complete(id) FROM queue.fetch('default', kinds => '{external}')");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $letter", 'a job is let in');
sql($node, "SELECT queue.discard($letter)");
wait_true($node, "SELECT state = 'available' FROM queue.job WHERE id = $behind", 'so is the one behind it, when it was discarded');
one($node, "SELECT queue.redrive('dead')", '1', 'its letter is redriven');
one($node, "SELECT (SELECT state FROM queue.job WHERE id = $behind), (SELECT count(*) FROM queue.dependency WHERE job_id = $letter)", 'pending|1', 'the one behind it waits again, and it depends on one still');
sql($node, "SELECT queue.cancel(id) FROM unnest('{$letter,$behind}'::bigint[]) id");
sql($node, <<'EOS');
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(21); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON seen DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.kind = 'job') EXECUTE FUNCTION late();
EOS
my $hold = queue_session($node);
$hold->query_safe('SELECT pg_advisory_lock(21)');
sql($node, <<'EOS');
CREATE FUNCTION bad(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen (kind) VALUES ('job'); PERFORM queue.fail((queue.current_job()).id, error => 'bad', discard => true); END $$;
SELECT queue.register_sql_handler('bad', 'bad'), queue.enqueue('bad', '{}', 'work');
EOS
poll($node, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 21 AND NOT granted") or diag 'it did not come to its commit';
my $pid = sql($node, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 21 AND NOT granted LIMIT 1");
if ($pid)
{
	kill('KILL', $pid);
	ok(gone($pid), 'an executor dies at its commit');
}
eval { $hold->quit };
poll($node, 'SELECT true') or die 'the server did not come back';
wait_true($node, "SELECT count(*) = 1 FROM queue.job WHERE queue = 'dead' AND kind = 'bad'", 'one letter');
wait_no_jobs($node, 'the job is gone', kinds => 'bad_|told');
one($node, "SELECT count(*) FROM queue.job WHERE kind = 'bad'", '1', 'and just one');

# --- no line is left for the copy: the job ends, and its row stays for good
sql($node, "SELECT count(queue.enqueue('k' || n, '{}', 'default')) FROM generate_series(1, 60 - (SELECT count(*)::int FROM queue.line) - 1) n");
my $id = sql($node, "SELECT queue.enqueue('rare', '{\"note\": \"rare\"}', 'work')");
one($node, "SELECT count(*) FROM queue.line", '60', 'all lines are taken');
one($node, "SELECT queue.discard($id)", 't', 'a job is discarded all the same');
one($node, "SELECT state, keep_until FROM queue.finished_job WHERE id = $id", 'discarded|infinity', 'and kept for good');
one($node, "SELECT queue.retry_jobs('{\"queue\": \"work\", \"state\": \"discarded\"}')", '1', 'it can be retried');

log_clean($node, except => 'terminating connection because of crash');
$node->stop;
done_testing();
