# Everything at once, at random, while every kind of process dies: what clients were told is written down outside of the
# cluster, and in the end nothing may be missing, doubled or out of order.
#
# QUEUE_CHAOS_SEED=n replays the actions (not their timing); QUEUE_CHAOS_SECONDS=n is for how long (20).
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use POSIX ();
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{QUEUE_CHAOS_SECONDS} // 20;
my $seed = $ENV{QUEUE_CHAOS_SEED} // (time * 1000 ^ $$) % 1_000_000_000;
note "QUEUE_CHAOS_SEED=$seed QUEUE_CHAOS_SECONDS=$seconds";

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
my $node = queue_node('chaos', conf => <<'EOS');
max_connections = 60
queue.executors = 3
queue.shutdown_timeout = 1s
max_wal_size = 2GB
EOS
sql($node, <<"EOS");
CREATE TABLE ran (n bigserial, id bigint, kind text, grp text, attempt int, began timestamptz, at timestamptz DEFAULT clock_timestamp());
-- its effect; fails now and then
CREATE FUNCTION work(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
	began timestamptz = clock_timestamp();
BEGIN
	IF j.queue = 'lim' THEN
		PERFORM pg_sleep(0.01);
	END IF;
	INSERT INTO ran (id, kind, grp, attempt, began) VALUES (j.id, j.kind, j.group_key, j.attempt, began);
	IF (hashint8(j.id + j.failures) & 7) = 0 AND j.failures < 3 THEN
		RAISE EXCEPTION 'now and then';
	END IF;
	RETURN to_jsonb(j.id);
END \$\$;
SELECT queue.create_queue(q, keep_completed => '1 day', lease => '3 s', max_attempts => 100, backoff => '{"type": "fixed", "base": "20 ms", "jitter": 0.5}')
FROM unnest('{sql,other,grp,flow,lim,web,ext,key}'::text[]) q;
SELECT queue.alter_queue('lim', max_running => 2);
SELECT queue.register_sql_handler(k, 'work') FROM unnest('{job,later,grouped,step,fin,limited,keyed}'::text[]) k;
SELECT queue.register_http_handler('web', '@{[ $server->url('/flaky/20') ]}', max_running => 5, backoff => '{"type": "fixed", "base": "20 ms"}');
EOS

# ---- what every actor does: SQL by a psql of its own; gives the lines, or nothing if it is not known to have committed
my $psql = 'psql';
sub ask
{
	my ($text, %o) = @_;
	my ($out, $err) = ('', '');
	my @line = ($psql, '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'));
	my $ok = eval { IPC::Run::run([ @line ], '<', \$text, '>', \$out, '2>', \$err, IPC::Run::timeout(60)) };
	if (!$ok)
	{
		# what a kill, a restart or a race may say
		note("$$: $err") if $err =~ /ERROR/ && $err !~ /$o{may}|terminating|shut|starting|recovery|connection/;
		return;
	}
	return split /\n/, $out;
}

my %actor;    # pid => name
sub actor
{
	my ($name, $code) = @_;
	my $pid = fork() // die "fork: $!";
	if ($pid)
	{
		$actor{$pid} = $name;
		return;
	}
	srand($seed + unpack('%32C*', $name) * 7919 + (keys %actor));
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	open(my $log, '>>', "$dir/ledger." . ($name =~ s/\W/_/gr)) or POSIX::_exit(3);
	$log->autoflush(1);
	my $rc = eval { until ($stop) { $code->(sub { print $log join(' ', @_), "\n" }); usleep(10_000 + int(rand 30_000)); } 1 } ? 0 : 1;
	print STDERR "# $name: $@" if $rc;
	POSIX::_exit($rc);
}
sub pick { return $_[ rand @_ ]; }

