#!/bin/bash
# many_lines.sh [lines ...]: lines without a cliff.  The rates of enqueue, of executors and of fetch over many lines (kinds
# here), against those over 10; the same fetch and drain under a held snapshot; what idle lines cost; the first call of a
# session.  Beside enqueue stands what a bare table with the same indexes makes of it (bare): that many insertion points
# cost the server something whatever we do.  PARTS="enqueue bare drain fetch held idle first"; JOBS=100000; SPAN=20
# (seconds of a measurement: in the first five a session meets most lines for the first time, which costs it a microsecond
# each, once); ROUNDS=5 (pairs of drains, after two of each that warm up); PAIRS=1 (of the others, but 5 first
# calls of a session).  Each part and number of
# lines has a database of its own, so that the lines are as many as it says.  What is compared alternates, and the median
# of the pairs' ratios counts: the machine's own speed moves by a fifth within minutes.
. "$(dirname "$0")/common.sh"
[ $# -gt 0 ] || set -- 1500 20000 100000
PARTS=${PARTS:-enqueue bare drain fetch held idle first}
JOBS=$((${JOBS:-100000} / SCALE))
SPAN=$((${SPAN:-20} / SCALE))
ROUNDS=${ROUNDS:-5}
PAIRS=${PAIRS:-1}
# both databases of a pair keep their executors
bench_start "Many lines" "max_wal_size = 4GB" "max_worker_processes = 32" "synchronous_commit = off" "queue.max_lines = 500000" "queue.debug_line_idle = 1d"

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

# prepare part lines: its database, which DB is from now on
prepare() {
	local part=$1 lines=$2
	DB=${part}_$lines
	psql -q -d postgres -c "CREATE DATABASE $DB"
	sql "CREATE EXTENSION queue"
	sql "SET client_min_messages = error; CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN END \$\$;
	     SELECT queue.create_queue('in'), queue.create_queue('out'), queue.create_queue('run'), queue.register_sql_handler('*', 'noop', queues => '{run}')" >/dev/null
	case $part in
		enqueue) spread in "$lines" "$lines" ;;
		bare)
			sql "CREATE TABLE bare (LIKE queue.live_job INCLUDING ALL); CREATE SEQUENCE bare_id;
			     INSERT INTO bare (id, run_at, line, payload)
			     SELECT nextval('bare_id'), clock_timestamp(), i, '{}' FROM generate_series(1, $lines) i"
			;;
		first)
			spread out "$lines" "$lines"
			sql "SELECT count(*) FROM queue.fetch('out', 1000000, lease => '1 day')" >/dev/null
			;;
		drain | held)
			for ((i = 0; i < 2; i++)); do rate "$part" "$lines" >/dev/null; done
			[ $part = drain ] || hold_snapshot
			;;
	esac
}

round() { awk '{printf "%.0f\n", $1}'; }

# rate part lines: a rate in the database of both, or for idle and first what it costs
rate() {
	local part=$1 lines=$2 pid before
	DB=${part}_$lines
	case $part in
		enqueue | bare)
			bench_pgbench "$part" -M prepared -c 4 -j 2 -T "$SPAN" -D lines="$lines"
			tps "$part" | round
			;;
		drain | held)
			sql "SELECT queue.pause('run')" >/dev/null
			spread run "$JOBS" "$lines"
			psql_file <<-SQL
			SET statement_timeout = '10min';
			SELECT clock_timestamp() AS start \gset
			SELECT queue.resume('run') \g /dev/null
			$WAIT_EMPTY
			SELECT round($JOBS / extract(epoch FROM clock_timestamp() - :'start')::numeric);
			SQL
			;;
		fetch)
			spread out "$JOBS" "$lines"
			bench_pgbench fetch -M prepared -c 4 -j 2 -t $((JOBS / 8))
			tps fetch | round
			;;
		idle)		# ms of the scheduler's CPU in 2 s
			spread run "$lines" "$lines"
			until_empty
			pid=$(sql "SELECT pid FROM pg_stat_activity WHERE datname = '$DB' AND backend_type = 'queue scheduler'")
			before=$(cpu "$pid")
			sleep 2
			echo $(($(cpu "$pid") - before))
			;;
		first)		# ms of a new session's first fetch, from a queue with all these lines
			psql_file -c '\timing on' -c "SELECT count(*) FROM queue.fetch('out')" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
			;;
	esac
}

# compare part lines: its rate over 10 lines and over these, in turns
compare() {
	local part=$1 lines=$2 pairs=$PAIRS of10=() of_all=() ratios=() bound=(-ge 0.8) unit=/s
	case $part in
		drain | held) pairs=$ROUNDS ;;
		first) pairs=5 bound=(-le 1.3) unit=" ms" ;;
		bare) bound=(info "") ;;
	esac
	prepare "$part" 10
	prepare "$part" "$lines"
	for ((i = 0; i < pairs; i++)); do
		of10+=("$(rate "$part" 10)")
		of_all+=("$(rate "$part" "$lines")")
		ratios+=("$(calc "${of_all[i]} / ${of10[i]}")")
	done
	[ "$part" != held ] || release_snapshot
	figure "$part over $lines lines ($(printf '%s\n' "${of_all[@]}" | median)$unit, over 10 $(printf '%s\n' "${of10[@]}" | median)$unit; ${ratios[*]})" \
		"$(printf '%s\n' "${ratios[@]}" | median)" "${bound[@]}" "of 10 lines"
	psql -q -d postgres -c "DROP DATABASE ${part}_10" -c "DROP DATABASE ${part}_$lines"
}

for lines in "$@"; do
	for part in $PARTS; do
		case $part in
			idle)
				prepare idle "$lines"
				figure "$lines idle lines: CPU of the scheduler in 2 s" "$(rate idle "$lines")" -lt 40 ms
				psql -q -d postgres -c "DROP DATABASE $DB"
				;;
			*) compare "$part" "$lines" ;;
		esac
		DB=bench
	done
done
bench_end
