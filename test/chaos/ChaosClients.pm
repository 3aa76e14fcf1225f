# Who uses the queue: enqueuers, external workers, operators and watchers, each in a process of its own.
package ChaosClients;

use strict;
use warnings;

use Chaos;
use Exporter 'import';
use Time::HiRes qw(time);

our @EXPORT = qw(enqueuer worker batch_worker operator watcher web_kinds);

my $n = 0;    # what makes an actor's payloads different

# ---- enqueuers ----

# Each gives rows (kind, id).
my %enqueue = (
	plain => sub { return "SELECT 'job', queue.enqueue('job', queue => 'sql', priority => ${\int rand 3}) FROM generate_series(1, ${\(1 + int rand 20)})"; },
	many => sub { return "SELECT 'plain', queue.enqueue_many('plain', array_fill('{}'::jsonb, '{${\(1 + int rand 50)}}'), 'sql')"; },
	odd_payload => sub {
		my $payload = pick('{"sleep": 0.02}', '{"sleep": 0.3}', '{"snooze": 1}', '{"set": 1}', '{"children": 2}', '{"row": ' . (1 + int rand 5) . '}', '{"discard": 1}');
		return "SELECT 'soon', queue.enqueue('soon', '$payload', 'sql')";
	},
	delayed => sub { return "SELECT 'later', queue.enqueue('later', queue => 'sql', delay => '${\int rand 1500} ms')"; },
	json => sub { return "SELECT 'soon', queue.enqueue_json('{\"kind\": \"soon\", \"queue\": \"sql\", \"delay\": \"0.1 s\", \"tags\": [\"a\"], \"timeout\": \"5 s\"}')"; },
	expiring => sub { return "SELECT 'soon', queue.enqueue('soon', queue => 'sql', expires_at => clock_timestamp() + '${\int rand 500} ms')"; },
	depending => sub {
		return "SELECT 'soon', queue.enqueue('soon', queue => 'sql', depends_on => ARRAY[queue.enqueue('${\pick('job', 'later', 'ext')}', queue => '${\pick('sql', 'ext')}'),"
		  . " queue.enqueue('web', queue => 'web')], depends_mode => '${\pick('completed', 'finished')}')";
	},
	grouped => sub { return "SELECT kind, queue.enqueue(kind, to_jsonb($n), 'grp', group_key => 'g' || ${\int rand 5}) FROM unnest('{${\pick('grouped', 'grouped', 'gext', 'grouped,grouped,gext')}}'::text[]) kind"; },
	limited => sub { return "SELECT kind, queue.enqueue(kind, '{\"sleep\": 0.01}', 'lim') FROM unnest('{limited,limited,limx}'::text[]) kind"; },
	keylimited => sub { return "SELECT kind, queue.enqueue(kind, '{\"sleep\": 0.01}', 'keyl', concurrency_key => 'c' || ${\int rand 4}) FROM unnest('{keylimited,keylimited,klx}'::text[]) kind"; },
	rated => sub { return "SELECT 'rated', queue.enqueue('rated', queue => 'rate') FROM generate_series(1, ${\(1 + int rand 6)})"; },
	web => sub { my $kind = pick(web_kinds()); return "SELECT '$kind', queue.enqueue('$kind', queue => 'web') FROM generate_series(1, ${\(1 + int rand 4)})"; },
	ext => sub { return "SELECT 'ext', queue.enqueue('ext', queue => 'ext', priority => ${\int rand 3}) FROM generate_series(1, ${\(1 + int rand 6)})"; },
	batch => sub { return "SELECT 'batch', queue.enqueue('batch', queue => 'other') FROM generate_series(1, ${\(1 + int rand 30)})"; },
	keyed => sub {
		return "SELECT 'keyed', queue.enqueue('keyed', to_jsonb(ARRAY[$n]), 'key', unique_key => 'k' || ${\int rand 4}, on_conflict => '${\pick(qw(ignore replace merge replace_payload))}'"
		  . pick('', ", unique_for => '0.3 s'", ", delay => '0.1 s'") . ')';
	},
	mortal => sub { return "SELECT 'mortal', queue.enqueue('mortal', '${\pick('{}', '{\"discard\": 1}')}', 'mort')"; },
	purged => sub { return "SELECT 'purged', queue.enqueue('purged', queue => 'pu', delay => '${\int rand 300} ms') FROM generate_series(1, 3)"; },
	awaiting => sub {
		my $event = 'e' . int(rand 1e9);
		my $emit = "SELECT 'emitted', queue.emit('$event', to_jsonb('$event'::text), 'ev')::int";
		my $wait = "SELECT 'waiter', queue.enqueue('waiter', jsonb_build_object('await', '$event', 'until', '${\pick('0.5 s', '1 hour')}'), 'ev')";
		return pick("$wait;\n$emit", "$emit;\n$wait", "$wait;\nSELECT pg_sleep(0.05) \\g /dev/null\n$emit");
	},
	published => sub { return "SELECT 'heard', queue.publish('${\pick('news.a', 'news.b.c', 'other')}', '{}')"; },
	workflow => \&workflow,
);

