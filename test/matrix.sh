#!/bin/bash
# make check-matrix: `make check` on this machine's PostgreSQL, then in a Debian of its own for each newer one (trixie
# has 17, forky 18).  Needs root, Debian or Ubuntu, and about 1.5 GB under $QUEUE_MATRIX (/var/tmp/queue-matrix), which
# is kept so that the next run downloads nothing; remove it when you like.  test/matrix.sh [host|trixie|forky ...]
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
BASE=${QUEUE_MATRIX:-/var/tmp/queue-matrix}
fail() { printf '%s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "make check-matrix needs root (debootstrap, chroot)"
[ $# != 0 ] || set -- host trixie forky

# The Debian mirror that this machine already uses, and its way there.
mirror() {
	{ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
		sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([a-z+]+:[^ ]+\/debian)\/?( .*)?$/\3/p' | sed -n 1p
}

prepare() {
	local suite=$1 dir=$BASE/$1 url
	[ ! -f "$dir/.ready" ] || return 0
	command -v debootstrap >/dev/null || { apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq -y install debootstrap; } >&2
	url=${QUEUE_MIRROR:-$(mirror)}
	[ -n "$url" ] || fail "No Debian mirror in /etc/apt/sources.list*; set QUEUE_MIRROR"
	rm -rf "$dir"
	mkdir -p "$dir"
	# All newer suites are made as sid is; this machine's debootstrap may not know their names.
	debootstrap --variant=minbase --include=make,ca-certificates "$suite" "$dir" "$url" /usr/share/debootstrap/scripts/sid \
		>"$BASE/$suite.log" 2>&1 || { tail -20 "$BASE/$suite.log" >&2; fail "debootstrap $suite failed"; }
	cp /etc/apt/apt.conf.d/*proxy* "$dir/etc/apt/apt.conf.d/" 2>/dev/null || true
	printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
	chmod +x "$dir/usr/sbin/policy-rc.d"
	touch "$dir/.ready"	# packaging/docker.sh and test/newcomer.sh look for it, too
}

# In namespaces of its own: mounts and processes are gone with it.
in_chroot() {
	local dir=$1
	shift
	unshare --mount --pid --fork --kill-child bash -c '
		set -e
		dir=$0
		mount -t proc proc "$dir/proc"
		mount --rbind /dev "$dir/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$dir/dev/shm"
		cp -L /etc/resolv.conf /etc/hosts "$dir/etc/" 2>/dev/null || true
		exec chroot "$dir" "$@"' "$dir" "$@"
}

bad=0
for suite in "$@"; do
	echo "=== $suite ==="
	if [ "$suite" = host ]; then
		make --no-print-directory -C "$ROOT" check || bad=1
		continue
	fi
	prepare "$suite"
	rm -rf "$BASE/$suite/root/queue"
	mkdir -p "$BASE/$suite/root/queue"
	tar -C "$ROOT" --exclude=.git --exclude='*.o' --exclude='*.so' --exclude=.built-for -cf - . | tar -C "$BASE/$suite/root/queue" -xf -
	in_chroot "$BASE/$suite" env -u PG_CONFIG HOME=/root SUITES="${SUITES:-}" TESTS="${TESTS:-}" \
		make --no-print-directory -C /root/queue "${MATRIX_GOAL:-check}" || bad=1
done
[ $bad = 0 ] || { echo "check-matrix: failed"; exit 1; }
echo "check-matrix: all passed"