for my $who (1 .. 2)
{
	my $n = 0;
	actor("enqueuer $who", sub {
		my ($told) = @_;
		my $dice = int rand 8;
		my $how = $dice == 0 ? "SELECT 'job', queue.enqueue('job', queue => 'sql', priority => ${\int rand 3}) FROM generate_series(1, ${\(1 + int rand 20)})"
		  : $dice == 1 ? "SELECT 'later', queue.enqueue('later', queue => 'sql', delay => '${\int rand 500} ms')"
		  : $dice == 2 ? "SELECT 'grouped', queue.enqueue('grouped', to_jsonb($n), 'grp', group_key => 'g' || ${\int rand 5})"
		  : $dice == 3 ? "SELECT 'limited', queue.enqueue('limited', queue => 'lim') FROM generate_series(1, 3)"
		  : $dice == 4 ? "SELECT 'web', queue.enqueue('web', queue => 'web')"
		  : $dice == 5 ? "SELECT 'ext', queue.enqueue('ext', queue => 'ext') FROM generate_series(1, 3)"
		  : $dice == 6 ? "SELECT 'keyed', queue.enqueue('keyed', to_jsonb($n), 'key', unique_key => 'k' || ${\int rand 4}, on_conflict => '${\pick(qw(ignore replace merge))}')"
		  : "SELECT 'step', job_id FROM queue.enqueue_workflow('[{\"ref\": \"a\", \"kind\": \"step\", \"queue\": \"flow\"}, {\"ref\": \"b\", \"kind\": \"step\", \"queue\": \"flow\", \"depends_on\": [\"a\"]},"
		  . " {\"ref\": \"c\", \"kind\": \"step\", \"queue\": \"flow\", \"depends_on\": [\"a\"]}]', 'w', 'flow', 'fin')";
		# some are undone
		if (rand() < 0.1) { ask("BEGIN; $how; ROLLBACK", may => qr/merge/); return; }
		$n++;
		$told->($_) for map { s/\|/ /r } ask($how, may => qr/merge|two objects/);
	});
}
for my $mode (qw(lease session lease))
{
	actor("worker $mode " . keys %actor, sub {
		my ($told) = @_;
		# the effect is in the transaction that completes, now and then it fails, or is slower than its lease
		my $dice = rand;
		my $nap = $dice < 0.05 ? 3.5 : 0;
		my $end = $dice < 0.1 ? 'SELECT queue.fail(:id, :attempt, \'no\')' : "INSERT INTO ran (id, kind, attempt) SELECT :id, 'ext', :attempt WHERE queue.complete(:id, :attempt)";
		ask(<<"EOS", may => qr/./);
SELECT id, attempt FROM queue.fetch('ext', wait => '200 ms', claim => '$mode') \\gset
\\if :{?id}
SELECT pg_sleep($nap) \\g /dev/null
BEGIN;
$end;
COMMIT;
\\endif
EOS
	});
}
actor('control', sub {
	my ($told) = @_;
	my $any = "coalesce((SELECT id FROM queue.job WHERE queue IN ('sql', 'other') AND state IN ('available', 'running', 'scheduled', 'retryable') ORDER BY random() LIMIT 1), 0)";
	ask(pick(
		"SELECT queue.cancel($any)",
		"SELECT queue.discard($any)",
		"SELECT queue.retry(coalesce((SELECT id FROM queue.job WHERE kind = 'job' AND state IN ('cancelled', 'discarded') ORDER BY random() LIMIT 1), 0))",
		"SELECT queue.move_jobs('{\"queue\": \"sql\", \"kind\": \"job\"}', 'other', qty => 20)",
		"SELECT queue.move_jobs('{\"queue\": \"other\"}', 'sql', priority => 1, qty => 20)",
		"SELECT queue.pause('sql'); SELECT pg_sleep(0.1); SELECT queue.resume('sql')",
		"SELECT queue.pause_handler('job'); SELECT queue.resume_handler('job')",
		"SELECT queue.alter_queue('lim', max_running => 1); SELECT pg_sleep(0.1); SELECT queue.alter_queue('lim', max_running => 2)",
		"SELECT queue.alter_job($any, priority => 2)",
		"BEGIN; SELECT queue.cancel($any); ROLLBACK",
		"SELECT queue.register_sql_handler('job', 'work')",
		"BEGIN; ALTER FUNCTION work(queue.job) RENAME TO away; COMMIT; ALTER FUNCTION away(queue.job) RENAME TO work",
		"ALTER FUNCTION away(queue.job) RENAME TO work",
		"SELECT queue.alter_queue('sql', fair => ${\(1 + int rand 3)})"), may => qr/does not exist|deadlock/);
	usleep(100_000);
});
actor('watcher', sub {
	my ($told) = @_;
	$told->($_) for ask(<<'EOS', may => qr/./);
SELECT 'two jobs of one key: ' || string_agg(id || ' ' || state, ', ') FROM queue.job WHERE queue = 'key' AND state IN ('available', 'running', 'retryable', 'scheduled') GROUP BY unique_key HAVING count(*) > 1
UNION ALL SELECT 'two of a group: ' || string_agg(id || ' ' || state, ', ') FROM queue.job WHERE queue = 'grp' AND state IN ('available', 'running', 'retryable', 'scheduled') GROUP BY group_key HAVING count(*) > 1
EOS
	usleep(200_000);
});

