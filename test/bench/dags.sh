#!/bin/bash
# dags.sh [workflows, 200]: workflows of random graphs of up to 60 jobs (graphs.sql; a third of them is undone) while executors
# are killed three times, compared with what had to become of them and with a ledger of what ran; then 100 workflows that
# are cancelled while their jobs run.  SEED=0.4 makes the graphs.
. "$(dirname "$0")/common.sh"
FLOWS=${1:-$((200 / SCALE))}
SEED=${SEED:-0.4}
CANCELLED=$((100 / SCALE))
bench_start "$FLOWS workflows of random graphs, seed $SEED" "max_wal_size = 4GB"

psql_file <"$ROOT/test/graphs.sql" >/dev/null
psql_file <<SQL >/dev/null
SELECT queue.pause('q');
SELECT setseed($SEED);
DO \$\$ BEGIN FOR i IN 1..$FLOWS LOOP PERFORM graph(1 + i % 60, i % 3 = 0); COMMIT; END LOOP; END \$\$;
SELECT queue.resume('q');
SQL
jobs=$(sql "SELECT count(*) FROM job")
figure "jobs" "$jobs" info
killed=0
for round in 1 2 3; do
	wait_sql 300 "count(*) > $((jobs * round / 5)) FROM ledger"
	pid=$(sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue executor' LIMIT 1")
	if [ -n "$pid" ] && kill -KILL "$pid"; then killed=$((killed + 1)); fi
	wait_sql 60 "true"
done
figure "executors killed" "$killed" -eq 3
wait_sql 600 "NOT EXISTS (SELECT FROM queue.workflow_base WHERE finished_at IS NULL) AND NOT EXISTS (SELECT FROM queue.live_job)"
# a job whose process died twice is discarded, and so its graph ends in another way than was foreseen
sql "CREATE TABLE died AS SELECT DISTINCT flow FROM job JOIN queue.finished_job f USING (id) WHERE f.extra->>'last_error' ~ 'died'" >/dev/null
figure "workflows left out, because the process of a job died twice" "$(sql "SELECT count(*) FROM died")" info
sql "CREATE TABLE bad AS SELECT w.what, coalesce(j.flow, w.id) AS flow FROM wrong w LEFT JOIN job j ON j.id = w.id AND w.what !~ 'finished|count|comp|callback'" >/dev/null
figure "what is wrong: $(sql "SELECT coalesce(string_agg(DISTINCT what, ', '), 'nothing') FROM bad WHERE flow NOT IN (SELECT flow FROM died)")" \
	"$(sql "SELECT count(*) FROM bad WHERE flow NOT IN (SELECT flow FROM died)")" -eq 0
figure "states in which they ended" "$(sql "SELECT string_agg(state || ' ' || n, ', ') FROM (SELECT state, count(*) AS n FROM queue.workflow GROUP BY 1 ORDER BY 1) x")" info

psql_file <<SQL >/dev/null
TRUNCATE ledger;
CREATE TABLE cancelled (flow bigint, at timestamptz, live bigint);
SELECT queue.pause('q');
DO \$\$ BEGIN FOR i IN 1..$CANCELLED LOOP
	PERFORM queue.enqueue_workflow((SELECT jsonb_agg(jsonb_build_object('kind', 'slow', 'queue', 'q', 'payload', '{"sleep": 0.005}'::jsonb)) FROM generate_series(1, 20)), 'cancel', 'q');
END LOOP; END \$\$;
SELECT queue.resume('q');
SQL
wait_sql 60 "count(*) > 10 FROM ledger"
psql_file <<'SQL' >/dev/null
DO $$
DECLARE w bigint;
BEGIN
	FOR w IN SELECT id FROM queue.workflow_base WHERE name = 'cancel' ORDER BY id LOOP
		PERFORM queue.cancel_workflow(w);
		COMMIT;
		INSERT INTO cancelled SELECT w, clock_timestamp(), count(*) FROM queue.workflow_job JOIN queue.live_job ON id = job_id WHERE workflow = w;
		COMMIT;
	END LOOP;
END $$;
SQL
figure "live jobs of $CANCELLED workflows after their cancel" "$(sql "SELECT sum(live) FROM cancelled")" -eq 0
wait_sql 60 "count(*) = 0 FROM queue.workflow_base WHERE finished_at IS NULL"
figure "jobs of them that ran after it" "$(sql "SELECT count(*) FROM ledger l JOIN cancelled c ON c.flow = l.flow WHERE l.at > c.at")" -eq 0
figure "of them cancelled before they had completed" "$(sql "SELECT count(*) FROM queue.workflow WHERE name = 'cancel' AND state = 'cancelled'")" -gt 0
bench_end
