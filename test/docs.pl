# Runs the SQL blocks of a Markdown file in order, each by psql, and compares what is printed with the block after it.
#
#   docs.pl file name [--write]
#
# A block that opens with ```sql is run.  A block without a language right behind it is its output; without one, it must
# print nothing.  psql runs with -q, and results of functions that return void are left out.  \c, SET ROLE and RESET ROLE
# hold for the blocks after theirs as well.  Times are equal to any other time, and so are column widths; with the line
# <!-- numbers vary --> above a block, numbers too.  <!-- not run: why --> leaves a block out.  Any other block has such a
# line above it, or <!-- run by file --> with a script in this repository, which says how many it runs: "runs 3 blocks of
# doc/scale.md".  Such a line holds for the block right below it.  Code has no other form than blocks between ```.
use strict;
use warnings;

my ($path, $name, $write) = @ARGV;
my ($database, $role) = $name eq 'README.md' ? ('postgres', 'none') : ('shop', 'app');
open my $in, '<', $path or die "$path: $!";
my @lines = <$in>;
close $in;
my @out;
my $bad = 0;
my ($root) = $path =~ m{^(.*)/\Q$name\E$};

# What psql prints for this block.
sub run_block
{
	my ($block) = @_;
	my $file = "$ENV{PGHOST}/block.sql";
	open my $sql, '>', $file or die "$file: $!";
	print $sql "SET ROLE $role;\n$block";
	close $sql;
	chmod 0644, $file;
	local $ENV{PGDATABASE} = $database;
	my $printed = `psql -X -q <$file 2>&1`;
	while ($block =~ /^(?:\\c (\w+)|SET ROLE (\w+);|(RESET ROLE);)/mg)
	{
		$database = $1 if defined $1;
		$role = defined $2 ? $2 : 'none';
	}
	# results of one blank column, which is what void looks like
	$printed =~ s/^ \w+ *\n-+\n *\n\(1 row\)\n\n//mg;
	$printed =~ s/[ \t]+$//mg;
	$printed =~ s/\n+\z/\n/;
	return $printed eq "\n" ? '' : $printed;
}

# What counts in a comparison.
sub key
{
	my ($text, $numbers) = @_;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00/TIME/g;
	$text =~ s/\d+/N/g if $numbers;
	$text =~ s/-+/-/g;
	$text =~ s/ +/ /g;
	$text =~ s/ *$//mg;
	return $text;
}

# The lines of the fenced block that opens at $i, and where it ends.
sub block_at
{
	my ($i) = @_;
	my $text = '';
	my $n = $i + 1;
	while ($n < @lines && $lines[$n] !~ /^```\s*$/) { $text .= $lines[$n++]; }
	die "$name:" . ($i + 1) . ": this block does not end\n" if $n == @lines;
	return ($text, $n);
}

# How many blocks of this page does this script run?
sub runs
{
	my ($script) = @_;
	open my $file, '<', "$root/$script" or return 0;
	local $/;
	return <$file> =~ /\bruns (\d+) blocks? of \Q$name\E/ ? $1 : 0;
}

# The anchors of a page: its headings, as they are written into addresses.
sub anchors
{
	my ($page) = @_;
	open my $file, '<:encoding(UTF-8)', $page or return ();
	local $/;
	my $text = <$file> =~ s/^```.*?^```$//msgr;
	return map { lc =~ s/[`*]//gr =~ s/[^\w\- ]//gr =~ tr/ /-/r => 1 } $text =~ /^#+ (.*?) *$/mg;
}

# The links of this page that lead nowhere.
sub lost_links
{
	my ($folder) = $path =~ m{^(.*)/};
	my $text = join('', @lines) =~ s/^```.*?^```$//msgr;
	my @lost;
	for my $link ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ /^https?:/;
		my ($to, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $page = $to eq '' ? $path : "$folder/$to";
		my %there = defined $anchor ? anchors($page) : ();
		push @lost, $link unless defined $anchor ? $there{$anchor} : -e $page;
	}
	return @lost;
}

my ($skip, $numbers, $by) = (0, 0, '');
my @unmarked;
my %run_by;	# the lines of the blocks that a script runs
for (my $i = 0; $i < @lines; $i++)
{
	my $line = $lines[$i];
	push @out, $line;
	$skip = 1 if $line =~ /^<!-- not run: .* -->$/;
	$by = $1 if $line =~ /^<!-- run by (\S+) -->$/;
	$numbers = 1 if $line =~ /^<!-- numbers vary -->$/;
	if ($line !~ /^```/)
	{
		($skip, $numbers, $by) = (0, 0, '') unless $line =~ /^(<!-- .* -->)?\s*$/;
		# other ways to write code: another fence, lines set in behind an empty one, HTML
		push @unmarked, $i + 1
		  if $line =~ /^\s+```|^\s*~~~|<pre\b/ || ($line =~ /^( {4}|\t)/ && ($i == 0 || $lines[ $i - 1 ] =~ /^\s*$/));
		next;
	}
	my ($block, $end) = block_at($i);
	push @out, @lines[$i + 1 .. $end];
	my $at = $i + 1;
	$i = $end;
	if ($line =~ /^```sql\s*$/ && !$skip)
	{
		# the block of output, if there is one
		my $next = $end + 1;
		$next++ while $next < @lines && $lines[$next] =~ /^\s*$/;
		my $expected = '';
		my $has = $next < @lines && $lines[$next] =~ /^```\s*$/;
		($expected, $next) = block_at($next) if $has;
		my $printed = run_block($block);
		my $same = key($printed, $numbers) eq key($expected, $numbers);
		if ($write)
		{
			$printed = $expected if $same;
			push @out, "\n```\n$printed```\n" if $printed ne '';
			$i = $next if $has;
		}
		else
		{
			my ($first) = $block =~ /^(.{1,50})/;
			print $same ? '' : 'not ', "ok - $name:$at $first\n";
			if (!$same)
			{
				$bad = 1;
				print "#   expected:\n", $expected =~ s/^/#     /mgr, "#   printed:\n", $printed =~ s/^/#     /mgr;
			}
			if ($has)
			{
				push @out, @lines[$end + 1 .. $next];
				$i = $next;
			}
		}
	}
	elsif (!$skip)
	{
		push @{ $by ne '' ? $run_by{$by} //= [] : \@unmarked }, $at;
	}
	($skip, $numbers, $by) = (0, 0, '');
}
push @unmarked, @{ $run_by{$_} } foreach grep { runs($_) != @{ $run_by{$_} } } keys %run_by;
if (!$write)
{
	print @unmarked ? 'not ' : '', "ok - $name: every block is run, or says why not\n";
	print "#   line $_\n" for @unmarked;
	my @lost = lost_links();
	print @lost ? 'not ' : '', "ok - $name: every link leads somewhere\n";
	print "#   $_\n" for @lost;
	$bad = 1 if @unmarked || @lost;
}
if ($write)
{
	open my $file, '>', $path or die "$path: $!";
	print $file @out;
	close $file;
}
exit $bad;
