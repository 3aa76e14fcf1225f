#!/bin/bash
# The documentation is true, as TAP: every SQL block of README.md and doc/*.md is run, in order, as the role that a reader
# has at that place, and what psql prints is compared with the block that follows it (docs.pl says how); doc/reference.md is
# what the catalog's comments say.
#
#   test/docs.sh              compares
#   test/docs.sh --write      writes what is printed into the files instead; read the diff
. "$(dirname "$0")/lib.sh"
# make check has built and installed already
if [ -n "${NO_BUILD:-}" ]; then
	: "${PG_CONFIG:=$("$ROOT/test/install.sh")}"
	BIN=$("$PG_CONFIG" --bindir)
else
	lib_build >&2
fi
lib_start
WRITE=${1:-}
cluster_init "wal_level = minimal" "max_wal_senders = 0" "fsync = off" "timezone = 'UTC'"
cluster_start
# as they are by default
export PGOPTIONS="-c IntervalStyle=postgres -c DateStyle=ISO,MDY -c TimeZone=UTC"

# The README makes role app and database shop itself; the other files begin where its first section ends.
fresh_shop() {
	sql "DROP DATABASE shop WITH (FORCE)"
	sql "CREATE DATABASE shop OWNER app"
	DB=shop sql "CREATE EXTENSION queue"
	DB=shop sql "SELECT queue.grant_queue('*', 'app', 'manage')" >/dev/null
}

reference() {
	pg "$BIN/psql" -X -q -A -t -d shop <"$ROOT/test/reference.sql" >"$LIB_DIR/reference.md"
	if [ -n "$WRITE" ]; then cp "$LIB_DIR/reference.md" "$ROOT/doc/reference.md"; fi
	if diff -u "$ROOT/doc/reference.md" "$LIB_DIR/reference.md" >"$LIB_DIR/reference.diff"; then
		echo "ok - doc/reference.md is what the catalog says"
	else
		echo "not ok - doc/reference.md is what the catalog says (test/docs.sh --write makes it so)"
		sed 's/^/#   /' "$LIB_DIR/reference.diff" | head -40
	fi
}

# The messages that the README's table of symptoms lists are printed by the blocks of doc/troubleshooting.md.
symptoms() {
	local message missing=
	while IFS= read -r message; do
		grep -qF "$message" "$ROOT/doc/troubleshooting.md" || missing+="#   $message"$'\n'
	done < <(sed -n '/^| symptom/,/^$/p' "$ROOT/README.md" | cut -d'|' -f2 | grep -oE '`[^`]{12,}`' | tr -d '`')
	if [ -z "$missing" ]; then echo "ok - doc/troubleshooting.md has every symptom"
	else printf 'not ok - doc/troubleshooting.md has every symptom\n%s' "$missing"
	fi
}

{
symptoms
for file in README.md $(cd "$ROOT" && ls doc/*.md doc/*/*.md); do
	if [ "$file" = doc/reference.md ]; then reference; continue; fi
	[ "$file" = README.md ] || fresh_shop
	perl "$ROOT/test/docs.pl" "$ROOT/$file" "$file" $WRITE || [ $? = 1 ] || echo "not ok - $file can be read"
done
} | awk '/^(not )?ok - / { sub(/ok - /, "ok " ++n " - "); bad = bad || /^not/ } { print; fflush() } END { print "1.." n; exit bad }'
