#!/bin/bash
# make bench, make bench-quick: this extension beside its peers, in one run on one cluster.
#
#	suite.sh            everything, an hour;  QUICK=1 suite.sh: some minutes, without the longest parts
#	suite.sh --write    also writes table, figures and charts into doc/ (performance.md, performance.json, performance-*.svg)
#	PARTS="fetch drain" suite.sh    only these: enqueue bulk wide fetch drain wal latency depth idle
#
# What is compared is measured in turns, ROUNDS times, in an order that alternates: on a machine that others use too a
# figure by itself says little, the ratio of two that were taken within seconds says something.  report.pl makes medians,
# spreads and ratios of the samples, and judges the bounds, which are ratios within the run.
#
# Peers that cannot be installed here (npm, apt) are left out, and the report names them.
WRITE=
if [ "${1:-}" = --write ]; then WRITE=1 QUEUE_BENCH_WRITE=1; shift; fi
export QUEUE_BENCH_WRITE=${QUEUE_BENCH_WRITE:-}
. "$(dirname "$0")/common.sh"
WRITE=$QUEUE_BENCH_WRITE
QUICK=${QUICK:-}
ROUNDS=${ROUNDS:-5}
pick() { if [ -n "$QUICK" ]; then echo "$1"; else echo "$2"; fi; }
T=$(pick 1 4)
PARTS=${PARTS:-$(pick "enqueue bulk wide fetch drain wal latency depth" "enqueue bulk wide fetch drain wal latency depth idle")}
SETTINGS=("max_connections = 200" "max_wal_size = 8GB" "shared_buffers = 1GB" "checkpoint_timeout = 30min")
BENCH=$ROOT/test/bench

# ---- peers

# The servers' and npm's packages, best effort.
best_effort() { "$@" >/dev/null 2>&1 || true; }
install_peers() {
	local major share
	share=$("$PG_CONFIG" --sharedir)
	major=$("$PG_CONFIG" --version | grep -oE '[0-9]+' | head -1)
	[ "$(id -u)" != 0 ] || [ -f "$share/extension/pgq.control" ] || best_effort apt-get -qq -y --no-install-recommends install "postgresql-$major-pgq3"
	[ "$(id -u)" != 0 ] || command -v gnuplot >/dev/null || best_effort apt-get -qq -y --no-install-recommends install gnuplot-nox
	[ "$(id -u)" != 0 ] || command -v npm >/dev/null || best_effort apt-get -qq -y --no-install-recommends install nodejs npm
	NODE_DIR=${QUEUE_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/queue-bench}
	NODE=node
	mkdir -p "$NODE_DIR"
	if ! cmp -s "$BENCH/peers/package.json" "$NODE_DIR/package.json" || [ ! -d "$NODE_DIR/node_modules/pg-boss" ]; then
		cp "$BENCH/peers/package.json" "$NODE_DIR/"
		best_effort npm install --prefix "$NODE_DIR" --silent --no-audit --no-fund
	fi
	cp "$BENCH/peers/peers.mjs" "$NODE_DIR/"
	# both want a node that is newer than many distributions'; npm has it as a package
	if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 22 || (+a == 22 && +b >= 18) ? 0 : 1)' 2>/dev/null; then
		NODE=$NODE_DIR/node/node_modules/node-linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')/bin/node
		[ -x "$NODE" ] || best_effort npm install --prefix "$NODE_DIR/node" --silent --no-audit --no-fund "$(basename "$(dirname "$(dirname "$NODE")")")@22"
	fi
}
peer() { (cd "$NODE_DIR" && PGDATABASE=$DB PAYLOAD=$PAYLOAD NODE_NO_WARNINGS=1 "$NODE" peers.mjs "$@"); }

# ---- samples

