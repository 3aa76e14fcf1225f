# The clock can be moved: delays, leases and the view go by queue.debug_clock_offset.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('clock', far_look => 0, conf => "queue.max_wait = '1h'");

sub move_clock
{
	my ($to) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET queue.debug_clock_offset = '$to'");
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT current_setting('queue.debug_clock_offset') = '$to'"), "clock moved by $to");
}

my $id = $node->safe_psql('postgres', q{SELECT queue.enqueue('later', delay => '3 hours')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM queue.fetch('default')}), '0', 'not due');
is($node->safe_psql('postgres', "SELECT state FROM queue.job WHERE id = $id"), 'scheduled', 'and seen so');
move_clock('4h');
is($node->safe_psql('postgres', "SELECT state FROM queue.job WHERE id = $id"), 'available', 'due four hours later');
is($node->safe_psql('postgres', q{SELECT id FROM queue.fetch('default', lease => '1 hour')}), $id, 'and fetched');
is($node->safe_psql('postgres', "SELECT state FROM queue.job WHERE id = $id"), 'running', 'and running');
move_clock('6h');
ok($node->poll_query_until('postgres', "SELECT state <> 'running' FROM queue.job WHERE id = $id"), 'its lease ended');

# A job whose row cannot be written is left alone for some seconds, and as long after the clock was set back.
my $stuck = sql($node, <<'EOS');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON queue.live_job FOR EACH ROW WHEN (OLD.payload @> '{"stuck": true}') EXECUTE FUNCTION refuse();
SELECT queue.register_sql_handler('h', 'h');
SELECT queue.enqueue('h', '{"stuck": true}', run_at => clock_timestamp());
EOS
$stuck =~ s/.*\n//s;
$node->wait_for_log(qr/job $stuck could be neither run nor failed/);

# The statistics: a job that falls due is counted so by the next recount.
sub counted
{
	my ($name) = @_;
	sql($node, "SELECT queue.purge('counted'); SELECT queue.enqueue('due', queue => 'counted', delay => '1 s')");
	wait_true($node, "SELECT available = 1 AND scheduled = 0 FROM queue.stat_queue WHERE queue = 'counted'", $name);
}
sql($node, "SELECT queue.create_queue('counted')");
counted('a job that fell due is counted');

# The clock is set back by the six hours: what was put off by the former one is not put off for as long.
move_clock('0');
counted('and after the clock was set back');
my $next = sql($node, "SELECT queue.enqueue('after')");
# The fetch begins before the lease ends, and a long time before it would find by itself that it has.
is(sql($node, "SET statement_timeout = '60s'; SELECT id FROM queue.fetch('default', kinds => '{after}', lease => '1 s');"
		  . "SELECT id FROM queue.fetch('default', kinds => '{after}', wait => '1 h')"),
	"$next\n$next", 'a lease after the clock was set back ends');
sql($node, 'DROP TRIGGER refuse ON queue.live_job');
wait_end($node, $stuck, 'completed', 'who was left alone is not so for six hours more');
$node->stop;
done_testing();
