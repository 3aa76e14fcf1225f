#!/bin/bash
# HTTP delivery by one worker process: 20,000 jobs to a local nginx, beside a Node fetch loop over a SKIP LOCKED table;
# 2,000 jobs to an endpoint that sleeps a second, 1,000 at once; the worker's memory from 10,000 to 100,000 deliveries;
# and what it holds while 1,000 requests are under way.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/http.sh"
bench_start "HTTP delivery" "queue.log_level = 'debug1'" "max_connections = 60"
nginx_start
server_start http
JOBS=$((20000 / SCALE))

sql "SELECT queue.register_http_handler('hook', '$NGINX_URL')" >/dev/null
worker=$(http_worker)
deliver() {
	sql "SELECT queue.pause('default')" >/dev/null
	load hook "$1" "jsonb_build_object('order', i)"
	drain
}

rates=$(for round in 1 2 3; do calc "$JOBS / $(deliver $JOBS)" "%.0f\n"; done)
rate=$(median <<<"$rates")
figure "deliveries a second to nginx, keep-alive ($(echo $rates))" "$rate" -ge 5000 /s
figure "succeeded" "$(sql "SELECT succeeded FROM queue.stat_endpoint")" -eq $((3 * JOBS))

# The same with Node: 20 loops, each a transaction with SELECT .. FOR UPDATE SKIP LOCKED, fetch, DELETE.
if command -v npm >/dev/null && (cd "$LIB_DIR" && npm install --silent --no-fund --no-audit pg undici >/dev/null 2>&1); then
	sql "CREATE TABLE job (id bigserial PRIMARY KEY, payload jsonb);
		INSERT INTO job (payload) SELECT jsonb_build_object('order', i) FROM generate_series(1, $JOBS) i; VACUUM ANALYZE job" >/dev/null 2>&1 ||
		{ sql "CREATE TABLE job (id bigserial PRIMARY KEY, payload jsonb)"; sql "INSERT INTO job (payload) SELECT jsonb_build_object('order', i) FROM generate_series(1, $JOBS) i"; sql "VACUUM ANALYZE job"; } >/dev/null
	cat >"$LIB_DIR/loop.js" <<'JS'
const { Client } = require('pg');
async function loop() {
	const c = new Client({ host: process.env.PGHOST, port: process.env.PGPORT, user: 'postgres', database: 'bench' });
	await c.connect();
	for (;;) {
		await c.query('BEGIN');
		const r = await c.query({ name: 'take', text: 'SELECT id, payload FROM job ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1' });
		if (r.rows.length === 0) { await c.query('COMMIT'); break; }
		const a = await fetch(process.argv[2], { method: 'POST', body: JSON.stringify(r.rows[0].payload), headers: { 'content-type': 'application/json' } });
		await a.text();
		if (a.status === 200) await c.query({ name: 'done', text: 'DELETE FROM job WHERE id = $1', values: [r.rows[0].id] });
		await c.query('COMMIT');
	}
	await c.end();
}
const start = process.hrtime.bigint();
Promise.all(Array.from({ length: 20 }, loop)).then(() => console.log(Number(process.hrtime.bigint() - start) / 1e9));
JS
	seconds=$(node "$LIB_DIR/loop.js" "$NGINX_URL")
	node_rate=$(calc "$JOBS / $seconds" "%.0f")
	figure "a Node fetch loop over a SKIP LOCKED table" "$node_rate" info - /s
	figure "times as fast" "$(calc "$rate / $node_rate")" -gt 1 x
else
	echo "      (no npm: no comparison with Node)"
fi

# 2,000 jobs, each a second, 1,000 at once
sql "SELECT queue.register_http_handler('second', '$SERVER_URL/sleep/1', max_running => 1000)" >/dev/null
sql "SELECT queue.pause('default')" >/dev/null
load second $((2000 / SCALE))
figure "seconds for $((2000 / SCALE)) jobs of a second each, max_running 1000" "$(drain)" -lt 4 s

# memory
done_so_far=$(sql "SELECT sum(succeeded) FROM queue.stat_endpoint")
[ "$done_so_far" -ge 10000 ] || deliver 10000 >/dev/null
small=$(rss_anon "$worker")
for round in 1 2 3 4; do deliver $((20000 / SCALE)) >/dev/null; done
large=$(rss_anon "$worker")
figure "kB that the worker's RssAnon grew ($small to $large) to $(sql "SELECT sum(succeeded) FROM queue.stat_endpoint") deliveries" \
	$((large - small)) -le 2048 kB
figure "the worker is still the same process" "$(http_worker)" -eq "$worker"

# what it holds while 1,000 requests are under way for ten seconds
sql "SELECT queue.register_http_handler('ten', '$SERVER_URL/sleep/10', max_running => 1000)" >/dev/null
load ten 1000
wait_sql 5 "(SELECT in_flight = 1000 FROM queue.stat_endpoint WHERE kind = 'ten')"
# (nothing finishes in the next eight seconds)
sleep 0.3
pg timeout 8 "$BIN/psql" -X -q -A -t -d bench >"$LIB_DIR/samples" <<SQL || true
SELECT (backend_xmin IS NULL AND backend_xid IS NULL)::text || ' ' ||
       coalesce((xact_start > clock_timestamp() - interval '1 s')::text, 'none') || ' ' ||
       (SELECT in_flight FROM queue.stat_endpoint WHERE kind = 'ten')
FROM pg_stat_activity WHERE backend_type = 'queue http' \watch 0.05
SQL
grep -E '^(true|false) ' "$LIB_DIR/samples" >"$LIB_DIR/samples.only" || true
figure "samples with 1,000 requests under way" "$(grep -c ' 1000$' "$LIB_DIR/samples.only")" -ge $((100 / SCALE))
figure "of them with a snapshot or a transaction id" "$(grep -c '^false' "$LIB_DIR/samples.only" || true)" -eq 0
figure "of them with a transaction older than a second" "$(grep -c '^[a-z]* false' "$LIB_DIR/samples.only" || true)" -eq 0
until_empty
bench_end
