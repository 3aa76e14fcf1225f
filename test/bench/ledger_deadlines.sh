#!/bin/bash
# Deadlines under load, with a ledger: jobs with expires_at and jobs with short leases, in kinds that executors serve,
# that workers fetch, and that nobody ever reads, while the server is restarted, crashed and its scheduler ended.
# Nothing is lost, nothing ends twice, nothing that was cancelled ran, and what falls due is ended soon.
#
#   ledger_deadlines.sh [seconds]     default 60; an hour: ledger_deadlines.sh 3600
. "$(dirname "$0")/common.sh"
SECONDS_TO_RUN=$((${1:-60} / SCALE))
bench_start "A ledger of deadlines, $SECONDS_TO_RUN s"

psql_file <<'SQL' >/dev/null
SELECT queue.create_queue('ledger', keep_completed => '30 days', keep_discarded => '30 days',
	backoff => '{"type": "fixed", "base": "1 s"}');
-- what clients asked for and were told, each in the transaction that did it
CREATE TABLE asked (id bigint, kind text, expires_at timestamptz);
CREATE TABLE done (id bigint);
CREATE TABLE ran (id bigint, attempt int);
CREATE FUNCTION run(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran VALUES (j.id, j.attempt);
	PERFORM pg_sleep(CASE WHEN random() < 0.02 THEN 0.2 ELSE 0 END);
END $$;
SELECT queue.register_sql_handler('served', 'run', queues => '{ledger}');

-- Served, and unserved in batches: expires soon; some long transactions commit behind later deadlines.
CREATE PROCEDURE ask() LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := clock_timestamp() + random() * interval '8 s';
	k text := (ARRAY['served', 'served', 'nobody', 'nobody' || (random() * 20)::int])[1 + (random() * 3)::int];
BEGIN
	INSERT INTO asked SELECT id, k, at FROM queue.enqueue_json_many((
		SELECT jsonb_agg(jsonb_build_object('kind', k, 'queue', 'ledger', 'expires_at', at))::text
		FROM generate_series(1, (ARRAY[1, 3, 20, 200])[1 + (random() * 3)::int]))) AS id;
	IF random() < 0.1 THEN PERFORM pg_sleep(random() * 2); END IF;
	COMMIT;
	INSERT INTO asked SELECT queue.enqueue('worker', queue => 'ledger', max_attempts => 3), 'worker' FROM generate_series(1, 5);
	INSERT INTO asked SELECT queue.enqueue('last' || (random() * 20)::int, queue => 'ledger', max_attempts => 1), 'last';
	COMMIT;
END $$;

-- A worker that loses one job of five, and all whose only attempt it has.
CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	attempts int[];
BEGIN
	PERFORM queue.fetch('ledger', 10, lease => '1 s', kinds => ARRAY(SELECT 'last' || i FROM generate_series(0, 20) i));
	COMMIT;
	SELECT array_agg(id), array_agg(attempt) INTO ids, attempts
		FROM (SELECT * FROM queue.fetch('ledger', (ARRAY[1, 10, 150])[1 + (random() * 2)::int],
			lease => (1 + random()) * interval '1 s', kinds => '{worker}', wait => '100 ms')) f
		WHERE random() < 0.8;
	COMMIT;
	INSERT INTO done SELECT * FROM queue.complete_many(coalesce(ids, '{}'), coalesce(attempts, '{}'));
	COMMIT;
END $$;
SQL

# client procedure: calls it again and again until the time is up, also after a lost connection.
client() {
	while [ ! -e "$LIB_DIR/stop" ]; do
		{ for _ in $(seq 20); do echo "CALL $1();"; done; } | psql_file -v ON_ERROR_STOP=0 >/dev/null 2>&1 || sleep 0.2
	done
}
clients=()
for procedure in ask ask work work; do
	client $procedure &
	clients+=($!)
done

end=$((SECONDS + SECONDS_TO_RUN))
turn=0
while [ $SECONDS -lt $end ]; do
	sleep $((SECONDS_TO_RUN > 300 ? 30 : 8))
	case $((turn++ % 4)) in
		0) cluster_stop fast; cluster_start ;;
		1) sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue scheduler'" >/dev/null || true ;;
		2) cluster_stop immediate; cluster_start ;;
		3) sql "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'queue scheduler'" >/dev/null || true ;;
	esac
