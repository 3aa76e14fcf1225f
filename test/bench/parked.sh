#!/bin/bash
# 6. With 100,000 jobs of a kind without handler and 100,000 of a paused handler waiting ahead, a job of another kind
# starts as soon as at an empty queue (p50 within 20 % or 0.1 ms), and fetch(kinds) keeps 0.9 of its rate.
. "$(dirname "$0")/common.sh"
bench_start "Parked jobs ahead"
JOBS=$((100000 / SCALE))
SAMPLES=$((500 / SCALE))
T=$((6 / SCALE > 2 ? 6 / SCALE : 2))

psql_file <<'SQL' >/dev/null
CREATE TABLE ran (i int, at timestamptz);
CREATE TABLE sent (i int, before bigint, after bigint);
CREATE FUNCTION note_time(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran VALUES ((j.payload->>'i')::int, clock_timestamp());
END $$;
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('note_time', 'note_time');
SELECT queue.register_sql_handler('held', 'noop');
SELECT queue.pause_handler('held');
SQL
script pair <<'SQL'
SELECT id, attempt FROM queue.fetch('default', kinds => '{external}') \gset
SELECT queue.complete(:id, :attempt);
SQL

latency() {
	client "host=$PGHOST port=$PGPORT user=postgres dbname=$DB" note_time 100 10000 >/dev/null
	wait_sql 30 "NOT EXISTS (SELECT FROM queue.job WHERE kind = 'note_time')"
	sql "TRUNCATE ran, sent"
	client "host=$PGHOST port=$PGPORT user=postgres dbname=$DB" note_time "$SAMPLES" 10000 >"$LIB_DIR/sent"
	wait_sql 30 "NOT EXISTS (SELECT FROM queue.job WHERE kind = 'note_time')"
	psql_file -c "\\copy sent FROM '$LIB_DIR/sent'"
	sql "SELECT round((percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM at) * 1000 - before / 1000.0))::numeric, 3) FROM ran JOIN sent USING (i)"
}
fetch_rate() {
	load external "$JOBS" "jsonb_build_object('i', i)"
	bench_pgbench pair -M prepared -c 4 -j 2 -T "$T"
	tps pair
}

park() {
	load nobody "$JOBS"
	load held "$JOBS"
}

empty_p50=$(latency)
park
full_p50=$(latency)
figure "jobs waiting ahead" "$(sql "SELECT count(*) FROM queue.job WHERE kind IN ('nobody', 'held')")" -eq $((2 * JOBS))
figure "p50 from before COMMIT is sent to the handler, empty queue" "$empty_p50" info "" ms
figure "  with parked jobs ahead" "$full_p50" -le "$(calc "$empty_p50 * 1.2 > $empty_p50 + 0.1 ? $empty_p50 * 1.2 : $empty_p50 + 0.1" %.3f)" ms

ratios= empty= full=
for pair in 1 2 3; do
	sql "SELECT queue.purge('default')" >/dev/null
	empty_rate=$(fetch_rate)
	sql "SELECT queue.purge('default')" >/dev/null
	park
	full_rate=$(fetch_rate)
	ratios+="$(calc "$full_rate / $empty_rate") " empty+="$empty_rate " full+="$full_rate "
done
middle() { tr ' ' '\n' | grep . | median; }
figure "fetch(kinds) and complete a second, nothing else waiting" "$(calc "$(middle <<<"$empty")" %.0f)" info "" /s
figure "  with parked jobs ahead" "$(calc "$(middle <<<"$full")" %.0f)" info "" /s
figure "  ratio ($ratios)" "$(middle <<<"$ratios")" -ge 0.9
bench_end
