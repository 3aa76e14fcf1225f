#!/bin/bash
# make bench: every figure, one script after the other.  test/bench/run.sh [script ...]; ends with what was missed.
cd "$(dirname "$0")" || exit 1
if [ $# = 0 ]; then set -- suite exactly_once ledger ledger_lines many_lines groups fair drain held_snapshot enqueue_rate latency wal parked sharing external depth wait workflows topics dags http_rate http_chaos http_guard front; fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
bad=0
for name in "$@"; do
	name=$(basename "$name" .sh)
	./"$name.sh" 2>&1 | tee -a "$out"
	[ "${PIPESTATUS[0]}" = 0 ] || bad=$((bad + 1))
done
printf '\n%s figures within their bound, %s missed\n' "$(grep -c '^ok ' "$out")" "$(grep -c '^MISS ' "$out")"
grep '^MISS ' "$out"
[ $bad = 0 ]
