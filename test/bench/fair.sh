#!/bin/bash
# Turns: a tenant with 100,000 jobs in a queue with fair 16, and jobs of others that come meanwhile, through SQL handlers
# and through fetch; rates of the big tenant alone, and of 10,000 tenants with 10 jobs each, against the same
# queue without fair.  Ageing: the oldest job of low priority under an urgent load that fills all executors.
. "$(dirname "$0")/common.sh"
bench_start "Turns, ageing and reserved executors" "max_wal_size = 4GB" "synchronous_commit = off" "queue.debug_line_idle = 1d"
JOBS=$((100000 / SCALE))
TENANTS=$((10000 / SCALE))

psql_file <<SQL >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN END \$\$;
CREATE TABLE started (tenant text, at timestamptz);
CREATE FUNCTION work(j queue.job) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO started VALUES (j.concurrency_key, clock_timestamp());
	PERFORM pg_sleep(0.002);
END \$\$;
SELECT queue.create_queue('fair', fair => 16), queue.create_queue('plain'), queue.create_queue('out', fair => 16);
SELECT queue.register_sql_handler('noop', 'noop'), queue.register_sql_handler('work', 'work');
SQL

# fill queue kind jobs tenants
fill() {
	sql "SELECT count(queue.enqueue('$2', queue => '$1', concurrency_key => 't' || i % $4)) FROM generate_series(1, $3) i" >/dev/null
}
# drain queue jobs: of noop jobs that were put into the paused queue
drain() {
	psql_file <<SQL
SET statement_timeout = '10min';
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('$1') \g /dev/null
$WAIT_EMPTY
SELECT round($2 / extract(epoch FROM clock_timestamp() - :'start')::numeric);
SQL
}
# rate queue tenants: of one drain
rate() {
	sql "SELECT queue.pause('$1')" >/dev/null
	fill "$1" noop "$JOBS" "$2"
	drain "$1" "$JOBS"
}

# by turns, so that what else the machine does falls on both; the median of three pairs after one that warms up
for tenants in 1 "$TENANTS"; do
	for round in 0 1 2 3; do
		plain=$(rate plain "$tenants")
		fair=$(rate fair "$tenants")
		[ "$round" = 0 ] || echo "$plain $fair $(calc "$fair / $plain")"
	done >"$LIB_DIR/rates"
	figure "$tenants tenants: jobs a second without fair" "$(cut -d' ' -f1 "$LIB_DIR/rates" | median)" info
	figure "$tenants tenants: with fair 16" "$(cut -d' ' -f2 "$LIB_DIR/rates" | median)" info
	figure "$tenants tenants: of the rate without ($(cut -d' ' -f3 "$LIB_DIR/rates" | tr '\n' ' '))" "$(cut -d' ' -f3 "$LIB_DIR/rates" | median)" \
		-ge "$([ "$tenants" = 1 ] && echo 0.9 || echo 0.6)"
done

# a newcomer beside the big tenant, 20 times
fill fair work "$JOBS" 1
sleep 2
for i in $(seq 20); do
	psql_file <<-SQL >/dev/null
	SELECT queue.enqueue('work', queue => 'fair', concurrency_key => 'new$i');
	SELECT clock_timestamp() AS enqueued \gset
	INSERT INTO started VALUES ('enqueued new$i', :'enqueued');
	SQL
	wait_sql 10 "EXISTS (SELECT FROM started WHERE tenant = 'new$i')"
done
sql "SELECT queue.purge('fair')" >/dev/null
figure "jobs of the big tenant that start before a newcomer's, at most" "$(sql "
	SELECT max((SELECT count(*) FROM started b WHERE b.tenant = 't0' AND b.at > a.at AND b.at < n.at))
	FROM started a JOIN started n ON a.tenant = 'enqueued ' || n.tenant")" -lt 20

# through fetch, one by one
fill out k "$JOBS" 1
sql "SELECT count(*) FROM queue.fetch('out', 100)" >/dev/null
figure "and through fetch, 20 times, at most" "$(psql_file <<'SQL'
DO $$
DECLARE
	most int = 0;
	got text;
