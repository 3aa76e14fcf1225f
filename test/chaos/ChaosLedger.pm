# When it is quiet: everything that is left runs, and then the ledger, the effects and the tables must agree.
package ChaosLedger;

use strict;
use warnings;

use Chaos;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(quieten check_ledger);

my $node;

# Brings everything to its end that can end by itself.
sub quieten
{
	($node) = @_;
	for my $gid (split /\n/, sql($node, 'SELECT gid FROM pg_prepared_xacts')) { sql($node, "COMMIT PREPARED '$gid'"); }
	$node->psql('postgres', 'ALTER FUNCTION away(queue.job) RENAME TO work');
	sql($node, <<'END');
SELECT queue.resume('*'), queue.alter_queue('lim', max_running => 2), queue.alter_queue('rate', reset => '{max_running}');
SELECT queue.resume(queue) FROM queue.stat_queue;
SELECT queue.register_sql_handler(k, 'work') FROM unnest('{job,grouped,limited,step,rated}'::text[]) k;
CREATE OR REPLACE FUNCTION plain(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT nextval('public.tries') $$;
SELECT queue.resume_handler(k) FROM unnest('{job,grouped,limited,step,web}'::text[]) k;
END
	sql($node, "SELECT queue.drop_queue('new', force => true)") if sql($node, "SELECT count(*) FROM queue.stat_queue WHERE queue = 'new'");
	sql($node, "SELECT queue.unschedule('each second'), queue.emit('hook', queue => 'web')");
	sql($node, "SELECT count(queue.emit(payload ->> 'await', payload -> 'await', 'ev')) FROM queue.job WHERE kind = 'waiter'");
	# the letters come back to where they died, and are let go
	my $began = time;
	my $deadline = $began + setting('patience');
	my $left = 'all';
	until ($left eq '0' || time > $deadline)
	{
		sql($node, <<'END');
SELECT queue.discard_jobs('{"queue": "dead", "state": ["available", "scheduled", "retryable"]}');
INSERT INTO ran (id, kind, attempt, grp) SELECT f.id, f.kind, f.attempt, f.group_key FROM queue.fetch_any('{ext,lim,keyl,grp,flow,sql,other}', 100, kinds => '{ext,gext,limx,klx,xstep,batch}') f WHERE queue.complete(f.id, f.attempt)
END
		$left = sql($node, "SELECT count(*) FROM queue.live_job");
		nap(0.2);
	}
	note sprintf 'all ended in %.1f s', time - $began;
	my $stuck = sql($node, "SELECT string_agg(format('%s %s %s %s: %s', id, kind, state, extra, queue.explain_job(id)), E'\\n') FROM (SELECT j.*, l.extra FROM queue.job j JOIN queue.live_job l USING (id) ORDER BY id LIMIT 20) j");
	is($stuck, '', 'all jobs end');
	complain(sprintf('the end took %.1f s', time - $began)) if setting('strict') && time - $began > 20;
	wait_true($node, 'SELECT NOT EXISTS (SELECT FROM queue.workflow WHERE finished_at IS NULL AND name IS DISTINCT FROM \'open\')', 'all workflows are finished');
	return;
}

# One check: no row.
sub none
{
	my ($query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(sql($node, "SELECT * FROM ($query) q LIMIT 10"), '', $name);
}

sub load
{
	my ($table, $columns, $word) = @_;
	sql($node, "CREATE TABLE $table (who text, $columns)");
	my $count = 0;
	my @rows;
	for my $file (sort glob("$Chaos::dir/ledger.*"))
	{
		my ($who) = $file =~ /ledger\.(.*)/;
		open(my $in, '<', $file) or die $!;
		while (<$in>) { push @rows, "$who $1" if /^$word (.*)$/; }
	}
	my $path = "$Chaos::dir/$table.load";
	open(my $out, '>', $path) or die $!;
	print $out "$_\n" for @rows;
	close $out;
	sql($node, "COPY $table FROM '$path' (DELIMITER ' ')");
	return scalar @rows;
}

sub check_ledger
{
	my ($server, %done) = @_;
	my $n = load('told', 'kind text, id bigint, asked float8, told float8', 'job');
	load('undone', 'kind text, id bigint, told float8', 'undone');
	load('done', 'kind text, id bigint, attempt bigint', 'done');
	load('ended', 'kind text, id bigint, state text', 'ended');
	load('held', 'kind text, id bigint, since float8, until float8, ckey text', 'held');
	load('step', 'id bigint, value text', 'step');
	note "$n jobs were acknowledged";
	note sql($node, "SELECT string_agg(kind || ' ' || state || ' ' || n, ', ') FROM (SELECT kind, state, count(*) AS n FROM queue.job GROUP BY 1, 2 ORDER BY 1, 2) t");
	sql($node, 'CREATE TABLE kept AS SELECT * FROM queue.job; CREATE INDEX ON kept (id); CREATE INDEX ON ran (id); ANALYZE kept, ran, told');

	none("SELECT DISTINCT t.kind, t.id FROM told t LEFT JOIN kept j USING (id) WHERE t.kind <> 'purged' AND (j.id IS NULL OR j.state NOT IN ('completed', 'cancelled', 'discarded'))",
		'nothing that was acknowledged is lost');
	# (after a crash a sequence gives once more what only transactions took that were undone: then the job came later)
	none('SELECT u.kind, j.kind, id FROM undone u JOIN kept j USING (id) WHERE j.enqueued_at <= to_timestamp(u.told)', 'nothing that was undone is there');
	none('SELECT id, count(*) FROM kept GROUP BY 1 HAVING count(*) > 1', 'no job is kept twice');
	none('SELECT kind, id, count(*) FROM ran GROUP BY 1, 2 HAVING count(*) > 1', 'no effect is there twice');
	none("SELECT j.kind, j.id, j.state, r.id AS ran FROM kept j LEFT JOIN ran r USING (id) WHERE j.kind NOT IN ('web', 'webslow', 'webawait', 'wstep', 'plain', 'batch') AND (j.state = 'completed') <> (r.id IS NOT NULL)",
		'an effect is there if and only if its job completed');
	none("SELECT r.kind, r.id FROM ran r LEFT JOIN kept j USING (id) WHERE j.id IS NULL", 'no effect is of a job that is not there');
	none("SELECT d.* FROM done d LEFT JOIN kept j USING (id) WHERE j.id IS NULL OR (j.state <> 'completed' AND (d.kind <> 'batch' OR j.state NOT IN ('cancelled', 'discarded'))) OR d.attempt > 0 AND j.attempt <> d.attempt", 'what a worker was told to have completed stays so, by its attempt');
	none("SELECT e.*, j.state FROM ended e LEFT JOIN kept j USING (id) WHERE j.kind <> 'job' AND j.state <> e.state", 'who was told of a cancel or a discard was told the truth');
	none('SELECT id, string_agg(DISTINCT value, \' \') FROM step GROUP BY id HAVING count(DISTINCT value) > 1', 'a step is stored once');
	none('SELECT * FROM odd', 'no handler saw anything odd');
	none("SELECT id, kind FROM kept WHERE kind = 'ghost'", 'what a handler undid is not there');
	none("SELECT p.id, p.state, count(c.id) FROM kept p LEFT JOIN kept c ON c.kind = 'child' AND (c.payload ->> 'parent')::bigint = p.id WHERE p.payload ->> 'children' IS NOT NULL GROUP BY 1, 2 HAVING count(c.id) <> CASE p.state WHEN 'completed' THEN 2 ELSE 0 END",
		'what handlers enqueued is there as often as they completed');
	none("SELECT kind, id, state, last_error FROM kept WHERE state = 'discarded' AND last_error !~ 'died|not today' AND queue NOT IN ('sql', 'other', 'ext', 'dead', 'web')", 'nothing was given up that nobody discarded');
	none("SELECT kind, id, last_error FROM kept WHERE state = 'cancelled' AND queue NOT IN ('sql', 'other', 'ext', 'web', 'flow') AND last_error !~ 'replaced|depends|dependency|job \\d+|expire'", 'nor cancelled');

	# a place is taken at enqueue: of two jobs whose calls did not overlap the first one runs first
	none(<<'END', 'the jobs of a group ran in order');
WITH o AS (SELECT r.grp, r.n, r.id, t.asked, t.told, max(t.asked) OVER (PARTITION BY r.grp ORDER BY r.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
	FROM ran r JOIN (SELECT id, min(asked) AS asked, min(told) AS told FROM told GROUP BY 1) t USING (id) WHERE r.grp ~ '^g')
SELECT grp, n, id, asked, told, before FROM o WHERE told < before
END
	none("SELECT grp, id, began, before FROM (SELECT grp, id, began, max(at) OVER (PARTITION BY grp ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM ran WHERE grp ~ '^g' AND began IS NOT NULL) x WHERE began < before",
		'of a group one ran at a time');
	sql($node, <<'END');
CREATE TABLE force AS SELECT queue, ckey, id, began, at FROM ran WHERE queue IN ('lim', 'keyl')
	UNION ALL SELECT CASE kind WHEN 'limx' THEN 'lim' ELSE 'keyl' END, ckey, id, to_timestamp(since), to_timestamp(until) FROM held WHERE kind IN ('limx', 'klx');
CREATE INDEX ON force (queue, began);
END
	none("SELECT r.id, r.began, count(*) FROM force r JOIN force o ON o.queue = r.queue AND o.began <= r.began AND o.at > r.began WHERE r.queue = 'lim' GROUP BY r.queue, r.id, r.began HAVING count(*) > 2",
		'of a queue with max_running 2 never more than two were in force');
	none("SELECT r.id, r.ckey, r.began, count(*) FROM force r JOIN force o ON o.queue = r.queue AND o.ckey = r.ckey AND o.began <= r.began AND o.at > r.began WHERE r.queue = 'keyl' GROUP BY r.queue, r.ckey, r.id, r.began HAVING count(*) > 1",
		'of a key with max_running_per_key 1 never more than one was in force');
	# 20 at once, 20 a second, and what executors had claimed before they were held up
	none("SELECT a.began, count(*) FROM ran a JOIN ran b ON b.queue = a.queue AND b.began >= a.began AND b.began < a.began + interval '3 s' WHERE a.queue = 'rate' GROUP BY a.n, a.began HAVING count(*) > 20 + 60 + 5",
		'no more jobs of a rate than it says');
	none("SELECT payload, origin ->> 'tick', count(*) FROM kept WHERE kind = 'ticked' AND origin ->> 'tick' IS NOT NULL AND NOT origin ? 'run' GROUP BY 1, 2 HAVING count(*) > 1", 'each tick came once');

	# on_finished; on_completed; on_discarded, also of one that was retried after it and then completed
	none("SELECT w.id, w.state, count(j.id) FROM queue.workflow w LEFT JOIN kept j ON j.kind = 'fin' AND (j.origin ->> 'workflow')::bigint = w.id WHERE w.finished_at IS NOT NULL GROUP BY 1, 2, w.name, w.discarded"
		. " HAVING count(j.id) <> CASE WHEN w.name = 'open' THEN 1 ELSE 1 + (w.state = 'completed')::int + (w.discarded > 0 OR coalesce(bool_or((j.origin #>> '{counts,discarded}')::int > 0), false))::int END", 'each workflow had its callbacks once');
	none("SELECT id, state, jobs, completed, discarded, cancelled FROM queue.workflow WHERE finished_at IS NOT NULL AND jobs <> completed + discarded + cancelled", 'and its counts add up');
	none("SELECT w.id, e.job_id, e.state, j.state FROM queue.workflow w JOIN queue.workflow_edge e ON e.workflow_id = w.id JOIN kept j ON j.id = e.job_id WHERE e.state <> j.state", 'the graph tells what the jobs tell');
	check_http($server);
	check_memory(%done);
	return;
}

sub check_http
{
	my ($server) = @_;
	my (%keys, %ok, @spans);
	for ($server->seen('request')) { $keys{ $_->{'queue-job-id'} }{ $_->{'idempotency-key'} } = 1 if $_->{'queue-job-id'}; }
	for ($server->seen('answer'))
	{
		$ok{ $_->{job} }++ if $_->{status} == 200;
		push @spans, [ $_->{at} - $_->{took}, $_->{at} ] if $_->{path} =~ /sleep/;
	}
	is(join(' ', grep { keys %{ $keys{$_} } > 1 } sort keys %keys), '', 'requests of a job always had the same Idempotency-Key');
	is(join(' ', grep { !$ok{$_} } split /\n/, sql($node, "SELECT id FROM kept WHERE kind IN ('web', 'webslow', 'webawait', 'wstep') AND state = 'completed'")), '', 'each that completed was answered');
	my $most = 0;
	@spans = sort { $a->[0] <=> $b->[0] } @spans;
	for my $i (0 .. $#spans)
	{
		my $under_way = 1;
		for (my $k = $i - 1; $k >= 0 && $k > $i - 50; $k--) { $under_way++ if $spans[$k][1] > $spans[$i][0]; }
		$most = $under_way if $under_way > $most;
	}
	cmp_ok($most, '<=', 3, 'never more requests under way than the handler allows');
	return;
}

# What shared memory and the tables say agrees, and nothing is left of what has ended.
sub check_memory
{
	my (%done) = @_;
	wait_true($node, 'SELECT bool_and((available, running, retryable, scheduled, pending) = (0, 0, 0, 0, 0)) FROM queue.stat_queue', 'stat_queue counts none');
	wait_true($node, 'SELECT bool_and((available, running, retryable, scheduled, pending) = (0, 0, 0, 0, 0)) FROM queue.stat_kind', 'nor does stat_kind');
	wait_true($node, "SELECT $_ = 0 FROM (SELECT count(*) FROM queue.$_) x ($_)", "$_ is empty") for qw(live_key group_mark reminder step event_wait);
	wait_true($node, 'SELECT NOT EXISTS (SELECT FROM queue.unique_key WHERE ended IS NULL)', 'no key is taken by a job that has ended');
	sql($node, "SELECT count(queue.enqueue('probex', queue => 'lim')) FROM generate_series(1, 4)");
	wait_true($node, "WITH f AS MATERIALIZED (SELECT count(*) AS n FROM queue.fetch('lim', 4, kinds => '{probex}', lease => '1 hour')) SELECT (SELECT n FROM f) + (SELECT count(*) FROM queue.job WHERE kind = 'probex' AND state = 'running') = 2",
		'all of a limit is free again');
	one($node, "SELECT count(*) FROM queue.job WHERE kind = 'probex' AND state = 'running'", 2, 'and no more');
	# each state, counted
	sql($node, <<'END');
SELECT queue.cancel_jobs('{"queue": "lim"}');
SELECT queue.enqueue('outside', queue => 'probe') FROM generate_series(1, 3);
SELECT queue.enqueue('outside', queue => 'probe', delay => '1 day') FROM generate_series(1, 4);
SELECT queue.enqueue('outside', queue => 'probe', group_key => 'p', priority => 1) FROM generate_series(1, 6);
SELECT id FROM queue.fetch('probe', 2, lease => '1 hour');
END
	wait_true($node, "SELECT (available, running, retryable, scheduled, pending) = (2, 2, 0, 4, 5) FROM queue.stat_queue WHERE queue = 'probe'", 'stat_queue counts each state');
	one($node, "SELECT string_agg(state || ' ' || n, ', ') FROM (SELECT state, count(*) AS n FROM queue.job WHERE queue = 'probe' GROUP BY 1 ORDER BY 1) x",
		'available 2, pending 5, running 2, scheduled 4', 'as the tables do');
	poll($node, "SELECT bool_and(ok) FROM queue.doctor() WHERE check_name NOT IN ('kind without handler', 'worker')");
	one($node, "SELECT string_agg(check_name || ': ' || detail, E'\\n') FROM queue.doctor() WHERE NOT ok AND check_name <> 'kind without handler'", '', 'doctor() is content');
	# (one that looks for work at this very moment calls itself idle)
	wait_true($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'queue %' AND backend_type <> 'queue executor' AND state <> 'active' AND backend_xmin IS NOT NULL)", 'nobody idle holds a snapshot');
	one($node, "SELECT string_agg(DISTINCT locktype, ' ') FROM pg_locks WHERE pid NOT IN (SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'queue %') AND pid <> pg_backend_pid() AND locktype = 'advisory'", '', 'no claim of a session is left');
	return;
}

1;