# ---- who kills: here, because it also starts the server again
srand($seed);
my %done;
my $end = time + $seconds;
my $kills = 0;
# a busy machine needs longer for a few of them
while (time < $end || $kills < $seconds / 2)
{
	$kills++;
	usleep(300_000 + int(rand 1_500_000));
	my $what = pick('executor', 'executor', 'scheduler', 'launcher', 'http', 'client', 'client', 'terminate', 'stop', 'stop', 'immediate', 'restart');
	$done{$what}++;
	my $type = $what eq 'client' || $what eq 'terminate' ? 'client backend' : $what eq 'stop' ? pick('queue executor', 'queue scheduler', 'queue http', 'client backend') : "queue $what";
	if ($what eq 'immediate' || $what eq 'restart')
	{
		$node->stop($what eq 'restart' ? 'fast' : 'immediate');
		$node->start;
		next;
	}
	my ($pid) = ask("SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1", may => qr/./) or next;
	if ($what eq 'terminate') { kill 'TERM', $pid; }
	elsif ($what eq 'stop') { kill 'STOP', $pid; usleep(int rand 2_000_000); kill 'CONT', $pid; }
	else { kill 'KILL', $pid; }
	poll($node, 'SELECT true') or die 'the server does not come back';
}
note join ', ', map { "$_ $done{$_}" } sort keys %done;
kill 'TERM', keys %actor;
for my $pid (sort keys %actor)
{
	waitpid($pid, 0);
	is($?, 0, "$actor{$pid} worked to the end");
}

# ---- quiet
$node->psql('postgres', 'ALTER FUNCTION away(queue.job) RENAME TO work');
sql($node, "SELECT queue.resume('sql'), queue.resume_handler('job'), queue.alter_queue('lim', max_running => 2)");
my $left = sub { return "SELECT NOT EXISTS (SELECT FROM queue.live_job j JOIN queue.line l ON l.id = j.line WHERE l.kind <> 'ext')" };
wait_true($node, $left->(), 'all jobs of the server end');
for (1 .. 3000)
{
	last if sql($node, "SELECT count(*) FROM queue.live_job") eq '0';
	sql($node, "INSERT INTO ran (id, kind, attempt) SELECT f.id, 'ext', f.attempt FROM queue.fetch('ext', 100, wait => '1 s') f WHERE queue.complete(f.id, f.attempt)");
}
one($node, 'SELECT count(*) FROM queue.live_job', '0', 'and all of the workers outside');

# ---- the ledger
sql($node, 'CREATE TABLE told (who text, kind text, id bigint)');
my @watched;
for my $file (sort glob("$dir/ledger.*"))
{
	my ($who) = $file =~ /ledger\.(.*)/;
	open(my $in, '<', $file) or die $!;
	my @lines = <$in>;
	if ($who eq 'watcher') { @watched = @lines; next; }
	my $rows = join ',', map { /^(\w+) (\d+)$/ ? "('$who', '$1', $2)" : () } @lines;
	sql($node, "INSERT INTO told VALUES $rows") if $rows ne '';
}
is(join('', @watched), '', 'at no time two jobs of a key, or of a group');
cmp_ok(sql($node, 'SELECT count(DISTINCT kind) FROM told'), '>=', 7, 'every kind was enqueued');
note sql($node, "SELECT string_agg(kind || ' ' || n, ', ') FROM (SELECT kind, count(DISTINCT id) AS n FROM told GROUP BY 1) t");
note sql($node, "SELECT string_agg(kind || ' ' || state || ' ' || n, ', ') FROM (SELECT kind, state, count(*) AS n FROM queue.job GROUP BY 1, 2 ORDER BY 1, 2) t");