# sample workload unit system round value
sample() { [ -n "$5" ] || fail "no figure for $1 of $3"; printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$LIB_DIR/samples"; }
# compare workload unit function system...: function prints the figure of one system
compare() {
	local workload=$1 unit=$2 function=$3 round system order value
	shift 3
	for round in $(seq "$ROUNDS"); do
		if [ $((round % 2)) = 1 ]; then order=$*; else order=$(tr ' ' '\n' <<<"$*" | tac); fi
		for system in $order; do
			value=$($function "$system")
			sample "$workload" "$unit" "$system" "$round" "$value"
		done
	done
	for system in "$@"; do
		printf '%-18s %-14s %12s %s\n' "$workload" "$system" \
			"$(awk -F'\t' -v w="$workload" -v s="$system" '$1 == w && $3 == s {print $5}' "$LIB_DIR/samples" | median | xargs printf '%.5g')" "$unit"
	done
}
# bound workload system base -ge|-le ratio: of medians of the rounds' ratios; base '': of the figure itself
bound() { printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$LIB_DIR/bounds"; }
note() { printf '%s\t%s\n' "$1" "$2" >>"$LIB_DIR/notes"; }

bench_start "queue beside its peers" "${SETTINGS[@]}"
: >"$LIB_DIR/samples" : >"$LIB_DIR/bounds" : >"$LIB_DIR/notes"
install_peers
PAYLOAD='{"to": "ada@example.com", "template": "welcome", "user_id": 123456, "locale": "en", "params": {"first_name": "Ada", "plan": "basic"}}'

psql_file <<'SQL' >/dev/null
CREATE TABLE bare (id bigserial PRIMARY KEY, payload jsonb);
CREATE TABLE floor (id bigserial PRIMARY KEY, payload jsonb) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
-- the queue of the textbooks, with what it needs for retries and leases
CREATE TABLE textbook (id bigserial PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT clock_timestamp(), payload jsonb NOT NULL DEFAULT '{}',
	attempt int NOT NULL DEFAULT 0, locked_until timestamptz) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON textbook (run_at, id);
CREATE TABLE advisory (id bigserial PRIMARY KEY, run_at timestamptz NOT NULL DEFAULT clock_timestamp(), payload jsonb NOT NULL DEFAULT '{}',
	attempt int NOT NULL DEFAULT 0) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ON advisory (run_at, id);
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('noop', 'noop');
SELECT queue.create_queue('kept');
SELECT queue.alter_queue('kept', keep_completed => '1 day');
SQL

GRAPHILE= BOSS= PGQ=
if peer graphile install >"$LIB_DIR/peer.log" 2>&1; then GRAPHILE=graphile; else note missing "graphile-worker: $(grep -m1 -i error "$LIB_DIR/peer.log" || tail -1 "$LIB_DIR/peer.log")"; fi
if peer boss install >"$LIB_DIR/peer.log" 2>&1; then BOSS=boss; else note missing "pg-boss: $(grep -m1 -i error "$LIB_DIR/peer.log" || tail -1 "$LIB_DIR/peer.log")"; fi
if sql "CREATE EXTENSION pgq CASCADE" >"$LIB_DIR/peer.log" 2>&1; then
	PGQ=pgq
	sql "SELECT pgq.create_queue('bench'), pgq.register_consumer('bench', 'worker')" >/dev/null
else
	note missing "PgQ: $(head -1 "$LIB_DIR/peer.log")"
fi

settle() { sql "VACUUM ANALYZE textbook, advisory, floor, queue.live_job" >/dev/null; sql "CHECKPOINT" >/dev/null; }

# WARM: seconds that do not count, because the sessions are only coming.
WARM=0
warm_rate() { rates "$1" | tail -n +$((WARM + 1)) | awk '{s += $1} END {print s / NR}'; }

# ---- enqueue: one job a transaction
enqueue_rate() {
	case $1 in
		boss) peer boss enqueue "$CLIENTS" "$T" ;;
		*)
			bench_pgbench "enqueue_$1" -M "$MODE" -c "$CLIENTS" -j 2 -T $((T + WARM)) -P 1
			if [ "$WARM" = 0 ]; then tps "enqueue_$1"; else warm_rate "enqueue_$1"; fi
			;;
	esac
}
many_enqueue() { WARM=2 T=$((T < 3 ? 3 : T)) CLIENTS=64 enqueue_rate "$1"; }
part_enqueue() {
	script enqueue_insert <<<"INSERT INTO bare (payload) VALUES ('$PAYLOAD');"
	script enqueue_queue <<<"SELECT queue.enqueue('mail', '$PAYLOAD');"
	script enqueue_textbook <<<"INSERT INTO textbook (payload) VALUES ('$PAYLOAD');"
	script enqueue_graphile <<<"SELECT graphile_worker.add_job('noop', '$PAYLOAD');"
	script enqueue_pgq <<<"SELECT pgq.insert_event('bench', 'mail', '$PAYLOAD');"
	CLIENTS=16
	for MODE in prepared extended simple; do compare "enqueue_$MODE" /s enqueue_rate insert queue $([ "$MODE" != prepared ] || echo textbook $PGQ $GRAPHILE $BOSS); done
	MODE=prepared
	compare enqueue_64 /s many_enqueue insert queue
	for w in prepared extended simple 64; do bound "enqueue_$w" queue insert -ge 0.9; done
}

