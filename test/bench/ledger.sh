#!/bin/bash
# ledger.sh [seconds, 20]: nothing is lost and nothing runs twice while session claims, leases and executors that share
# commits take jobs of one kind, and SQL-language handlers of which every tenth raises an error share commits beside it.
# Each enqueue and each run writes a row of the ledger in its own transaction.  RATE=2000 jobs of a kind a second.
. "$(dirname "$0")/common.sh"
SPAN=${1:-20}
RATE=${RATE:-2000}
bench_start "Ledger of $SPAN s" "max_wal_size = 4GB"

psql_file <<'SQL' >/dev/null
CREATE TABLE enqueued (id bigint, kind text, good boolean);
CREATE TABLE ran (id bigint, who text);
CREATE FUNCTION shared(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES (j.id, 'executor'); END $$;
CREATE FUNCTION divide(j queue.job) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO ran VALUES (j.id, 'sql');
	SELECT to_jsonb(100 / (j.payload->>'x')::int);
$$;
SELECT queue.register_sql_handler('shared', 'shared'), queue.register_sql_handler('divide', 'divide', max_attempts => 1);
SQL
script shared <<'SQL'
INSERT INTO enqueued SELECT queue.enqueue('shared'), 'shared', true;
SQL
script divide <<'SQL'
\set x random(0, 9)
INSERT INTO enqueued SELECT queue.enqueue('divide', jsonb_build_object('x', :x)), 'divide', :x > 0;
SQL
for mode in session lease; do
	script $mode <<SQL
WITH f AS MATERIALIZED (SELECT id, attempt FROM queue.fetch('default', qty => 3, kinds => '{shared}', claim => '$mode')),
     c AS MATERIALIZED (SELECT id FROM f WHERE queue.complete(id, attempt))
INSERT INTO ran SELECT id, '$mode' FROM c;
SQL
done

for name in shared divide; do bench_pgbench $name -c 2 -R "$RATE" -T "$SPAN" & pids+=($!); done
for name in session lease; do bench_pgbench $name -c 2 -T "$((SPAN + 1))" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done
until_empty

figure "jobs enqueued" "$(sql "SELECT count(*) FROM enqueued")" -gt 0
for who in session lease executor sql; do figure "of them taken by: $who" "$(sql "SELECT count(*) FROM ran WHERE who = '$who'")" -gt 0; done
figure "jobs that ended without having run" "$(sql "SELECT count(*) FROM enqueued e WHERE good AND NOT EXISTS (SELECT FROM ran WHERE ran.id = e.id)")" -eq 0
figure "runs of jobs that had run" "$(sql "SELECT count(*) - count(DISTINCT id) FROM ran")" -eq 0
figure "runs of jobs that raised an error, or were never enqueued" \
	"$(sql "SELECT count(*) FROM ran WHERE NOT EXISTS (SELECT FROM enqueued e WHERE good AND e.id = ran.id)")" -eq 0
figure "jobs discarded less those that raised an error" \
	"$(sql "SELECT (SELECT count(*) FROM queue.job WHERE state = 'discarded') - (SELECT count(*) FROM enqueued WHERE NOT good)")" -eq 0
figure "crashes in the server's log" "$(grep -c 'was terminated by signal' "$LIB_DIR/server.log" || true)" -eq 0
bench_end
