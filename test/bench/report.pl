# report.pl: what suite.sh measured, as a table, JSON and charts.
#
#	report.pl FOLDER OUT    FOLDER has samples, bounds and facts (tabs between the columns); OUT gets performance.json,
#	                        performance-*.svg and the figures of performance.md, between its two marks if it is there
#
# A ratio is the median of the rounds' ratios to the base, which is the workload's first system; a spread is the smallest
# and the largest sample.
use strict;
use warnings;
use JSON::PP;

my ($folder, $out) = @ARGV;
my %title = (
	enqueue_prepared => 'enqueue, one job a transaction, 16 clients, prepared',
	enqueue_extended => '.. not prepared: parsed each time',
	enqueue_simple   => '.. not prepared: simple protocol',
	enqueue_64       => 'enqueue, 64 clients, prepared',
	bulk             => 'enqueue 1,000 jobs a statement, one client',
	transaction      => 'enqueue many jobs in one transaction, 10,000 a statement, one client',
	wide             => 'enqueue, fetch and complete a job of 64 kB, 4 clients',
	fetch_1          => 'fetch and complete one job, 1 client',
	fetch_4          => 'fetch and complete one job, 4 clients',
	fetch_16         => 'fetch and complete one job, 16 clients',
	fetch_batch      => 'fetch and complete batches of 100, 4 clients',
	fetch_clients    => 'fetch and complete one job, by number of clients',
	waits            => 'waits of 64 fetching clients for a lock in memory but the one of the WAL, the most frequent',
	drain            => 'run no-op jobs from a backlog',
	wal              => 'WAL of a job, from enqueue to end, by number of clients',
	latency_p50      => 'commit to start of the job, idle, median',
	latency_p99      => '.. 99 %',
	latency_half_p50 => 'commit to start of the job, at half load, median',
	latency_half_p99 => '.. 99 %',
	latency_cold     => 'commit to start of the job, no executor there yet',
	depth_load       => 'enqueue_many into an empty queue',
	depth_fetch      => 'fetch and complete, 4 clients, by number of waiting jobs',
	depth_enqueue    => 'enqueue, 4 clients, by number of waiting jobs',
	depth_stat       => 'stat_queue and stat_kind, by number of waiting jobs',
	depth_explain    => 'explain_job, by number of waiting jobs',
	depth_find       => 'find_jobs by kind and state, by number of waiting jobs',
	depth_drain      => 'no-op jobs drained, by number of waiting jobs',
	start_handlers   => 'start of a server to its first job, in a database with 1,000 handlers',
	idle_cpu         => 'idle databases with the extension, all their processes together',
	idle_memory      => 'memory of a scheduler of its own');
my %system = (
	insert    => 'bare INSERT',     queue     => 'queue', kept => 'queue, completed jobs kept',
	textbook  => 'textbook SKIP LOCKED', textbook_100 => 'textbook SKIP LOCKED',
	queue_100 => 'queue', pop => 'DELETE of one row, no job', pop_100 => 'DELETE of 100 rows, no jobs',
	one_call  => 'queue, completing in the next fetch', session => "queue, claim => 'session'",
	advisory  => 'advisory-lock CTE', pgq => 'PgQ', graphile => 'graphile-worker', boss => 'pg-boss',
	sql => 'queue, SQL handler', lease => 'queue, fetch and complete');

