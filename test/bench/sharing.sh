#!/bin/bash
# 7. Sharing a commit is never felt: a job that sleeps 10 s behind fast ones of its own and of another kind delays none
# of their commits; a handler that looks for `due <= now()` finds its row; a deferred constraint that fails at COMMIT
# costs only its own job an attempt; SET, temp tables and advisory locks of one job are gone for the next.
. "$(dirname "$0")/common.sh"
bench_start "Sharing a commit" "track_commit_timestamp = on"
JOBS=$((2000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE TABLE effect (i int, kind text, at timestamptz);
CREATE FUNCTION fast(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.payload ? 'sleep' THEN
		PERFORM pg_sleep((j.payload->>'sleep')::float);
	END IF;
	INSERT INTO effect VALUES ((j.payload->>'i')::int, j.kind, clock_timestamp());
END $$;
SELECT queue.register_sql_handler('fast_a', 'fast');
SELECT queue.register_sql_handler('fast_b', 'fast');
SQL
# Known to be short: enough runs of both.
load fast_a 500 "jsonb_build_object('i', i)"
load fast_b 500 "jsonb_build_object('i', i)"
until_empty

mixed() { # sleep or nothing; prints the longest time from a fast handler's end to its commit, in ms, and how long all fast ones took
	psql_file <<SQL
SELECT queue.pause('default') \g /dev/null
TRUNCATE effect;
DO \$\$
BEGIN
	FOR i IN 1..$JOBS LOOP
		PERFORM queue.enqueue(CASE WHEN i % 2 = 0 THEN 'fast_a' ELSE 'fast_b' END, jsonb_build_object('i', i));
		IF i = $JOBS / 2 AND $1 > 0 THEN
			PERFORM queue.enqueue('fast_a', jsonb_build_object('i', 0, 'sleep', $1));
		END IF;
	END LOOP;
END \$\$;
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('default') \g /dev/null
DO \$\$ BEGIN WHILE (SELECT count(*) FROM effect WHERE i > 0) < $JOBS LOOP COMMIT; PERFORM pg_sleep(0.01); END LOOP; END \$\$;
SELECT round(max(extract(epoch FROM pg_xact_commit_timestamp(xmin) - at)) * 1000, 2) || ' ' ||
       round(extract(epoch FROM max(pg_xact_commit_timestamp(xmin)) - :'start'::timestamptz) * 1000)
FROM effect WHERE i > 0;
SQL
}
read -r calm_delay calm_all < <(mixed 0)
read -r delay all < <(mixed 10)
figure "longest wait of a fast job for its commit, nobody sleeping" "$calm_delay" info "" ms
figure "  with a job that sleeps 10 s among them" "$delay" info "" ms
figure "  more than without it" "$(calc "$delay - $calm_delay")" -le 20 ms
figure "all $JOBS fast jobs done, nobody sleeping" "$calm_all" info "" ms
figure "  with the sleeper" "$all" info "" ms
until_empty
figure "the sleeper's effect, once" "$(sql "SELECT count(*) FROM effect WHERE i = 0")" -eq 1
figure "failed attempts" "$(sql "SELECT count(*) FROM queue.job_error")" -eq 0

# now() is frozen at the group's start: what the enqueuer wrote must still be in its past.
psql_file <<'SQL' >/dev/null
CREATE TABLE due (id bigserial PRIMARY KEY, due timestamptz, seen boolean);
CREATE FUNCTION look(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE due SET seen = true WHERE id = (j.payload->>'id')::bigint AND due <= now();
END $$;
SELECT queue.register_sql_handler('look', 'look');
SQL
script due <<'SQL'
BEGIN;
INSERT INTO due (due) VALUES (clock_timestamp()) RETURNING id AS id \gset
SELECT queue.enqueue('look', jsonb_build_object('id', :id::bigint));
COMMIT;
SQL
bench_pgbench due -M prepared -c 8 -j 2 -T $((10 / SCALE > 2 ? 10 / SCALE : 2))
until_empty
figure "jobs that looked for due <= now()" "$(sql "SELECT count(*) FROM due")" info
figure "  and did not find their row" "$(sql "SELECT count(*) FROM due WHERE seen IS NULL")" -eq 0

psql_file <<SQL >/dev/null
CREATE TABLE uniq (i int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION put(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO uniq VALUES ((j.payload->>'i')::int); END \$\$;
SELECT queue.register_sql_handler('put', 'put', backoff => '{"type": "fixed", "base": "1 h"}');
INSERT INTO uniq VALUES (-1);
SQL
load put 500 "jsonb_build_object('i', i)"
until_empty
sql "SELECT queue.pause('default')" >/dev/null
load put "$JOBS" "jsonb_build_object('i', CASE WHEN i = $JOBS / 2 THEN -1 ELSE i + 500 END)"
sql "SELECT queue.resume('default')" >/dev/null
wait_sql 60 "(SELECT count(*) = $JOBS + 500 FROM uniq) AND EXISTS (SELECT FROM queue.job WHERE state = 'retryable')"
figure "deferred constraint: errors" "$(sql "SELECT count(*) FROM queue.job_error WHERE kind = 'put'")" -eq 1
figure "  with SQLSTATE 23505" "$(sql "SELECT count(*) FROM queue.job_error WHERE kind = 'put' AND sqlstate = '23505'")" -eq 1
figure "  rows of the others" "$(sql "SELECT count(*) FROM uniq WHERE i > 0")" -eq $((JOBS + 500 - 1))
figure "  jobs left, with one failure" "$(sql "SELECT count(*) FROM queue.job WHERE kind = 'put' AND failures = 1")" -eq 1
sql "SELECT queue.purge('default')" >/dev/null

psql_file <<'SQL' >/dev/null
CREATE TABLE leak_seen (what text);
CREATE FUNCTION leak(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('work_mem') <> '4MB' THEN INSERT INTO leak_seen VALUES ('work_mem'); END IF;
	IF coalesce(current_setting('bench.mine', true), '') <> '' THEN INSERT INTO leak_seen VALUES ('bench.mine'); END IF;
	IF to_regclass('pg_temp.leaked') IS NOT NULL THEN INSERT INTO leak_seen VALUES ('temp table'); END IF;
	IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 0) THEN
		INSERT INTO leak_seen VALUES ('advisory lock');
	END IF;
	IF (j.payload->>'i')::int % 3 = 0 THEN
		SET work_mem = '123MB';
		PERFORM set_config('bench.mine', 'yes', false);
		CREATE TEMP TABLE leaked (a int);
		PERFORM pg_advisory_lock((j.payload->>'i')::int);
		PERFORM pg_advisory_xact_lock((j.payload->>'i')::int + 1000000);
	END IF;
END $$;
SELECT queue.register_sql_handler('leak', 'leak');
SQL
load leak "$JOBS" "jsonb_build_object('i', i)"
until_empty
figure "settings, temp tables and locks seen by the next job $(sql "SELECT string_agg(DISTINCT what, ', ') FROM leak_seen")" "$(sql "SELECT count(*) FROM leak_seen")" -eq 0
figure "  failed attempts" "$(sql "SELECT count(*) FROM queue.job_error WHERE kind = 'leak'")" -eq 0
bench_end