# ---- bulk: 1,000 jobs a statement, one client
bulk_rate() {
	case $1 in
		boss | graphile) peer "$1" load 50000 ;;
		*) bench_pgbench "bulk_$1" -M prepared -c 1 -T "$T"; calc "$(tps "bulk_$1") * 1000" ;;
	esac
}
part_bulk() {
	script bulk_insert <<<"INSERT INTO bare (payload) SELECT '$PAYLOAD' FROM generate_series(1, 1000);"
	script bulk_queue <<<"SELECT count(*) FROM queue.enqueue_many('mail', array_fill('$PAYLOAD'::jsonb, ARRAY[1000]));"
	script bulk_pgq <<<"SELECT count(pgq.insert_event('bench', 'mail', '$PAYLOAD')) FROM generate_series(1, 1000);"
	compare bulk "jobs/s" bulk_rate insert queue $PGQ $GRAPHILE $BOSS
	bound bulk queue insert -ge 0.5
	compare transaction "jobs/s" one_transaction insert queue
	bound transaction queue insert -ge 0.5
	psql_file <<<"SELECT queue.purge('default'); TRUNCATE bare;" >/dev/null
}
# All in one transaction.
one_transaction() {
	local n s statement="INSERT INTO bare (payload) SELECT '$PAYLOAD' FROM generate_series(1, 10000)"
	n=$(pick 100000 1000000)
	[ "$1" = insert ] || statement="SELECT count(*) FROM queue.enqueue_many('mail', array_fill('$PAYLOAD'::jsonb, ARRAY[10000]))"
	s=$(psql_file <<SQL
SELECT clock_timestamp() AS start \gset
BEGIN;
\o /dev/null
SELECT \$\$$statement\$\$ FROM generate_series(1, $n / 10000) \gexec
\o
COMMIT;
SELECT extract(epoch FROM clock_timestamp() - :'start');
SQL
	)
	calc "$n / $s"
}

