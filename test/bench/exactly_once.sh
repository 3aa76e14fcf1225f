#!/bin/bash
# 1. 100,000 jobs that each insert a row, an executor killed with kill -9, the server restarted, an executor killed
# again, each while 10 to 90 % of the rows are there: the table has each exactly once, and 50 enqueues that were rolled
# back never ran.
. "$(dirname "$0")/common.sh"
bench_start "Exactly once"
JOBS=$((100000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE TABLE effect (i int, job bigint, attempt int);
CREATE FUNCTION insert_one(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect VALUES ((j.payload->>'i')::int, j.id, j.attempt);
END $$;
SELECT queue.register_sql_handler('insert_one', 'insert_one');
SELECT queue.pause('default');
BEGIN;
SELECT count(queue.enqueue('insert_one', '{"i": -1}')) FROM generate_series(1, 50);
ROLLBACK;
SQL
load insert_one "$JOBS" "jsonb_build_object('i', i)"

# at percent command: when so many rows are there, does it from inside the server (no client is fast enough) and
# prints how many percent were there at that moment.  The session may die of it.
at() {
	psql_file -v ON_ERROR_STOP=0 <<SQL 2>&1 | sed -nE 's/^INFO:  at ([0-9.]+).*/\1/p'
SET statement_timeout = '10min';
DO \$\$
DECLARE
	n bigint;
	victim int;
BEGIN
	LOOP
		SELECT count(*) INTO n FROM effect;
		SELECT pid INTO victim FROM queue.stat_worker WHERE type = 'executor' AND state = 'running' LIMIT 1;
		EXIT WHEN n >= $JOBS * $1 / 100 AND victim IS NOT NULL;
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
	RAISE INFO 'at %', round(100.0 * n / $JOBS, 1);
	$2
END \$\$;
SQL
}
KILL="EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || victim);"

sql "SELECT queue.resume('default')" >/dev/null
killed=$(at 15 "$KILL") || true
wait_sql 60 "true"
restarted=$(at 40 "NULL;")
cluster_stop fast
cluster_start
killed_again=$(at 60 "$KILL") || true
wait_sql 60 "true"
until_empty

for pair in "killed:$killed" "restarted:$restarted" "killed again:$killed_again"; do
	figure "${pair%%:*}, with so many of the rows there (at least)" "${pair#*:}" -ge 10 %
	figure "${pair%%:*}, with so many of the rows there (at most)" "${pair#*:}" -le 90 %
done
figure "rows of committed jobs" "$(sql "SELECT count(*) FROM effect WHERE i > 0")" -eq "$JOBS"
figure "different jobs among them" "$(sql "SELECT count(DISTINCT i) FROM effect WHERE i > 0")" -eq "$JOBS"
figure "rows of enqueues that were rolled back" "$(sql "SELECT count(*) FROM effect WHERE i < 0")" -eq 0
figure "discarded jobs" "$(sql "SELECT count(*) FROM queue.job WHERE state = 'discarded'")" -eq 0
figure "crashes in the server's log" "$(grep -c 'was terminated by signal 9' "$LIB_DIR/server.log")" -eq 2
bench_end
