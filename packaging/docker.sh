#!/bin/bash
# The steps of the Dockerfile and of compose.yaml, each as it stands there, where no image can be pulled: in a Debian of its own
# (MATRIX_GOAL=docker-steps test/matrix.sh bookworm), as root.  The base image is Debian with PostgreSQL there, so PG is Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."
TREE=$PWD
[ -f /.ready ] || { echo "This changes the whole system; in a Debian of its own: MATRIX_GOAL=docker-steps test/matrix.sh bookworm" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
check() { if [ "$2" = "$3" ]; then echo "ok - $1"; else printf 'not ok - %s: %s\n' "$1" "$2"; exit 1; fi; }
apt-get -qq update
PG=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p')
export PG
# the base image
mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf || echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold install "postgresql-$PG" >/dev/null
rm -rf /src /out /docker-entrypoint-initdb.d
mkdir /docker-entrypoint-initdb.d

# instruction by instruction, with its continuation lines
perl -ne 'chomp; next if /^\s*(#|$)/; $l .= $_; next if $l =~ s/\\$//; print "$l\n"; $l = ""' Dockerfile |
	while IFS= read -r line; do
		echo "== $line"
		case $line in
			ARG*|FROM*|CMD*) ;;
			"COPY . /src") mkdir /src; tar --exclude=./.git --exclude='*.o' --exclude='*.so' -cf - . | tar -C /src -xf - ;;
			"COPY --from=build /out /") cp -a /out/. / ;;
			COPY*) set -- $line; cp "$2" "$3" ;;
			RUN*) sh -ec "${line#RUN }" >/tmp/step.log 2>&1 </dev/null || { cat /tmp/step.log; exit 1; } ;;
			*) echo "not ok - no way to do that here"; exit 1 ;;
		esac
	done
command=$(sed -nE 's/^CMD \[(.*)\]$/\1/p' Dockerfile | tr -d '",')

# what the image's entry point does: a data folder, the scripts once, then the command
bin=/usr/lib/postgresql/$PG/bin
data=$(mktemp -d)
chown postgres "$data"
cd "$data"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
as_postgres "$bin/initdb" -D "$data/db" >/dev/null
as_postgres "$bin/pg_ctl" -D "$data/db" -w -l "$data/log" -o "${command#postgres}" start >/dev/null
trap 'as_postgres "$bin/pg_ctl" -D "$data/db" -m fast stop >/dev/null; rm -rf "$data"' EXIT
for f in /docker-entrypoint-initdb.d/*.sql; do as_postgres psql -X -q -v ON_ERROR_STOP=1 -U postgres -f "$f"; done
# compose.yaml: until its healthcheck says so, as docker would ask
health=$(perl -ne 'print eval "\"$1\"" if /CMD-SHELL", "(.*)"\]/' "$TREE/compose.yaml")
for _ in $(seq 60); do
	if as_postgres sh -c "$health"; then healthy=yes; break; fi
	sleep 1
done
check "it is healthy" "${healthy:-no}" yes
as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -c "CREATE TABLE t (n int)" \
	-c "CREATE FUNCTION put(p jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO public.t VALUES ((\$1 ->> ''n'')::int)'" \
	-c "SELECT queue.register_sql_handler('put', 'put')" -c "SELECT queue.enqueue('put', '{\"n\": 42}')" >/dev/null
check "a job runs" "$(as_postgres psql -X -q -A -t -c 'SELECT queue.wait_for(1)' -c 'SELECT n FROM t' | tr '\n' ' ')" 'completed 42 '
