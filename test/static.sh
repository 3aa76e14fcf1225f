#!/bin/bash
# make check-static: cppcheck and clang's analyzer on src, the analyzer also on web, as TAP; a finding fails.  What is not installed is skipped.
#
# cppcheck goes without the server's headers; what it must know of them, such as that an ereport of ERROR or more does not
# return, is told.  The analyzer reads them, with assertions: what the code asserts it need not doubt.
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
n=0 bad=0
verdict() { # name findings
	n=$((n + 1))
	if [ -z "$2" ]; then echo "ok $n - $1"; else echo "not ok $n - $1"; sed 's/^/#   /' <<<"$2"; bad=1; fi
}
skip() { n=$((n + 1)); echo "ok $n - $1 # SKIP it is not installed"; }

if command -v cppcheck >/dev/null; then
	told=$(mktemp)
	trap 'rm -f "$told"' EXIT
	cat >"$told" <<'H'
#define PG_VERSION_NUM 150000
#define ERROR 21
#define FATAL 22
#define PANIC 23
#define ereport(level, ...) do { if ((level) >= 21) abort(); } while (0)
#define elog(level, ...) do { if ((level) >= 21) abort(); } while (0)
#define pg_attribute_noreturn() __attribute__((noreturn))
#define PG_TRY() if (1)
#define PG_CATCH() else
#define PG_END_TRY()
H
	# (what it takes for an index into an array may be one into an enum)
	verdict cppcheck "$(nice cppcheck --quiet -j "$(nproc)" --enable=warning,portability --std=c11 --library=posix --inline-suppr -Isrc \
		-D_GNU_SOURCE --include="$told" --suppress=missingInclude --suppress=internalAstError --suppress=arrayIndexThenCheck \
		--template='{file}:{line}: {severity} {id}: {message}' src 2>&1 | grep '^src/')"
else skip cppcheck; fi
if command -v clang >/dev/null; then
	PG_CONFIG=${PG_CONFIG:-$("$ROOT/test/install.sh")}
	make -s src/config/columns.inc PG_CONFIG="$PG_CONFIG" >/dev/null
	verdict "clang's analyzer" "$(printf '%s\0' src/*/*.c web/*.c | nice xargs -0 -P "$(nproc)" -n 1 clang --analyze -Xanalyzer \
		-analyzer-output=text -w -Isrc -Iweb -I"$("$PG_CONFIG" --includedir-server)" -I"$("$PG_CONFIG" --includedir)" -D_GNU_SOURCE \
		-DUSE_ASSERT_CHECKING=1 '-DQUEUE_WEB_VERSION=""' 2>&1 | grep -E '(warning|error):')"
else skip "clang's analyzer"; fi
echo "1..$n"
exit $bad
