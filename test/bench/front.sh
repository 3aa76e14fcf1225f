#!/bin/bash
# Two shards behind PL/Proxy, as doc/scale.md makes them, both clusters on this machine: enqueues a second into one shard, into
# both directly, and through the front; and what the front adds to one enqueue.  ROUNDS=5, SPAN=4 seconds a measurement.
. "$(dirname "$0")/common.sh"
bench_start "Two shards and a front" "max_connections = 60"
[ -f "$("$PG_CONFIG" --sharedir)/extension/plproxy.control" ] || { echo "PL/Proxy is not installed (Debian: postgresql-15-plproxy)"; exit 0; }
ROUNDS=${ROUNDS:-5}
SPAN=${SPAN:-4}

# the second cluster, as the first
FAR=$((PGPORT + 1))
pg "$BIN/initdb" -D "$LIB_DIR/far" -U postgres --no-sync >/dev/null
pg cp "$LIB_DIR/data/postgresql.conf" "$LIB_DIR/far/postgresql.conf"
pg tee -a "$LIB_DIR/far/postgresql.conf" <<<"port = $FAR" >/dev/null
pg "$BIN/pg_ctl" -D "$LIB_DIR/far" -l "$LIB_DIR/far.log" -w start >/dev/null
sql "CREATE DATABASE front"
PGPORT=$FAR DB=postgres sql "CREATE DATABASE bench"
PGPORT=$FAR sql "CREATE EXTENSION queue"
PGPORT=$FAR sql "SELECT setval('queue.job_id', 1::bigint << 40)" >/dev/null
DB=front psql_file <<SQL
CREATE EXTENSION plproxy;
CREATE SERVER shards FOREIGN DATA WRAPPER plproxy OPTIONS (connection_lifetime '1800', p0 'host=$LIB_DIR port=$PGPORT dbname=bench',
	p1 'host=$LIB_DIR port=$FAR dbname=bench');
CREATE USER MAPPING FOR PUBLIC SERVER shards OPTIONS (user 'postgres');
SQL
psql_file <"$ROOT/doc/scale/front.sql" | DB=front psql_file

for s in direct far front one_direct one_front; do script $s <<<"SELECT queue.enqueue('k', '{}');"; done
declare -A RATES
# note name: what it measured just now
note() { RATES[$1]+="$2 "; }
med() { tr ' ' '\n' <<<"${RATES[$1]}" | grep . | median; }
ratio() { paste <(tr ' ' '\n' <<<"${RATES[$1]}") <(tr ' ' '\n' <<<"${RATES[$2]}") | awk 'NF == 2 {print $1 / $2}' | median; }
for round in $(seq "$ROUNDS"); do
	bench_pgbench direct -M prepared -c 8 -T "$SPAN"
	note direct "$(tps direct)"
	DB=front bench_pgbench front -M prepared -c 8 -T "$SPAN"
	note front "$(tps front)"
	bench_pgbench direct -M prepared -c 4 -T "$SPAN" &
	PGPORT=$FAR bench_pgbench far -M prepared -c 4 -T "$SPAN"
	wait $!
	note both "$(calc "$(tps direct) + $(tps far)")"
	bench_pgbench one_direct -M prepared -c 1 -T "$SPAN"
	note one_direct "$(calc "1000 / $(tps one_direct)" %.3f)"
	DB=front bench_pgbench one_front -M prepared -c 1 -T "$SPAN"
	note one_front "$(calc "1000 / $(tps one_front)" %.3f)"
done
figure "enqueues a second into one shard, 8 sessions" "$(med direct)" info "" /s
figure "through the front, to both" "$(med front)" info "" /s
figure "  against one shard directly" "$(ratio front direct)" info "" x
figure "into both directly, 4 sessions each" "$(med both)" info "" /s
figure "one enqueue, directly" "$(med one_direct)" info "" ms
figure "one enqueue, through the front" "$(med one_front)" info "" ms
figure "  more" "$(calc "$(med one_front) - $(med one_direct)" %.3f)" info "" ms
bench_end