BEGIN
	FOR i IN 1..20 LOOP
		PERFORM queue.enqueue('k', queue => 'out', concurrency_key => 'new' || i);
		COMMIT;
		FOR n IN 0..1000 LOOP
			SELECT concurrency_key INTO got FROM queue.fetch('out');
			COMMIT;
			IF got LIKE 'new%' THEN most = greatest(most, n); EXIT; END IF;
		END LOOP;
	END LOOP;
	PERFORM set_config('bench.most', most::text, false);
END $$;
SELECT current_setting('bench.most');
SQL
)" -lt 20
sql "SELECT queue.purge('out')" >/dev/null

# ageing: more urgent jobs than the executors can do, and many of low priority that came when these waited already
psql_file <<'SQL' >/dev/null
SELECT queue.create_queue('old', ageing => '1 s');
SQL
script urgent <<'SQL'
SELECT count(queue.enqueue('work', queue => 'old', concurrency_key => 'urgent')) FROM generate_series(1, 8);
SQL
pg "$BIN/pgbench" -n -f "$LIB_DIR/urgent.sql" -c 1 -R 400 -T 1000 "$DB" >/dev/null 2>&1 &
urgent=$!
LIB_PIDS+=($urgent)
waiting="(SELECT count(*) FROM queue.find_jobs('{\"queue\": \"old\", \"priority\": 0, \"state\": \"available\"}', qty => 1000))"
wait_sql 60 "$waiting >= 500"
sql "SELECT count(queue.enqueue('work', queue => 'old', priority => 2, concurrency_key => 'low')) FROM generate_series(1, $JOBS) i" >/dev/null
begin=$(sql "SELECT clock_timestamp()")
wait_sql 20 "EXISTS (SELECT FROM started WHERE tenant = 'low')"
figure "the oldest of $JOBS low jobs (priority 2) under an urgent load, ageing 1 s: started after" "$(sql "
	SELECT round(extract(epoch FROM min(at) - '$begin')::numeric, 2) FROM started WHERE tenant = 'low'")" -le 8 s
figure "urgent jobs that waited then" "$(sql "SELECT $waiting")" -ge 100
end_tree "$urgent" || true
wait "$urgent" 2>/dev/null || true
sql "SELECT queue.purge('old')" >/dev/null

# reserved: one of the four executors is for priority -10 and less
psql_file <<'SQL' >/dev/null
CREATE FUNCTION slow(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO started VALUES (coalesce(j.concurrency_key, 'none'), clock_timestamp());
	PERFORM pg_sleep(0.1);
END $$;
SELECT queue.register_sql_handler('slow', 'slow');
SELECT queue.create_queue('kept', reserved => '{"-10": 1}');
SQL
sql "SELECT count(queue.enqueue('slow', queue => 'kept', priority => i % 3)) FROM generate_series(1, $JOBS) i" >/dev/null
wait_sql 20 "(SELECT count(*) FROM queue.stat_worker WHERE type = 'executor' AND kind = 'slow') = 3"
for i in $(seq 20); do
	psql_file <<-SQL >/dev/null
	SELECT clock_timestamp() AS enqueued \gset
	SELECT queue.enqueue('slow', queue => 'kept', priority => -10, concurrency_key => 'kept$i');
	INSERT INTO started VALUES ('enqueued kept$i', :'enqueued');
	SQL
	wait_sql 10 "EXISTS (SELECT FROM started WHERE tenant = 'kept$i')"
done
late="SELECT extract(epoch FROM n.at - a.at) * 1000 AS ms FROM started a JOIN started n ON a.tenant = 'enqueued ' || n.tenant WHERE n.tenant LIKE 'kept%'"
figure "urgent jobs beside $JOBS low ones that started within one run time (100 ms), of 20" "$(sql "SELECT count(*) FROM ($late) x WHERE ms <= 100")" -eq 20
figure "the slowest after" "$(sql "SELECT round(max(ms), 1) FROM ($late) x")" info "" ms
sql "SELECT queue.purge('kept')" >/dev/null
bench_end
