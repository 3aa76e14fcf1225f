#!/bin/bash
# 5. Bytes of WAL for enqueueing and running one SQL job with a payload of 150 bytes (pg_column_size), one enqueue a
# transaction, 50,000 jobs, full_page_writes off, by pg_current_wal_lsn().
. "$(dirname "$0")/common.sh"
bench_start "WAL a job" "full_page_writes = off"
JOBS=$((50000 / SCALE))
CLIENTS=${CLIENTS:-4}

psql_file <<'SQL' >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('noop', 'noop');
SQL
PAYLOAD=$(sql "SELECT jsonb_build_object('text', repeat('x', n)) FROM generate_series(1, 200) n
	WHERE pg_column_size(jsonb_build_object('text', repeat('x', n))) = 150")
[ -n "$PAYLOAD" ] || fail "no payload of 150 bytes found"
script enqueue <<SQL
SELECT queue.enqueue('noop', '$PAYLOAD');
SQL
# VERBOSE=1: what the first figure is made of
records() {
	[ -n "${VERBOSE:-}" ] || return 0
	pg "$BIN/pg_waldump" -p "$LIB_DIR/data/pg_wal" --stats=record -s "$1" -e "$2" |
		sed 's/([^)]*)//g' |
		awk -v jobs=$JOBS '$2 ~ /^[0-9]+$/ && $2 > 100 {printf "      %-28s %8.3f a job, %8.1f bytes a job\n", $1, $2 / jobs, $3 / jobs}'
}
lsn() { sql "SELECT pg_current_wal_lsn() - '0/0'"; }
vacuums() { sql "SELECT autovacuum_count FROM pg_stat_all_tables WHERE relid = 'queue.live_job'::regclass"; }

bench_pgbench enqueue -M prepared -c 4 -j 2 -t 250
until_empty
before=$(lsn)
vacuumed=$(vacuums)
from=$(sql "SELECT pg_current_wal_lsn()")
bench_pgbench enqueue -M prepared -c "$CLIENTS" -j "$((CLIENTS > 1 ? 2 : 1))" -t $((JOBS / CLIENTS))
until_empty
sleep 0.5
after=$(lsn)
figure "bytes of WAL a job, run as they come" "$(calc "($after - $before) / $JOBS" %.1f)" -le 510
records "$from" "$(sql "SELECT pg_current_wal_lsn()")"
figure "VACUUMs of live_job meanwhile, some 30 bytes for each job since the last" "$(($(vacuums) - vacuumed))" info

sql "SELECT queue.pause('default')" >/dev/null
before=$(lsn)
bench_pgbench enqueue -M prepared -c "$CLIENTS" -j "$((CLIENTS > 1 ? 2 : 1))" -t $((JOBS / CLIENTS))
middle=$(lsn)
drain >/dev/null
sleep 0.5
after=$(lsn)
figure "bytes of WAL an enqueue, queue paused" "$(calc "($middle - $before) / $JOBS" %.1f)" info
figure "bytes of WAL a run, from a backlog" "$(calc "($after - $middle) / $JOBS" %.1f)" info
bench_end
