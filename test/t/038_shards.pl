# Shards behind PL/Proxy, by the commands of the page (it runs 4 blocks of doc/scale.md); one shard down; more shards.
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
sql($near, "CREATE DATABASE $_") for qw(shard2 shard3);
sql($far, 'CREATE DATABASE shard1');	# and not the one that the page makes
$ENV{SHARD0} = $near->connstr('shard0') =~ s/'//gr;
$ENV{SHARD1} = $far->connstr('shard1') =~ s/'//gr;
$ENV{SHARD2} = $near->connstr('shard2') =~ s/'//gr;
$ENV{SHARD3} = $near->connstr('shard3') =~ s/'//gr;
$ENV{FRONT} = $near->connstr('front') =~ s/'//gr;

# The commands of the page, each block by a shell that stops at the first error.
my @blocks = slurp_file("$top/doc/scale.md") =~ /^<!-- run by test\/t\/038_shards\.pl -->\n```sh\n(.*?)^```$/msg;
is(scalar @blocks, 4, 'the page has its commands');
sub step
{
	my ($block, $name) = @_;
	$block =~ s/\bdoc\//$top\/doc\//g;
	$near->command_ok([ 'bash', '-e', '-o', 'pipefail', '-c', $block ], $name);
}
step($blocks[0], 'three databases');
step($blocks[1], 'two shards');
step($blocks[2], 'a front, and jobs');

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

# --- other ways in, and an ordinary role
front("SELECT queue.shard_of(queue.enqueue_json('{\"kind\": \"k\", \"queue\": \"mail\", \"unique_key\": \"j\"}')) = queue.shard_of_key('j')", 't', 'a key in JSON');
front("SELECT outcome FROM queue.enqueue_unique('k', 'j', '{}', '{\"queue\": \"mail\"}')", 'existing', 'is the same key');
front("SELECT count(*), bool_and(queue.complete(id, attempt)) FROM queue.fetch_any('{mail,default}', 10)", '1|t', 'fetch_any');
sql($near, "CREATE ROLE clerk LOGIN; GRANT USAGE ON FOREIGN SERVER shards TO clerk", db => 'front');
sql($far, "CREATE ROLE clerk LOGIN");
sql($_->[0], "SELECT queue.grant_queue('mail', 'clerk', 'manage')", db => $_->[1]) for [ $near, 'shard0' ], [ $far, 'shard1' ];
sub clerk { my ($query) = @_; my ($rc, $out, $err) = $near->psql('front', "SET ROLE clerk; $query"); chomp $out; return ($out, $err); }
is((clerk("SELECT count(*) FROM queue.job"))[0], sql($near, 'SELECT count(*) FROM queue.job', db => 'front'), 'may look');

# --- one is down: what has its keys fails, unless it may go elsewhere; all else goes to the other, which all that is read comes from
my ($near_key, $far_key) = map { sql($near, "SELECT i FROM generate_series(1, 100) i WHERE queue.shard_of_key(i::text) = $_ LIMIT 1", db => 'front') } 0, 1;
sql($near, "SELECT queue.enqueue('seen', '{}', 'mail', unique_key => '$_')", db => 'front') for $near_key, $far_key;
$far->stop('immediate');
my ($out, $err) = clerk("SELECT count(*) FILTER (WHERE queue.shard_of(queue.enqueue('k', '{}', 'mail')) = 0) FROM generate_series(1, 20)");
is($out, '20', 'jobs without a key go on');
front("SELECT queue.enqueue('k', '{}', 'mail', group_key => '$near_key') > 0", 't', 'and those of the other\'s keys');
my $mine = "SELECT queue.enqueue('k', '{}', 'mail', group_key => '$far_key')";
isnt(($near->psql('front', $mine))[0], 0, 'its own fail');
front("SET front.keys_go_elsewhere = on; SELECT queue.shard_of(($mine))", '0', 'or go elsewhere, if that is chosen');
sql($near, 'TRUNCATE queue.shard_down', db => 'front');
(my $rc, $out, $err) = $near->psql('front', "SELECT count(*) FROM queue.job WHERE kind = 'seen'");
is($out, '1', 'the views show the others');
like($err, qr/WARNING:  shard 1 does not answer/, 'and which is missing');
front("SELECT count(*), bool_and(queue.complete(id, attempt)) FROM queue.fetch('mail', 100, kinds => '{seen}')", '1|t', 'workers work on');
front("SELECT count(*) FROM queue.shard_down WHERE shard = 1", '1', 'it is left alone');
isnt(($near->psql('front', "SELECT queue.pause('mail')"))[0], 0, 'what is to hold on all fails');
$far->start;
sql($near, 'TRUNCATE queue.shard_down', db => 'front');
front("SELECT queue.shard_of(queue.enqueue('k', '{}', 'mail', group_key => '$far_key'))", '1', 'until it is back');
front("SELECT count(*) FROM queue.find_jobs('{\"kind\": \"seen\"}')", '1', 'what waited there is there');
sql($near, "INSERT INTO queue.shard_down SELECT i, 'infinity' FROM generate_series(0, 1) i", db => 'front');
sqlstate_like($near, "SELECT count(*) FROM queue.job", '08006', qr/no shard answers/, 'none at all is an error, not an empty answer', db => 'front');
sql($near, 'TRUNCATE queue.shard_down', db => 'front');

# --- more
step($blocks[3], 'two more shards');
front("SELECT count(queue.enqueue('k', '{}', 'mail', unique_key => i::text)) FROM generate_series(1, 40) i", '40', 'jobs for all');
front("SELECT string_agg(DISTINCT queue.shard_of(id)::text, ',') FROM queue.find_jobs('{\"queue\": \"mail\"}', 1000)", '0,1,2,3', 'all are used');
$near->stop;
$far->stop;
done_testing();
