# Shards behind PL/Proxy, as doc/scale.md says, by the commands that stand there; one shard down; more shards.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $sharedir = `"$ENV{PG_CONFIG}" --sharedir`;
chomp $sharedir;
plan skip_all => 'PL/Proxy is not installed (Debian: postgresql-15-plproxy)' unless -f "$sharedir/extension/plproxy.control";

my $near = queue_node('near', install => 0);
my $far = queue_node('far', install => 0);
sql($near, "CREATE DATABASE $_") for qw(shard0 shard2 shard3 front);
sql($far, 'CREATE DATABASE shard1');
$ENV{SHARD0} = $near->connstr('shard0') =~ s/'//gr;
$ENV{SHARD1} = $far->connstr('shard1') =~ s/'//gr;
$ENV{SHARD2} = $near->connstr('shard2') =~ s/'//gr;
$ENV{SHARD3} = $near->connstr('shard3') =~ s/'//gr;
$ENV{FRONT} = $near->connstr('front') =~ s/'//gr;

# The commands of the page, each block by a shell that stops at the first error.
my @blocks = slurp_file("$top/doc/scale.md") =~ /^<!-- run by test\/t\/038_shards\.pl -->\n```sh\n(.*?)^```$/msg;
is(scalar @blocks, 3, 'the page has its commands');
sub step
{
	my ($block, $name) = @_;
	$block =~ s/\bdoc\//$top\/doc\//g;
	$near->command_ok([ 'bash', '-e', '-o', 'pipefail', '-c', $block ], $name);
}
step($blocks[0], 'two shards');
step($blocks[1], 'a front, and jobs');

sub front { my ($query, $expected, $name) = @_; one($near, $query, $expected, $name, db => 'front'); }
front("SELECT count(*), count(DISTINCT queue.shard_of(id)) > 0 FROM queue.job", '20|t', 'the jobs are seen at the front');
is(sql($near, "SELECT count(*) FROM queue.job", db => 'shard0') + sql($far, "SELECT count(*) FROM queue.job", db => 'shard1'), 20,
	'and are on the shards');
front("SELECT count(DISTINCT queue.enqueue('k', '{}', 'mail', unique_key => 'same')) FROM generate_series(1, 5)", '1', 'a key is one job');
front("SELECT count(*), bool_and(queue.complete(id, attempt)) FROM queue.fetch('mail', 100)", '21|t', 'fetched from all, completed by id');
front("SELECT count(*) FROM queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[7]), 'mail')", '7', 'many at once');
front("SELECT sum(available) FROM queue.stat_queue WHERE queue = 'mail'", '7', 'counted over the shards');
front("SELECT queue.cancel_jobs('{\"queue\": \"mail\"}')", '7', 'cancelled on all');
my $id = sql($near, "SELECT queue.enqueue('k', '{}', 'mail')", db => 'front');
front("SELECT queue.cancel($id), queue.wait_for($id)", 't|cancelled', 'by its id');
sqlstate_like($near, "SELECT queue.enqueue('k', '{}', 'nowhere')", '42704', qr/nowhere/, 'a shard\'s error is the caller\'s', db => 'front');

# --- one is down: what has its keys fails, all else goes to the other
my ($near_key, $far_key) = map { sql($near, "SELECT i FROM generate_series(1, 100) i WHERE queue.shard_of_key(i::text) & 1 = $_ LIMIT 1", db => 'front') } 0, 1;
$far->stop('immediate');
front("SELECT count(*) FILTER (WHERE queue.shard_of(queue.enqueue('k', '{}', 'mail')) = 0) FROM generate_series(1, 20)", '20', 'jobs without a key go on');
front("SELECT queue.enqueue('k', '{}', 'mail', group_key => '$near_key') > 0", 't', 'and those of the other\'s keys');
my ($rc, $out, $err) = $near->psql('front', "SELECT queue.enqueue('k', '{}', 'mail', group_key => '$far_key')");
isnt($rc, 0, 'its own fail');
$far->start;
front("DELETE FROM queue.shard_down RETURNING shard", '1', 'it was left alone');
front("SELECT queue.shard_of(queue.enqueue('k', '{}', 'mail', group_key => '$far_key'))", '1', 'until it is back');

# --- more
step($blocks[2], 'two more shards');
front("SELECT count(queue.enqueue('k', '{}', 'mail', unique_key => i::text)) FROM generate_series(1, 40) i", '40', 'jobs for all');
front("SELECT string_agg(DISTINCT queue.shard_of(id)::text, ',') FROM queue.find_jobs('{\"queue\": \"mail\"}', 1000)", '0,1,2,3', 'all are used');
$near->stop;
$far->stop;
done_testing();
