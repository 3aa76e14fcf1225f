#!/bin/bash
# Jobs that depend on others: one behind 10,000 as a ratio to 10,000 free jobs, interleaved, median of seven; 10,000 behind
# one; a chain of 1,000 steps, and as a workflow.
. "$(dirname "$0")/common.sh"
bench_start "Dependencies" "max_wal_size = 4GB"
JOBS=$((10000 / SCALE))
STEPS=$((1000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('noop', 'noop');
SQL
load noop 2000
until_empty

# ended_in: drains the queue, and prints the seconds from the resume to the end of its last job.  drain itself looks every
# 10 ms, a fifth of what 10,000 free jobs take.
ended_in() {
	psql_file <<SQL
SET statement_timeout = '10min';
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('default') \g /dev/null
$WAIT_EMPTY
SELECT round(extract(epoch FROM max(finished_at) - :'start')::numeric, 4) FROM queue.recent_job;
SQL
}

free= behind= out=
for round in 1 2 3 4 5 6 7; do
	sql "SELECT queue.pause('default')" >/dev/null
	load noop $JOBS
	f=$(ended_in)
	sql "SELECT queue.pause('default')" >/dev/null
	sql "SELECT queue.enqueue('noop', depends_on => array_agg(id)) FROM queue.enqueue_many('noop', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, $JOBS))) id" >/dev/null
	b=$(ended_in)
	sql "SELECT queue.pause('default')" >/dev/null
	first=$(sql "SELECT queue.enqueue('noop')")
	sql "SELECT count(queue.enqueue('noop', depends_on => ARRAY[$first])) FROM generate_series(1, $JOBS)" >/dev/null
	o=$(ended_in)
	free+="$f " behind+="$(calc "$b / $f") " out+="$(calc "$o / $f") "
done
figure "$JOBS free jobs, s ($free)" "$(tr ' ' '\n' <<<"${free% }" | median)" info
figure "one job behind $JOBS, ratio to that ($behind)" "$(tr ' ' '\n' <<<"${behind% }" | median)" -le 1.5
figure "$JOBS jobs behind one, ratio ($out)" "$(tr ' ' '\n' <<<"${out% }" | median)" info
sql "SELECT queue.pause('default')" >/dev/null
psql_file <<SQL >/dev/null
DO \$\$
DECLARE previous bigint;
BEGIN
	FOR i IN 1..$STEPS LOOP
		previous := queue.enqueue('noop', depends_on => CASE WHEN previous IS NOT NULL THEN ARRAY[previous] END);
	END LOOP;
END \$\$;
SQL
figure "a chain of $STEPS steps" "$(drain)" -lt 2 s
sql "SELECT queue.pause('default')" >/dev/null
sql "SELECT count(*) FROM queue.enqueue_workflow((SELECT jsonb_agg(jsonb_build_object('ref', 's' || i, 'kind', 'noop',
	'depends_on', CASE WHEN i > 1 THEN jsonb_build_array('s' || i - 1) ELSE '[]' END)) FROM generate_series(1, $STEPS) i))" >/dev/null
figure "the same as a workflow" "$(drain)" -lt 2 s
bench_end
