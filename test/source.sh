#!/bin/bash
# A PostgreSQL built from the distribution's source package, for what needs another build than the package's.
#
#   test/source.sh version kind     prints the pg_config of the build, which is kept under $QUEUE_SOURCE
#                                   (/var/tmp/queue-source; 400 MB a build) so that the next run builds nothing
#
# kind   cassert     assertions, freed memory overwritten, injection points where there are any (17 and newer)
#        valgrind    cassert, and memory contexts told to valgrind
#        plain       as it comes: a version that no package has, for check-matrix
#
# The server of a build but plain runs under whatever command QUEUE_SERVER_UNDER names, and with the libraries that
# QUEUE_SERVER_PRELOAD names before any other (test/sanitize.sh), also when pg_ctl restarts it.
#
# Needs Debian or Ubuntu, and root to install what is missing.  Everything but the answer goes to stderr.
set -euo pipefail
BASE=${QUEUE_SOURCE:-/var/tmp/queue-source}
fail() { printf '%s\n' "$*" >&2; exit 1; }
[ $# = 2 ] || fail "usage: test/source.sh version kind"
VERSION=$1 KIND=$2
PREFIX=$BASE/$VERSION-$KIND
CONFIGURE=(--prefix="$PREFIX" --enable-debug --enable-tap-tests --without-readline --without-zlib --with-openssl)
CPPFLAGS= CFLAGS='-O1 -g'
[ "$VERSION" -lt 16 ] || CONFIGURE+=(--without-icu)
case $KIND in
	plain) CFLAGS='-O2 -g' ;;
	cassert) CONFIGURE+=(--enable-cassert) ;;
	valgrind) CONFIGURE+=(--enable-cassert) CPPFLAGS=-DUSE_VALGRIND CFLAGS='-Og -g -fno-omit-frame-pointer' ;;
	*) fail "unknown kind $KIND" ;;
esac
[ "$KIND" = plain ] || [ "$VERSION" -lt 17 ] || CONFIGURE+=(--enable-injection-points)
# Which Debian has it.
case $VERSION in
	15) SUITE=bookworm ;;
	17) SUITE=trixie ;;
	18) SUITE=forky ;;
	*) SUITE= ;;
esac

need() {
	local p todo=
	for p in "$@"; do [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || todo+=" $p"; done
	[ -z "$todo" ] || DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $todo >&2
}

# fetch: the unpacked source in $BASE/src/postgresql-N.  A private list, so that the machine's own stays as it is.
fetch() {
	local apt=$BASE/apt dir mirror
	ls -d "$BASE/src/postgresql-$VERSION"*/ 2>/dev/null | head -1 | grep . && return
	mkdir -p "$BASE/src" "$apt/lists/partial"
	mirror=$(sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([a-z+]+:[^ ]+\/debian)\/?( .*)?$/\3/p' \
		/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 1p)
	if [ -n "$SUITE" ]; then
		echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${QUEUE_MIRROR:-$mirror} $SUITE main" >"$apt/sources.list"
		(
			cd "$BASE/src"
			o=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" -o APT::Sandbox::User=root)
			apt-get -qq "${o[@]}" update >&2
			apt-get -qq "${o[@]}" source --download-only "postgresql-$VERSION" >&2
			rm -rf "postgresql-$VERSION"*/
			tar -xf "$(ls "postgresql-$VERSION"_*.orig.tar.* | grep -v '\.asc$' | tail -1)"
		)
	else
		fail "no Debian has PostgreSQL $VERSION: unpack its source in $BASE/src/postgresql-$VERSION.x and try again"
	fi
	ls -d "$BASE/src/postgresql-$VERSION"*/ | head -1
}

if [ ! -f "$PREFIX/.ready" ]; then
	mkdir -p "$BASE"
	need build-essential bison flex perl libipc-run-perl libssl-dev libcurl4-openssl-dev
	[ "$KIND" != valgrind ] || need valgrind
	source=$(fetch)
	log=$BASE/$VERSION-$KIND.log
	rm -rf "$PREFIX" "$BASE/build-$VERSION-$KIND"
	mkdir "$BASE/build-$VERSION-$KIND"
	(
		cd "$BASE/build-$VERSION-$KIND"
		"$source/configure" "${CONFIGURE[@]}" CFLAGS="$CFLAGS" CPPFLAGS="$CPPFLAGS"
		nice make -s -j"$(nproc)"
		make -s install
		for dir in src/test/perl src/test/regress src/test/isolation contrib/lo contrib/pg_surgery contrib/auto_explain; do
			nice make -s -C "$dir" -j"$(nproc)"
			make -s -C "$dir" install
		done
		[ ! -d src/test/modules/injection_points ] || [ "$KIND" = plain ] || make -s -C src/test/modules/injection_points install
	) >"$log" 2>&1 || { tail -30 "$log" >&2; fail "building PostgreSQL $VERSION failed: $log"; }
	rm -rf "$BASE/build-$VERSION-$KIND"
	touch "$PREFIX/.ready"
fi
# wrap program: it becomes program.bin; a script, read from stdin, takes its place, in one step for who runs it meanwhile.
wrap() {
	local program=$PREFIX/bin/$1
	[ -f "$program.bin" ] || ln "$program" "$program.bin"
	cat >"$program.new"
	chmod 755 "$program.new"
	mv "$program.new" "$program"
}
if [ "$KIND" != plain ]; then
	wrap postgres <<'W'
#!/bin/sh
# what initdb does, and a question for the version, needs no such care
case "$1" in -V | --version | --boot | --single | --check | -C | --describe-config) QUEUE_SERVER_UNDER= QUEUE_SERVER_PRELOAD= ;; esac
[ -z "$QUEUE_SERVER_PRELOAD" ] || export LD_PRELOAD="$QUEUE_SERVER_PRELOAD${LD_PRELOAD:+:$LD_PRELOAD}"
exec $QUEUE_SERVER_UNDER "${0%/*}/postgres.bin" "$@"
W
	wrap pg_ctl <<'W'
#!/bin/sh
# restart would start what the server called itself: postgres.bin, which nothing watches
case "$1" in -V | --version | --help) exec "$0.bin" "$@" ;; esac
exec "$0.bin" -p "${0%/*}/postgres" "$@"
W
fi
if [ "$KIND" = valgrind ]; then cp "$BASE/src/postgresql-$VERSION"*/src/tools/valgrind.supp "$PREFIX/"; fi
echo "$PREFIX/bin/pg_config"