done
touch "$LIB_DIR/stop"
wait "${clients[@]}"

# What lives on now are leases of workers that are gone and their retries: nobody fetches them any more but here.
deadline=$((SECONDS + 60))
while [ "$(sql "SELECT count(*) FROM queue.live_job")" != 0 ] && [ $SECONDS -lt $deadline ]; do
	echo "CALL work();" | psql_file >/dev/null
done

figure "jobs asked for" "$(sql "SELECT count(*) FROM asked")" info
figure "restarts, crashes, ended schedulers, cancelled chores" "$turn" info
figure "jobs that did not end" "$(sql "SELECT count(*) FROM queue.live_job")" -eq 0
figure "jobs lost" "$(sql "SELECT count(*) FROM asked a WHERE NOT EXISTS (SELECT FROM queue.finished_job f WHERE f.id = a.id)")" -eq 0
figure "jobs that ended twice" "$(sql "SELECT count(*) - count(DISTINCT id) FROM queue.finished_job")" -eq 0
figure "jobs that nobody asked for" "$(sql "SELECT count(*) FROM queue.finished_job f WHERE NOT EXISTS (SELECT FROM asked a WHERE a.id = f.id)")" -eq 0
figure "unserved jobs that were not cancelled" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind LIKE 'nobody%' AND state <> 'cancelled'")" -eq 0
figure "served jobs: completed" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind = 'served' AND state = 'completed'")" info
figure "served jobs: cancelled" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind = 'served' AND state = 'cancelled'")" info
figure "completed ones that did not run exactly once" "$(sql "SELECT count(*) FROM queue.finished_job f WHERE kind = 'served' AND state = 'completed' AND (SELECT count(*) FROM ran r WHERE r.id = f.id) <> 1")" -eq 0
figure "cancelled ones that ran" "$(sql "SELECT count(*) FROM queue.finished_job f WHERE kind = 'served' AND state = 'cancelled' AND EXISTS (SELECT FROM ran r WHERE r.id = f.id)")" -eq 0
figure "workers' jobs: completed" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind = 'worker' AND state = 'completed'")" info
figure "workers' jobs: discarded after three lost leases" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind = 'worker' AND state = 'discarded'")" info
figure "acknowledged completions that are none" "$(sql "SELECT count(*) FROM done d WHERE NOT EXISTS (SELECT FROM queue.finished_job f WHERE f.id = d.id AND state = 'completed')")" -eq 0
figure "completions that nobody was told" "$(sql "SELECT count(*) FROM queue.finished_job f WHERE kind = 'worker' AND state = 'completed' AND NOT EXISTS (SELECT FROM done d WHERE d.id = f.id)")" -eq 0
figure "last attempts that were lost and not discarded" "$(sql "SELECT count(*) FROM queue.finished_job WHERE kind LIKE 'last%' AND state <> 'discarded'")" -eq 0
LATE="SELECT coalesce(percentile_disc(%s) WITHIN GROUP (ORDER BY extract(epoch FROM f.finished_at - greatest(a.expires_at, f.run_at))), 0)
	FROM queue.finished_job f JOIN asked a USING (id) WHERE f.state = 'cancelled'"
# shellcheck disable=SC2059
figure "cancelled after expires_at, median" "$(sql "$(printf "$LATE" 0.5)")" -le 0.5 s
# shellcheck disable=SC2059
figure "cancelled after expires_at, at most (restarts and late commits are in it)" "$(sql "$(printf "$LATE" 1.0)")" -le 20 s
figure "deadlines left" "$(sql "SELECT count(*) FROM queue.deadline")" -eq 0
bench_end
