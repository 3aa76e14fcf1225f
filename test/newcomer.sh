#!/bin/bash
# The shell commands of README.md, from nothing, as a newcomer types them: in a Debian of its own, as root, because packages are
# installed and a server is started.  MATRIX_GOAL=newcomer test/matrix.sh bookworm makes such a Debian and calls it there.
#
# It runs 3 blocks of README.md, each below <!-- run by test/newcomer.sh -->; the repository is this folder, systemctl is service, and questions
# are answered with yes.
set -euo pipefail
cd "$(dirname "$0")/.."
TREE=$PWD
[ -f /.ready ] || [ -n "${CI:-}" ] || { echo "This changes the whole system; in a Debian of its own: MATRIX_GOAL=newcomer test/matrix.sh bookworm" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install sudo curl >/dev/null
echo 'APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";' >/etc/apt/apt.conf.d/newcomer

say() { printf '\n== %s\n' "$*"; }
check() { if [ "$2" = "$3" ]; then echo "ok - $1"; else printf 'not ok - %s: %s\n' "$1" "$2"; exit 1; fi; }
# block n: the n-th of the README that is for us
block() {
	perl -e 'undef $/; my @b = <STDIN> =~ /^<!-- run by test\/newcomer\.sh -->\n```sh\n(.*?)^```$/msg; print $b[$ARGV[0]]' "$1" <"$TREE/README.md"
}

home=$(mktemp -d)
chmod 755 "$home"
cd "$home"
say "Install"
# A package's server does not start by itself in a chroot.
block 0 | sed "s#^git clone .* queue#cp -a $TREE queue#; s#^sudo -u postgres psql#service postgresql start; &#; s#systemctl restart \(.*\)#service \1 restart#" >install.sh
bash -e install.sh
as_postgres() { sudo -u postgres psql -X -A -t -q -v ON_ERROR_STOP=1 "$@"; }
check "the library is loaded" "$(as_postgres -c 'SHOW shared_preload_libraries')" queue

say "First job"
# the first SQL blocks, without what stands there of results
perl -e 'undef $/; my ($part) = <STDIN> =~ /^## First job$(.*?)^## /ms; print join "\n", $part =~ /^```sql\n(.*?)^```$/msg' <"$TREE/README.md" >first.sql
as_postgres -f first.sql postgres
check "somebody was greeted" "$(as_postgres -c 'SELECT name FROM greeting' shop)" Ada
check "nothing is wrong" "$(as_postgres -c 'SELECT check_name, detail FROM queue.doctor() WHERE NOT ok' shop)" ''

say "queue-web"
cd queue
{ block 1 | sed 's/ *# http.*//; s/^sudo -u postgres queue-web.*/& \&/'; echo 'echo $! >../web.pid'; } >../web.sh
bash -e ../web.sh
trap 'kill "$(cat "$home/web.pid")"' EXIT
check "it answers" "$(curl -s --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8432/healthz)" ok
cd ..

say "Prometheus"
install -d -o postgres /var/lib/node_exporter
chmod 644 install.sh
block 2 >prometheus.sh
sudo -u postgres bash -e prometheus.sh
grep -q '^queue_jobs_ended_total' /var/lib/node_exporter/queue.prom && echo "ok - there are metrics"

say "And away"
cd queue
service postgresql stop
make uninstall
left=$(find /usr -name 'queue*--*.sql' -o -name 'queue*.control' -o -name queue.so)
check "make uninstall leaves nothing" "$left" ''
