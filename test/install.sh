#!/bin/bash
# Installs what building and testing need, with the distribution's packages, and prints the pg_config to build with.
#
# Needs Debian or Ubuntu, and root or sudo (only if something is missing). No cluster of the distribution's own is
# created: create_main_cluster = false is set before the server's package unless the file already says something.
# Everything but the answer goes to stderr.  test/install.sh [test|web]: also what the tests, or queue-web, need.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"
	elif command -v sudo >/dev/null; then sudo "$@"
	else say "Not root and no sudo: cannot run $*"; exit 1
	fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# An explicit PG_CONFIG is taken as it is: that server was not installed by us.
if [ -n "${PG_CONFIG:-}" ]; then
	[ -f "$("$PG_CONFIG" --pgxs)" ] || { say "$PG_CONFIG has no PGXS: install the server's development package"; exit 1; }
	echo "$PG_CONFIG"
	exit 0
fi
command -v dpkg-query >/dev/null || { say "Not Debian or Ubuntu: install PostgreSQL 15 to 18 with its development files, pgTAP and IPC::Run, then set PG_CONFIG"; exit 1; }

# A supported version whose development files are here; else the newest that the distribution offers.
version=
for v in 18 17 16 15; do
	if installed "postgresql-server-dev-$v"; then version=$v; break; fi
done

packages() {
	echo "postgresql-$1 postgresql-server-dev-$1 make gcc libc6-dev libcurl4-openssl-dev util-linux"
	if [ "$WHAT" = web ]; then echo "libmicrohttpd-dev libpq-dev pkg-config"; fi
	if [ "$WHAT" = test ]; then
		echo "postgresql-$1-pgtap binutils patch perl libipc-run-perl libtap-parser-sourcehandler-pgtap-perl"
	fi
}
WHAT=${1:-build}

missing() {
	local p
	for p in $(packages "$1"); do installed "$p" || echo "$p"; done
}

if [ -z "$version" ] || [ -n "$(missing "$version")" ]; then
	available() { apt-cache show "postgresql-server-dev-$1" >/dev/null 2>&1; }
	newest() {
		local v
		for v in 18 17 16 15; do if available "$v"; then echo "$v"; return; fi; done
	}
	export DEBIAN_FRONTEND=noninteractive
	say "Updating the package lists"
	as_root apt-get -qq update >&2 || say "apt-get update failed; going on with what is known"
	[ -n "$version" ] || version=$(newest)
	[ -n "$version" ] || { say "This distribution offers no PostgreSQL 15 to 18"; exit 1; }
	conf=/etc/postgresql-common/createcluster.conf
	if ! grep -qs '^[[:space:]]*create_main_cluster' "$conf"; then
		as_root mkdir -p "$(dirname "$conf")"
		echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
	fi
	todo=$(missing "$version")
	say "Installing" $todo
	log=$(mktemp)
	# --force-confold: the line above makes dpkg ask about its configuration file otherwise.
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confold install $todo >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
	rm -f "$log"
fi

# Runtimes and drivers for test/clients, and the libraries of queue-web: what is cheap to have, best effort.  What is missing is skipped there, by name.
if [ "$WHAT" = test ]; then
	# Go: 80 MB to fetch, 450 MB on disk, 95 s on a busy machine
	drivers="libmicrohttpd-dev libpq-dev pkg-config pgbouncer python3-psycopg ruby-pg golang-go golang-github-lib-pq-dev postgresql-$version-plproxy"
	# a JDK only where it is used anyway
	if command -v javac >/dev/null; then drivers+=" libpostgresql-jdbc-java"; fi
	# for test/browser: 90 MB to fetch, 350 MB on disk
	drivers+=" chromium"
	if ! command -v node >/dev/null; then drivers+=" nodejs"; fi
	todo=
	for p in $drivers; do installed "$p" || todo+=" $p"; done
	if [ -n "$todo" ] && [ -z "${QUEUE_NO_DRIVERS:-}" ]; then
		export DEBIAN_FRONTEND=noninteractive
		say "Installing$todo (for test/clients and queue-web; if that fails they are skipped)"
		for p in $todo; do
			as_root env DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
				-o Dpkg::Options::=--force-confold install "$p" >/dev/null 2>&1 || say "No $p"
		done
	fi
fi

# The wrapper in /usr/bin follows the newest version; this one is exact.
echo "/usr/lib/postgresql/$version/bin/pg_config"