# A graph of some jobs of every sort, undone if it fails or not.
sub workflow
{
	my @jobs;
	my $compensated = chance(0.3);
	my $bad = chance(0.3);
	for my $ref ('a' .. pick('b' .. 'f'))
	{
		my $kind = pick('step', 'step', 'step', 'xstep', 'wstep');
		my $payload = $bad && chance(0.2) && $kind eq 'step' ? '{"discard": 1}' : '{}';
		my @on = grep { chance(0.4) } map { $_->{ref} } @jobs;
		push @jobs, { ref => $ref, text => "{\"ref\": \"$ref\", \"kind\": \"$kind\", \"queue\": \"flow\", \"payload\": $payload"
			  . (@on ? ', "depends_on": [' . join(', ', map { "\"$_\"" } @on) . ']' : '')
			  . (chance(0.1) ? ", \"group_key\": \"w\"" : '')
			  . ($compensated && chance(0.7) ? ', "compensate_with": "undo"' : '') . '}' };
	}
	my $array = '[' . join(', ', map { $_->{text} } @jobs) . ']';
	return "SELECT 'step', job_id FROM queue.enqueue_workflow('$array', 'w', 'flow', on_finished => 'fin', on_completed => 'fin', on_discarded => 'fin')" if chance(0.7);
	return "SELECT queue.create_workflow('open', 'flow', 'fin') AS w \\gset\n"
	  . join('', map { "SELECT 'step', queue.enqueue('step', queue => 'flow', workflow => :w);\n" } @jobs)
	  . 'SELECT queue.close_workflow(:w)';
}

sub web_kinds { return qw(web web webslow webawait); }

# What is prepared is committed in the end, sometimes by another session, sometimes after a crash.
my @prepared;
sub commit_prepared
{
	my ($s) = @_;
	my @later = grep { $_->[1] > time } @prepared;
	for my $due (grep { $_->[1] <= time } @prepared)
	{
		ask($s, "COMMIT PREPARED '$due->[0]'");
		push @later, $due if $s->{error} !~ /does not exist|^$/;
	}
	@prepared = @later;
	return;
}