# ---- wide: a payload of 64 kB, which is kept out of line, from its enqueue to its end
wide_rate() { bench_pgbench "wide_$1" -M prepared -c 4 -j 2 -T "$T"; tps "wide_$1"; }
part_wide() {
	local payload
	payload=$(sql "SELECT jsonb_build_object('text', string_agg(md5(i::text), '')) FROM generate_series(1, 2048) i")
	psql_file <<<"SELECT queue.purge('default'); TRUNCATE textbook;" >/dev/null
	script wide_textbook <<SQL
INSERT INTO textbook (payload) VALUES ('$payload');
UPDATE textbook SET attempt = attempt + 1, locked_until = now() + interval '5 min' WHERE id = (SELECT id FROM textbook
	WHERE run_at <= now() AND (locked_until IS NULL OR locked_until < now()) ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
	RETURNING id, payload \\gset
DELETE FROM textbook WHERE id = :id;
SQL
	script wide_queue <<SQL
SELECT queue.enqueue('mail', '$payload');
SELECT id, attempt, payload FROM queue.fetch('default') \\gset
SELECT queue.complete(:id, :attempt);
SQL
	# some more than there are clients, so that nobody finds nothing
	sql "SELECT queue.enqueue('mail', '[]') FROM generate_series(1, 20)" >/dev/null
	sql "INSERT INTO textbook (payload) SELECT '[]' FROM generate_series(1, 20)" >/dev/null
	compare wide /s wide_rate textbook queue
	psql_file <<<"SELECT queue.purge('default'); TRUNCATE textbook;" >/dev/null
}

# ---- fetch: one job at a time, and batches of 100
rows_of() {
	case $1 in pop*) echo floor ;; textbook*) echo textbook ;; advisory) echo advisory ;; *) echo queue.live_job ;; esac
}
fill() {
	local have
	have=$(sql "SELECT count(*) FROM $1")
	[ "$have" -lt "$2" ] || return 0
	case $1 in
		queue.live_job) load job $(($2 - have)) "'$PAYLOAD'::jsonb" ;;
		*) sql "INSERT INTO $1 (payload) SELECT '$PAYLOAD' FROM generate_series($have + 1, $2)" ;;
	esac
}
# Jobs a second, by the rows that went: what an advisory lock took in vain is no job.
fetch_rate() {
	local table before after n rate
	table=$(rows_of "$1")
	fill "$table" $((JOBS_A_SECOND * (T + WARM)))
	settle
	before=$(sql "SELECT count(*) FROM $table")
	bench_pgbench "fetch_$1" -M prepared -c "$CLIENTS" -j "$((CLIENTS < 2 ? 1 : 2))" -T $((T + WARM)) -P 1 -D id=0 -D attempt=0
	after=$(sql "SELECT count(*) FROM $table")
	n=$(sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' "$LIB_DIR/fetch_$1.out")
	[ "$after" -gt 0 ] || fail "fetch_$1 ran out of jobs: more than $((JOBS_A_SECOND * (T + WARM))) are needed"
	rate=$(tps "fetch_$1")
	[ "$WARM" = 0 ] || rate=$(warm_rate "fetch_$1")
	calc "($before - $after) / $n * $rate"
}
part_fetch() {
	local claim batch
	claim="UPDATE textbook SET attempt = attempt + 1, locked_until = now() + interval '5 min' WHERE id = (SELECT id FROM textbook
		WHERE run_at <= now() AND (locked_until IS NULL OR locked_until < now()) ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING id, payload"
	batch=$(echo $claim | sed 's/WHERE id = (/WHERE id = ANY (ARRAY(/; s/LIMIT 1/LIMIT 100/; s/LOCKED)/LOCKED))/')
	script fetch_pop <<<"DELETE FROM floor WHERE id = (SELECT id FROM floor ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING payload;"
	script fetch_pop_100 <<<"DELETE FROM floor WHERE id = ANY (ARRAY(SELECT id FROM floor ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)) RETURNING payload;"
	script fetch_textbook <<<"$(echo $claim) \\gset
DELETE FROM textbook WHERE id = :id;"
	script fetch_textbook_100 <<<"WITH c AS ($batch) SELECT array_agg(id) AS ids, count(payload) AS n FROM c \\gset
DELETE FROM textbook WHERE id = ANY (:ids::bigint[]);"
	# a lock of the session's is the claim: nothing is written until the job is done
	script fetch_advisory <<'SQL'
WITH RECURSIVE walk AS (
	(SELECT id, run_at, payload, pg_try_advisory_lock(id) AS mine FROM (SELECT * FROM advisory WHERE run_at <= now() ORDER BY run_at, id LIMIT 1) first)
	UNION ALL
	(SELECT next.id, next.run_at, next.payload, pg_try_advisory_lock(next.id) FROM walk CROSS JOIN LATERAL
		(SELECT * FROM advisory a WHERE a.run_at <= now() AND (a.run_at, a.id) > (walk.run_at, walk.id) ORDER BY a.run_at, a.id LIMIT 1) next
	WHERE NOT walk.mine)
) SELECT id, payload FROM walk WHERE mine LIMIT 1 \gset
DELETE FROM advisory WHERE id = :id;
SELECT pg_advisory_unlock(:id);
SQL
	script fetch_queue <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default') \gset
SELECT queue.complete(:id, :attempt);
SQL
	script fetch_one_call <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default', complete_ids => ARRAY[:id::bigint], complete_attempts => ARRAY[:attempt::int]) \gset
SQL
	script fetch_session <<'SQL'
SELECT id, attempt, payload FROM queue.fetch('default', claim => 'session') \gset
SELECT queue.complete(:id, :attempt);
SQL
	script fetch_queue_100 <<'SQL'
SELECT array_agg(id) AS ids, array_agg(attempt) AS attempts, count(payload) AS n FROM queue.fetch('default', 100) \gset
SELECT count(*) FROM queue.complete_many(:ids::bigint[], :attempts::int[]);
SQL
	JOBS_A_SECOND=30000
	for CLIENTS in $(pick "1 16" "1 4 16"); do compare "fetch_$CLIENTS" /s fetch_rate textbook queue one_call session advisory pop; done
	CLIENTS=4 JOBS_A_SECOND=300000
	compare fetch_batch "jobs/s" fetch_rate textbook_100 queue_100 pop_100
	JOBS_A_SECOND=30000
	# how many clients come is told by the system's name, so that each round has all
	compare fetch_clients /s many_clients $(pick "queue:16 queue:64 queue:150" "queue:16 queue:64 queue:150 textbook:16 textbook:64 textbook:150")
	waits queue
	waits textbook
	bound waits queue "" -le 5
	bound fetch_16 queue textbook -ge 0.97
	bound fetch_16 one_call textbook -ge 1.5
	bound fetch_batch queue_100 textbook_100 -ge 1.2
	bound fetch_clients queue:64 queue:16 -ge 0.9
	bound fetch_clients queue:150 queue:16 -ge 0.9
}
many_clients() { WARM=2 T=$((T < 3 ? 3 : T)) CLIENTS=${1#*:} fetch_rate "${1%:*}"; }
# What 64 fetching clients wait for, sampled from pg_stat_activity: spinlocks and LWLocks as a share of all samples of busy
# sessions, when all of them have run for a while.
waits() {
	fill "$(rows_of "$1")" $((JOBS_A_SECOND * 6))
	settle
	bench_pgbench "fetch_$1" -M prepared -c 64 -j 2 -T 6 &
	psql_file <<'SQL' >"$LIB_DIR/waits" || true
CREATE TEMP TABLE seen (event text);
SELECT pg_sleep(2) \g /dev/null
DO $$
BEGIN
	FOR i IN 1..120 LOOP
		INSERT INTO seen SELECT coalesce(wait_event_type || ' ' || wait_event, 'CPU') FROM pg_stat_activity
			WHERE application_name = 'pgbench' AND state = 'active';
		COMMIT;
		PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
	END LOOP;
END $$;
SELECT event, round(100.0 * count(*) / sum(count(*)) OVER (), 1) FROM seen GROUP BY 1 ORDER BY 2 DESC LIMIT 8;
SQL
	wait $!
	[ "$1" != queue ] || while IFS='|' read -r event share; do note waits "$event	$share"; done <"$LIB_DIR/waits"
	# WALWrite is the commit's own queue for the disk, which a bare INSERT has as well
	sample waits % "$1" 1 "$(awk -F'|' '$1 ~ /^LWLock / && $1 !~ /WALWrite/ && $2 > m {m = $2} END {print m + 0}' "$LIB_DIR/waits")"
}

# ---- drain: no-op handlers, from a backlog to empty
drain_rate() {
	local s n=$DRAIN
	case $1 in
		queue | kept)
			sql "SELECT queue.pause('$([ "$1" = kept ] && echo kept || echo default)')" >/dev/null
			psql_file <<SQL >/dev/null
SELECT format('SELECT count(*) FROM queue.enqueue_many(''noop'', array_fill(%L::jsonb, ARRAY[10000]), queue => %L)', '$PAYLOAD', '$([ "$1" = kept ] && echo kept || echo default)')
FROM generate_series(1, $n, 10000) \gexec
SQL
			sql "CHECKPOINT" >/dev/null
			s=$(psql_file <<SQL
SET statement_timeout = '10min';
SELECT clock_timestamp() AS start \gset
SELECT queue.resume('$([ "$1" = kept ] && echo kept || echo default)') \g /dev/null
$WAIT_EMPTY
SELECT extract(epoch FROM clock_timestamp() - :'start');
SQL
			)
			calc "$n / $s" ;;
		graphile) n=$((n / 5)); peer graphile load "$n" >/dev/null; sql "CHECKPOINT" >/dev/null; peer graphile drain "$n" 2 ;;
		boss) n=$((n / 5)); peer boss load "$n" >/dev/null; sql "CHECKPOINT" >/dev/null; peer boss drain "$n" 2 ;;
		pgq)
			for _ in $(seq $((n / 10000))); do
				sql "SELECT count(pgq.insert_event('bench', 'mail', '$PAYLOAD')) FROM generate_series(1, 10000)" >/dev/null
				sql "SELECT pgq.force_tick('bench'), pgq.ticker()" >/dev/null
			done
			sql "CHECKPOINT" >/dev/null
			psql_file <<'SQL'
