#!/bin/bash
# Calls of SQL with inputs that a program makes (session.sql), in sessions on a private cluster, the library preloaded.
#
#   FUZZ_SECONDS=600 [FUZZ_SEED=0.5] test/fuzz/session.sh       two sessions, each alone in its database; a seed
#                                                               makes the same inputs again
#
# Speaks TAP.  With PG_CONFIG of `test/source.sh 15 cassert` the server's assertions watch.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
lib_suite test
lib_start
cluster_init "fsync = off" "max_connections = 20"
cluster_start
echo 1..2
bad=0
for n in 1 2; do
	sql "CREATE DATABASE fuzz$n"
	DB=fuzz$n sql "CREATE EXTENSION queue"
	pg "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -d fuzz$n <"$ROOT/test/fuzz/session.sql" >"$LIB_DIR/made.log" 2>&1 ||
		{ cat "$LIB_DIR/made.log" >&2; exit 1; }
	seed=${FUZZ_SEED:-0.$RANDOM}
	pg "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -d fuzz$n -c "DO \$\$ BEGIN PERFORM setseed($seed); END \$\$" \
		-c "CALL fuzz.run(${FUZZ_SECONDS:-600})" >"$LIB_DIR/run.$n" 2>&1 &
	pids[n]=$! seeds[n]=$seed
	LIB_PIDS+=($!)
done
for n in 1 2; do
	rc=0
	wait "${pids[n]}" || rc=$?
	if [ $rc = 0 ]; then echo "ok $n - session with seed ${seeds[n]}"; else echo "not ok $n - session with seed ${seeds[n]}"; bad=1; fi
	sed 's/^/#   /' "$LIB_DIR/run.$n"
done
if grep -qE 'TRAP:|terminated by signal|PANIC|XX000' "$LIB_DIR/server.log"; then
	grep -E 'TRAP:|terminated by signal|PANIC|XX000' "$LIB_DIR/server.log" | head -10 | sed 's/^/#   /'
	bad=1
fi
LIB_PIDS=()
exit $bad
