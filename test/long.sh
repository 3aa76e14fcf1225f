#!/bin/bash
# make long: does anything grow, or fall behind, when the same processes work for long?
#
#   - SQL jobs through one executor and HTTP jobs through one worker, with failures, timeouts, cancels and handlers that are
#     registered again meanwhile: what each process has of its own stays as it was after the first quarter
#   - handlers and schedules that change again and again: so does the scheduler's
#   - afterwards, idle: no process of ours holds a snapshot, and autovacuum has been told of the dead rows and removed them
#
# LONG_MINUTES=60 (2) for the first part, LONG_CHANGES=100000 (4000) for the second.
. "$(dirname "$0")/lib.sh"
. "$ROOT/test/bench/http.sh"
MINUTES=${LONG_MINUTES:-2}
CHANGES=${LONG_CHANGES:-4000}
bad=0
# check "what" value operator bound
check() {
	local word=ok
	[ -n "$2" ] && [ "$2" "$3" "$4" ] || { word=MISS; bad=1; }
	printf '%-4s  %-70s %10s  (%s %s)\n' "$word" "$1" "$2" "$3" "$4"
}
lib_build
lib_start
cluster_init "queue.executors = 1" "queue.executor_idle_timeout = '1d'" "autovacuum_naptime = 1s" "max_wal_size = 4GB"
cluster_start
server_start http
export DB=postgres PGOPTIONS='-c client_min_messages=error'
sql "CREATE EXTENSION queue"
sql "SELECT queue.alter_queue('default', backoff => '{\"type\": \"fixed\", \"base\": \"0.1 s\"}', max_attempts => 3, keep_completed => '1 hour')" >/dev/null
sql "ALTER TABLE queue.live_job SET (autovacuum_vacuum_threshold = 1000)"
sql "CREATE FUNCTION work(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
	IF j.id % 10 = 0 THEN RAISE EXCEPTION 'no'; END IF;
	IF j.id % 1000 = 1 THEN PERFORM pg_sleep(10); END IF;
	PERFORM queue.log('ran');
	RETURN j.payload;
END \$\$"
register() {
	sql "SELECT queue.register_sql_handler('job', 'work', timeout => '50 ms'), queue.register_sql_handler('short', 'work', timeout => '50 ms'),
		queue.register_http_handler('web', '$SERVER_URL/flaky/10', timeout => '0.3 s'), queue.register_http_handler('dead', '$SERVER_URL/hang', timeout => '0.1 s')" >/dev/null
}
register
# one of each, so that both workers are there
sql "SELECT queue.enqueue('short'), queue.enqueue('web')" >/dev/null
wait_sql 60 "(SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('queue executor', 'queue http')) = 2"
pid_of() { sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue $1'"; }
for type in executor http scheduler launcher; do eval "$type=$(pid_of $type)"; done

# ---- jobs
declare -A early late
seconds=$((MINUTES * 60)) begin=$SECONDS round=0 seen=
while [ $((SECONDS - begin)) -lt $seconds ]; do
	round=$((round + 1))
	sql "SELECT queue.enqueue_many('short', array_fill('{\"a\": [1, 2, 3]}'::jsonb, '{2000}')), queue.enqueue_many('web', array_fill('{}'::jsonb, '{300}')),
		queue.enqueue_many('job', array_fill('{}'::jsonb, '{200}')), queue.enqueue_many('dead', array_fill('{}'::jsonb, '{5}'))" >/dev/null
	[ $((round % 5)) != 0 ] || register
	sql "SELECT queue.cancel_jobs('{\"kind\": \"dead\"}', qty => 2)" >/dev/null
	# never far behind: the memory of a backlog is no leak
	wait_sql 600 "(SELECT available + running < 500 FROM queue.stat_queue WHERE queue = 'default')"
	part=late
	if [ $((SECONDS - begin)) -lt $((seconds / 4)) ]; then part=early; fi
	for type in executor http scheduler launcher; do
		kb=$(rss_anon "${!type}")
		if [ $part = early ]; then [ "${early[$type]:-0}" -ge "$kb" ] || early[$type]=$kb; else [ "${late[$type]:-0}" -ge "$kb" ] || late[$type]=$kb; fi
	done
done
wait_sql 600 "NOT EXISTS (SELECT FROM queue.live_job)"
echo "$(sql "SELECT string_agg(kind || ' ' || state || ' ' || count, ', ') FROM (SELECT kind, state, count(*) FROM queue.job GROUP BY 1, 2 ORDER BY 1, 2) x") in $round rounds"
for type in executor http scheduler launcher; do
	check "the $type is the same process" "$(pid_of $type)" = "${!type}"
	check "memory of the $type, kB: the most after the first quarter (then ${early[$type]})" "${late[$type]:-0}" -le $((early[$type] + 1024))
done

# ---- changes
some() {
	sql "DO \$\$ BEGIN FOR i IN 1 .. $1 / 4 LOOP
			PERFORM queue.register_sql_handler('changing' || i % 7, 'work'); COMMIT;
			PERFORM queue.unregister_handler('changing' || i % 7); COMMIT;
			PERFORM queue.schedule('changing' || i % 7, format('%s 4 * * *', i % 60), 'job'); COMMIT;
			PERFORM queue.unschedule('changing' || i % 7); COMMIT;
		END LOOP; END \$\$"
}
some $((CHANGES / 4))
before=$(rss_anon "$scheduler") other=$(rss_anon "$executor")
some $((CHANGES * 3 / 4))
check "memory of the scheduler after $CHANGES changes, kB (after a quarter: $before)" "$(rss_anon "$scheduler")" -le $((before + 1024))
check "and of the executor (after a quarter: $other)" "$(rss_anon "$executor")" -le $((other + 1024))

# ---- idle
held=1
for _ in $(seq 100); do
	held=$(sql "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'queue %' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)")
	[ "$held" != 0 ] || break
	sleep 0.1
done
check "processes of ours that hold a snapshot when idle" "$held" -eq 0
wait_sql 120 "(SELECT autovacuum_count > 0 FROM pg_stat_all_tables WHERE relid = 'queue.live_job'::regclass)"
wait_sql 120 "(SELECT n_dead_tup < 5000 FROM pg_stat_all_tables WHERE relid = 'queue.live_job'::regclass)"
check "runs of autovacuum over live_job" "$(sql "SELECT autovacuum_count FROM pg_stat_all_tables WHERE relid = 'queue.live_job'::regclass")" -gt 0
check "deletes of live_job that the statistics know" "$(sql "SELECT n_tup_del FROM pg_stat_all_tables WHERE relid = 'queue.live_job'::regclass")" -ge $((round * 2200))
check "size of live_job and its indexes, kB" "$(($(sql "SELECT pg_total_relation_size('queue.live_job')") / 1024))" -le 20000
[ $bad = 0 ]