CREATE TEMP TABLE eaten (n bigint, s float8);
DO $$
DECLARE
	batch bigint;
	n bigint := 0;
	began timestamptz := clock_timestamp();
BEGIN
	LOOP
		batch := pgq.next_batch('bench', 'worker');
		EXIT WHEN batch IS NULL;
		n := n + (SELECT count(ev_data) FROM pgq.get_batch_events(batch));
		PERFORM pgq.finish_batch(batch);
		COMMIT;
	END LOOP;
	INSERT INTO eaten VALUES (n, extract(epoch FROM clock_timestamp() - began));
END $$;
SELECT round((n / s)::numeric, 1) FROM eaten;
SQL
			;;
	esac
}
part_drain() {
	DRAIN=$(pick 100000 300000)
	# what a client of fetch_one_call had in its hands at its end is leased to it for minutes
	psql_file <<'SQL' >/dev/null
SELECT queue.complete(id, attempt) FROM queue.job WHERE state = 'running';
SELECT queue.purge('default');
VACUUM queue.live_job;
SQL
	[ -z "$PGQ" ] || sql "SELECT pgq.unregister_consumer('bench', 'worker'), pgq.drop_queue('bench'), pgq.create_queue('bench'), pgq.register_consumer('bench', 'worker')" >/dev/null
	[ -z "$GRAPHILE" ] || sql "TRUNCATE graphile_worker._private_jobs" >/dev/null
	[ -z "$BOSS" ] || sql "DELETE FROM pgboss.job" >/dev/null
	drain_rate queue >/dev/null
	compare drain "jobs/s" drain_rate queue kept $PGQ $GRAPHILE $BOSS
	bound drain kept queue -ge 0.7
}

