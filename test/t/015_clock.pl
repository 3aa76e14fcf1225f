# The clock can be moved: delays, leases and the view go by queue.debug_clock_offset.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use QueueTest;
use Test::More;

my $node = queue_node('clock');

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
$node->stop;
done_testing();
