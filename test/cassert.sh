#!/bin/bash
# make check-cassert: regress, isolation and TAP on PostgreSQL built from source with assertions, where freed memory is
# overwritten and injection points are there (test/source.sh).  VERSIONS="15 17"; SUITES and TESTS as for make check.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
bad=0
for version in ${VERSIONS:-15 17}; do
	config=$("$ROOT/test/source.sh" "$version" "${KIND:-cassert}")
	echo "=== PostgreSQL $version, ${KIND:-cassert} ==="
	# everything is slower there
	PG_CONFIG=$config SUITES=${SUITES:-regress isolation unloaded tap} PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-300} \
		TAP_TIMEOUT=${TAP_TIMEOUT:-1800} "$ROOT/test/check.sh" || bad=1
done
[ $bad = 0 ] || { echo "check-cassert: failed"; exit 1; }
echo "check-cassert: all passed"