# ---- WAL of a job, from its enqueue to its end, one enqueue a transaction, without full pages
wal_of() {
	local before jobs=$((WAL_JOBS)) system=${1%:*} clients=${1#*:}
	sql "CHECKPOINT" >/dev/null
	before=$(sql "SELECT pg_current_wal_insert_lsn()")
	case $system in
		insert) bench_pgbench enqueue_insert -M prepared -c "$clients" -t $((jobs / clients)) ;;
		sql) bench_pgbench wal_sql -M prepared -c "$clients" -t $((jobs / clients)); wait_sql 300 "NOT EXISTS (SELECT FROM queue.job WHERE kind = 'noop' AND state IN ('available', 'running'))" ;;
		lease) bench_pgbench wal_lease -M prepared -c "$clients" -t $((jobs / clients)) ;;
		textbook) bench_pgbench wal_textbook -M prepared -c "$clients" -t $((jobs / clients)) ;;
		graphile)
			# its enqueues wait for one another
			jobs=$((jobs / 20))
			bench_pgbench wal_graphile -M prepared -c "$clients" -t $((jobs / clients))
			peer graphile drain "$jobs" 1 >/dev/null ;;
	esac
	sleep 0.3
	sql "SELECT round((pg_current_wal_insert_lsn() - '$before') / $jobs, 1)"
}
part_wal() {
	local payload
	WAL_JOBS=$(pick 10000 40000)
	sql "ALTER SYSTEM SET full_page_writes = off" >/dev/null
	sql "SELECT pg_reload_conf()" >/dev/null
	psql_file <<<"SELECT queue.purge('default'); TRUNCATE textbook, bare;" >/dev/null
	payload=$(sql "SELECT jsonb_build_object('text', repeat('x', n)) FROM generate_series(1, 200) n
		WHERE pg_column_size(jsonb_build_object('text', repeat('x', n))) = 150")
	script enqueue_insert <<<"INSERT INTO bare (payload) VALUES ('$payload');"
	script wal_sql <<<"SELECT queue.enqueue('noop', '$payload');"
	script wal_lease <<<"SELECT queue.enqueue('job', '$payload');
SELECT id, attempt, payload FROM queue.fetch('default') \\gset
SELECT queue.complete(:id, :attempt);"
	script wal_textbook <<<"INSERT INTO textbook (payload) VALUES ('$payload');
$(sed '$d' "$LIB_DIR/fetch_textbook.sql" 2>/dev/null || true)
DELETE FROM textbook WHERE id = :id;"
	# some more than there are clients, so that nobody finds nothing
	load job 100
	sql "INSERT INTO textbook (payload) SELECT '{}' FROM generate_series(1, 100)" >/dev/null
	script wal_graphile <<<"SELECT graphile_worker.add_job('noop', '$payload');"
	compare wal "bytes a job" wal_of sql:4 sql:1 lease:4 insert:4 $([ ! -f "$LIB_DIR/fetch_textbook.sql" ] || echo textbook:4) ${GRAPHILE:+graphile:4}
	bound wal sql:4 "" -le 480
	bound wal sql:1 "" -le 500
	bound wal lease:4 "" -le 600
	sql "ALTER SYSTEM RESET full_page_writes" >/dev/null
	sql "SELECT pg_reload_conf()" >/dev/null
}

# ---- latency: from the enqueuer's COMMIT to the handler's start
latency_samples() {
	local n=$1 pause=$2
	sql "TRUNCATE ran" >/dev/null
	client "host=$PGHOST port=$PGPORT user=postgres dbname=$DB" note_time "$n" "$pause" >"$LIB_DIR/sent"
	wait_sql 60 "(SELECT count(*) >= $n FROM ran)"
	sql "SELECT i || ' ' || at FROM (SELECT i, (extract(epoch FROM at) * 1000000)::bigint AS at FROM ran) r ORDER BY i" >"$LIB_DIR/ran"
	awk 'NR == FNR {after[$1] = $3; next} {d = ($2 - after[$1]) / 1000; print (d > 0 ? d : 0)}' "$LIB_DIR/sent" "$LIB_DIR/ran"
}
# latency workload system round command...: p50 and p99 of what it prints
percentiles() {
	local workload=$1 system=$2 round=$3
	shift 3
	"$@" >"$LIB_DIR/latencies"
	sample "${workload}_p50" ms "$system" "$round" "$(percentile 50 <"$LIB_DIR/latencies")"
	sample "${workload}_p99" ms "$system" "$round" "$(percentile 99 <"$LIB_DIR/latencies")"
}
part_latency() {
	local round n rate
	n=$(pick 100 500)
	psql_file <<'SQL' >/dev/null
SELECT queue.purge('default');
CREATE UNLOGGED TABLE ran (i int, at timestamptz);
CREATE FUNCTION note_time(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES ((j.payload->>'i')::int, clock_timestamp()); END $$;
SELECT queue.register_sql_handler('note_time', 'note_time');
SQL
	[ -z "$GRAPHILE" ] || sql "TRUNCATE graphile_worker._private_jobs" >/dev/null
	[ -z "$BOSS" ] || sql "DELETE FROM pgboss.job" >/dev/null
	latency_samples 50 10000 >/dev/null
	script busy <<<"SELECT queue.enqueue('noop', '$PAYLOAD');"
	bench_pgbench busy -M prepared -c 4 -j 1 -T 2
	rate=$(calc "$(tps busy) / 2" %.0f)
	until_empty
	for round in $(seq "$(pick 3 "$ROUNDS")"); do
		percentiles latency queue "$round" latency_samples "$n" 10000
		[ -z "$GRAPHILE" ] || percentiles latency graphile "$round" peer graphile latency "$n"
		[ -z "$BOSS" ] || percentiles latency boss "$round" peer boss latency "$(pick 5 20)"
		pg "$BIN/pgbench" -n -f "$LIB_DIR/busy.sql" -M prepared -c 4 -j 1 -R "$rate" -T $((n / 100 * 2 + 2)) "$DB" >/dev/null 2>&1 &
		percentiles latency_half queue "$round" latency_samples "$n" 10000
		wait $!
		until_empty
	done
	# cold: the executors have gone
	sql "ALTER SYSTEM SET queue.executor_idle_timeout = '1s'" >/dev/null
	sql "SELECT pg_reload_conf()" >/dev/null
	for round in $(seq "$(pick 3 10)"); do
		wait_sql 60 "NOT EXISTS (SELECT FROM queue.stat_worker WHERE type = 'executor')"
		sample latency_cold ms queue "$round" "$(latency_samples 1 0)"
	done
	sql "ALTER SYSTEM RESET queue.executor_idle_timeout" >/dev/null
	sql "SELECT pg_reload_conf()" >/dev/null
	bound latency_p50 queue "" -le 0.15
	bound latency_p99 queue "" -le 1
	bound latency_half_p99 queue "" -le 5
	bound latency_cold queue "" -le 30
}

# ---- depth: the same with many jobs waiting and with 10,000, in two databases
depth_of() {
	local what=${DEPTH_WHAT} db=${1%:*} n=$(pick 1000 2000) drained=$(pick 20000 100000) each
	# what earlier parts left dead is in nobody's way: autovacuum comes within a minute, to one database after the other
	# (and leaves the indexes alone while less than 2 % of a table's pages have dead rows: of ten million that are many)
	for each in deep shallow; do DB=$each sql "VACUUM (INDEX_CLEANUP ON) queue.live_job" >/dev/null; done
	case $db:$what in
		shallow:drain) DB=$db load job "$drained" ;;
		shallow:fetch) DB=$db load job $((4 * n)) ;;
	esac
	case $what in
		drain)
			# the rate of the first so many of all
			sql "CHECKPOINT" >/dev/null
			DB=$db psql_file <<SQL
