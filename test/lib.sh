# Shared by the scripts in this folder: a private cluster in a temporary folder, owned by an ordinary user, that is
# gone when the script ends.  Source it; it sets -euo pipefail.
#
# lib_start makes $LIB_DIR (mktemp -d, owned by the server's user, 0700) and cleans it up on exit, by process id.  A
# process that is still there then, and was not in LIB_PIDS or a cluster, is ended too and fails the run.
# cluster_init, cluster_start, cluster_stop work on $LIB_DIR/data; connections go through the Unix socket in $LIB_DIR
# only, so nothing listens on any network address.  pg runs a command as the server's user.

set -euo pipefail
export LC_ALL=C.UTF-8
unset PGDATABASE PGUSER PGHOST PGPORT PGOPTIONS PGSERVICE PGDATA PGPASSWORD

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { printf '%s\n' "$*" >&2; exit 1; }

# As root the server runs as postgres (it refuses root); otherwise as whoever calls.
if [ "$(id -u)" = 0 ]; then
	pg() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
else
	pg() { "$@"; }
fi

# Installs packages if needed, builds and installs the extension.  lib_build [test]
lib_build() {
	PG_CONFIG=$("$ROOT/test/install.sh" "$@")
	export PG_CONFIG
	BIN=$("$PG_CONFIG" --bindir)
	PGXS_DIR=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	PGXS_DIR=$(cd "$PGXS_DIR" && pwd)
	local log
	log=$(mktemp)
	# One build and install of this tree at a time: another script may be doing the same.
	(
		flock 9
		# Objects of another server's headers must not be linked in, nor, for a test, such as were built with warnings.
		stamp="$ROOT/src/.built-for"
		version="$("$PG_CONFIG" --version)${PROFILE:+ $PROFILE}"
		allowed="$version, warnings allowed"
		[ "${1:-}" != test ] || export WERROR=-Werror
		built=$(cat "$stamp" 2>/dev/null || true)
		if [ "$built" != "$version" ] && { [ -n "${WERROR:-}" ] || [ "$built" != "$allowed" ]; }; then
			make -s -C "$ROOT" clean PG_CONFIG="$PG_CONFIG"
			built=
		fi
		make -s -C "$ROOT" -j"$(nproc)" all PG_CONFIG="$PG_CONFIG"
		if [ -z "$built" ]; then
			if [ -n "${WERROR:-}" ]; then echo "$version"; else echo "$allowed"; fi >"$stamp"
		fi
		if [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then make -s -C "$ROOT" install PG_CONFIG="$PG_CONFIG"
		else sudo make -s -C "$ROOT" install PG_CONFIG="$PG_CONFIG"
		fi
	) 9<"$ROOT/Makefile" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
	rm -f "$log"
}

# As lib_build; make check, which has built and installed already, sets NO_BUILD.
lib_suite() {
	[ -n "${NO_BUILD:-}" ] || { lib_build "$@" >&2; return; }
	: "${PG_CONFIG:=$("$ROOT/test/install.sh")}"
	BIN=$("$PG_CONFIG" --bindir)
}

lib_start() {
	LIB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/queue-XXXXXX")
	chmod 700 "$LIB_DIR"
	[ "$(id -u)" != 0 ] || chown postgres: "$LIB_DIR"
	LIB_PIDS=()
	# Every process started from here on inherits it, so that those left at the end are found; a script that this one
	# calls adds its own.
	export QUEUE_RUN="${QUEUE_RUN:-}:$LIB_DIR"
	trap lib_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# Only names the socket; nothing listens on it, but for test/clients.  Below what connections get by themselves.
	PGPORT=$((20000 + RANDOM % 12000))
	export PGPORT PGHOST=$LIB_DIR PGUSER=postgres
	export PATH="$BIN:$PATH"
	cd "$LIB_DIR"
}

lib_end() {
	local rc=$? pid left
	trap - EXIT INT TERM HUP
	set +e
	for pid in "${LIB_PIDS[@]:-}"; do [ -z "$pid" ] || end_tree "$pid"; done
	cluster_stop immediate
	end_clusters "$LIB_DIR"
	cd /
	for _ in $(seq 60); do
		left=$(own_processes)
		[ -n "$left" ] && [ $rc -lt 128 ] || break
		sleep 0.05
	done
	if [ -n "$left" ]; then
		if [ $rc -lt 128 ]; then
			echo "Left running by this script, and ended now:" >&2
			ps -o pid=,user=,args= -p "$(echo $left | tr ' ' ',')" >&2
			[ $rc != 0 ] || rc=1
		fi
		kill $left 2>/dev/null
		for _ in $(seq 60); do left=$(own_processes); [ -n "$left" ] || break; sleep 0.05; done
		[ -z "$left" ] || kill -KILL $left 2>/dev/null
	fi
	if [ "$rc" != 0 ] && [ -n "${KEEP_FAILED:-}" ]; then
		printf 'Left behind: %s\n' "$LIB_DIR" >&2
	else
		rm -rf "$LIB_DIR"
	fi
	exit "$rc"
}

# end_tree pid: it and its children; killing a shell function in the background alone leaves what it runs.
end_tree() {
	local child
	for child in $(pgrep -P "$1"); do end_tree "$child"; done
	kill "$1" 2>/dev/null
}

# The processes that this run started and that are still there: by the mark in their environment, or by their folder (a
# server overwrites its environment with its title).
own_processes() {
	local pid
	for pid in $({ grep -lsF "$LIB_DIR" /proc/[0-9]*/environ; find /proc -maxdepth 2 -name cwd -lname "$LIB_DIR*" 2>/dev/null; } |
		cut -d/ -f3 | sort -u); do
		[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" || echo "$pid"
	done
}

# end_clusters folder: whatever cluster still runs somewhere below it, as after a test that was cut short.
end_clusters() {
	local file pid
	while read -r file; do
		pid=$(head -1 "$file") || continue
		# A file that a crash left behind may name somebody else by now; a postmaster works in its data folder.
		[ "$(readlink "/proc/$pid/cwd")" = "$(dirname "$file")" ] || continue
		if kill -QUIT "$pid" 2>/dev/null; then
			for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
		fi
	done < <(find "$1" -name postmaster.pid 2>/dev/null)
}

# cluster_init [line of postgresql.conf ...]
cluster_init() {
	local initdb=$BIN/initdb
	[ -z "${INITDB_KEPT:-}" ] || initdb=$TREE/test/bin/initdb
	pg "$initdb" -D "$LIB_DIR/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$LIB_DIR/initdb.log" 2>&1 ||
		{ cat "$LIB_DIR/initdb.log" >&2; exit 1; }
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$LIB_DIR'"
		echo "port = $PGPORT"
		echo "shared_preload_libraries = 'queue'"
		printf '%s\n' "$@"
		[ -z "${QUEUE_HOSTILE:-}" ] || cat "$ROOT/test/hostile.conf"
	} | pg tee -a "$LIB_DIR/data/postgresql.conf" >/dev/null
}

# cluster_start [server option ...], as in cluster_start -c work_mem=1MB
cluster_start() {
	pg "$BIN/pg_ctl" -D "$LIB_DIR/data" -l "$LIB_DIR/server.log" -w -t "${PGCTLTIMEOUT:-60}" ${1:+-o "$*"} start >"$LIB_DIR/ctl.log" 2>&1 ||
		{ cat "$LIB_DIR/ctl.log" >&2; tail -30 "$LIB_DIR/server.log" >&2; exit 1; }
	if [ -n "${QUEUE_HOSTILE:-}" ] && [ ! -f "$LIB_DIR/hostile" ]; then
		for DB in template1 postgres; do sql "$(cat "$ROOT/test/hostile.sql")"; done
		: >"$LIB_DIR/hostile"
		unset DB
	fi
}

# cluster_stop [fast|immediate]: by the pid file, and the processes that outlive it by their ids.
cluster_stop() {
	[ -f "$LIB_DIR/data/postmaster.pid" ] || return 0
	local pid
	pid=$(head -1 "$LIB_DIR/data/postmaster.pid")
	pg "$BIN/pg_ctl" -D "$LIB_DIR/data" -m "${1:-fast}" -w -t "${PGCTLTIMEOUT:-180}" stop >"$LIB_DIR/ctl.log" 2>&1 ||
		{ cat "$LIB_DIR/ctl.log" >&2; ps -o pid,etime,stat,args -p "$pid" --ppid "$pid" >&2; tail -30 "$LIB_DIR/server.log" >&2; return 1; }
}

# sql "statement" [psql options]: its bare result.
sql() {
	local q=$1
	shift
	pg "$BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "${DB:-postgres}" "$@" -c "$q"
}

# wait_true seconds "boolean expression": true or false, without ending the script.  It asks in one session, for up to five
# seconds: to start psql and its backend each time would take most of a core.
wait_true() {
	local end=$((SECONDS + $1)) left
	while left=$((end - SECONDS)); [ $left -ge 0 ]; do
		! sql "DO \$ask\$ BEGIN
			FOR i IN 1 .. $((left > 4 ? 100 : left * 20 + 1)) LOOP
				IF $2 THEN RETURN; END IF;
				COMMIT; PERFORM pg_catalog.pg_sleep(0.05); COMMIT;
			END LOOP;
			RAISE 'not yet'; END \$ask\$" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	return 1
}

# wait_sql seconds "boolean expression": fails with the expression when time is up.
wait_sql() { wait_true "$@" || fail "not reached in $1 s: $2"; }
