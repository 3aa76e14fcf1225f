#!/bin/bash
# Tests test/layout.sh, as TAP: each rule is broken in a copy of the tree, and must be the one that complains.
# Needs a built tree.
set -uo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
COPY=$(mktemp -d "${TMPDIR:-/tmp}/queue-layout-XXXXXX")
trap 'rm -rf "$COPY"' EXIT

n=0 bad=0 rules=()
# fresh: a copy of the tree, for the next breaks.
fresh() {
	rm -rf "$COPY/tree"
	mkdir "$COPY/tree"
	tar -C "$ROOT" -cf - src sql queue.so | tar -C "$COPY/tree" -xf -
}
# breaks rule command...: runs the command in the copy.
breaks() {
	rules+=("$1")
	shift
	(cd "$COPY/tree" && "$@")
}
# complaints: of what was broken since the copy was made, each rule must complain.  None of a copy's breaks breaks another's rule.
complaints() {
	local rule out
	out=$("$ROOT/test/layout.sh" "$COPY/tree")
	for rule in "${rules[@]}"; do
		n=$((n + 1))
		if grep -qE "^not ok [0-9]+ - $rule" <<<"$out"; then echo "ok $n - broken: $rule"
		else
			bad=1
			echo "not ok $n - broken, and nobody complains: $rule"
		fi
	done
	rules=()
}
append() { printf '%b\n' "$2" >>"$1"; }
include() { sed -i "0,/^#include/s//#include \"${2//\//\\/}\"\n#include/" "$1"; }
build() { gcc -w -shared -fPIC -o "$2.o" -c -x c - <<<"$1" && gcc -shared -o queue.so "$2.o"; }
repeat() { for ((i = 0; i < $2; i++)); do echo '/* */'; done >>"$1"; }

fresh
breaks 'every source file lies in a folder' cp src/lib/backoff.c src/backoff.c
breaks 'src holds nothing but' cp src/lib/backoff.c src/lib/backoff.c.orig
breaks 'an include goes to a lower folder' include src/lib/backoff.h scheduler/scheduler.h
breaks 'no source line is wider' append src/job/job.c "/* $(printf '%0250d' 0) */"
breaks 'every source file opens with a comment that names it' sed -i '2s/.*/ * other.c/' src/job/job.c
breaks 'no comment points at papers' append src/job/job.c '/* see design.md */'
breaks 'only lib/compat.h tests PG_VERSION_NUM' append src/job/job.c '#if PG_VERSION_NUM >= 160000\n#endif'
breaks 'only shared/clock.h reads the clock' append src/job/job.c '/* GetCurrentTimestamp */'
breaks 'every PG_FUNCTION_INFO_V1 symbol is used' append src/job/job.c 'PG_FUNCTION_INFO_V1(queue_sql_nothing);'
breaks 'no two TAP files have one number' eval 'mkdir -p test/t && touch test/t/001_a.pl test/t/001_b.pl'
breaks 'every setting is called' append src/job/job.c 'DefineCustomIntVariable("other.setting"'
complaints

fresh
breaks 'no files include each other in a circle' include src/job/job.h job/record.h
breaks 'no file includes a header twice' append src/job/job.c '#include "utils/builtins.h"\n#include "utils/builtins.h"'
breaks 'no source file is longer' repeat src/job/job.c 800
breaks 'src/README.md names only' append src/README.md '`queue_nothing()`'
breaks 'every C symbol of the SQL script' append sql/queue--1.0.sql "AS 'MODULE_PATHNAME', 'queue_sql_nothing'"
breaks 'every exported symbol has the extension' build 'int stray(void) {return 0;}' src/job/job
breaks 'no object has a global symbol without' :
complaints

fresh
breaks 'includes are sorted' append src/job/job.c '#include "access/aaa.h"'
breaks 'SQL-callable symbols are called' append src/job/job.c 'PG_FUNCTION_INFO_V1(queue_nothing);'
breaks 'what a .c exports stands in the .h' build 'int queue_stray(void) {return 0;}' src/job/job
breaks 'what a .c exports is used elsewhere' :
complaints

fresh
breaks 'queue.so is built' rm queue.so
complaints

echo "1..$n"
exit $bad
