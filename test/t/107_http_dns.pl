# A host name whose servers never answer holds nobody but its own jobs.  A getaddrinfo of our own, preloaded into the
# server, never answers for names in never.test while the file HANG is there, and then says that they are 127.0.0.1; of those
# in later.test it says that they do not exist while HANG.later is there.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
open(my $c, '>', "$dir/shim.c") or die $!;
print $c <<'EOC';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	size_t		length = node == NULL ? 0 : strlen(node);

	if (length > 0 && node[length - 1] == '.')
		length--;
	if (service == NULL && length >= 10 && strncmp(node + length - 10, "later.test", 10) == 0)
	{
		char		path[4096];

		snprintf(path, sizeof(path), "%s.later", getenv("DNS_HANG"));
		return access(path, F_OK) == 0 ? EAI_NONAME : real("127.0.0.1", service, hints, list);
	}
	/* (libcurl, which is not to ask, names the port) */
	if (service != NULL || length < 10 || strncmp(node + length - 10, "never.test", 10) != 0)
		return real(node, service, hints, list);
	while (access(getenv("DNS_HANG"), F_OK) == 0)
		usleep(20000);
	return real("127.0.0.1", service, hints, list);
}
EOC
close $c;
if (system("cc -shared -fPIC -o $dir/shim.so $dir/shim.c -ldl 2>$dir/cc.log") != 0)
{
	plan skip_all => 'no C compiler';
}
open(my $hang, '>', "$dir/HANG") or die $!;
close $hang;

my $server = HttpServer->new(dir => $dir);
my $node = queue_node('http_dns', conf => "queue.log_level = 'debug1'\nqueue.shutdown_timeout = '1s'", start => 0);
{
	local $ENV{LD_PRELOAD} = "$dir/shim.so";
	local $ENV{DNS_HANG} = "$dir/HANG";
	$node->start;
}
queue_install($node, 'postgres');

sub register
{
	my ($kind, $url, $more) = @_;
	return sql($node, "SELECT queue.register_http_handler('$kind', '$url', timeout => '2 min', max_attempts => 1000, connect_timeout => '" . ($kind =~ /^(dead|many)/ ? '300 ms' : '30 s') . "', "
		. q{backoff => '{"type": "fixed", "base": "10 ms", "jitter": 0}', breaker => '{"consecutive_failures": 0, "min_requests": 1000000}'} . ($more // '') . ')');
}

my $path = ":$server->{port}/status/200";
# (one has a dot at its end: libcurl finds what was looked up for it)
register("dead$_", "http://d$_.never.test" . ('', '', '.')[ $_ - 1 ] . $path, ', max_running => 50') for 1 .. 3;
register('health', $server->url('/status/200'), ", health_url => 'http://health.never.test$path'");
register('fine', $server->url('/status/200'));
register('named', "http://localhost$path");
sql($node, "SELECT (SELECT count(*) FROM queue.enqueue_many('dead' || i, array_fill('{}'::jsonb, '{50}'))) FROM generate_series(1, 3) i");

wait_true($node, "SELECT count(*) > 200 AND bool_and(error LIKE 'timeout: Could not resolve host: d_.never.test%: no answer in % ms') FROM queue.job_error WHERE kind ~ '^dead'",
	'jobs to hosts whose names are never resolved time out');
my $pid = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
my @threads = glob("/proc/$pid/task/*");
cmp_ok(scalar(@threads), '<=', 6, 'one thread a name, however many jobs');
sql($node, "SELECT count(*) FROM queue.enqueue_many('fine', array_fill('{}'::jsonb, '{200}'))");
sql($node, "SELECT count(*) FROM queue.enqueue_many('named', array_fill('{}'::jsonb, '{20}'))");
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind IN ('fine', 'named'))", 'others are delivered meanwhile');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind IN ('fine', 'named')", 0, 'at the first attempt');
sql($node, "SELECT queue.enqueue('health')");
wait_true($node, "SELECT NOT healthy FROM queue.stat_endpoint WHERE kind = 'health'", 'a health_url that is never resolved is down');

