#!/bin/bash
# Limits under load: 32 claimers (8 executors, HTTP requests, external workers by lease and by session) share a queue
# with max_running 7 and max_running_per_key 2 over 100 keys.  The ledger is the kept jobs: from the claim to the end
# of each.  Then the same while executors and clients are killed by kill -9, and a rate of 500 a second.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/http.sh"
bench_start "Limits" "queue.executors = 8" "max_worker_processes = 24" "max_connections = 60"
server_start http
SECONDS_RUN=$((60 / SCALE))

psql_file <<SQL >/dev/null
CREATE TABLE down (began timestamptz, ended timestamptz);	-- when the server was not there
CREATE FUNCTION work(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(0.05); END \$\$;
SELECT queue.create_queue('lim', max_running => 7, max_running_per_key => 2, keep_completed => '1 day', lease => '5 s');
SELECT queue.register_sql_handler('sql', 'work', '{lim}', max_attempts => 1000);
SELECT queue.register_http_handler('web', '$SERVER_URL/sleep/0.05', '{lim}', max_attempts => 1000);
SQL
# external worker, by lease or by session: fetches one job, works 50 ms, completes
worker() {
	script "$1" <<SQL
SELECT coalesce(max(id), 0) AS id, coalesce(max(attempt), 0) AS attempt
FROM queue.fetch('lim', kinds => '{$1}', wait => '1 s', claim => '$2') \gset
\if :id
\sleep 50 ms
SELECT queue.complete(:id, :attempt);
\endif
SQL
}
worker ext lease
worker ses session

# fill: jobs of the four kinds, more than can be done
fill() {
	local n=$((SECONDS_RUN * 100))
	psql_file <<SQL >/dev/null
SELECT count(queue.enqueue(kind, queue => 'lim', concurrency_key => 'key' || i % 100, max_attempts => 1000))
FROM generate_series(1, $n) i, unnest('{sql,web,ext,ses}'::text[]) kind;
SQL
}
# The most that were in force at once of the queue and of a key, jobs that ended, and how much of 7 was used while the
# server was there.  A lease whose worker was killed is in force until its end, which is told as a failed attempt.
ledger() {
	# a session's claim is written nowhere: it lasts at least its 50 ms
	sql "WITH span AS (SELECT concurrency_key AS key, coalesce(started_at, finished_at - interval '50 ms') AS started_at, finished_at
	                   FROM queue.job WHERE queue = 'lim' AND state = 'completed'),
	     lost AS (SELECT started_at, least(failed_at, started_at + interval '5 s') AS finished_at
	              FROM queue.job_error WHERE queue = 'lim' AND started_at IS NOT NULL),
	     used AS (SELECT started_at, finished_at FROM span UNION ALL SELECT * FROM lost),
	     up AS (SELECT * FROM unnest(tstzmultirange(tstzrange((SELECT min(started_at) FROM span), (SELECT max(finished_at) FROM span))) -
	                                 (SELECT coalesce(range_agg(tstzrange(began, ended)), '{}') FROM public.down)) u),
	     step AS (SELECT key, started_at AS at, 1 AS d FROM span UNION ALL SELECT key, finished_at, -1 FROM span),
	     sums AS (SELECT at, sum(d) OVER (ORDER BY at, d) AS n, sum(d) OVER (PARTITION BY key ORDER BY at, d) AS per_key FROM step)
	     SELECT max(n), max(per_key), (SELECT count(*) FROM span),
	            round(((SELECT sum(extract(epoch FROM upper(p) - lower(p)))
	                    FROM used, up, LATERAL (SELECT tstzrange(started_at, finished_at) * u AS p) x WHERE NOT isempty(p)) /
	                   (7 * (SELECT sum(extract(epoch FROM upper(u) - lower(u))) FROM up)))::numeric, 3) FROM sums" -F ' '
}
clients() {
	for name in ext ses; do
		pg "$BIN/pgbench" -n -f "$LIB_DIR/$name.sql" -c 12 -j 1 -T "$1" "$DB" >"$LIB_DIR/$name.out" 2>&1 &
		LIB_PIDS+=($!)
	done
}
report() {
	read -r most per_key jobs used < <(ledger)
	figure "$1: jobs" "$jobs" info
	figure "$1: most in force at once" "$most" -le 7
	figure "$1: of one key" "$per_key" -le 2
	[ -z "$2" ] || figure "$1: of the limit was used" "$used" -ge "$2"
	for kind in sql web ext ses; do
		figure "$1: jobs of kind $kind" "$(sql "SELECT count(*) FROM queue.job WHERE state = 'completed' AND kind = '$kind'")" -ge 10
	done
}

fill
clients "$SECONDS_RUN"
sleep "$SECONDS_RUN"
sql "SELECT queue.pause('lim')" >/dev/null
sleep 2
report "undisturbed" 0.9
if grep -hE 'aborted in command|ERROR' "$LIB_DIR"/ext.out "$LIB_DIR"/ses.out; then fail "a client failed"; fi

# with kill -9
sql "SELECT count(*) FROM queue.delete_jobs('{\"queue\": \"lim\", \"state\": \"completed\"}')" >/dev/null
sql "SELECT queue.resume('lim')" >/dev/null
KILLS=${KILLS:-10}
for i in $(seq "$KILLS"); do
	clients 4
	sleep 2
	victim=$(sql "SELECT pid FROM pg_stat_activity WHERE $([ $((i % 2)) = 0 ] && echo "backend_type = 'queue executor'" || echo "application_name = 'pgbench'") ORDER BY random() LIMIT 1")
	began=$(date +%s.%N)
	[ -n "$victim" ] && kill -9 "$victim"
	# it is there again when its scheduler is, which the server starts like itself
	wait_sql 60 "NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ${victim:-0}) AND
	             EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'queue scheduler')"
	sql "INSERT INTO down VALUES (to_timestamp($began), clock_timestamp())" >/dev/null
done
# A lost lease is told when its job is claimed again, so all kinds go on until the last ones have ended.
clients 6
sleep 7
sql "SELECT queue.pause('lim')" >/dev/null
sleep 1
report "$KILLS times kill -9" 0.9

# rate: 500 a second, over 20 s
psql_file <<'SQL' >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.create_queue('rate', rate_limit => 500, keep_completed => '1 day');
SELECT queue.pause('rate');
SELECT queue.register_sql_handler('noop', 'noop', '{rate}');
SELECT count(*) FROM queue.enqueue_many('noop', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 15000)), 'rate');
SELECT queue.resume('rate');
SQL
sleep $((22 / SCALE + 1))
T=$((20 / SCALE))
n=$(sql "WITH j AS (SELECT started_at FROM queue.job WHERE queue = 'rate' AND state = 'completed')
	SELECT count(*) FROM j WHERE started_at < (SELECT min(started_at) FROM j) + interval '1.1 s' + interval '$T s'
	AND started_at >= (SELECT min(started_at) FROM j) + interval '1.1 s'")
figure "starts in $T s at 500 a second, at least" "$n" -ge "$(calc "$T * 490" %.0f)"
figure "and at most" "$n" -le "$(calc "$T * 510" %.0f)"
most=$(sql "WITH j AS (SELECT extract(epoch FROM started_at) AS t FROM queue.job WHERE queue = 'rate' AND state = 'completed')
	SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY t RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) n FROM j) x")
figure "most in any second" "$most" -le 1000
bench_end
