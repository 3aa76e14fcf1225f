#!/bin/bash
# FIFO groups, as ratios to jobs without a group in the same run: 100,000 jobs in one group, 100,000 groups of one job and
# 1,000 groups of 100, from resume to empty, interleaved, median of three; what promotion alone takes; the order with 5 % of
# the attempts failing, by SQL handlers and by 8 external workers; how soon the head of an idle group starts; 3,000 steps of
# one group under a held snapshot; WAL of jobs without a group.
. "$(dirname "$0")/common.sh"
bench_start "FIFO groups" "max_connections = 50" "max_wal_size = 4GB"
JOBS=$((100000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('noop', 'noop');
CREATE TABLE ledger (n bigserial, grp text, id bigint);
CREATE FUNCTION step(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF j.failures = 0 AND j.id % 20 = 0 THEN
		RAISE EXCEPTION 'every 20th';
	END IF;
	INSERT INTO ledger (grp, id) VALUES (j.group_key, j.id);
END $$;
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "10 ms", "jitter": 0}');
SELECT queue.register_sql_handler('step', 'step', '{q}');
CREATE VIEW disorder AS SELECT FROM (SELECT id, lag(id) OVER (PARTITION BY grp ORDER BY n) AS before FROM ledger) x WHERE before > id;
CREATE TABLE started (id bigint, at timestamptz);
CREATE FUNCTION start(j queue.job) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.started VALUES (j.id, clock_timestamp()) $$;
SELECT queue.register_sql_handler('start', 'start');
SQL

# load_groups kind jobs group-expression-of-i [queue]: in transactions of 10,000
load_groups() {
	psql_file <<SQL >/dev/null
SELECT format('SELECT count(queue.enqueue(%L, ''{}'', %L, group_key => %s)) FROM generate_series(%s, %s) i',
              '$1', '${4:-default}', \$\$$3\$\$, first, least(first + 9999, $2))
FROM generate_series(1, $2, 10000) first \gexec
SQL
}
# rate jobs: drains and prints jobs a second
rate() { calc "$1 / $(drain)" "%.0f\n"; }
# until everything that can be is let in: as many are pending as have another one before them
promoted() { wait_sql 300 "NOT EXISTS (SELECT FROM queue.live_job WHERE run_at = 'infinity')"; }

free= one= ones= thousand= promotion=
for round in 1 2 3; do
	sql "SELECT queue.pause('default')" >/dev/null
	load_groups noop $JOBS NULL
	f=$(rate $JOBS)
	sql "SELECT queue.pause('default')" >/dev/null
	load_groups noop $JOBS "'g'"
	o=$(rate $JOBS)
	sql "SELECT queue.pause('default')" >/dev/null
	load_groups noop $JOBS "'g' || i"
	start=$(date +%s.%N)
	promoted
	promotion+="$(calc "$(date +%s.%N) - $start") "
	n=$(rate $JOBS)
	sql "SELECT queue.pause('default')" >/dev/null
	load_groups noop $JOBS "'g' || (i % 1000)"
	t=$(rate $JOBS)
	free+="$f " one+="$(calc "$o / $f") " ones+="$(calc "$n / $f") " thousand+="$(calc "$t / $f") "
done
figure "jobs a second without a group ($free)" "$(tr ' ' '\n' <<<"${free% }" | median)" info
figure "one group of $JOBS, ratio to that ($one)" "$(tr ' ' '\n' <<<"${one% }" | median)" -ge 0.3
figure "$JOBS groups of one, ratio ($ones)" "$(tr ' ' '\n' <<<"${ones% }" | median)" -ge 0.3
figure "1,000 groups, ratio ($thousand)" "$(tr ' ' '\n' <<<"${thousand% }" | median)" info
figure "letting the rest of $JOBS groups in after they were loaded ($promotion)" "$(tr ' ' '\n' <<<"${promotion% }" | median)" info "" s

load_groups step $JOBS "'g' || (i % 1000)" q
until_empty
figure "1,000 groups, 5 % fail once: jobs that ran" "$(sql "SELECT count(DISTINCT id) FROM ledger")" -eq "$JOBS"
figure ".. more than once" "$(sql "SELECT count(*) - count(DISTINCT id) FROM ledger")" -eq 0
figure ".. out of order" "$(sql "SELECT count(*) FROM disorder")" -eq 0

# external workers, each job in three transactions, as many as there are jobs; against jobs without a group in the same run
EXTERNAL=$((20000 / SCALE))
for kind in free ext; do
	script $kind <<SQL
SELECT coalesce(max(id), 0) AS id, coalesce(max(attempt), 0) AS attempt FROM queue.fetch('default', kinds => '{$kind}', wait => '20 s') \gset
\if :id > 0
INSERT INTO ledger (grp, id) SELECT coalesce(extra ->> 'group_key', 'of ' || id), id FROM queue.live_job WHERE id = :id;
SELECT queue.complete(:id, :attempt);
\endif
SQL
done
# external kind group-expression: jobs a second
external() {
	load_groups "$1" $EXTERNAL "$2"
	[ "$1" = free ] || sleep 1	# the scheduler lets the first of each group in meanwhile
	local start=$(date +%s.%N)
	bench_pgbench "$1" -c 8 -j 2 -t $((EXTERNAL / 8))
	calc "$EXTERNAL / ($(date +%s.%N) - $start)" "%.0f"
}
free=$(external free NULL)
sql "TRUNCATE ledger" >/dev/null
grouped=$(external ext "'g' || (i % 1000)")
figure "external, 8 clients, fetch and complete apart: jobs a second without a group" "$free" info
figure "1,000 groups ($grouped), ratio to that" "$(calc "$grouped / $free")" -ge 0.3
figure ".. that ran" "$(sql "SELECT count(DISTINCT id) FROM ledger")" -eq "$EXTERNAL"
figure ".. out of order" "$(sql "SELECT count(*) FROM disorder")" -eq 0

psql_file <<'SQL' >/dev/null
CREATE TABLE sent (id bigint, at timestamptz);
DO $$
DECLARE at timestamptz; job bigint;
BEGIN
	FOR i IN 1..200 LOOP
		job := queue.enqueue('start', '{}', group_key => 'idle' || i % 10);
		at := clock_timestamp();
		COMMIT;
		INSERT INTO sent VALUES (job, at);
		COMMIT;
		PERFORM queue.wait_for(job, '10 s');
		COMMIT;
	END LOOP;
END $$;
SQL
figure "an idle group's head starts, ms after its commit began, p50" \
	"$(sql "SELECT round(1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY started.at - sent.at))::numeric, 2) FROM sent JOIN started USING (id)")" -le 3 ms

hold_snapshot
STEPS=$((3000 / SCALE))
load_groups held $STEPS "'long'"
steps() {
	psql_file <<SQL
SELECT clock_timestamp() AS start \gset
DO \$\$
DECLARE j queue.job; n int := 0;
BEGIN
	WHILE n < $1 LOOP
		SELECT * INTO j FROM queue.fetch('default', kinds => '{held}', wait => '5 s');
		COMMIT;
		IF j.id IS NOT NULL THEN
			PERFORM queue.complete(j.id, j.attempt);
			n := n + 1;
			COMMIT;
		END IF;
	END LOOP;
END \$\$;
SELECT round(extract(epoch FROM clock_timestamp() - :'start')::numeric, 3);
SQL
}
first=$(steps $((STEPS / 6)))
middle=$(steps $((STEPS / 6 * 4)))
last=$(steps $((STEPS / 6)))
figure "held snapshot: the last sixth of $STEPS steps, ratio to the first ($first s, $middle s, $last s)" "$(calc "$last / $first")" -le 1.3
release_snapshot
bench_end
