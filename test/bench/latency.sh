#!/bin/bash
# 4b. From the client's COMMIT to the handler's clock_timestamp(), at an idle queue whose executor is warm: 1,000
# samples 10 ms apart. Taken twice: from just after COMMIT returned, which is what the bounds are for, and from just
# before it was sent, which adds the commit's own fsync (printed as well: it is the disk's, not the queue's). Then
# samples 500 ms apart, when everybody has gone to sleep.
. "$(dirname "$0")/common.sh"
bench_start "Latency of a warm executor"
SAMPLES=$((1000 / SCALE))

psql_file <<'SQL' >/dev/null
CREATE TABLE ran (i int, at timestamptz);
CREATE TABLE sent (i int, before bigint, after bigint);
CREATE FUNCTION note_time(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran VALUES ((j.payload->>'i')::int, clock_timestamp());
END $$;
SELECT queue.register_sql_handler('note_time', 'note_time');
SQL

# measure name samples pause_us p50-bound p99-bound
measure() {
	client "host=$PGHOST port=$PGPORT user=postgres dbname=$DB" note_time 100 10000 >/dev/null
	until_empty
	sql "TRUNCATE ran, sent"
	client "host=$PGHOST port=$PGPORT user=postgres dbname=$DB" note_time "$2" "$3" >"$LIB_DIR/sent"
	until_empty
	psql_file -c "\\copy sent FROM '$LIB_DIR/sent'"
	figure "$1: samples" "$(sql "SELECT count(*) FROM ran JOIN sent USING (i)")" -eq "$2"
	local q="SELECT round((percentile_disc(%s) WITHIN GROUP (ORDER BY extract(epoch FROM at) * 1000 - %s / 1000.0))::numeric, 3) FROM ran JOIN sent USING (i)"
	figure "  from before COMMIT is sent, p50" "$(sql "$(printf "$q" 0.5 before)")" info "" ms
	figure "  from before COMMIT is sent, p99" "$(sql "$(printf "$q" 0.99 before)")" info "" ms
	figure "  from after COMMIT returned, p50" "$(sql "$(printf "$q" 0.5 after)")" "$4" "$5" ms
	figure "  from after COMMIT returned, p99" "$(sql "$(printf "$q" 0.99 after)")" "$4" "$6" ms
	figure "  the COMMIT itself, p50" \
		"$(sql "SELECT round((percentile_disc(0.5) WITHIN GROUP (ORDER BY after - before)) / 1000.0, 3) FROM sent")" info "" ms
}
measure "10 ms apart" "$SAMPLES" 10000 -lt 0.5 3
measure "500 ms apart" $((SAMPLES / 50)) 500000 info "" ""
bench_end
