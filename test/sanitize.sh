#!/bin/bash
# make check-asan, make check-valgrind: the suites on a server that watches what memory is used how, and fails where a report
# is left; the server is built from source with assertions (test/source.sh), so the system's own is not touched.
#
#   asan      the library with the address and undefined behaviour sanitizers of gcc, signed overflow included
#   valgrind  server and library under memcheck, which knows of memory contexts; some thirty times slower, so by default
#             only what has processes of ours in it; ALL=1: everything
#
# VERSION=15; SUITES and TESTS as for make check.  What the server's own suppressions list (src/tools/valgrind.supp) and
# test/valgrind.supp is no report.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
KIND=${1:?asan or valgrind}
REPORTS=$(mktemp -d "${TMPDIR:-/tmp}/queue-reports-XXXXXX")
chmod 1777 "$REPORTS"
case $KIND in
	asan)
		PG_CONFIG=$("$ROOT/test/source.sh" "${VERSION:-15}" cassert)
		export PROFILE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -fno-wrapv"
		QUEUE_SERVER_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
		export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0:log_path=$REPORTS/asan"
		export UBSAN_OPTIONS="print_stacktrace=1:abort_on_error=1:log_path=$REPORTS/ubsan"
		SUITES=${SUITES:-regress isolation unloaded tap}
		SLOWER=3
		;;
	valgrind)
		PG_CONFIG=$("$ROOT/test/source.sh" "${VERSION:-15}" valgrind)
		prefix=${PG_CONFIG%/bin/pg_config}
		QUEUE_SERVER_UNDER="env TMPDIR=$REPORTS valgrind --quiet --leak-check=no --gen-suppressions=all --num-callers=20 --track-origins=no"
		QUEUE_SERVER_UNDER+=" --suppressions=$prefix/valgrind.supp --suppressions=$prefix/queue.supp --log-file=$REPORTS/valgrind.%p"
		cp "$ROOT/test/valgrind.supp" "$prefix/queue.supp"
		SUITES=${SUITES:-regress tap}
		[ -n "${ALL:-}" ] || : "${TESTS:=$(tr '\n' ' ' <"$ROOT/test/valgrind.tests")}"
		SLOWER=30
		;;
	*) echo "asan or valgrind, not $KIND" >&2; exit 1 ;;
esac
export PG_CONFIG QUEUE_SERVER_UNDER=${QUEUE_SERVER_UNDER:-} QUEUE_SERVER_PRELOAD=${QUEUE_SERVER_PRELOAD:-} SUITES TESTS=${TESTS:-}
# everything is slower there
export PGCTLTIMEOUT=$((60 * SLOWER)) REGRESS_TIMEOUT=$((600 * SLOWER)) PG_TEST_TIMEOUT_DEFAULT=$((180 * SLOWER)) TAP_TIMEOUT=$((600 * SLOWER))
rc=0
nice "$ROOT/test/check.sh" || rc=$?
reports=$(find "$REPORTS" -maxdepth 1 -type f -size +0 \( -name "$KIND.*" -o -name "ubsan.*" \))
if [ -z "$reports" ]; then
	rm -rf "$REPORTS"
else
	head -n 60 $reports
	echo "check-$KIND: $(wc -w <<<"$reports") processes have something to report: $REPORTS"
	rc=1
fi
[ $rc = 0 ] || { echo "check-$KIND: failed"; exit 1; }
echo "check-$KIND: all passed"
