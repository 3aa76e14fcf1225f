#!/bin/bash
# ledger_lines.sh [seconds, 20]: nothing is lost and nothing runs twice while lines come and go: many kinds, each rare, so
# that lines are made by concurrent transactions, run empty, are retired and deleted beside enqueues that are committed,
# rolled back, half rolled back, long open, prepared or in REPEATABLE READ; jobs that move to another line; fetches by
# sessions that stay and by new ones; queues that are created and dropped.  Each enqueue and each run writes a row of the
# ledger in its own transaction.
. "$(dirname "$0")/common.sh"
SPAN=${1:-20}
bench_start "Ledger of lines of $SPAN s" "max_wal_size = 4GB" "queue.debug_line_idle = 200ms" "max_prepared_transactions = 20" \
	"synchronous_commit = off"

psql_file <<'SQL' >/dev/null
CREATE TABLE enqueued (id bigint, queue text, how text);
CREATE TABLE ran (id bigint, who text);
CREATE FUNCTION run(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES (j.id, 'executor'); END $$;
SELECT queue.create_queue('served'), queue.create_queue('out');
SELECT queue.register_sql_handler('*', 'run', queues => '{served}');
CREATE FUNCTION put(how text, k int, delay interval = null) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE q text := CASE WHEN k % 2 = 0 THEN 'served' ELSE 'out' END;
DECLARE i bigint := queue.enqueue('k' || k, queue => q, priority => k % 3, delay => delay);
BEGIN
	INSERT INTO enqueued VALUES (i, q, how);
	RETURN i;
END $$;
SQL
# Few enqueues, over many kinds: most find their line gone or just being retired.
K='\set k random(1, 400)
\set l random(1, 400)'
script plain <<SQL
$K
SELECT put('plain', :k);
SQL
script rollback <<SQL
$K
BEGIN;
SELECT queue.enqueue('k' || :k, queue => 'served'), queue.enqueue('k' || :l, queue => 'out', priority => 1);
ROLLBACK;
SQL
script savepoint <<SQL
$K
BEGIN;
SAVEPOINT a;
SELECT queue.enqueue('k' || :k, queue => CASE WHEN :k % 2 = 0 THEN 'served' ELSE 'out' END, priority => :k % 3);
ROLLBACK TO a;
SELECT put('savepoint', :k);
SAVEPOINT b;
SELECT put('savepoint', :l);
RELEASE b;
COMMIT;
SQL
script open <<SQL
$K
\set s random(1, 900)
BEGIN;
SELECT put('open', :k);
\sleep :s ms
SELECT put('open', :k), put('open', :l);
COMMIT;
\sleep :s ms
SQL
script prepared <<SQL
$K
\set s random(1, 500)
BEGIN;
SELECT put('prepared', :k), put('prepared', :l);
PREPARE TRANSACTION 'p:client_id';
\sleep :s ms
COMMIT PREPARED 'p:client_id';
SQL
script repeatable <<SQL
$K
\set s random(1, 300)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM queue.line;
\sleep :s ms
SELECT put('repeatable', :k);
COMMIT;
SQL
script move <<SQL
$K
SELECT queue.alter_job(put('move', :k, '300 ms'), priority => 5);
SQL
script drop <<SQL
$K
SELECT queue.create_queue('d:client_id');
SELECT queue.enqueue('k' || :k, queue => 'd:client_id');
SELECT queue.drop_queue('d:client_id', force => true);
\sleep 200 ms
SQL
script take <<'SQL'
\set q random(1, 10)
WITH f AS MATERIALIZED (SELECT id, attempt FROM queue.fetch('out', qty => :q)),
     c AS MATERIALIZED (SELECT id FROM f WHERE queue.complete(id, attempt))
INSERT INTO ran SELECT id, 'fetch' FROM c;
\sleep 5 ms
SQL

for name in plain savepoint repeatable move; do bench_pgbench $name -c 2 -R 40 -T "$SPAN" & pids+=($!); done
bench_pgbench rollback -c 2 -R 60 -T "$SPAN" & pids+=($!)
for name in open prepared; do bench_pgbench $name -c 4 -T "$SPAN" & pids+=($!); done
bench_pgbench drop -c 2 -T "$SPAN" & pids+=($!)
bench_pgbench take -c 2 -T "$((SPAN + 3))" & pids+=($!)
cp "$LIB_DIR/take.sql" "$LIB_DIR/again.sql"; chmod 644 "$LIB_DIR/again.sql"
bench_pgbench again -c 1 -C -T "$((SPAN + 3))" & pids+=($!)
for pid in "${pids[@]}"; do wait "$pid"; done
until_empty

for how in plain savepoint open prepared repeatable move; do
	figure "jobs enqueued: $how" "$(sql "SELECT count(*) FROM enqueued WHERE how = '$how'")" -gt 0
done
for who in executor fetch; do figure "of them run by: $who" "$(sql "SELECT count(*) FROM ran WHERE who = '$who'")" -gt 0; done
figure "lines made" "$(sql "SELECT last_value FROM queue.line_id")" -gt 1500
figure "jobs that ended without having run" "$(sql "SELECT count(*) FROM enqueued e WHERE NOT EXISTS (SELECT FROM ran WHERE ran.id = e.id)")" -eq 0
figure "runs of jobs that had run" "$(sql "SELECT count(*) - count(DISTINCT id) FROM ran")" -eq 0
figure "runs of jobs that were never enqueued" "$(sql "SELECT count(*) FROM ran WHERE NOT EXISTS (SELECT FROM enqueued e WHERE e.id = ran.id)")" -eq 0
figure "jobs whose line is gone" "$(sql "SELECT count(*) FROM queue.live_job j WHERE NOT EXISTS (SELECT FROM queue.line l WHERE l.id = j.line)")" -eq 0
for ((i = 0; i < 100; i++)); do [ "$(sql "SELECT count(*) FROM queue.line")" != 0 ] || break; sleep 0.2; done
figure "lines left when all is done" "$(sql "SELECT count(*) FROM queue.line")" -eq 0
figure "crashes in the server's log" "$(grep -c 'was terminated by signal' "$LIB_DIR/server.log" || true)" -eq 0
figure "chores that failed" "$(grep -c 'queue scheduler: .* failed' "$LIB_DIR/server.log" || true)" -eq 0
bench_end
