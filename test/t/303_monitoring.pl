# doc/monitoring: the alert rules and the dashboard name only metrics and labels that there are, and promtool, where it is
# installed, accepts the rules and their tests.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dir = "$FindBin::RealBin/../../doc/monitoring";
my $node = queue_node('monitoring');

# One of each thing that has metrics.
sql($node, <<'EOS');
SELECT queue.register_sql_handler('h', 'h'), queue.register_http_handler('hook', 'http://127.0.0.1:1/');
SELECT queue.enqueue('h'), queue.enqueue('h', '{"raise": "QU001"}');
EOS
wait_true($node, q{SELECT count(*) = 2 FROM queue.recent_job}, 'jobs have ended');
my %known = (queue_database_up => { database => 1, instance => 1 });
for (split /\n/, sql($node, 'SELECT queue.metrics()'))
{
	next unless /^(\w+)\{(.*)\} /;
	my ($name, $labels) = ($1, $2);
	$known{$name}{$_} = 1 for 'database', 'instance', $labels =~ /(\w+)="/g;
}
cmp_ok(scalar(keys %known), '>', 30, 'the metrics are read');

my $alerts = slurp_file("$dir/alerts.yml");
my $dashboard = JSON::PP->new->utf8->decode(slurp_file("$dir/grafana.json"));
my %expressions = ('alerts.yml' => join("\n", $alerts =~ /^ +expr: (.*?)\n +(?:for|labels):/msg));
my @panels = @{ $dashboard->{panels} };
$expressions{'grafana.json'} = join "\n", map { $_->{expr} } map { @{ $_->{targets} } } @panels;
for my $file (sort keys %expressions)
{
	my $text = $expressions{$file};
	my @used = $text =~ /\b(queue_\w+)/g;
	cmp_ok(scalar(@used), '>', 10, "$file uses metrics");
	is(join(' ', grep { !$known{$_} } @used), '', 'all of which there are');
	my @wrong;
	while ($text =~ /\b(queue_\w+)\{([^}]*)\}/g)
	{
		my $name = $1;
		push @wrong, map { $known{$name}{$_} ? () : "$name: $_" } $2 =~ /(\w+)=/g;
	}
	is(join(' ', @wrong), '', 'with their labels');
}
my %place;
for my $panel (@panels)
{
	my $grid = $panel->{gridPos};
	for my $x ($grid->{x} .. $grid->{x} + $grid->{w} - 1) { $place{"$x $_"}++ for $grid->{y} .. $grid->{y} + $grid->{h} - 1; }
}
is(join(', ', grep { $place{$_} > 1 } sort keys %place), '', 'no panel lies on another');
my %ids = map { $_->{id} => 1 } @panels;
is(scalar(keys %ids), scalar(@panels), 'each has an id of its own');

SKIP:
{
	my $promtool = (grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH})[0];
	skip 'promtool (package prometheus) is not installed', 2 unless defined $promtool;
	for my $call ([ 'check', 'rules', 'alerts.yml' ], [ 'test', 'rules', 'alerts_test.yml' ])
	{
		my ($out, $err) = ('', '');
		ok(IPC::Run::run([ $promtool, @$call ], '>', \$out, '2>', \$err, init => sub { chdir $dir }), "promtool @$call")
		  or diag("$out$err");
	}
}

$node->stop;
done_testing();