sub name_of
{
	my ($name) = @_;
	my ($what, $of) = split /:/, $name;
	return defined $of ? (($system{$what} // '') . (exists $system{$what} ? ', ' : '') . $of . ($what =~ /^(deep|shallow)$/ ? ' waiting' : $of =~ /^\d+$/ ? ' clients' : ''))
		: $system{$what} // $what;
}
sub median
{
	my @v = sort { $a <=> $b } @_;
	return @v ? ($v[$#v / 2] + $v[@v / 2]) / 2 : undef;
}
sub number
{
	my ($v) = @_;
	return $v >= 1000 ? do { my $t = sprintf('%.0f', $v); 1 while $t =~ s/^(\d+)(\d{3})/$1,$2/; $t } : sprintf('%.3g', $v);
}
sub lines { open(my $fh, '<', "$folder/$_[0]") or die "$folder/$_[0]: $!"; chomp(my @l = <$fh>); return map { [ split /\t/ ] } @l; }

my (@workloads, %data, %unit, %order);
for (lines('samples'))
{
	my ($workload, $unit, $system, $round, $value) = @$_;
	push @workloads, $workload unless exists $unit{$workload};
	$unit{$workload} = $unit;
	push @{ $order{$workload} }, $system unless exists $data{$workload}{$system};
	$data{$workload}{$system}{$round} = $value + 0;
}
sub ratio
{
	my ($workload, $system, $base) = @_;
	my ($a, $b) = @{ $data{$workload} }{ $system, $base };
	return median(map { $a->{$_} / $b->{$_} } grep { $b->{$_} } keys %$a);
}

my @facts = lines('facts');
my (@rows, %json);
for my $workload (@workloads)
{
	my @systems = @{ $order{$workload} };
	my $base = $systems[0];
	for my $system (@systems)
	{
		my @v = values %{ $data{$workload}{$system} };
		my ($low, $high) = (sort { $a <=> $b } @v)[ 0, -1 ];
		my $ratio = @systems > 1 && $system ne $base ? ratio($workload, $system, $base) : undef;
		push @rows, [ ($system eq $base ? $title{$workload} // $workload : ''), name_of($system), number(median(@v)) . " $unit{$workload}",
			@v > 1 ? number($low) . ' .. ' . number($high) : '', defined $ratio ? sprintf('%.2f', $ratio) : @systems > 1 ? '1' : '' ];
		$json{$workload}{unit} = $unit{$workload};
		$json{$workload}{systems}{$system} = { name => name_of($system), median => median(@v), min => $low, max => $high,
			samples => [ map { $data{$workload}{$system}{$_} } sort { $a <=> $b } keys %{ $data{$workload}{$system} } ],
			(defined $ratio ? (ratio => $ratio, against => $base) : ()) };
	}
}

my (@bounds, $missed);
for (lines('bounds'))
{
	my ($workload, $system, $base, $op, $limit) = @$_;
	next unless exists $data{$workload}{$system} && ($base eq '' || exists $data{$workload}{$base});
	my $value = $base eq '' ? median(values %{ $data{$workload}{$system} }) : ratio($workload, $system, $base);
	my $met = $op eq '-ge' ? $value >= $limit : $value <= $limit;
	$missed++ unless $met;
	my $what = ($title{$workload} // $workload);
	$what =~ s/^\.\. /$workload =~ m{^enqueue} ? 'enqueue, ' : 'commit to start, ' . ($workload =~ m{half} ? 'half load, ' : '')/e;
	push @bounds, [ $what, name_of($system), $base eq '' ? $unit{$workload} : 'x ' . name_of($base),
		sprintf('%.3g', $value), ($op eq '-ge' ? '>= ' : '<= ') . $limit, $met ? 'met' : '**missed**' ];
	printf "%-5s %s, %s: %s (bound: %s %s)\n", $met ? 'ok' : 'MISS', $what, name_of($system), sprintf('%.3g', $value), $op eq '-ge' ? '>=' : '<=', $limit;
}
printf "%d bounds met, %d missed\n", @bounds - ($missed // 0), $missed // 0;

sub table
{
	my ($head, @body) = @_;
	my $line = sub { '| ' . join(' | ', @{ $_[0] }) . " |\n" };
	return $line->($head) . $line->([ map { '---' } @$head ]) . join('', map { $line->($_) } @body) . "\n";
}

my @charts;

# chart file title unit logarithmic [label, workload, system] ..: bars, the first system's figure as it is
sub chart
{
	my ($file, $title, $unit, $log, @bars) = @_;
	@bars = grep { exists $data{ $_->[1] } && exists $data{ $_->[1] }{ $_->[2] } } @bars;
	return unless @bars > 1;
	open(my $gp, '|-', 'gnuplot >/dev/null 2>&1') or return;
	my $n = @bars;
	my $height = 70 + 30 * $n;
	print $gp "set terminal svg size 760,$height font 'sans-serif,13' background '#ffffff'\nset output '$out/$file.svg'\n";
	print $gp "set title '$title' noenhanced\nunset key\nset style fill solid 0.9\nset grid xtics lc rgb '#dddddd'\nset border 3\n";
	print $gp "set ytics nomirror scale 0\nset xtics nomirror\nset format x '" . ($log ? '%g' : '%.0f') . "'\nset yrange [-0.6:" . ($n - 0.4) . "]\n";
	my $max = (sort { $b <=> $a } map { my ($l, $w, $s) = @$_; values %{ $data{$w}{$s} } } @bars)[0];
	my $min = (sort { $a <=> $b } map { my ($l, $w, $s) = @$_; values %{ $data{$w}{$s} } } @bars)[0];
	print $gp $log ? sprintf("set logscale x\nset xrange [%g:%g]\n", $min / 3, $max * 6) : sprintf("set xrange [0:%g]\n", $max * 1.18);
	print $gp "set xlabel '$unit'\nset lmargin 34\nset ytics (" . join(', ', map { "'" . ($bars[$_][0] =~ s/'/''/gr =~ s/%/%%/gr) . "' " . ($n - 1 - $_) } 0 .. $#bars) . ")\n";
	my (@boxes, @labels);
	for my $i (0 .. $#bars)
	{
		my ($label, $workload, $sys) = @{ $bars[$i] };
		my @v = sort { $a <=> $b } values %{ $data{$workload}{$sys} };
		my $ours = $label =~ /^queue/ ? '#2b6cb0' : '#a0aec0';
		push @boxes, join(' ', $log ? $min / 3 : 0, median(@v), $n - 1 - $i, $v[0], $v[-1], hex($ours =~ s/#//r));
		push @labels, sprintf("set label '%s' at %g,%g offset 0.6,0 left", number(median(@v)), $v[-1], $n - 1 - $i);
	}
	print $gp join("\n", @labels), "\n\$d << E\n", join("\n", @boxes), "\nE\n";
	print $gp "plot \$d using (\$1+(\$2-\$1)/2):3:1:2:(\$3-0.36):(\$3+0.36):6 with boxxyerror lc rgb variable, "
		. "\$d using 2:3:4:5 with xerrorbars lc rgb '#1a202c' pt -1\n";
	push @charts, "![$title]($file.svg)\n" if close($gp) && -s "$out/$file.svg";
}
sub bars { my ($workload, @systems) = @_; return map { [ name_of($_), $workload, $_ ] } @systems ? @systems : @{ $order{$workload} // [] } }
chart('performance-enqueue', 'Jobs enqueued a second: one a transaction, 16 clients, prepared', 'jobs a second (lines: smallest and largest sample)', 0, bars('enqueue_prepared'));
chart('performance-fetch', 'Jobs fetched and completed a second: one at a time, 16 clients', 'jobs a second', 0, bars('fetch_16'));
chart('performance-drain', 'Jobs run a second: no-op handlers, from a backlog', 'jobs a second', 0, bars('drain'));
chart('performance-latency', 'From the commit of the enqueue to the start of the job, idle', 'ms, logarithmic', 1,
	map { my $s = $_; ([ name_of($s) . ', median', 'latency_p50', $s ], [ name_of($s) . ', 99 %', 'latency_p99', $s ]) } @{ $order{latency_p50} // [] });

my %fact;
push @{ $fact{ $_->[0] } }, join(': ', @$_[ 1 .. $#$_ ]) for @facts;
my $figures = table([ 'what', 'is' ], map { my $k = $_; [ $k, join('; ', @{ $fact{$k} }) ] } grep { !/^(waits|missing)$/ } do { my %s; grep { !$s{$_}++ } map { $_->[0] } @facts });
$figures .= "Not measured, because it could not be installed: " . join('; ', @{ $fact{missing} }) . "\n\n" if $fact{missing};
$figures .= join("\n", @charts) . "\n" if @charts;
$figures .= table([ 'what', 'system', 'median', 'smallest .. largest', 'ratio to the first' ], @rows);
$figures .= "What is promised, as ratios within the run:\n\n" . table([ 'what', 'of', 'as', 'is', 'bound', '' ], @bounds) if @bounds;
$figures .= "What 64 fetching clients were doing, in % of the samples: " . join(', ', @{ $fact{waits} }) . ".\n" if $fact{waits};

my $file = "$out/performance.md";
my $text = "<!-- figures: made by make bench-doc -->\n<!-- end of figures -->\n";
if (open(my $fh, '<', $file)) { local $/; $text = <$fh>; }
$text =~ s/(<!-- figures.*?-->\n).*(<!-- end of figures -->)/$1\n$figures\n$2/s or die "$file has no marks for the figures\n";
open(my $fh, '>', $file) or die "$file: $!";
print $fh $text;
close($fh);
open($fh, '>', "$out/performance.json") or die "$out/performance.json: $!";
print $fh JSON::PP->new->canonical->pretty->encode({ facts => \%fact, workloads => \%json, bounds => [ map { { what => $_->[0], of => $_->[1], as => $_->[2], is => $_->[3], bound => $_->[4], met => $_->[5] eq 'met' ? JSON::PP::true : JSON::PP::false } } @bounds ] });
close($fh);
print "written to $out/performance.md, .json" . (@charts ? ' and ' . @charts . ' charts' : ' (no gnuplot, so no charts)') . "\n";
exit($missed ? 1 : 0);
