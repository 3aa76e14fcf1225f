#!/bin/bash
# make check-upgrade: test/t/075_copies with pg_upgrade from an older server, in the chroots of check-matrix (trixie has 17,
# forky 18), whose files stay as they are.  The older server is built from source (test/source.sh; OLD=15).
#
#   test/upgrade.sh [trixie|forky ...]
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
BASE=${QUEUE_MATRIX:-/var/tmp/queue-matrix}
OLD=$("$ROOT/test/source.sh" "${OLD:-15}" "${KIND:-plain}")
WORK=$(mktemp -d)
trap 'rmdir "$WORK"' EXIT
[ $# != 0 ] || set -- trixie forky
bad=0
for suite in "$@"; do
	[ -f "$BASE/$suite/.ready" ] || MATRIX_GOAL=install "$ROOT/test/matrix.sh" "$suite" || exit 1
	echo "=== from $("$OLD" --version) to that of $suite ==="
	unshare --mount --pid --fork --kill-child bash -c '
		set -e
		lower=$0 old=${1%/bin/pg_config} root=$2 dir=$3
		mount -t tmpfs tmpfs "$dir"
		mkdir "$dir/upper" "$dir/work" "$dir/root"
		mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
		mount -t proc proc "$dir/root/proc"
		mount --rbind /dev "$dir/root/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$dir/root/dev/shm"
		cp -L /etc/resolv.conf /etc/hosts "$dir/root/etc/" 2>/dev/null || true
		mkdir -p "$dir/root$old"
		cp -a "$old/." "$dir/root$old/"
		rm -rf "$dir/root/root/queue"
		mkdir "$dir/root/root/queue"
		tar -C "$root" --exclude=.git --exclude="*.o" --exclude="*.so" --exclude=.built-for -cf - . | tar -C "$dir/root/root/queue" -xf -
		exec chroot "$dir/root" env -u PG_CONFIG -u PROFILE HOME=/root bash -c "
			set -e
			cd /root/queue
			make -s -j2 PG_CONFIG=$old/bin/pg_config
			make -s install PG_CONFIG=$old/bin/pg_config
			make -s clean PG_CONFIG=$old/bin/pg_config
			QUEUE_NO_DRIVERS=1 QUEUE_OLD_PG_CONFIG=$old/bin/pg_config SUITES=tap TESTS=075_copies make --no-print-directory check"' \
		"$BASE/$suite" "$OLD" "$ROOT" "$WORK" || bad=1
done
[ $bad = 0 ] || { echo "check-upgrade: failed"; exit 1; }
echo "check-upgrade: all passed"