# One transaction of an enqueuer.  What is known to have been undone is told as well: there must be no such job.
sub enqueuer
{
	my ($s) = @_;
	commit_prepared($s);
	my @may = grep { mixed("enqueue $_", 0.75) } sort keys %enqueue;
	my @sql = map { $enqueue{ pick(@may) }->() } 1 .. pick(1, 1, 1, 2, 3);
	$n++;
	my $text = join(";\n", @sql) . ';';
	my $style = pick('plain', 'plain', grep { mixed("style $_") } qw(block block rollback savepoint prepare prepare repeatable held timeout cut));
	my $asked = time;
	my @rows;
	if ($style eq 'plain') { @rows = ask($s, $text); }
	elsif ($style eq 'block') { @rows = ask($s, "BEGIN;\n$text\nCOMMIT"); }
	elsif ($style eq 'rollback') { tell_undone(ask($s, "BEGIN;\n$text\nROLLBACK")); return; }
	elsif ($style eq 'savepoint')
	{
		my @first = ask($s, "BEGIN;\nSAVEPOINT a;\n$text") or return ask($s, 'ROLLBACK');
		@rows = ask($s, "ROLLBACK TO a;\n$sql[0];\nCOMMIT");
		tell_undone(@first) if @rows;
	}
	elsif ($style eq 'prepare')
	{
		my $gid = "$s->{name} $$ $n";
		my @ids = ask($s, "BEGIN;\n$text\nPREPARE TRANSACTION '$gid'");
		return unless @ids;
		nap(rand 0.5) if chance(0.5);
		if (chance(0.3)) { tell_undone(@ids) if asked_well($s, "ROLLBACK PREPARED '$gid'"); return; }
		# one that is left is committed later, and by whoever comes to it
		if (chance(0.3)) { push @prepared, [ $gid, time + rand 2 ]; return; }
		push @prepared, [ $gid, time ];
		@rows = @ids if asked_well($s, "COMMIT PREPARED '$gid'");
	}
	elsif ($style eq 'repeatable') { @rows = ask($s, "BEGIN ISOLATION LEVEL ${\pick('REPEATABLE READ', 'SERIALIZABLE')};\nSELECT count(*) FROM queue.live_job \\g /dev/null\n$text\nCOMMIT"); }
	elsif ($style eq 'held') { @rows = ask($s, "BEGIN;\n$text\nSELECT pg_sleep(${\rand 0.7}) \\g /dev/null\nCOMMIT"); }
	elsif ($style eq 'timeout') { @rows = ask($s, "BEGIN;\nSET LOCAL statement_timeout = ${\(1 + int rand 20)};\n$text\nCOMMIT"); }
	# whose client dies in the middle of it
	elsif ($style eq 'cut') { ask($s, "BEGIN;\n$text", timeout => 60); Chaos::hang_up($s); return; }
	my $now = time;
	for (@rows) { told('job', $1, $2, $asked, $now) if /^(\w+)\|(\d+)$/ && $1 ne 'emitted'; }
	return;
}

# Keyed ones may have met a live job.
sub tell_undone
{
	for (@_) { told('undone', $1, $2, time) if /^(\w+)\|(\d+)$/ && $1 !~ /emitted|keyed/; }
	return;
}

# ---- external workers ----

sub fetch
{
	my ($mode, $wait) = @_;
	my $qty = pick(1, 1, 2, 5);
	return "SELECT 'got', id, attempt, kind, coalesce(group_key, ''), coalesce(concurrency_key, '') FROM "
	  . "queue.fetch_any('{ext,lim,keyl,grp,flow}', $qty, wait => '$wait', claim => '$mode', worker => 'w')";
}

sub effect
{
	my ($j) = @_;
	return "INSERT INTO ran (id, kind, grp, ckey, attempt, began) SELECT $j->{id}, '$j->{kind}', nullif('$j->{grp}', ''), nullif('$j->{ckey}', ''), $j->{attempt}, to_timestamp($j->{from})"
	  . " WHERE queue.complete($j->{id}, $j->{attempt}, '\"done\"') RETURNING 'done', id";
}

# What a fetch gave.  It was called at `sent`, and its jobs were in force by now.
sub took
{
	my ($sent, @rows) = @_;
	my $from = time;
	return map { /^got\|(\d+)\|(-?\d+)\|(\w+)\|(\w*)\|(\w*)$/ ? { id => $1, attempt => $2, kind => $3, grp => $4, ckey => $5, from => $from, sent => $sent } : () } @rows;
}

# The completion was acknowledged: it stands.  The claim was in force until then, unless the lease had ended.
sub tell_done
{
	my ($j, $until) = @_;
	told('done', $j->{kind}, $j->{id}, $j->{attempt});
	told('held', $j->{kind}, $j->{id}, $j->{from}, $until, $j->{ckey} || '-') if $until < $j->{sent} + 2.9;
	return;
}