# more names than threads: those that found none wait for one
register('many', "http://m1.never.test$path");
sql($node, "SELECT count(*) FROM (SELECT queue.add_endpoint('many', 'http://m' || i || '.never.test$path') FROM generate_series(2, 70) i) x");
sql($node, "SELECT count(*) FROM queue.enqueue_many('many', array_fill('{}'::jsonb, '{140}'))");
wait_true($node, "SELECT count(DISTINCT error) > 60 FROM (SELECT substring(error FROM 'm[0-9]+.never') AS error FROM queue.job_error WHERE kind = 'many') e", '70 names');
@threads = glob("/proc/$pid/task/*");
cmp_ok(scalar(@threads), '<=', 50, 'no more threads than 48 and a few');
cmp_ok(scalar(@threads), '>', 40, 'and as many');

# who waits for a name can be cancelled
wait_true($node, "SELECT count(queue.cancel(id)) > 10 FROM queue.job WHERE kind = 'many' AND state = 'running'", 'jobs are cancelled while their names are asked for');
sql($node, "SELECT count(*) FROM queue.enqueue_many('fine', array_fill('{}'::jsonb, '{100}'))");
wait_true($node, "SELECT NOT EXISTS (SELECT FROM queue.job WHERE kind = 'fine')", 'others are delivered by the same requests');
one($node, "SELECT count(*) FROM queue.job_error WHERE kind = 'fine'", 0, 'without an error');
one($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'", $pid, 'the worker is the same');

# the worker ends, and another comes
kill 'TERM', $pid;
ok(gone($pid), 'the worker ends while names are asked for');
sql($node, q{SELECT queue.pause('default')});

# once they are resolved all goes
unlink "$dir/HANG";
sql($node, q{SELECT queue.resume('default')});
wait_no_jobs($node, 'with names resolved all jobs are delivered');
cmp_ok(scalar(grep { $_->{host} =~ /never\.test/ } $server->seen('request')), '>=', 151, 'under their names');

# a name that does not exist brings its endpoint's health in doubt, and is asked for again
sub put_file { my ($name) = @_; open(my $file, '>', "$dir/$name") or die $!; close $file; return; }
put_file($_) for 'HANG.later', 'HEALTHY';
register('later', "http://later.test$path", ", health_url => '" . $server->url('/health') . "'");
wait_true($node, "SELECT healthy FROM queue.stat_endpoint WHERE kind = 'later'", 'an endpoint is healthy');
unlink "$dir/HEALTHY";
my $id = sql($node, "SELECT queue.enqueue('later')");
wait_true($node, "SELECT count(*) >= 1 FROM queue.job_error WHERE kind = 'later' AND error LIKE 'Could not resolve host: later.test%'", 'but its name does not exist');
wait_true($node, "SELECT NOT healthy FROM queue.stat_endpoint WHERE kind = 'later'", 'so it is in doubt');
put_file('HEALTHY');
unlink "$dir/HANG.later";
wait_no_jobs($node, 'when it does, its job is sent', kinds => '^later$');

# the time that a name takes is part of the request's time
open($hang, '>', "$dir/HANG") or die $!;
close $hang;
sql($node, "SELECT queue.register_http_handler('slow', 'http://slow.never.test:$server->{port}/hang', timeout => '6 s', connect_timeout => '6 s', max_attempts => 1), queue.enqueue('slow')");
wait_true($node, "SELECT EXISTS (SELECT FROM queue.job WHERE kind = 'slow' AND started_at < clock_timestamp() - interval '2 s')", 'a name takes two seconds');
unlink "$dir/HANG";
wait_true($node, "SELECT state = 'discarded' FROM queue.job WHERE kind = 'slow'", 'its request times out');
one($node, "SELECT substring(error FROM 'timed out after ([0-9]+) milliseconds')::int < 5500 FROM queue.job_error WHERE kind = 'slow'", 't', 'those two earlier');

# .. and of what its result says
open($hang, '>', "$dir/HANG") or die $!;
close $hang;
$id = sql($node, "SELECT queue.create_queue('kept', keep_completed => '1 day'), queue.register_http_handler('late', 'http://late.never.test$path', '{kept}', connect_timeout => '1 min'), queue.enqueue('late', queue => 'kept')") =~ s/.*\|//r;
wait_true($node, "SELECT EXISTS (SELECT FROM queue.job WHERE id = $id AND started_at < clock_timestamp() - interval '0.3 s')", 'a name takes a third of a second');
unlink "$dir/HANG";
wait_end($node, $id, 'completed', 'its request is answered');
one($node, "SELECT (result->>'duration_ms')::int >= 300 FROM queue.job WHERE id = $id", 't', 'and lasted as long, too');

$server->stop;
$node->stop('fast');
log_clean($node);
done_testing();
