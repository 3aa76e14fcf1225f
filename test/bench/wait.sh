#!/bin/bash
# 11. A hundred sessions wait in queue.fetch: what they cost, and how soon one returns with a job that is enqueued (from
# the enqueuer's clock before its commit, which does not wait for the disk here; to the waiter's with the job in hand).
. "$(dirname "$0")/common.sh"
bench_start "Waiting fetches" "max_connections = 200" "queue.max_wait = 10min"
SPAN=${SPAN:-10}

sql "CREATE UNLOGGED TABLE returned (ms float8, pid int DEFAULT pg_backend_pid())"
sql "CREATE UNLOGGED TABLE in_vain (pid int DEFAULT pg_backend_pid())"
script waiter <<'SQL'
WITH j AS MATERIALIZED (SELECT * FROM queue.fetch('default', wait => '10 min')),
	r AS (INSERT INTO returned SELECT extract(epoch FROM clock_timestamp() - (payload->>'at')::timestamptz) * 1000 FROM j),
	v AS (INSERT INTO in_vain SELECT pg_backend_pid() WHERE NOT EXISTS (SELECT FROM j))
SELECT count(queue.complete(id, attempt)) FROM j;
SQL
script enqueuer <<'SQL'
SELECT queue.enqueue('k', jsonb_build_object('at', clock_timestamp()));
SQL
pg "$BIN/pgbench" -n -d "$DB" -M prepared -c 100 -j 1 -T $((2 * SPAN + 60)) -f "$LIB_DIR/waiter.sql" >"$LIB_DIR/waiter.out" 2>&1 &
LIB_PIDS+=($!)
WAITING="FROM pg_stat_activity WHERE application_name = 'pgbench' AND query LIKE 'WITH j%' AND state = 'active' AND wait_event IS NOT NULL"
wait_sql 30 "(SELECT count(*) = 100 $WAITING)"

cpu() { sql "SELECT pid $WAITING" | while read -r pid; do sed 's/.*) //' "/proc/$pid/stat"; done | awk '{t += $12 + $13} END {print t / 100}'; }
before=$(cpu)
sleep "$SPAN"
figure "percent of a core that a hundred waiting sessions use, over $SPAN s" "$(calc "($(cpu) - $before) / $SPAN * 100")" -lt 1 %

sql "SELECT queue.enqueue('k', jsonb_build_object('at', clock_timestamp()))" >/dev/null
wait_sql 10 "(SELECT count(*) = 1 FROM returned)"
sleep 0.5
figure "sessions that returned for one job" "$(sql "SELECT count(*) FROM returned")" -eq 1
sql "DELETE FROM returned" >/dev/null
sql "SELECT count(*) FROM queue.enqueue_many('k', (SELECT array_agg(jsonb_build_object('at', clock_timestamp())) FROM generate_series(1, 100)))" >/dev/null
wait_sql 10 "(SELECT count(*) = 100 FROM returned)"
figure "jobs that a commit of 100 brought, all taken; ms until the last" "$(sql "SELECT round(max(ms)::numeric, 2) FROM returned")" -lt 1000 ms
sql "DELETE FROM returned" >/dev/null

# the commit's flush is the disk's, not ours
sql "ALTER ROLE postgres SET synchronous_commit = off" >/dev/null
bench_pgbench enqueuer -M prepared -c 1 -R 50 -T "$SPAN"
wait_sql 10 "NOT EXISTS (SELECT FROM queue.live_job)"
sql "SELECT ms FROM returned" >"$LIB_DIR/ms"
figure "ms from enqueue to a waiting session's return, p50 of $(wc -l <"$LIB_DIR/ms")" "$(percentile 50 <"$LIB_DIR/ms")" -lt 1 ms
figure ".. p99" "$(percentile 99 <"$LIB_DIR/ms")" info 0 ms
figure "sessions that returned with nothing" "$(sql "SELECT count(*) FROM in_vain")" -eq 0
bench_end