# One turn of a worker, which claims by leases or as a session; pooled through PgBouncer, where a session's claim only
# holds as long as its transaction.
sub worker
{
	my ($s, $mode) = @_;
	my $sent = time;
	if ($s->{pooled} && $mode eq 'session' || mixed('in one transaction') && chance(0.3))
	{
		# all in one transaction: exactly once, and undone as a whole
		my @jobs = took($sent, ask($s, "BEGIN;\n" . fetch($mode, '0'))) or return ask($s, 'ROLLBACK');
		nap(rand 0.1);
		my $until = time;
		my $end = chance(0.2) ? 'ROLLBACK' : 'COMMIT';
		my %done = map { /^done\|(\d+)$/ ? ($1 => 1) : () } ask($s, join(";\n", map { effect($_) } @jobs) . ";\n$end");
		$end eq 'COMMIT' and $done{ $_->{id} } and tell_done($_, $until) for @jobs;
		# a session's claim outlives a rollback
		ask($s, "SELECT queue.release($_->{id}, $_->{attempt})") for $mode eq 'session' && $end eq 'ROLLBACK' && !$s->{pooled} ? @jobs : ();
		return;
	}
	if (mixed('await') && chance(0.2))
	{
		ask($s, "CALL queue.await('{ext,lim,keyl,grp,flow}', '0.5 s')");
	}
	my @jobs = took($sent, ask($s, fetch($mode, pick('0', '200 ms'))));
	for my $j (@jobs)
	{
		my $id = "$j->{id}, $j->{attempt}";
		my $what = pick(('complete') x 8, grep { mixed("worker $_") } qw(fail snooze release abandon late heartbeat step slow roll double discard));
		if ($what eq 'fail') { ask($s, "SELECT queue.fail($id, 'no')"); next; }
		if ($what eq 'snooze') { ask($s, "SELECT queue.snooze($j->{id}, '50 ms', $j->{attempt})"); next; }
		if ($what eq 'release') { ask($s, "SELECT queue.release($id)"); next; }
		if ($what eq 'abandon') { Chaos::hang_up($s); return; }
		if ($what eq 'discard' && $j->{kind} eq 'ext') { told('ended', $j->{kind}, $j->{id}, 'discarded') if (ask($s, "SELECT queue.fail($id, 'never', discard => true)"))[0]; next; }
		if ($what eq 'roll') { ask($s, "BEGIN;\n" . effect($j) . ";\nROLLBACK"); }
		nap(3.1) if $what eq 'late';
		nap(rand 0.4) if $what eq 'slow';
		ask($s, "SELECT queue.heartbeat($j->{id}, attempt => $j->{attempt})") if $what eq 'heartbeat' && $mode eq 'lease';
		if ($what eq 'step')
		{
			my ($stored) = ask($s, "SELECT 'step', queue.save_step($j->{id}, 'a', '$n', $j->{attempt})");
			told('step', $j->{id}, $1) if ($stored // '') =~ /^step\|(\d+)$/;
		}
		$n++;
		my $until = time;
		my @answer = ask($s, "BEGIN;\n" . effect($j) . ($what eq 'double' ? ";\n" . effect($j) : '') . ";\nCOMMIT");
		tell_done($j, $until) if grep { /^done\|/ } @answer;
		complain("job $j->{id} was completed twice: @answer") if @answer > 1;
	}
	return;
}

# Fetches and acknowledges in one call; nothing but the end of its jobs tells of them.
my @batch;
sub batch_worker
{
	my ($s) = @_;
	my $sent = time;
	my $acknowledge = @batch ? ", complete_ids => '{" . join(',', map { $_->{id} } @batch) . "}', complete_attempts => '{" . join(',', map { $_->{attempt} } @batch) . "}'" : '';
	my @rows = ask($s, "SELECT 'got', id, attempt, kind, '', '' FROM queue.fetch('other', ${\(1 + int rand 20)}, kinds => '{batch}', wait => '0.1 s'$acknowledge);\nSELECT 'well'");
	if (@rows) { told('done', $_->{kind}, $_->{id}, $_->{attempt}) for grep { time < $_->{sent} + 2.5 } @batch; }
	@batch = @rows ? took($sent, @rows) : ();
	@batch = () if chance(0.05);
	return;
}

# ---- operators ----

my $live = "coalesce((SELECT id FROM queue.job WHERE queue = '%s' AND state IN ('available', 'running', 'scheduled', 'retryable') ORDER BY random() LIMIT 1), 0)";
sub any { return sprintf $live, pick(@_); }

my %operation = (
	cancel => sub { my $job = any('sql', 'ext', 'other', 'web'); return "SELECT 'cancelled', id, queue.cancel(id, 'chaos') FROM (SELECT $job AS id OFFSET 0) x"; },
	cancel_flow => sub { return 'SELECT queue.cancel(' . any('flow') . ')'; },
	cancel_undone => sub { return 'BEGIN; SELECT queue.cancel(' . any('sql', 'ext', 'lim', 'grp', 'key', 'web', 'flow') . '); ROLLBACK'; },
	discard => sub { return 'SELECT queue.discard(' . any('sql', 'other') . ')'; },
	# (one that is retryable may complete before it is retried, and then runs again, as it should)
	retry => sub { return "SELECT queue.retry(coalesce((SELECT id FROM queue.job WHERE kind = 'job' AND state IN ('cancelled', 'discarded') ORDER BY random() LIMIT 1), 0))"; },
	retry_jobs => sub { return "SELECT queue.retry_jobs('{\"kind\": \"job\"}', qty => 5)"; },
	move => sub { return "SELECT queue.move_jobs('{\"queue\": \"sql\", \"kind\": \"job\"}', 'other', qty => 20)"; },
	move_back => sub { return "SELECT queue.move_jobs('{\"queue\": \"other\", \"kind\": \"job\"}', 'sql', priority => 1, qty => 200)"; },
	move_lim => sub { return "SELECT queue.move_jobs('{\"queue\": \"lim\"}', priority => ${\int rand 2}, qty => 20)"; },
	pause => sub { my $q = pick(qw(sql grp lim web ext flow keyl)); return "SELECT queue.pause('$q'); SELECT pg_sleep(${\rand 0.5}); SELECT queue.resume('$q')"; },
	pause_all => sub { return "SELECT queue.pause('*'); SELECT pg_sleep(${\rand 0.3}); SELECT queue.resume('*')"; },
	pause_handler => sub { my $kind = pick(qw(job grouped limited step web)); return "SELECT queue.pause_handler('$kind'); SELECT pg_sleep(${\rand 0.3}); SELECT queue.resume_handler('$kind')"; },
	limits => sub { return "SELECT queue.alter_queue('lim', max_running => 1); SELECT pg_sleep(0.1); SELECT queue.alter_queue('lim', max_running => 2)"; },
	no_limits => sub { return "SELECT queue.alter_queue('rate', max_running => ${\(1 + int rand 4)}); SELECT pg_sleep(0.1); SELECT queue.alter_queue('rate', reset => '{max_running}')"; },
	web_limits => sub { return "SELECT queue.alter_http_handler('webslow', max_running => ${\(1 + int rand 3)})"; },
	fair => sub { return "SELECT queue.alter_queue('${\pick('sql', 'lim')}', fair => ${\(1 + int rand 3)}); SELECT pg_sleep(0.2); SELECT queue.alter_queue('sql', reset => '{fair}')"; },
	ageing => sub { return "SELECT queue.alter_queue('sql', ageing => '${\pick('1 s', '5 s')}'); SELECT pg_sleep(0.2); SELECT queue.alter_queue('sql', reset => '{ageing}')"; },
	alter_job => sub { return 'SELECT queue.alter_job(' . any('sql', 'ext', 'lim', 'grp', 'key') . ", priority => ${\int rand 3})"; },
	alter_later => sub { return 'SELECT queue.alter_job(' . any('sql', 'ext', 'lim', 'grp', 'key', 'web') . ", run_at => clock_timestamp() + '${\int rand 300} ms')"; },
	alter_tags => sub { return 'BEGIN; SELECT queue.alter_job(' . any('sql', 'flow', 'grp') . ", tags => '{x}'); SELECT pg_sleep(0.1); ${\pick('COMMIT', 'ROLLBACK')}"; },
	register => sub { return "SELECT queue.register_sql_handler('${\pick('job', 'grouped', 'limited')}', 'work')"; },
	register_web => sub { return "SELECT queue.register_http_handler('web', '${\Chaos::setting('url')}/flaky/20', max_running => 5, backoff => '{\"type\": \"fixed\", \"base\": \"20 ms\"}')"; },
	unregister => sub { my $kind = pick('job', 'step', 'rated'); return "SELECT queue.unregister_handler('$kind'); SELECT pg_sleep(${\rand 0.2}); SELECT queue.register_sql_handler('$kind', 'work')"; },
	rename => sub { return 'BEGIN; ALTER FUNCTION work(queue.job) RENAME TO away; COMMIT; ALTER FUNCTION away(queue.job) RENAME TO work'; },
	replace => sub { return 'CREATE OR REPLACE FUNCTION plain(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval(\'public.tries\'); END $$'; },
	drop => sub { return "BEGIN; DROP FUNCTION plain(jsonb); COMMIT; CREATE FUNCTION plain(p jsonb) RETURNS void LANGUAGE sql AS \$\$ SELECT nextval('public.tries') \$\$"; },
	purge => sub { return "SELECT queue.purge('pu')"; },
	redrive => sub { return "SELECT queue.redrive('dead', ${\(1 + int rand 5)})"; },
	workflow => sub { my $w = 'coalesce((SELECT id FROM queue.workflow ORDER BY id DESC OFFSET ' . int(rand 10) . ' LIMIT 1), 0)'; return pick("SELECT queue.cancel_workflow($w)", "SELECT queue.retry_workflow($w)"); },
	queues => sub { return "SELECT queue.create_queue('new'); SELECT queue.enqueue('plain', queue => 'new') FROM generate_series(1, 5); SELECT pg_sleep(0.2); SELECT queue.drop_queue('new', force => true)"; },
	schedule => sub { return "SELECT queue.run_schedule('each second'); SELECT queue.pause_schedule('each second'); SELECT queue.resume_schedule('each second')"; },
	subscriptions => sub { return "SELECT queue.subscribe('news.a', 'heard', 'topic') AS s \\gset\nSELECT pg_sleep(0.1); SELECT queue.unsubscribe(:s)"; },
	look => sub { return "SELECT count(queue.explain_job(id)) FROM (SELECT id FROM queue.job ORDER BY id DESC LIMIT 50) j; SELECT count(*) FROM queue.stat_worker; SELECT length(queue.metrics()); SELECT count(*) FROM queue.doctor()"; },
	maintain => sub { return 'SELECT queue.maintain()'; },
	drain => sub { return "BEGIN; SELECT count(*) FROM queue.test_drain('sql'); ${\pick('COMMIT', 'ROLLBACK')}"; },
	idle => sub { return "CALL queue.await_idle('sql', '0.3 s')"; },
	wait_for => sub { return 'SELECT queue.wait_for(' . any('sql', 'web') . ", '0.3 s')"; },
);

sub operator
{
	my ($s) = @_;
	my @may = grep { mixed("operation $_") } sort keys %operation;
	return unless @may;
	my @rows = ask($s, $operation{ pick(@may) }->());
	for (@rows) { told('ended', '-', $1, 'cancelled') if /^cancelled\|(\d+)\|t$/; }
	# what a statement left half done
	ask($s, 'ALTER FUNCTION away(queue.job) RENAME TO work') if chance(0.1);
	return;
}

# What may never be seen, at any moment.  What executors run is told by shared memory, which goes ahead of the snapshot: a job
# whose end is not committed yet looks available, and the next of its group runs.  So only what stands in rows counts.
sub watcher
{
	my ($s) = @_;
	my @bad = ask($s, <<'END');
SELECT 'two jobs of one key: ' || string_agg(id || ' ' || state, ', ') FROM queue.job
	WHERE queue = 'key' AND (state IN ('available', 'retryable', 'scheduled') OR leased_until > clock_timestamp()) GROUP BY unique_key HAVING count(*) > 1
UNION ALL SELECT 'two of a group: ' || string_agg(id || ' ' || state, ', ') FROM queue.job
	WHERE queue = 'grp' AND (state IN ('available', 'retryable', 'scheduled') OR leased_until > clock_timestamp()) GROUP BY group_key HAVING count(*) > 1
END
	complain($_) for grep { /^two / } @bad;
	if (setting('strict'))
	{
		complain($_) for ask($s, <<'END');
SELECT format('job %s (%s) waits for %s: %s', id, kind, clock_timestamp() - run_at, why)
FROM (SELECT *, queue.explain_job(id) AS why FROM queue.job WHERE state = 'available' AND queue <> 'dead' AND kind NOT IN ('ext', 'gext', 'xstep', 'limx', 'klx', 'batch', 'rated') AND run_at < clock_timestamp() - interval '15 s' LIMIT 3) j
WHERE why !~ 'no handler|paused|rate_limit|not in shared_preload_libraries'
END
	}
	nap(0.2);
	return;
}

1;