SELECT completed + $drained AS enough FROM queue.stat_kind WHERE kind = 'job' \\gset
SELECT clock_timestamp() AS start \\gset
SELECT queue.resume('default') \\g /dev/null
SELECT format('DO \$\$ BEGIN WHILE (SELECT completed < %s FROM queue.stat_kind WHERE kind = ''job'') LOOP COMMIT; PERFORM pg_sleep(0.005); END LOOP; END \$\$',
              :enough) \\gexec
SELECT round(($drained / extract(epoch FROM clock_timestamp() - :'start'))::numeric, 1);
SELECT queue.pause('default') \\g /dev/null
SQL
			;;
		fetch) DB=$db bench_pgbench depth_fetch -M prepared -c 4 -j 2 -t "$n"; tps depth_fetch ;;
		enqueue) DB=$db bench_pgbench depth_enqueue -M prepared -c 4 -j 2 -t "$n"; tps depth_enqueue ;;
		*) DB=$db bench_pgbench "depth_$what" -M prepared -c 1 -t $(pick 500 3000); tps "depth_$what" ;;
	esac
}
part_depth() {
	local db deep=$(pick 1000000 10000000) many=$(pick 1,000,000 10,000,000)
	script depth_fetch <<<"SELECT id, attempt FROM queue.fetch('default', kinds => '{job}') \\gset
SELECT queue.complete(:id, :attempt);"
	script depth_enqueue <<<"SELECT queue.enqueue('job', '$PAYLOAD');"
	script depth_stat <<<"SELECT count(*) FROM queue.stat_queue, queue.stat_kind;"
	script depth_explain <<<"SELECT queue.explain_job((SELECT max(last_value) FROM queue.job_id));"
	script depth_find <<<"SELECT count(*) FROM queue.find_jobs('{\"kind\": \"job\", \"state\": \"available\"}', 100);"
	for db in deep shallow; do
		sql "CREATE DATABASE $db"
		DB=$db sql "CREATE EXTENSION queue"
	done
	sample depth_load "jobs/s" "$many waiting" 1 "$(SECONDS=0; DB=deep load job "$deep"; calc "$deep / ($SECONDS + 1)" %.0f)"
	DB=shallow load job 10000
	for db in deep shallow; do DB=$db sql "VACUUM ANALYZE queue.live_job" >/dev/null; done
	sql "CHECKPOINT" >/dev/null
	for DEPTH_WHAT in fetch stat explain find enqueue drain; do
		if [ "$DEPTH_WHAT" = drain ]; then
			DB=shallow sql "SELECT queue.purge('default')" >/dev/null
			DB=shallow load job 10000
			for db in deep shallow; do
				DB=$db psql_file <<'SQL' >/dev/null
SELECT queue.pause('default');
CREATE FUNCTION noop(j queue.job) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT queue.register_sql_handler('job', 'noop');
SQL
			done
		fi
		compare "depth_$DEPTH_WHAT" /s depth_of shallow:10,000 "deep:$many"
		bound "depth_$DEPTH_WHAT" "deep:$many" shallow:10,000 -ge 0.9
	done
	for db in deep shallow; do sql "DROP DATABASE $db"; done
}