# One check: no row.
sub none { my ($query, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return is(sql($node, "SELECT * FROM ($query) q LIMIT 10"), '', $name); }
none("SELECT DISTINCT t.kind, t.id FROM told t LEFT JOIN queue.job j USING (id) WHERE j.id IS NULL OR j.state NOT IN ('completed', 'cancelled', 'discarded')", 'nothing that was acknowledged is lost');
none("SELECT id, count(*) FROM queue.job GROUP BY 1 HAVING count(*) > 1", 'no job is kept twice');
none("SELECT kind, id, count(*) FROM ran GROUP BY 1, 2 HAVING count(*) > 1", 'no effect is there twice');
none("SELECT j.kind, j.id, j.state, r.id AS ran FROM queue.job j LEFT JOIN ran r USING (id) WHERE j.kind <> 'web' AND (j.state = 'completed') <> (r.id IS NOT NULL)",
	'an effect is there if and only if its job completed');
none("SELECT kind, id, state, last_error FROM queue.job WHERE state = 'discarded' AND last_error !~ 'died' AND queue NOT IN ('sql', 'other')", 'nothing was given up that nobody discarded');
none("SELECT kind, id, last_error FROM queue.job WHERE state = 'cancelled' AND queue NOT IN ('sql', 'other') AND last_error !~ 'replaced|depends|dependency|job \\d+'", 'nor cancelled');
none(<<'EOS', 'in each group the jobs of one enqueuer ran in order');
SELECT grp, who, id FROM (SELECT r.grp, t.who, r.id, lag(r.id) OVER (PARTITION BY r.grp, t.who ORDER BY r.n) AS before
	FROM ran r JOIN told t USING (id) WHERE r.kind = 'grouped') o WHERE before > id
EOS
none("SELECT r.id, r.began, count(*) FROM ran r JOIN ran o ON o.kind = r.kind AND o.began <= r.began AND o.at > r.began WHERE r.kind = 'limited' GROUP BY r.id, r.began HAVING count(*) > 2",
	'of a queue with max_running 2 never more than two ran');
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.workflow WHERE finished_at IS NULL)", 'all workflows are finished');
none("SELECT w.id, w.state, count(r.id) FROM queue.workflow w LEFT JOIN queue.job j ON j.kind = 'fin' AND (j.origin->>'workflow')::bigint = w.id LEFT JOIN ran r ON r.id = j.id AND r.kind = 'fin'"
	. " GROUP BY 1, 2 HAVING count(j.id) <> 1 OR count(r.id) <> count(j.id) FILTER (WHERE j.state = 'completed')", 'each had its callback once');
{
	my (%keys, %ok);
	$keys{ $_->{'queue-job-id'} }{ $_->{'idempotency-key'} } = 1 for $server->seen('request');
	$ok{ $_->{job} }++ for grep { $_->{status} == 200 } $server->seen('answer');
	is(join(' ', grep { keys %{ $keys{$_} } > 1 } sort keys %keys), '', 'requests of a job always had the same Idempotency-Key');
	is(join(' ', grep { !$ok{$_} } split /\n/, sql($node, "SELECT id FROM queue.job WHERE kind = 'web' AND state = 'completed'")), '', 'each that completed was answered');
}
wait_true($node, "SELECT bool_and((available, running, retryable, scheduled, pending) = (0, 0, 0, 0, 0)) FROM queue.stat_queue", 'stat_queue counts none');
wait_true($node, "SELECT $_ = 0 FROM (SELECT count(*) FROM queue.$_) x ($_)", "$_ is empty") for qw(live_key unique_key group_mark reminder);
sql($node, "SELECT count(queue.enqueue('probe', queue => 'lim')) FROM generate_series(1, 4)");
one($node, "SELECT count(*) FROM queue.fetch('lim', 4)", '2', 'all of a limit is free again');
sql($node, "SELECT queue.cancel_jobs('{\"queue\": \"lim\"}')");
poll($node, "SELECT bool_and(ok) FROM queue.doctor() WHERE check_name <> 'kind without handler'");
one($node, "SELECT string_agg(check_name || ': ' || detail, E'\\n') FROM queue.doctor() WHERE NOT ok AND check_name <> 'kind without handler'", '', 'doctor() is content');

log_clean($node, except => qr/terminated by signal 9|crash of another server process/);
$node->stop;
diag("QUEUE_CHAOS_SEED=$seed QUEUE_CHAOS_SECONDS=$seconds replays it") unless Test::More->builder->is_passing;
done_testing();
