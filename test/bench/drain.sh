#!/bin/bash
# 2. 300,000 jobs loaded while the queue is paused, from resume to empty, median of three: no-op PL/pgSQL handlers; the
# same with every 1,000th raising; and handlers that insert one row.
. "$(dirname "$0")/common.sh"
bench_start "Draining a backlog"
JOBS=$((300000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION raising(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (j.payload->>'i')::int % 1000 = 0 THEN
		RAISE EXCEPTION 'every 1,000th';
	END IF;
END $$;
CREATE TABLE effect (job bigint, at timestamptz);
CREATE FUNCTION insert_one(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect VALUES (j.id, clock_timestamp());
END $$;
SELECT queue.register_sql_handler('noop', 'noop');
SELECT queue.register_sql_handler('raising', 'raising', max_attempts => 1);
SELECT queue.register_sql_handler('insert_one', 'insert_one');
SQL

# three kind payload: rates of three rounds, on stdout
three() {
	local seconds
	for round in 1 2 3; do
		sql "SELECT queue.pause('default')" >/dev/null
		load "$1" "$JOBS" "$2"
		seconds=$(drain)
		calc "$JOBS / $seconds" "%.0f\n"
	done
}

rates=$(three noop "'{}'::jsonb")
figure "no-op jobs a second ($(echo $rates))" "$(median <<<"$rates")" -ge 100000 /s

rates=$(three raising "jsonb_build_object('i', i)")
figure "no-op jobs a second, every 1,000th raises ($(echo $rates))" "$(median <<<"$rates")" -ge 100000 /s
figure "discarded by that" "$(sql "SELECT count(*) FROM queue.job WHERE state = 'discarded'")" -eq $((3 * (JOBS / 1000)))
figure "jobs with an error that were not to raise" \
	"$(sql "SELECT count(*) FROM queue.job_error WHERE error NOT LIKE 'every 1,000th%'")" -eq 0
figure "errors in all" "$(sql "SELECT count(*) FROM queue.job_error")" -eq $((3 * (JOBS / 1000)))

rates=$(three insert_one "'{}'::jsonb")
figure "jobs that insert a row, a second ($(echo $rates))" "$(median <<<"$rates")" -ge 60000 /s
figure "rows inserted" "$(sql "SELECT count(*) FROM effect")" -eq $((3 * JOBS))
bench_end
