#!/bin/bash
# many_lines.sh [lines ...]: lines without a cliff.  The rates of enqueue, of executors and of fetch over many lines (kinds
# here), against those over 10; the same fetch and drain under a held snapshot; what idle lines cost; the first call of a
# session.  Beside enqueue stands what a bare table with the same indexes makes of it (bare): that many insertion points
# cost the server something whatever we do.  PARTS="enqueue bare drain fetch held idle first"; JOBS=100000; SPAN=20
# (seconds of a measurement: in the first five a session meets most lines for the first time, which costs it a microsecond
# each, once); ROUNDS=3 (drains, of which the median counts, after one that warms up).  Each part has a
# database of its own, so that the lines are as many as it says.
. "$(dirname "$0")/common.sh"
[ $# -gt 0 ] || set -- 1500 20000 100000
PARTS=${PARTS:-enqueue bare drain fetch held idle first}
JOBS=$((${JOBS:-100000} / SCALE))
SPAN=$((${SPAN:-20} / SCALE))
ROUNDS=${ROUNDS:-3}
bench_start "Many lines" "max_wal_size = 4GB" "synchronous_commit = off" "queue.max_lines = 500000" "queue.debug_line_idle = 1d"

script enqueue <<'SQL'
\set k random(1, :lines)
SELECT queue.enqueue('k' || :k, queue => 'in');
SQL
script bare <<'SQL'
\set k random(1, :lines)
INSERT INTO bare (id, run_at, line, payload) VALUES (nextval('bare_id'), clock_timestamp(), :k, '{}');
SQL
script fetch <<'SQL'
SELECT id, attempt FROM queue.fetch('out') \gset
SELECT queue.complete(:id, :attempt);
SQL
# spread queue jobs lines: each line has jobs / lines of them
spread() { sql "SELECT count(queue.enqueue('k' || 1 + i % $3, queue => '$1')) FROM generate_series(1, $2) i" >/dev/null; }
cpu() { pg cat "/proc/$1/stat" | awk '{print ($14 + $15) * 10}'; }

# measure lines: rates into $LIB_DIR/rate.part.lines
measure() {
	local lines=$1 seconds pid before
	for part in $PARTS; do
		DB=${part}_$lines
		psql -q -d postgres -c "CREATE DATABASE $DB"
		sql "CREATE EXTENSION queue"
		sql "SET client_min_messages = error; CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN END \$\$;
		     SELECT queue.create_queue('in'), queue.create_queue('out'), queue.create_queue('run'), queue.register_sql_handler('*', 'noop', queues => '{run}')" >/dev/null
		case $part in
			enqueue)
				spread in "$lines" "$lines"
				bench_pgbench enqueue -M prepared -c 4 -j 2 -T "$SPAN" -D lines="$lines"
				tps enqueue
				;;
			bare)
				sql "CREATE TABLE bare (LIKE queue.live_job INCLUDING ALL); CREATE SEQUENCE bare_id;
				     INSERT INTO bare (id, run_at, line, payload)
				     SELECT nextval('bare_id'), clock_timestamp(), i, '{}' FROM generate_series(1, $lines) i"
				bench_pgbench bare -M prepared -c 4 -j 2 -T "$SPAN" -D lines="$lines"
				tps bare
				;;
			drain | held)
				[ $part = drain ] || hold_snapshot
				for ((round = 0; round <= ROUNDS; round++)); do
					sql "SELECT queue.pause('run')" >/dev/null
					spread run "$JOBS" "$lines"
					psql_file <<-SQL
					SET statement_timeout = '10min';
					SELECT clock_timestamp() AS start \gset
					SELECT queue.resume('run') \g /dev/null
					$WAIT_EMPTY
					SELECT round($JOBS / extract(epoch FROM clock_timestamp() - :'start')::numeric);
					SQL
				done | tail -n "$ROUNDS" | median
				[ $part = drain ] || release_snapshot
				;;
			fetch)
				spread out "$JOBS" "$lines"
				bench_pgbench fetch -M prepared -c 4 -j 2 -t $((JOBS / 8))
				tps fetch
				;;
			idle)		# ms of the scheduler's CPU in 2 s
				spread run "$lines" "$lines"
				until_empty
				pid=$(sql "SELECT pid FROM pg_stat_activity WHERE datname = '$DB' AND backend_type = 'queue scheduler'")
				before=$(cpu "$pid")
				sleep 2
				echo $(($(cpu "$pid") - before))
				;;
			first)		# ms of a new session's first calls: fetch from a queue with all these lines, enqueue
				spread out "$lines" "$lines"
				sql "SELECT count(*) FROM queue.fetch('out', 1000000, lease => '1 day')" >/dev/null
				psql_file -c '\timing on' -c "SELECT count(*) FROM queue.fetch('out')" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
				;;
		esac >"$LIB_DIR/rate.$part.$lines"
		psql -q -d postgres -c "DROP DATABASE $DB"
	done
	DB=bench
}

for lines in 10 "$@"; do
	measure "$lines"
	for part in $PARTS; do
		value=$(cat "$LIB_DIR/rate.$part.$lines")
		case $part in
			idle) figure "$lines idle lines: CPU of the scheduler in 2 s" "$value" -lt 40 ms ;;
			first) figure "$lines lines: a session's first fetch" "$value" -lt 5 ms ;;
			*)
				if [ "$lines" = 10 ]; then figure "$part over 10 lines" "$value" info "" /s
				elif [ $part = bare ]; then
					figure "bare table over $lines lines ($value/s)" "$(calc "$value / $(cat "$LIB_DIR/rate.$part.10")")" info "" "of 10 lines"
				else figure "$part over $lines lines ($value/s)" "$(calc "$value / $(cat "$LIB_DIR/rate.$part.10")")" -ge 0.8 "of 10 lines"
				fi
				;;
		esac
	done
done
bench_end
