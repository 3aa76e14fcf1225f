#!/bin/bash
# 10. PARTS="leased clients waiting". What must not slow a fetch down: 50,000 jobs leased and unfinished ahead of the head against 100; 1,000,000 waiting
# against 10,000; 64 and 150 clients on one queue against 16.  Fetch + complete as separate transactions, prepared.
. "$(dirname "$0")/common.sh"
bench_start "Depth and width of a queue" "max_connections = 200" "max_wal_size = 4GB"
ROUNDS=${ROUNDS:-5}
SPAN=${SPAN:-4}
PARTS=${PARTS:-leased clients waiting}

script worker <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default', kinds => '{job}') \gset
SELECT queue.complete(:id, :attempt);
SQL
top_up() {
	local have
	have=$(sql "SELECT count(*) FROM queue.live_job WHERE leased_until IS NULL")
	[ "$have" -ge "$1" ] || load job $(($1 - have))
	sql "VACUUM ANALYZE queue.live_job" >/dev/null
	sql "CHECKPOINT" >/dev/null
}
ratio() { paste "$1" "$2" | awk '{print $1 / $2}' | median; }

# ---- leased ahead of the head
if [[ $PARTS == *leased* ]]; then
: >"$LIB_DIR/few" : >"$LIB_DIR/many"
for round in $(seq "$ROUNDS"); do
	for n in 100 $((50000 / SCALE)); do
		top_up $((n + 14000 * SPAN))
		sql "CREATE TABLE leased AS SELECT id, attempt FROM queue.fetch('default', $n, lease => '1 hour', kinds => '{job}')" >/dev/null
		bench_pgbench worker -M prepared -c 1 -T "$SPAN"
		tps worker >>"$LIB_DIR/$([ "$n" = 100 ] && echo few || echo many)"
		sql "SELECT count(*) FROM queue.complete_many((SELECT array_agg(id) FROM leased), (SELECT array_agg(attempt) FROM leased)); DROP TABLE leased" >/dev/null
	done
done
figure "$((50000 / SCALE)) leased ahead of the head against 100 ($(median <"$LIB_DIR/many")/s; $(median <"$LIB_DIR/few")/s)" \
	"$(ratio "$LIB_DIR/many" "$LIB_DIR/few")" -ge 0.95 x
fi

# ---- clients
if [[ $PARTS == *clients* ]]; then
for round in $(seq "$ROUNDS"); do
	for clients in 16 64 150; do
		top_up $((14000 * SPAN))
		bench_pgbench worker -M prepared -c "$clients" -j 2 -T "$SPAN"
		tps worker >>"$LIB_DIR/clients$clients"
	done
done
for clients in 64 150; do
	figure "$clients clients against 16 ($(median <"$LIB_DIR/clients$clients")/s; $(median <"$LIB_DIR/clients16")/s)" \
		"$(ratio "$LIB_DIR/clients$clients" "$LIB_DIR/clients16")" -ge 0.8 x
done
fi

# ---- waiting jobs: two databases, turn by turn
if [[ $PARTS == *waiting* ]]; then
sql "CREATE DATABASE shallow"
DB=shallow sql "CREATE EXTENSION queue"
for round in $(seq "$ROUNDS"); do
	for db in bench shallow; do
		DB=$db top_up $([ $db = bench ] && echo $((1000000 / SCALE)) || echo 10000)
		DB=$db bench_pgbench worker -M prepared -c 4 -j 2 -t 2400
		tps worker >>"$LIB_DIR/$db"
	done
done
figure "$((1000000 / SCALE)) waiting against 10,000 ($(median <"$LIB_DIR/bench")/s; $(median <"$LIB_DIR/shallow")/s)" \
	"$(ratio "$LIB_DIR/bench" "$LIB_DIR/shallow")" -ge 0.95 x
fi

bench_end
