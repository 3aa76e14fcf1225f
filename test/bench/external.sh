#!/bin/bash
# 9. External workers against the textbook queue (UPDATE .. FOR UPDATE SKIP LOCKED, then DELETE by key), everything
# prepared, interleaved pairs: fetch and complete as two transactions at 1, 4 and 16 clients; with complete_ids in one
# call; with claim => 'session'; in batches of 100.  ROUNDS=5, SPAN=4 seconds a measurement.
. "$(dirname "$0")/common.sh"
bench_start "External workers against the textbook" "max_connections = 50" "max_wal_size = 4GB"
ROUNDS=${ROUNDS:-5}
SPAN=${SPAN:-4}

psql_file <<'SQL' >/dev/null
CREATE TABLE textbook (id bigserial PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT clock_timestamp(), payload jsonb NOT NULL DEFAULT '{}',
	attempt int NOT NULL DEFAULT 0, locked_until timestamptz) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON textbook (run_at, id);
SQL

CLAIM="UPDATE textbook SET attempt = attempt + 1, locked_until = now() + interval '5 min' WHERE id = (SELECT id FROM textbook
	WHERE run_at <= now() AND (locked_until IS NULL OR locked_until < now()) ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
	RETURNING id, payload"
script textbook <<SQL
$(echo $CLAIM) \gset
DELETE FROM textbook WHERE id = :id;
SQL
script queue <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default') \gset
SELECT queue.complete(:id, :attempt);
SQL
script one_call <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default', complete_ids => ARRAY[:id::bigint], complete_attempts => ARRAY[:attempt::int]) \gset
SQL
script session <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default', claim => 'session') \gset
SELECT queue.complete(:id, :attempt);
SQL
BATCH=$(echo $CLAIM | sed 's/WHERE id = (/WHERE id = ANY (ARRAY(/; s/LIMIT 1/LIMIT 100/; s/LOCKED)/LOCKED))/')
script textbook_batch <<SQL
WITH c AS ($BATCH) SELECT array_agg(id) AS ids, count(payload) AS n FROM c \gset
DELETE FROM textbook WHERE id = ANY (:ids::bigint[]);
SQL
script queue_batch <<'SQL'
SELECT array_agg(id) AS ids, array_agg(attempt) AS attempts, count(payload) AS n FROM queue.fetch('default', 100) \gset
SELECT count(*) FROM queue.complete_many(:ids::bigint[], :attempts::int[]);
SQL

# fill jobs: both lines hold that many
fill() {
	sql "INSERT INTO textbook (payload) SELECT '{}' FROM generate_series((SELECT count(*) FROM textbook) + 1, $1)" >/dev/null
	local have
	have=$(sql "SELECT count(*) FROM queue.live_job")
	[ "$have" -ge "$1" ] || load job $(($1 - have))
	sql "VACUUM ANALYZE textbook" >/dev/null
	sql "VACUUM ANALYZE queue.live_job" >/dev/null
	sql "CHECKPOINT" >/dev/null
}
# rate name clients
rate() {
	bench_pgbench "$1" -M prepared -c "$2" -j "$(($2 < 2 ? 1 : 2))" -T "$SPAN" -D id=0 -D attempt=0
	tps "$1"
}
declare -A RATES
# measure jobs clients name...: one round of these, one after the other
measure() {
	local jobs=$1 clients=$2 name r
	shift 2
	for name in "$@"; do
		fill "$jobs"
		r=$(rate "$name" "$clients")
		RATES[$name.$clients]+="$r "
	done
}
# ratio name base clients: the median of the rounds' ratios
ratio() { paste <(tr ' ' '\n' <<<"${RATES[$1.$3]}") <(tr ' ' '\n' <<<"${RATES[$2.$3]}") | awk 'NF == 2 {print $1 / $2}' | median; }
med() { tr ' ' '\n' <<<"${RATES[$1.$2]}" | grep . | median; }

for round in $(seq "$ROUNDS"); do
	for clients in 1 4 16; do
		measure $((40000 * SPAN)) $clients textbook queue one_call $([ $clients != 4 ] || echo session)
	done
	measure $((200000 * SPAN)) 4 textbook_batch queue_batch
done
for clients in 1 4 16; do
	figure "fetch + complete, $clients clients ($(med queue $clients)/s; textbook $(med textbook $clients)/s)" "$(ratio queue textbook $clients)" -ge 0.97 x
	figure "complete_ids in the fetch, $clients clients ($(med one_call $clients)/s)" "$(ratio one_call textbook $clients)" -ge 1.7 x
done
figure "claim => 'session', 4 clients ($(med session 4)/s)" "$(ratio session textbook 4)" -ge 1.2 x
figure "batches of 100, 4 clients ($(calc "$(med queue_batch 4) * 100" %.0f) jobs/s; textbook $(calc "$(med textbook_batch 4) * 100" %.0f))" \
	"$(ratio queue_batch textbook_batch 4)" -ge 1.2 x
bench_end
