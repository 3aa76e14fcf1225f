#!/bin/bash
# 3. With a REPEATABLE READ transaction open throughout and 300,000 jobs waiting, four pgbench clients fetch one job and
# complete it, in two transactions: the rate must not fall as dead rows grow, nor the slowest fetch grow; also with a
# client that gives back an old claim twice a second.  Beside it the textbook queue (UPDATE ... FOR UPDATE SKIP LOCKED,
# then DELETE) under the same snapshot.  Latencies are of the whole pair, fetch and complete: more than the fetch alone.
. "$(dirname "$0")/common.sh"
bench_start "A held snapshot"
SECONDS_EACH=$((20 / SCALE > 8 ? 20 / SCALE : 8))
JOBS=$((300000 / SCALE))

script pair <<'SQL'
SELECT id, attempt FROM queue.fetch('default') \gset
SELECT queue.complete(:id, :attempt);
SQL

psql_file <<'SQL'
CREATE TABLE textbook (id bigserial PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT now(), state text NOT NULL DEFAULT 'available',
                       payload jsonb NOT NULL);
CREATE INDEX ON textbook (run_at, id) WHERE state = 'available';
SQL
script textbook <<'SQL'
UPDATE textbook SET state = 'running' WHERE id = (SELECT id FROM textbook WHERE state = 'available' AND run_at <= now()
    ORDER BY run_at, id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id AS id \gset
DELETE FROM textbook WHERE id = :id;
SQL

# Always 300,000 waiting, whatever the runs take away.
top_up() {
	local have
	have=$(sql "SELECT count(*) FROM queue.live_job")
	[ "$have" -ge $((2 * JOBS)) ] || load external $((2 * JOBS - have)) "jsonb_build_object('i', i)"
}

# run name: one measured run; sets RATE FIRST LAST P999 MAX (milliseconds)
run() {
	rm -f "$LIB_DIR"/log.*
	bench_pgbench "$1" -M prepared -c 4 -j 2 -T "$SECONDS_EACH" -P 1 -l --log-prefix="$LIB_DIR/log"
	[ -z "${VERBOSE:-}" ] || echo "      each second: $(rates "$1" | tr "\n" " ")"
	RATE=$(tps "$1") FIRST=$(first4 "$1") LAST=$(last4 "$1")
	P999=$(cat "$LIB_DIR"/log.* | awk '{print $3 / 1000}' | percentile 99.9)
	MAX=$(cat "$LIB_DIR"/log.* | awk '{print $3 / 1000}' | sort -g | tail -1)
}

top_up
run pair
free_rate=$RATE free_max=$MAX
figure "pairs a second without a snapshot" "$(calc "$RATE" %.0f)" info "" /s
figure "  p99.9 of a pair" "$(calc "$P999")" info "" ms
figure "  slowest pair" "$(calc "$MAX")" info "" ms
slowest=$(calc "2 * $free_max > 50 ? 2 * $free_max : 50")

top_up
hold_snapshot
run pair
figure "pairs a second under a snapshot" "$(calc "$RATE" %.0f)" info "" /s
figure "  last 4 s against first 4 s" "$(calc "$LAST / $FIRST")" -ge 0.85
figure "  against the rate without the snapshot" "$(calc "$RATE / $free_rate")" -ge 0.8
figure "  p99.9 of a pair" "$(calc "$P999")" -lt 10 ms
figure "  slowest pair" "$(calc "$MAX")" -le "$slowest" ms

top_up
pg "$BIN/psql" -X -q -d "$DB" >"$LIB_DIR/releaser.out" 2>&1 <<'SQL' &
SET application_name = 'releaser';
CREATE TEMP TABLE claim AS SELECT row_number() OVER () AS n, id, attempt FROM queue.fetch('default', 200);
DO $$
BEGIN
	FOR i IN 1..200 LOOP
		IF NOT (SELECT queue.release(id, attempt) FROM claim WHERE n = i) THEN
			RAISE EXCEPTION 'the claim was not mine';
		END IF;
		COMMIT;
		PERFORM pg_sleep(0.5);
	END LOOP;
END $$;
SQL
LIB_PIDS+=($!)
wait_sql 10 "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'releaser')"
run pair
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'releaser'" >/dev/null
! grep 'not mine' "$LIB_DIR/releaser.out" || fail "the releasing client lost its claims"
figure "pairs a second, old claims released as well" "$(calc "$RATE" %.0f)" info "" /s
figure "  last 4 s against first 4 s" "$(calc "$LAST / $FIRST")" -ge 0.85
figure "  against the rate without the snapshot" "$(calc "$RATE / $free_rate")" -ge 0.8
figure "  p99.9 of a pair" "$(calc "$P999")" -lt 10 ms
figure "  slowest pair" "$(calc "$MAX")" -le "$slowest" ms
release_snapshot

sql "INSERT INTO textbook (payload) SELECT jsonb_build_object('i', i) FROM generate_series(1, $JOBS) i; VACUUM ANALYZE textbook" 2>/dev/null ||
	{ sql "INSERT INTO textbook (payload) SELECT jsonb_build_object('i', i) FROM generate_series(1, $JOBS) i"; sql "VACUUM ANALYZE textbook"; }
run textbook
textbook_free=$RATE
hold_snapshot
run textbook
release_snapshot
figure "textbook pairs a second without a snapshot" "$(calc "$textbook_free" %.0f)" info "" /s
figure "textbook under a snapshot, the last 4 s" "$(calc "$LAST" %.0f)" info "" /s
figure "  slowest pair" "$(calc "$MAX")" info "" ms
figure "fetch and complete against the textbook's, without a snapshot" "$(calc "$free_rate / $textbook_free")" info
bench_end
