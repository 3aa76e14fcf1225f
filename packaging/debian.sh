#!/bin/bash
# make deb: the Debian packages of this tree, one for each PostgreSQL that this distribution has (debian/pgversions), checked
# by lintian, installed, and tried: a job runs.  Needs root and Debian or Ubuntu; installs packages, so it is for a
# container or a chroot.  The packages are left beside the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install dpkg-dev lintian debhelper postgresql-server-dev-all
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/queue"
# what a build here left behind is not copied
tar --exclude=./.git --exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude=./src/.built-for --exclude='./queue-*.zip' \
	--exclude='./*.deb' -cf - . | tar -C "$work/queue" -xf -
top=$PWD
cd "$work/queue"
pg_buildext updatecontrol
apt-get -qq -y --no-install-recommends build-dep .
# the tests of the build start servers, which refuse root
id queue-build >/dev/null 2>&1 || useradd --system --home-dir "$work" --shell /bin/sh queue-build
chown -R queue-build: "$work"
chmod 755 "$work"
setpriv --reuid=queue-build --regid=queue-build --clear-groups env HOME="$work" dpkg-buildpackage -us -uc -b
cd "$work"
lintian --fail-on error --info --allow-root ./*.changes
rm -f ./*-dbgsym_*.deb
apt-get -qq -y --no-install-recommends install ./*.deb
"$work/queue/debian/tests/installed"
cp ./*.deb "$top/"
ls -l "$top"/*.deb
