# DDL with requests in flight, several databases, a standby that is promoted.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use HttpServer;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QueueTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $server = HttpServer->new(dir => $PostgreSQL::Test::Utils::tmp_check);
my $node = queue_node('http_ddl', streaming => 1, conf => "queue.log_level = 'debug1'");

sub hang
{
	my ($db) = @_;
	sql($node, "SELECT queue.register_http_handler('hang', '" . $server->url('/hang') . "', timeout => '1 min')", db => $db);
	sql($node, "SELECT count(*) FROM queue.enqueue_many('hang', array_fill('{}'::jsonb, '{20}'))", db => $db);
	return wait_true($node, "SELECT in_flight = 20 FROM queue.stat_endpoint WHERE kind = 'hang'", "$db: 20 in flight", db => $db);
}

# --- two databases, a worker each
sql($node, 'CREATE DATABASE other');
sql($node, 'CREATE EXTENSION queue', db => 'other');
hang('postgres');
hang('other');
one($node, "SELECT count(DISTINCT pid) FROM queue.stat_worker WHERE type = 'http'", 2, 'a worker for each database');

# --- DROP DATABASE and DROP EXTENSION do not wait for requests
my $began = time;
sql($node, 'DROP DATABASE other');
cmp_ok(time - $began, '<', 30, 'DROP DATABASE with requests in flight');
$began = time;
sql($node, 'DROP EXTENSION queue CASCADE');
cmp_ok(time - $began, '<', 30, 'DROP EXTENSION with requests in flight');
wait_true($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue http'", 'no worker is left');
sql($node, 'CREATE EXTENSION queue');

# --- rolled back: the jobs are there, and are sent again
hang('postgres');
sql($node, 'BEGIN; DROP EXTENSION queue CASCADE; ROLLBACK');
wait_true($node, "SELECT in_flight = 20 FROM queue.stat_endpoint WHERE kind = 'hang'", 'after a DROP EXTENSION that was rolled back they are under way again');
one($node, "SELECT sum(failures) FROM queue.job", 0, 'uncounted');
one($node, "SELECT bool_and(attempt = 2) FROM queue.job", 't', 'with another attempt');

# --- pg_cancel_backend does nothing, pg_terminate_backend ends it in order
my $pid = sql($node, "SELECT pid FROM queue.stat_worker WHERE type = 'http'");
sql($node, "SELECT pg_cancel_backend($pid)");
one($node, "SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'hang'", 20, 'pg_cancel_backend changes nothing');

# --- drop_queue force and a discarded batch stop their transfers
sql($node, "SELECT queue.create_queue('q'); SELECT queue.register_http_handler('inq', '" . $server->url('/hang') . "', queues => '{q}')");
sql($node, "SELECT count(*) FROM queue.enqueue_many('inq', array_fill('{}'::jsonb, '{90}'), 'q')");
wait_true($node, "SELECT in_flight = 90 FROM queue.stat_endpoint WHERE kind = 'inq'", '90 in flight');
sql($node, "SELECT queue.drop_queue('q', force => true)");
# (its handler is gone with it: the server itself tells how many requests are under way)
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
usleep(20_000) while $server->under_way > 20 && time < $deadline;
is($server->under_way, 20, 'drop_queue with force stops them all');
sql($node, "SELECT queue.cancel(id) FROM queue.job WHERE kind = 'hang'");
wait_true($node, "SELECT in_flight = 0 FROM queue.stat_endpoint WHERE kind = 'hang'", 'cancelled in one transaction: all stopped');

# --- a rolled back cancel stops nothing
my $id = sql($node, "SELECT queue.enqueue('hang')");
wait_true($node, "SELECT in_flight = 1 FROM queue.stat_endpoint WHERE kind = 'hang'", 'one in flight');
sql($node, "BEGIN; SELECT queue.cancel($id); ROLLBACK");
one($node, "SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'hang'", 1, 'a cancel that is rolled back stops nothing');
sql($node, "SELECT queue.cancel($id)");

# --- a standby that is promoted sends
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('http_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
sql($node, "SELECT queue.register_http_handler('hello', '" . $server->url('/status/200') . "'); SELECT queue.pause_handler('hello')");
sql($node, "SELECT count(*) FROM queue.enqueue_many('hello', array_fill('{}'::jsonb, '{5}')); SELECT queue.resume_handler('hello') FROM pg_sleep(0)");
wait_true($node, "SELECT count(*) = 0 FROM queue.job WHERE kind = 'hello'", 'the primary sends');
sql($node, "SELECT queue.pause_handler('hello'); SELECT count(*) FROM queue.enqueue_many('hello', array_fill('{}'::jsonb, '{5}'))");
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
$server->forget;
sql($standby, "SELECT queue.resume_handler('hello')");
wait_true($standby, "SELECT count(*) = 0 FROM queue.job WHERE kind = 'hello'", 'after its promotion the standby sends');
is(scalar($server->seen('request')), 5, 'each once');
$standby->stop('fast');
$server->stop;
done_testing();
