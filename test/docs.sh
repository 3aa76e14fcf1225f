#!/bin/bash
# The documentation is true, as TAP: every SQL block of README.md and doc/*.md is run, in order, as the role that a reader
# has at that place, and what psql prints is compared with the block that follows it (docs.pl says how); doc/reference.md is
# what the catalog's comments say.
#
#   test/docs.sh              compares
#   test/docs.sh --write      writes what is printed into the files instead; read the diff
. "$(dirname "$0")/lib.sh"
lib_suite
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

# What docs.pl must find: a block that nothing runs, in whatever form.
slips() {
	local page=$LIB_DIR/slips/doc/page.md by='<!-- run by run.sh -->' form rc slipped=
	mkdir -p "$LIB_DIR/slips/doc"
	echo '# runs 1 block of doc/page.md' >"$LIB_DIR/slips/run.sh"
	while IFS= read -r -d '' form; do
		printf '%s\n' "$form" >"$page"
		rc=0
		perl "$ROOT/test/docs.pl" "$page" doc/page.md >/dev/null || rc=$?
		case $form in Good*) [ $rc = 0 ] ;; *) [ $rc = 1 ] ;; esac || slipped+=${form//$'\n'/ / }$'\n'
	done < <(printf '%s\0' $'```sh\nls\n```' $'~~~sql\nSELECT 1;\n~~~' $'- so:\n  ```sql\n  SELECT 1;\n  ```' \
		$'So:\n\n    SELECT 1;' $'<pre>\nSELECT 1;\n</pre>' $'<!-- not run: x -->\nText.\n```sh\nls\n```' \
		$'<!-- run by none.sh -->\n```sh\nls\n```' "$by"$'\n```sh\nls\n```\n'"$by"$'\n```sh\nls\n```' \
		$'Good\n\n<!-- not run: x -->\n\n```sh\nls\n```\n\n'"$by"$'\n```sh\nls\n```')
	if [ -z "$slipped" ]; then echo "ok - no block slips through"
	else printf 'not ok - no block slips through\n%s' "$(sed 's/^/#   /' <<<"$slipped")"
	fi
}

{
slips
symptoms
for file in README.md $(cd "$ROOT" && ls doc/*.md doc/*/*.md); do
	if [ "$file" = doc/reference.md ]; then reference; continue; fi
	[ "$file" = README.md ] || fresh_shop
	perl "$ROOT/test/docs.pl" "$ROOT/$file" "$file" $WRITE || [ $? = 1 ] || echo "not ok - $file can be read"
done
} | awk '/^(not )?ok - / { sub(/ok - /, "ok " ++n " - "); bad = bad || /^not/ } { print; fflush() } END { print "1.." n; exit bad }'
