#!/usr/bin/perl
# Mutants that nobody chose: how much does the suite notice of what it was not written for?
#
#   test/mutants_random.pl folder seed n
#
# writes n patches into the folder: of conditions and calls in src/*/*.c, drawn with that seed, one is changed.  A
# condition is switched off or on, one of its terms is left out; a call of ours, of a lock or of a latch is left out.  Not
# among them are conditions before elog(ERROR), which are not to happen.  test/mutants.sh --random runs them against the
# whole suite.  One that lives is looked at by hand: some change nothing that could be seen.
use strict;
use warnings;
use File::Basename;

my ($folder, $seed, $n) = @ARGV;
die "usage: test/mutants_random.pl folder seed n\n" unless defined $n && "$seed$n" =~ /^\d+$/;
chdir dirname($0) . '/..' or die $!;

# Where what begins at a text's offset with a bracket ends.
sub closed
{
	my ($text, $at) = @_;
	my $depth = 0;
	pos($$text) = $at;
	while ($$text =~ /\G(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|([(\[{])|([)\]}])|.)/gs)
	{
		$depth += defined $1 ? 1 : defined $2 ? -1 : 0;
		return pos $$text if $depth == 0;
	}
	die 'unbalanced';
}

# The terms of a condition between this operator, each as [ offset, length ].
sub terms
{
	my ($condition, $operator) = @_;
	my ($from, @terms) = (0);
	pos($$condition) = 0;
	while (pos $$condition < length $$condition)
	{
		if ($$condition =~ /\G\Q$operator\E/gc)
		{
			push @terms, [ $from, pos($$condition) - 2 - $from ];
			$from = pos $$condition;
		}
		elsif ($$condition =~ /\G[(\[{]/) { pos($$condition) = closed($condition, pos $$condition); }
		else { $$condition =~ /\G(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.)/gcs; }
	}
	return @terms, [ $from, length($$condition) - $from ];
}

my @all;
for my $file (sort glob 'src/*/*.c')
{
	open my $in, '<', $file or die "$file: $!";
	my $text = do { local $/; <$in> };
	while ($text =~ /^\t+(?:else )?if \(/gm)
	{
		my $open = $+[0] - 1;
		my $end = closed(\$text, $open);
		my $condition = substr($text, $open + 1, $end - $open - 2);
		my ($then) = substr($text, $end, 200) =~ /^\s*\{?\s*(\w+)/;
		my @and = terms(\$condition, '&&');
		my @or = terms(\$condition, '||');
		my $one = sub { push @all, [ $file, $open + 1 + $_[0], $_[1], $_[2] ]; };
		pos($text) = $end;
		next if ($then // '') eq 'elog';
		if (@or > 1) { $one->(@$_, ' false ') for @or; }
		elsif (@and > 1) { $one->(@$_, ' true ') for @and; }
		else
		{
			$one->(0, length $condition, "($condition) && false");
			$one->(0, length $condition, "($condition) || true") if ($then // '') !~ /^(?:return|continue|break|ereport|goto)$/;
		}
	}
	while ($text =~ /^\t+((?:queue_|LWLock|SpinLock|Lock|SetLatch|CHECK_FOR)\w*\([^;{}]*\));$/gm)
	{
		push @all, [ $file, $-[1], length $1, '(void) 0' ];
	}
}

srand $seed;
for my $i (1 .. $n)
{
	my ($file, $at, $length, $new) = @{ splice @all, int rand @all, 1 };
	open my $in, '<', $file or die "$file: $!";
	my $text = do { local $/; <$in> };
	my $line = 1 + (substr($text, 0, $at) =~ tr/\n//);
	my $old = substr($text, $at, $length, $new) =~ s/\s+/ /gr =~ s/^ | $//gr;
	my $patch = sprintf '%s/%03d-%s-%d.patch', $folder, $i, basename($file, '.c'), $line;
	open my $out, '>', "$patch.c" or die "$patch.c: $!";
	print $out $text;
	close $out or die $!;
	open $out, '>', $patch or die "$patch: $!";
	print $out "Rule: $old, in line $line of $file\nTest: all\n\n", qx(diff -U2 --label a/$file --label b/$file $file $patch.c);
	close $out or die $!;
	unlink "$patch.c";
}