# ---- idle: the start of a server with 1,000 handlers, and what a hundred databases with the extension cost
cpu_of() { cat $(sql "SELECT '/proc/' || pid || '/stat' FROM pg_stat_activity WHERE backend_type LIKE 'queue %'") 2>/dev/null | sed 's/.*) //' | awk '{t += $12 + $13} END {print t / 100}'; }
part_idle() {
	local n=100 before i round
	# a job that enqueues its next, so that one is due whenever the server starts
	psql_file <<'SQL' >/dev/null
CREATE TABLE beat (at timestamptz);
CREATE FUNCTION beat(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO beat VALUES (clock_timestamp());
	PERFORM queue.enqueue(j.kind, delay => '20 ms');
END $$;
SELECT queue.register_sql_handler('kind ' || i, 'beat') FROM generate_series(1, 1000) i;
SELECT queue.enqueue('kind 500');
SQL
	for round in 1 2 3; do
		cluster_stop
		cluster_start
		wait_sql 60 "EXISTS (SELECT FROM beat WHERE at > pg_postmaster_start_time())"
		sample start_handlers s "1,000 handlers" "$round" \
			"$(sql "SELECT extract(epoch FROM min(at) - pg_postmaster_start_time()) FROM beat WHERE at > pg_postmaster_start_time()")"
	done
	psql_file <<<"SELECT queue.unregister_handler('kind ' || i) FROM generate_series(1, 1000) i; SELECT queue.purge('default');" >/dev/null
	bound start_handlers "1,000 handlers" "" -le 1
	sql "ALTER SYSTEM SET max_worker_processes = 150" >/dev/null
	sql "ALTER SYSTEM SET max_connections = 300" >/dev/null
	cluster_stop
	cluster_start
	for i in $(seq $n); do sql "CREATE DATABASE idle$i STRATEGY FILE_COPY"; DB=idle$i sql "CREATE EXTENSION queue"; done
	wait_sql 120 "(SELECT count(*) > $n FROM pg_stat_activity WHERE backend_type = 'queue scheduler')"
	sleep 30
	before=$(cpu_of)
	sleep 60
	sample idle_cpu "% of a core" "$n databases" 1 "$(calc "($(cpu_of) - $before) / 60 * 100")"
	sample idle_memory "MB each" "$n databases" 1 "$(for pid in $(sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue scheduler'"); do
		awk '/^[0-9a-f]+-/ {shared = $2 ~ /s/} /^Private_(Clean|Dirty):/ && !shared {k += $2} END {print k / 1024}' "/proc/$pid/smaps"; done | median)"
	bound idle_cpu "$n databases" "" -le 1
	bound idle_memory "$n databases" "" -le 2
}

for part in $PARTS; do
	printf '\n-- %s --\n' "$part"
	began=$SECONDS
	part_$part
	echo "($((SECONDS - began)) s)"
done

{
	echo "machine	$(nproc) cores, $(sed -nE 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(awk '/MemTotal/ {printf "%.0f GB", $2 / 1048576}' /proc/meminfo), Linux $(uname -r | cut -d- -f1)"
	echo "server	$("$BIN/postgres" --version | sed 's/^postgres (PostgreSQL) //')"
	echo "settings	$(IFS=,; echo "${SETTINGS[*]}" | sed 's/,/, /g'); fsync, synchronous_commit, full_page_writes (but for WAL) and autovacuum are on; all else is the default"
	echo "queue	$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo 1.0)"
	[ -z "$GRAPHILE" ] || echo "graphile-worker	$(sed -nE 's/.*"version": "(.*)".*/\1/p' "$NODE_DIR/node_modules/graphile-worker/package.json"), 2 processes with concurrentJobs 24, localQueue 500, completeJobBatchDelay 0"
	[ -z "$BOSS" ] || echo "pg-boss	$(sed -nE 's/.*"version": "(.*)".*/\1/p' "$NODE_DIR/node_modules/pg-boss/package.json"), 2 processes with 4 loops of fetch and complete in batches of 500"
	[ -z "$PGQ" ] || echo "PgQ	$(sql "SELECT extversion FROM pg_extension WHERE extname = 'pgq'"), a tick every 10,000 events, one consumer"
	echo "date	$(date +%Y-%m-%d)"
	echo "rounds	$ROUNDS of $T s${QUICK:+, quick}"
	cat "$LIB_DIR/notes"
} >"$LIB_DIR/facts"
OUT=${OUT:-$BENCH/results}
[ -z "$WRITE" ] || OUT=$ROOT/doc
mkdir -p "$OUT"
perl "$BENCH/report.pl" "$LIB_DIR" "$OUT"
