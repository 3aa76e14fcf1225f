#!/bin/bash
# The pages of queue-web in a real Chromium, against a private cluster, as TAP: pages.mjs says what is looked at.
#
# Needs node and Chromium (Debian: nodejs, chromium) and queue-web ($QUEUE_WEB, else it is built); what is missing is
# named and skipped.  test/browser/run.sh [folder]: screenshots of every page, light, dark and narrow, go there.
. "$(dirname "$0")/../lib.sh"
SHOTS=${1:+$(mkdir -p "$1" && cd "$1" && pwd)}
lib_suite test
[ -n "${QUEUE_WEB:-}" ] || { make -s -C "$ROOT" web >&2 && QUEUE_WEB=$ROOT/web/queue-web; } || true
skip() { echo "ok 1 - the pages in Chromium # SKIP $1"; echo "1..1"; exit 0; }
CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip "Chromium is not installed"
command -v node >/dev/null || skip "node is not installed"
[ -x "${QUEUE_WEB:-}" ] || skip "queue-web is not built"

lib_start
cluster_init "fsync = off"
cluster_start
sql "CREATE DATABASE shop"
sql "CREATE DATABASE empty"
DB=empty sql "CREATE EXTENSION queue"
# by its standard input, because the server's user may not be able to read the checkout
pg "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -d shop <"$ROOT/test/browser/seed.sql" >"$LIB_DIR/seed.log" 2>&1 ||
	{ cat "$LIB_DIR/seed.log" >&2; exit 1; }

# web name option ...: starts one on a port that the kernel chooses; its address in $ADDRESS.  A busy machine is no
# fault.
web() {
	local log=$LIB_DIR/web.$1.log pid
	shift
	: >"$log"
	"$QUEUE_WEB" --listen 127.0.0.1:0 --timeout 600 --action-timeout 600 "$@" >"$log" 2>&1 &
	pid=$!
	LIB_PIDS+=("$pid")
	until ADDRESS=$(sed -nE 's#.*listening on (http://[^/]*)/.*#\1#p' "$log") && [ -n "$ADDRESS" ]; do
		kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; exit 1; }
		sleep 0.05
	done
}
SHOP="host=$LIB_DIR port=$PGPORT user=postgres dbname=shop"
export TOKEN=0123456789abcdef0123456789
(umask 077; echo "$TOKEN" >"$LIB_DIR/token")
web write --write "$SHOP" "host=$LIB_DIR port=$PGPORT user=postgres dbname=empty"
WRITE=$ADDRESS
web read "$SHOP"
READ=$ADDRESS
web token --token-file "$LIB_DIR/token" "$SHOP"

mkdir "$LIB_DIR/profile"
psql=("$BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$LIB_DIR" -p "$PGPORT" -U postgres -d shop)
[ "$(id -u)" != 0 ] || psql=(setpriv --reuid=postgres --regid=postgres --init-groups -- "${psql[@]}")
SQL=$(printf '"%s",' "${psql[@]}")
SQL="[${SQL%,}]" CHROMIUM=$CHROMIUM PROFILE=$LIB_DIR/profile HOME=$LIB_DIR \
	node "$ROOT/test/browser/pages.mjs" "$WRITE" "$READ" "$ADDRESS" ${SHOTS:+"$SHOTS"}
