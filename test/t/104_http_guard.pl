# Where connections may go: every spelling of an address is judged by what it resolves to.
# (test/bench/http_guard.sh does the same with 169.254.169.254 on the loopback interface and names that change.)
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;

my $dir = $PostgreSQL::Test::Utils::tmp_check;
my $server = HttpServer->new(dir => $dir);
mkdir "$dir/forbidden";
my $forbidden = HttpServer->new(dir => "$dir/forbidden", host => '127.0.0.2', port => $server->{port});
my $port = $server->{port};
my $node = queue_node('http_guard');

sub send_to
{
	my ($url, $patience) = @_;
	$patience //= '1 min';
	sql($node, "SELECT queue.register_http_handler('k', '$url', max_attempts => 1, timeout => '$patience', connect_timeout => '$patience')");
	my $id = sql($node, "SELECT queue.enqueue('k')");
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM queue.live_job WHERE id = $id)");
	return sql($node, "SELECT coalesce((SELECT error FROM queue.job_error WHERE job_id = $id), 'completed')");
}

my $guard = qr/refused by queue\.http_allowed_networks/;

# the default: link-local, unspecified and metadata addresses are refused, in every spelling
for my $host ('169.254.169.254', '2852039166', '0xA9FEA9FE', '0251.0376.0251.0376', '169.254.43518', '[::ffff:169.254.169.254]',
	'[::ffff:a9fe:a9fe]', '[::169.254.169.254]', '[64:ff9b::a9fe:a9fe]', '[fe80::1]', '0.0.0.0', '0', '[::]',
	'100.100.100.200', '192.0.0.192', '168.63.129.16', '[fd00:ec2::254]', '[fd20:ce::254]', '[::ffff:0:169.254.169.254]',
	'[::ffff:0:100.100.100.200]', '[64:ff9b::6464:64c8]', '[64:ff9b:1::a9fe:a9fe]', '[64:ff9b:1:a9fe:a9:fe00::]',
	'[2002:a9fe:a9fe::1]', '[2002:6464:64c8::]', '[2001:0:102:304::5601:5601]', '[2001:db8::200:5efe:169.254.169.254]')
{
	like(send_to("http://$host:$port/status/200"), $guard, "$host is refused");
}
is(send_to("http://$_:$port/status/200"), 'completed', "$_ is reached") for '127.0.0.1', '2130706433', 'localhost', '[::ffff:127.0.0.1]';

# that a request is refused says nothing of its endpoint's health
sql($node, "SELECT queue.register_http_handler('well', 'http://169.254.169.254:$port/status/200', max_attempts => 1, health_url => 'http://127.0.0.1:$port/status/200')");
wait_end($node, sql($node, "SELECT queue.enqueue('well')"), 'discarded', 'a request to a healthy endpoint is refused');
like(sql($node, "SELECT error FROM queue.job_error WHERE kind = 'well'"), $guard, 'by its address');
like(slurp_file($node->logfile), qr/of kind "well" is healthy/, 'the endpoint is healthy');
unlike(slurp_file($node->logfile), qr/of kind "well" is sent nothing until its health_url/, 'the endpoint counts as healthy all the same');
sql($node, "SELECT queue.unregister_handler('well')");

# Sends again and again until the answer is this one: the worker may not have read its configuration yet.
sub until_sent
{
	my ($url, $re) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $deadline)
	{
		return 1 if send_to($url) =~ $re;
	}
	return 0;
}

# Sets the list and waits until the worker goes by it: until then it reaches what `refused` is.
sub allow
{
	my ($list, $refused) = @_;
	sql($node, "ALTER SYSTEM SET queue.http_allowed_networks = '$list'");
	sql($node, 'SELECT pg_reload_conf()');
	return until_sent("http://$refused:$port/status/200", $guard);
}

