# queue.metrics(): OpenMetrics text by its grammar, what it says, and to whom.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $node = queue_node('metrics', conf => "queue.executors = 1\n");

# Reads metrics by the rules of OpenMetrics 1.0; gives {sample with labels => value}, and what is wrong.
sub parse
{
	my ($text) = @_;
	my (%family, %sample, @bad, $now, %closed);
	my $label = qr/[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"/;
	my $number = qr/[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN/;
	push @bad, 'does not end with # EOF' unless $text =~ s/\n# EOF\z//;
	for (split /\n/, $text)
	{
		if (/^# (HELP|TYPE|UNIT) ([a-zA-Z_:][\w:]*) (.+)$/)
		{
			my ($what, $name, $value) = ($1, $2, $3);
			if (($now // '') ne $name) { $closed{$now} = 1 if defined $now; push @bad, "family comes again: $_" if $closed{$name}; $now = $name; }
			push @bad, "metadata twice or behind samples: $_" if exists $family{$name}{$what} || $family{$name}{samples};
			$family{$name}{$what} = $value;
			push @bad, "unknown type: $_" if $what eq 'TYPE' && $value !~ /^(gauge|counter|histogram)$/;
			push @bad, "unit is not the end of the name: $_" if $what eq 'UNIT' && $name !~ /_\Q$value\E$/;
		}
		elsif (/^([a-zA-Z_:][\w:]*)(?:\{($label(?:,$label)*)?\})? ($number)$/)
		{
			my ($name, $labels, $value) = ($1, $2 // '', $3);
			my $type = defined $now ? $family{$now}{TYPE} // '' : '';
			my $suffix = $type eq 'counter' ? qr/_total/ : $type eq 'histogram' ? qr/_bucket|_sum|_count/ : qr//;
			push @bad, "sample of no family: $_" unless defined $now && $name =~ /^\Q$now\E(?:$suffix)$/ && $type ne '';
			push @bad, "sample twice: $_" if exists $sample{"$name\{$labels}"};
			push @bad, "counter below zero: $_" if $type eq 'counter' && $value < 0;
			$family{$now}{samples}++ if defined $now;
			$sample{"$name\{$labels}"} = $value;
		}
		else { push @bad, "no line of OpenMetrics: $_"; }
	}
	for (sort keys %family)
	{
		push @bad, "$_ has no samples, HELP or TYPE" unless $family{$_}{samples} && $family{$_}{HELP} && $family{$_}{TYPE};
		push @bad, "$_ clashes" if /_(total|bucket|count|sum)$/;
	}
	return (\%sample, \@bad);
}

sub metrics
{
	my ($name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($sample, $bad) = parse(sql($node, 'SELECT queue.metrics()', %o));
	is_deeply($bad, [], $name);
	return $sample;
}

metrics('a new extension');
sql($node, 'CREATE DATABASE another');
queue_install($node, 'another');
wait_true($node, "SELECT count(*) = 2 FROM queue.stat_worker WHERE type = 'scheduler' AND pid IS NOT NULL", 'another database has a scheduler of its own');
sql($node, q{SELECT queue.create_queue('own', max_attempts => 1)});
sql($node, q{SELECT queue.create_queue(E'odd "\\\\\n'), queue.enqueue(E'kind "\\\\\n', queue => E'odd "\\\\\n')});
sql($node, q{SELECT queue.register_sql_handler('run', 'h')});
sql($node, q{SELECT queue.register_http_handler('web', 'http://127.0.0.1:9/a?key=secret', queues => '{own}')});
sql($node, q{SELECT queue.add_endpoint('web', 'http://127.0.0.1:9/a?key=other')});
sql($node, q{SELECT queue.enqueue_many('run', array_fill('{"pay": "load"}'::jsonb, ARRAY[20]))});
wait_no_jobs($node, 'twenty run', kinds => 'run');
sub at { my ($s, $call) = @_; return sql($node, "SET queue.debug_clock_offset = $s; SELECT $call"); }
sql($node, q{SELECT queue.enqueue('pick', queue => 'own') FROM generate_series(1, 5)});
sql($node, q{SELECT queue.pause('own')});
sql($node, q{SELECT queue.resume('own')});
my ($done, $failed) = split /\n/, at(60, q{id FROM queue.fetch('own', 2, lease => '1 h')});
at(90, "queue.complete($done, 1)");
at(90, "queue.fail($failed, 1, 'no')");
# when their leases have ended nobody knows how long they ran
sql($node, q{SELECT queue.enqueue('lost') FROM generate_series(1, 2)});
($done, $failed) = split /\n/, at(60, q{id FROM queue.fetch('default', 2, lease => '1 s', kinds => '{lost}')});
at(90, "queue.complete($done, 1), queue.fail($failed, 1, 'no')");
sql($node, "SELECT queue.cancel($failed)");
sql($node, q{SELECT queue.pause('own')});

my $s = metrics('all sorts of metrics');
is($s->{'queue_build_info{version="1.0"}'}, 1, 'the version');
is($s->{'queue_jobs{queue="odd \"\\\\\n",state="available"}'}, 1, 'names are escaped');
is($s->{'queue_kind_jobs{queue="odd \"\\\\\n",kind="kind \"\\\\\n",state="available"}'}, 1, 'those of kinds too');
is(join(' ', @$s{'queue_jobs{queue="own",state="available"}', 'queue_jobs_enqueued_total{queue="own"}', 'queue_jobs_ended_total{queue="own",state="completed"}',
		'queue_jobs_ended_total{queue="own",state="discarded"}', 'queue_attempts_failed_total{queue="own"}', 'queue_paused{queue="own"}', 'queue_paused{queue="default"}'}),
	'3 5 1 1 1 1 0', 'a queue');
cmp_ok($s->{'queue_oldest_job_age_seconds{queue="own"}'}, '>', 0, 'the age of its oldest job');
is($s->{'queue_oldest_job_age_seconds{queue="default"}'}, 0, 'which is 0 where none waits');
is(join(' ', @$s{map { "queue_kind_$_" } 'jobs{queue="own",kind="pick",state="available"}', 'jobs_ended_total{queue="own",kind="pick",state="completed"}', 'attempts_failed_total{queue="own",kind="pick"}'}),
	'3 1 1', 'a kind');
is(join(' ', @$s{map { qq(queue_kind_run_seconds_$_) } map { qq(bucket{queue="own",kind="pick",le="$_"}) } '0.001', '25.0', '50.0', '+Inf'}), '0 0 2 2', 'the histogram of its runs');
is($s->{'queue_kind_run_seconds_count{queue="own",kind="pick"}'}, 2, 'their number');
is($s->{'queue_kind_run_seconds_count{queue="default",kind="lost"}'} // 0, 0, 'but not of those whose lease had ended');
cmp_ok(abs($s->{'queue_kind_run_seconds_sum{queue="own",kind="pick"}'} - 60), '<', 10, 'their sum');
is(join(' ', @$s{map { qq(queue_kind_wait_seconds_bucket{queue="own",kind="pick",le="$_"}) } '50.0', '100.0'}), '0 2', 'how long they waited');
is(join(' ', @$s{map { qq(queue_handler_$_) } 'ready{kind="run",type="sql",queues="*"}', 'jobs_ended_total{kind="run",type="sql",queues="*",state="completed"}'}), '1 20', 'a handler');
ok(exists $s->{'queue_endpoint_requests_total{kind="web",url="http://127.0.0.1:9/a",queues="own",outcome="failed"}'}, 'an endpoint, without the query of its url');
is(join(' ', map { $s->{$_} } grep { /^queue_workers\{type="scheduler"/ } sort keys %$s), 1, 'a worker, but none of another database');
unlike(sql($node, 'SELECT queue.metrics()'), qr/secret|load/, 'no secret, no payload');
one($node, 'SET search_path = nowhere; SET extra_float_digits = 0; SELECT queue.metrics() LIKE \'%# EOF\', current_setting(\'search_path\')', 't|nowhere', 'whatever the settings');

SKIP:
{
	skip 'no promtool', 1 unless `sh -c 'command -v promtool'`;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/metrics';
	append_to_file($file, sql($node, 'SELECT queue.metrics()') . "\n");
	my $said = `promtool check metrics <$file 2>&1`;
	my $rc = $? >> 8;
	# it reads the older format, in which HELP of a counter names the sample
	my @other = grep { !/_total no help text$/ } split /\n/, $said;
	is_deeply([ $rc == 1 ? 'failed' : 'parsed', @other ], ['parsed'], 'promtool parses it');
}

# --- the rules of the README (it runs 1 block of README.md): by promtool, and that the metrics are there
my ($rules) = slurp_file("$FindBin::RealBin/../../README.md") =~ /```yaml\n(groups:.*?)```/s;
for my $name ($rules =~ /\b(queue_\w+)/g)
{
	ok(scalar(grep { /^\Q$name\E\{/ } keys %$s), "a rule's metric: $name");
}
SKIP:
{
	skip 'no promtool', 1 unless `sh -c 'command -v promtool'`;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/rules.yml';
	append_to_file($file, $rules);
	my $said = `promtool check rules $file 2>&1`;
	ok($? == 0, 'promtool reads the rules') or diag($said);
}

# --- who sees what
sql($node, 'CREATE ROLE stranger LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE monitor LOGIN IN ROLE pg_monitor');
sql($node, q{SELECT queue.grant_queue('own', 'reader', 'read'), queue.grant_queue('own', 'stranger', 'work')});
my $mine = metrics('of a reader', user => 'reader');
is(join(' ', grep { /queue="(?!own")/ } sort keys %$mine), '', 'a reader gets his queue only');
is($mine->{'queue_kind_run_seconds_count{queue="own",kind="pick"}'}, 2, 'all of it');
my $monitored = metrics('of a monitor', user => 'monitor');
$s = metrics('of all');
is_deeply([ sort keys %$monitored ], [ sort keys %$s ], 'pg_monitor gets all');
like(eval { sql($node, 'SELECT queue.metrics()', user => 'stranger') } // $@, qr/permission denied/, 'who reads none gets nothing');

log_clean($node);
done_testing();
