#!/bin/bash
# 5. Bytes of WAL for enqueueing and running one SQL job with a payload of 150 bytes (pg_column_size), one enqueue a
# transaction, 50,000 jobs, full_page_writes off, by pg_current_wal_lsn().
. "$(dirname "$0")/common.sh"
bench_start "WAL a job" "full_page_writes = off"
JOBS=$((50000 / SCALE))

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
lsn() { sql "SELECT pg_current_wal_lsn() - '0/0'"; }

bench_pgbench enqueue -M prepared -c 4 -j 2 -t 250
until_empty
before=$(lsn)
bench_pgbench enqueue -M prepared -c 4 -j 2 -t $((JOBS / 4))
until_empty
sleep 0.5
after=$(lsn)
figure "bytes of WAL a job, run as they come" "$(calc "($after - $before) / $JOBS" %.1f)" -le 510

sql "SELECT queue.pause('default')" >/dev/null
before=$(lsn)
bench_pgbench enqueue -M prepared -c 4 -j 2 -t $((JOBS / 4))
middle=$(lsn)
drain >/dev/null
sleep 0.5
after=$(lsn)
figure "bytes of WAL an enqueue, queue paused" "$(calc "($middle - $before) / $JOBS" %.1f)" info
figure "bytes of WAL a run, from a backlog" "$(calc "($after - $middle) / $JOBS" %.1f)" info
bench_end