# no list switches the refusal off but by an address or a network within the refused one
ok(allow('127.0.0.1, 127.0.0.3/32', '127.0.0.2'), 'a list is read');
ok(allow('0.0.0.0/0', '[::1]'), 'a list of IPv4 alone allows no IPv6');
like(send_to("http://$_:$port/status/200"), $guard, "0.0.0.0/0 does not allow $_")
  for '169.254.169.254', '100.100.100.200', '192.0.0.192', '0.0.0.0', '[::ffff:0:169.254.169.254]', '[2002:a9fe:a9fe::1]';
is(send_to("http://127.0.0.1:$port/status/200"), 'completed', 'but what is not refused');
ok(allow('::/0, 169.254.0.0/16, 100.64.0.0/10', '127.0.0.1'), 'a list of IPv6 alone allows no IPv4');
like(send_to("http://$_:$port/status/200"), $guard, "::/0, 169.254.0.0/16, 100.64.0.0/10 does not allow $_")
  for '169.254.169.254', '100.100.100.200', '[fd00:ec2::254]', '[64:ff9b:1::1]', '[fe80::1]';
unlike(send_to("http://169.254.1.1:$port/status/200", '1 s'), $guard, 'but 169.254.1.1, which it names');
ok(allow('169.254.169.254, 0.0.0.0/32, 127.0.0.1', '127.0.0.2'), 'a list with two refused addresses');
unlike(send_to("http://$_:$port/status/200", '1 s'), $guard, "$_ is allowed by its own address") for '169.254.169.254', '0.0.0.0';
sql($node, 'ALTER SYSTEM RESET queue.http_allowed_networks');
sql($node, 'SELECT pg_reload_conf()');
ok(until_sent("http://127.0.0.1:$port/status/200", qr/^completed$/), 'the list is the default again');

# a redirect leads nowhere
like(send_to("http://127.0.0.1:$port/redirect?to=http%3A%2F%2F127.0.0.2%3A$port%2Fstatus%2F200"), qr/302/, 'a redirect is not followed');

# a list of networks: nothing outside is reached, a kept connection neither
sql($node, "ALTER SYSTEM SET queue.http_allowed_networks = '127.0.0.2/31, 10.0.0.0/8'");
sql($node, 'SELECT pg_reload_conf()');
$node->poll_query_until('postgres', "SELECT current_setting('queue.http_allowed_networks') <> ''");
ok(until_sent("http://127.0.0.1:$port/status/200", $guard), 'what is not in the list is refused');
$server->forget;
like(send_to("http://$_:$port/status/200"), $guard, "$_ is refused") for '127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '[::1]';
is(scalar($server->seen('request')), 0, 'and saw nothing');
is(send_to("http://127.0.0.2:$port/status/200"), 'completed', 'what is in it is reached');

sql($node, "ALTER SYSTEM SET queue.http_allowed_networks = '127.0.0.1'");
sql($node, 'SELECT pg_reload_conf()');
ok(until_sent("http://127.0.0.2:$port/status/200", $guard), 'a kept connection to what is not allowed any more is not used');
$forbidden->forget;
like(send_to("http://127.0.0.2:$port/status/200"), $guard, 'nor a new one');
is(scalar($forbidden->seen('request')), 0, 'it saw nothing');

# the setting itself
my ($out, $err);
for my $bad ('10.0.0.0/33', 'example.com', '10.0.0.0/8/8', '::1/129', '10.0.0.0/8,' x 65)
{
	$node->psql('postgres', "ALTER SYSTEM SET queue.http_allowed_networks = '$bad'", stderr => \$err);
	like($err, qr/invalid value for parameter "queue\.http_allowed_networks"/, "$bad is no network");
}

# no proxy from the environment
$node->stop('fast');
{
	local $ENV{http_proxy} = "http://127.0.0.2:$port";
	local $ENV{ALL_PROXY} = "http://127.0.0.2:$port";
	$node->start;
}
$forbidden->forget;
is(send_to("http://127.0.0.1:$port/status/200"), 'completed', 'with a proxy in the environment');
is(scalar($forbidden->seen('request')), 0, 'it is not used');

$server->stop;
$forbidden->stop;
$node->stop('fast');
done_testing();
