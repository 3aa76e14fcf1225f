# Shared by the benchmarks: one at a time on this machine, each on a private cluster with default settings (fsync and
# autovacuum on), and figures printed with their bound and ok or MISS.  Source it; then bench_start, then measure, then
# bench_end, whose exit code says whether every bound was met.
#
# SCALE=10 runs a tenth of the jobs and a tenth of the seconds: to see that a script works, not to measure.

# A second benchmark on the machine would spoil the first; -o: the lock is not handed down to the server.
if [ -z "${QUEUE_BENCH_LOCKED:-}" ]; then
	QUEUE_BENCH_LOCKED=1 exec flock -o "${TMPDIR:-/tmp}/queue-bench.lock" "$0" "$@"
fi

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

SCALE=${SCALE:-1}
MISSES=0

# bench_start title [line of postgresql.conf ...]
bench_start() {
	printf '\n== %s ==\n' "$1"
	shift
	lib_build
	lib_start
	cluster_init "$@"
	cluster_start
	sql "CREATE DATABASE bench"
	export DB=bench
	sql "CREATE EXTENSION queue"
	"$BIN/postgres" --version | tr '\n' ' '
	sql "SELECT 'fsync ' || current_setting('fsync') || ', synchronous_commit ' || current_setting('synchronous_commit') ||
	            ', autovacuum ' || current_setting('autovacuum') || ', queue.executors ' || current_setting('queue.executors')"
	echo "$(nproc) processors"
}

bench_end() { [ "$MISSES" = 0 ]; }

# figure "what" value comparison bound unit: comparison is -ge, -gt, -le, -lt or -eq, on decimal numbers; "info" has no bound.
figure() {
	local word=ok
	case $3 in
		info) word='  ' ;;
		*)
			local op
			case $3 in -ge) op='>=' ;; -gt) op='>' ;; -le) op='<=' ;; -lt) op='<' ;; -eq) op='==' ;; esac
			if ! awk -v a="$2" -v b="$4" "BEGIN {exit !(a != \"\" && a + 0 $op b + 0)}"; then word=MISS MISSES=$((MISSES + 1)); fi
			set -- "$1" "$2" "$op" "$4" "${5:-}"
			;;
	esac
	if [ "$3" = info ]; then printf '%-4s  %-66s %12s %s\n' "$word" "$1" "$2" "${5:-}"
	else printf '%-4s  %-66s %12s %s  (bound: %s %s)\n' "$word" "$1" "$2" "${5:-}" "$3" "$4"
	fi
}

median() { sort -g | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
# percentile p: of the numbers on stdin
percentile() { sort -g | awk -v p="$1" '{v[NR] = $1} END {i = int(NR * p / 100 + 0.999999); if (i < 1) i = 1; print v[i]}'; }
calc() { awk "BEGIN {printf \"${2:-%.2f}\", ($1)}"; }

# psql_file [psql options]: a script on stdin, bare results.  Handlers of a superuser warn; that is known here.
psql_file() { pg env PGOPTIONS="-c client_min_messages=error" "$BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$DB" "$@"; }

# script name: a pgbench script from stdin, readable by the server's user; its path is $LIB_DIR/name.sql
script() { cat >"$LIB_DIR/$1.sql"; chmod 644 "$LIB_DIR/$1.sql"; }

# bench_pgbench name pgbench-options...: runs $LIB_DIR/name.sql; output in $LIB_DIR/name.out; fails on any failed client
bench_pgbench() {
	local name=$1
	shift
	pg "$BIN/pgbench" -n -f "$LIB_DIR/$name.sql" "$@" "$DB" >"$LIB_DIR/$name.out" 2>&1 ||
		{ cat "$LIB_DIR/$name.out" >&2; tail -5 "$LIB_DIR/server.log" >&2; exit 1; }
	if grep -qE 'aborted in command|ERROR' "$LIB_DIR/$name.out"; then cat "$LIB_DIR/$name.out" >&2; exit 1; fi
}
tps() { sed -nE 's/^tps = ([0-9.]+).*without initial.*/\1/p' "$LIB_DIR/$1.out"; }

# load kind jobs [payload-expression of i] [options]: in transactions of 10,000
load() {
	psql_file <<SQL >/dev/null
SELECT format('SELECT count(*) FROM queue.enqueue_many(%L, (SELECT array_agg(%s ORDER BY i) FROM generate_series(%s, %s) i))',
              '$1', \$\$${3:-"'{}'::jsonb"}\$\$, first, least(first + 9999, $2))
FROM generate_series(1, $2, 10000) first \gexec
SQL
}

# Polls what costs next to nothing: whether an executor is at work.  The table only when none is; not the counters, for a
# look at stat_queue finds the oldest job, which takes a session's first look a tenth of a second over 100,000 lines.
WAIT_EMPTY="
DO \$\$
BEGIN
	LOOP
		IF NOT EXISTS (SELECT FROM pg_stat_activity
		               WHERE datname = current_database() AND backend_type = 'queue executor' AND state = 'active') THEN
			COMMIT;
			EXIT WHEN NOT EXISTS (SELECT FROM queue.live_job);
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
END \$\$;"

# drain: resumes the default queue and prints the seconds until no job is left
drain() {
	psql_file <<SQL
SET statement_timeout = '10min';
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('default') \g /dev/null
$WAIT_EMPTY
SELECT round(extract(epoch FROM clock_timestamp() - :'start')::numeric, 3);
SQL
}
# until_empty: as drain, of a queue that runs already
until_empty() {
	psql_file <<SQL
SET statement_timeout = '10min';
$WAIT_EMPTY
SQL
}

# A REPEATABLE READ transaction in each of these databases (or in $DB) that stays open until release_snapshot.
hold_snapshot() {
	local db
	for db in "${@:-$DB}"; do
		pg "$BIN/psql" -X -q -d "$db" >/dev/null 2>&1 <<'SQL' &
SET application_name = 'snapshot holder';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM pg_class;
SELECT pg_sleep(100000);
SQL
		LIB_PIDS+=($!)
		wait_sql 10 "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'snapshot holder' AND datname = '$db'
		             AND query LIKE '%pg_sleep%' AND backend_xmin IS NOT NULL)"
	done
}
release_snapshot() {
	sql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'snapshot holder'" >/dev/null
}

# rates name: the per-second rates that pgbench -P 1 printed
rates() { sed -nE 's/^progress: [0-9.]+ s, ([0-9.]+) tps.*/\1/p' "$LIB_DIR/$1.out"; }
first4() { rates "$1" | head -4 | awk '{s += $1} END {print s / NR}'; }
last4() { rates "$1" | tail -4 | awk '{s += $1} END {print s / NR}'; }

# The latency client (latency.c), built once.
client() {
	[ -x "$LIB_DIR/latency" ] || gcc -O2 -Wall -Werror -I"$("$PG_CONFIG" --includedir)" -o "$LIB_DIR/latency" \
		"$ROOT/test/bench/latency.c" -L"$("$PG_CONFIG" --libdir)" -lpq
	pg "$LIB_DIR/latency" "$@"
}
