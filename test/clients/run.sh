#!/bin/bash
# The drivers that people use, against a private cluster, directly and through PgBouncer in transaction mode, as TAP.
#
# Each driver has two files: worker.*, a worker that can be copied into an application, and params.*, what happens to
# parameters as that driver types them.  A driver whose runtime is not installed is skipped with a reason.
# test/clients/run.sh [driver ...]: node psycopg java go ruby libpq
. "$(dirname "$0")/../lib.sh"
HERE=$ROOT/test/clients
lib_suite
lib_start
DRIVERS=("$@")
[ $# != 0 ] || DRIVERS=(libpq psycopg node java go ruby)

n=0
ok() { n=$((n + 1)); echo "ok $n - $1"; }
not_ok() { n=$((n + 1)); echo "not ok $n - $1"; shift; printf '%s\n' "$@" | sed 's/^/#   /'; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:      $2" "expected: $3"; fi; }
skip() { ok "$1 # SKIP $2"; }

# What a driver is run with: sets WORKER and PARAMS, or REASON why not.
setup_libpq() {
	command -v cc >/dev/null || { REASON="no C compiler"; return; }
	local p
	for p in worker params; do
		cc -O1 -Wall -I"$("$PG_CONFIG" --includedir)" -o "$LIB_DIR/$p" "$HERE/$p.c" -L"$("$PG_CONFIG" --libdir)" -lpq -lpthread 2>"$LIB_DIR/cc.log" ||
			{ REASON="no libpq to compile with"; return; }
	done
	WORKER=("$LIB_DIR/worker") PARAMS=("$LIB_DIR/params")
}
setup_psycopg() {
	local p
	for p in /usr/bin/python3 python3; do
		if "$p" -c 'import psycopg' 2>/dev/null; then WORKER=("$p" "$HERE/worker.py") PARAMS=("$p" "$HERE/params.py"); return; fi
	done
	REASON="python3-psycopg is not installed"
}
setup_node() {
	command -v node >/dev/null || { REASON="node is not installed"; return; }
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/queue-clients
	if [ ! -d "$cache/node_modules/pg" ]; then
		command -v npm >/dev/null || { REASON="npm is not installed"; return; }
		mkdir -p "$cache"
		(cd "$cache" && timeout 120 npm install --no-audit --no-fund --silent pg@8 >/dev/null 2>&1) || { REASON="npm install pg failed"; return; }
	fi
	mkdir -p "$LIB_DIR/node"
	cp -r "$cache/node_modules" "$LIB_DIR/node/"
	cp "$HERE"/*.mjs "$LIB_DIR/node/"
	WORKER=(node "$LIB_DIR/node/worker.mjs") PARAMS=(node "$LIB_DIR/node/params.mjs")
}
setup_java() {
	local jar=/usr/share/java/postgresql.jar p
	command -v javac >/dev/null || { REASON="no JDK is installed"; return; }
	[ -f $jar ] || { REASON="libpostgresql-jdbc-java is not installed"; return; }
	mkdir -p "$LIB_DIR/java"
	javac -d "$LIB_DIR/java" "$HERE"/*.java 2>"$LIB_DIR/javac.log" || { REASON="javac: $(head -1 "$LIB_DIR/javac.log")"; return; }
	p=$jar:$LIB_DIR/java:$({ ls /usr/share/java/scram-client.jar /usr/share/java/ongres-scram*.jar 2>/dev/null || true; } | tr '\n' ':')
	WORKER=(java -XX:TieredStopAtLevel=1 -cp "$p" Worker JDBC) PARAMS=(java -XX:TieredStopAtLevel=1 -cp "$p" Params JDBC)
}
setup_go() {
	command -v go >/dev/null || { REASON="go is not installed"; return; }
	[ -d /usr/share/gocode/src/github.com/lib/pq ] || { REASON="golang-github-lib-pq-dev is not installed"; return; }
	local p
	for p in worker params; do
		GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOCACHE=${XDG_CACHE_HOME:-$HOME/.cache}/queue-go timeout 200 \
			go build -o "$LIB_DIR/go_$p" "$HERE/$p.go" 2>"$LIB_DIR/go.log" || { REASON="go build: $(tail -1 "$LIB_DIR/go.log")"; return; }
	done
	WORKER=("$LIB_DIR/go_worker") PARAMS=("$LIB_DIR/go_params")
}
setup_ruby() {
	command -v ruby >/dev/null || { REASON="ruby is not installed"; return; }
	ruby -e 'require "pg"' 2>/dev/null || { REASON="ruby-pg is not installed"; return; }
	WORKER=(ruby "$HERE/worker.rb") PARAMS=(ruby "$HERE/params.rb")
}

start_bouncer() {
	pg pgbouncer -q "$LIB_DIR/pgbouncer.ini" >/dev/null 2>&1 &
	BOUNCER=$!
	LIB_PIDS+=("$BOUNCER")
	for _ in $(seq 100); do (: <"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && break; sleep 0.05; done
}

# ---- the server, and PgBouncer before it, on two ports that nobody has
free() { ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
until free "$PGPORT" && free $((PGPORT + 1)); do PGPORT=$((20000 + RANDOM % 12000)); done
cluster_init "listen_addresses = '127.0.0.1'" "max_connections = 60"
cluster_start
sql "CREATE EXTENSION queue"
sql "CREATE TABLE done (job bigint, at timestamptz DEFAULT clock_timestamp())"
URLS=("postgres://postgres@127.0.0.1:$PGPORT/postgres")
JDBCS=("jdbc:postgresql://127.0.0.1:$PGPORT/postgres?user=postgres")
HOWS=(direct)
if command -v pgbouncer >/dev/null; then
	PORT=$((PGPORT + 1))
	pg tee "$LIB_DIR/pgbouncer.ini" >/dev/null <<INI
[databases]
postgres = host=$LIB_DIR port=$PGPORT dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PORT
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
logfile = $LIB_DIR/pgbouncer.log
pidfile = $LIB_DIR/pgbouncer.pid
INI
	pg sed -i 's/^postgres = .*/& user=postgres/' "$LIB_DIR/pgbouncer.ini"
	start_bouncer
	URLS+=("postgres://postgres@127.0.0.1:$PORT/postgres")
	JDBCS+=("jdbc:postgresql://127.0.0.1:$PORT/postgres?user=postgres&prepareThreshold=0")
	HOWS+=(pgbouncer)
fi

# start_worker log: in the background, PID in $!
start_worker() {
	DATABASE_URL=$URL QUEUE=$QUEUE LEASE=5 WAIT='20 s' "${RUN[@]}" >"$1" 2>&1 &
	WPID=$!
	LIB_PIDS+=("$WPID")
}

try_driver() { # name how
	local driver=$1 how=$2 log=$LIB_DIR/$1.$2.log
	QUEUE=$driver$how
	sql "SELECT queue.create_queue('$QUEUE', keep_completed => '1 day', backoff => '{\"type\": \"fixed\", \"base\": \"0.1 s\"}')" >/dev/null
	sql "SELECT count(*) FROM queue.enqueue_many('k', array_fill('{}'::jsonb, ARRAY[50]), '$QUEUE')" >/dev/null
	sql "SELECT queue.enqueue('k', '{\"fail\": \"it''s broken\"}', '$QUEUE', max_attempts => 1)" >/dev/null
	sql "SELECT queue.enqueue('k', '{\"sleep_ms\": 6500}', '$QUEUE')" >/dev/null
	RUN=("${WORKER[@]//JDBC/"$JDBC"}")
	start_worker "$log"
	if wait_true 60 "NOT EXISTS (SELECT FROM queue.job WHERE queue = '$QUEUE' AND state NOT IN ('completed', 'discarded'))"; then
		ok "$driver, $how: the worker did all jobs"
	else
		not_ok "$driver, $how: the worker did all jobs" "$(sql "SELECT state, count(*) FROM queue.job WHERE queue = '$QUEUE' GROUP BY 1")" "$(tail -3 "$log")"
	fi
	is "$driver, $how: completed with a result, failed with its error, heartbeats kept a long one" \
		"$(sql "SELECT count(*) FILTER (WHERE state = 'completed' AND result->>'ok' = 'true' AND attempt = 1 AND failures = 0), count(*) FILTER (WHERE state = 'discarded' AND last_error <> '') FROM queue.job WHERE queue = '$QUEUE'")" '51|1'
	# woken by a commit while it waits
	sleep 0.3
	sql "SELECT queue.enqueue('k', '{}', '$QUEUE')" >/dev/null
	wait_true 15 "NOT EXISTS (SELECT FROM queue.job WHERE queue = '$QUEUE' AND state NOT IN ('completed', 'discarded'))" &&
		ok "$driver, $how: a waiting worker is woken" || not_ok "$driver, $how: a waiting worker is woken" "$(tail -3 "$log")"
	# all connections die after the first heartbeat of a job that is longer than its lease
	local id
	id=$(sql "SELECT queue.enqueue('k', '{\"sleep_ms\": 8000}', '$QUEUE')")
	wait_true 60 "EXISTS (SELECT FROM queue.job WHERE id = $id AND leased_until > started_at + interval '5.5 s')" || true
	if [ "$how" = pgbouncer ]; then
		# -KILL: from 1.23 on it waits for its clients at SIGTERM
		pg kill -KILL "$(cat "$LIB_DIR/pgbouncer.pid")"
		wait "$BOUNCER" 2>/dev/null || true
		start_bouncer
	else
		sql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()" >/dev/null
	fi
	wait_true 60 "EXISTS (SELECT FROM queue.job WHERE id = $id AND state = 'completed')" || true
	is "$driver, $how: connections that die cost nothing, heartbeats go on" \
		"$(sql "SELECT state, attempt, failures FROM queue.job WHERE id = $id")" 'completed|1|0'
	# the server is restarted in the middle of a job; its lease may end meanwhile, and it is fetched again
	id=$(sql "SELECT queue.enqueue('k', '{\"sleep_ms\": 2000}', '$QUEUE')")
	wait_true 60 "EXISTS (SELECT FROM queue.job WHERE id = $id AND state = 'running')" || true
	cluster_stop fast
	cluster_start
	wait_true 60 "EXISTS (SELECT FROM queue.job WHERE id = $id AND state = 'completed')" || true
	is "$driver, $how: a restart of the server is survived" \
		"$(sql "SELECT state FROM queue.job WHERE id = $id"), $(kill -0 "$WPID" 2>/dev/null && echo the worker lives)" 'completed, the worker lives'
	# SIGTERM in the middle of a job gives it back
	sql "SELECT queue.enqueue('k', '{\"sleep_ms\": 60000}', '$QUEUE')" >/dev/null
	wait_true 60 "EXISTS (SELECT FROM queue.job WHERE queue = '$QUEUE' AND state = 'running')" || true
	kill -TERM "$WPID"
	for _ in $(seq 600); do kill -0 "$WPID" 2>/dev/null || break; sleep 0.1; done
	if kill -0 "$WPID" 2>/dev/null; then not_ok "$driver, $how: SIGTERM ends it"; kill -9 "$WPID"; else ok "$driver, $how: SIGTERM ends it"; fi
	wait "$WPID" 2>/dev/null || true
	is "$driver, $how: and gives its job back, uncounted" \
		"$(sql "SELECT state, attempt, failures FROM queue.job WHERE queue = '$QUEUE' AND state NOT IN ('completed', 'discarded')")" 'available|1|0'
	# typed and untyped parameters
	sql "SELECT queue.drop_queue('$QUEUE', true)" >/dev/null
	sql "SELECT queue.create_queue('$QUEUE')" >/dev/null
	local line
	RUN=("${PARAMS[@]//JDBC/"$JDBC"}")
	if ! DATABASE_URL=$URL QUEUE=$QUEUE timeout 60 "${RUN[@]}" >"$log" 2>&1; then not_ok "$driver, $how: parameters" "$(grep -v "^ok" "$log" | head -5)"; fi
	# its lines: "ok what" or "not ok what: why"
	while IFS= read -r line; do
		case $line in
			"ok "*) ok "$driver, $how: ${line#ok }" ;;
			"not ok "*) not_ok "$driver, $how: ${line#not ok }" ;;
		esac
	done <"$log"
	grep -q '^ok ' "$log" || not_ok "$driver, $how: said something" "$(tail -5 "$log")"
}

for driver in "${DRIVERS[@]}"; do
	REASON='' WORKER=() PARAMS=()
	"setup_$driver"
	if [ -n "$REASON" ]; then skip "$driver" "$REASON"; continue; fi
	for i in "${!HOWS[@]}"; do
		URL=${URLS[$i]} JDBC=${JDBCS[$i]}
		[ "$driver-${HOWS[$i]}" != go-pgbouncer ] || URL="$URL?binary_parameters=yes"
		[ "$driver" != go ] || URL="$URL$([[ $URL == *\?* ]] && echo '&' || echo '?')sslmode=disable"
		try_driver "$driver" "${HOWS[$i]}"
	done
done
[ ${#HOWS[@]} = 2 ] || skip "pgbouncer" "pgbouncer is not installed"
echo "1..$n"
