#!/bin/bash
# make check: installs what is needed, builds with warnings as errors, and runs every test on private clusters.
#
#   layout      test/layout.sh: the shape of the source; layout_test.sh breaks each of its rules
#   regress     sql/*.sql by pg_regress, with the library preloaded
#   isolation   test/isolation by pg_isolation_regress, with the library preloaded
#   pgtap       test/pgtap/*.sql by pg_prove, each in a database of its own that has queue and pgtap
#   unloaded    regress and isolation again without preload (all but preload_*): what make installcheck must pass too
#   tap         test/t/*.pl by perl (prove would keep what it printed when it is cut short), with PostgreSQL::Test::Cluster
#   clients     test/clients/run.sh: workers in real drivers' languages, directly and through PgBouncer; a driver that is
#               not installed is skipped; frameworks: the code of doc/frameworks.md, and clients of pgmq
#   pages       test/browser/run.sh: the pages of queue-web in a real Chromium
#   mutants     test/mutants.sh: ten mutants, chosen by the day; each must be caught
#   docs        test/docs.sh: every SQL block of README.md and doc/ prints what stands there
#
# One line a suite, failures in full, at last which suites failed and "N passed, N failed"; the exit code says the same.  SUITES="regress tap"
# runs only these; TESTS="a b" only these regress, isolation, pgtap and tap files (names without extension).
# KEEP_FAILED=1 leaves the temporary folder behind after a failure.
. "$(dirname "$0")/lib.sh"

lib_build test
lib_start

# The server's user may not be able to read the checkout.
TREE=$LIB_DIR/tree
mkdir "$TREE" "$LIB_DIR/results" "$LIB_DIR/claimed" "$LIB_DIR/initdb"
tar -C "$ROOT" -cf - sql expected test doc queue.control README.md | tar -C "$TREE" -xf -

# queue-web, where its libraries are; test/t/3*.pl skip what is not there.
if pkg-config --exists libmicrohttpd libpq 2>/dev/null; then
	make -s -C "$ROOT" web WERROR=-Werror >"$LIB_DIR/web.log" 2>&1 || { cat "$LIB_DIR/web.log" >&2; exit 1; }
	install -D "$ROOT/web/queue-web" "$TREE/web/queue-web"
	export QUEUE_WEB=$TREE/web/queue-web
fi
[ "$(id -u)" != 0 ] || chown -R postgres: "$LIB_DIR"
export TREE INITDB=$BIN/initdb INITDB_KEPT=${INITDB_KEPT:-$LIB_DIR/initdb}

wanted_suite() { [ -z "${SUITES:-}" ] || [[ " $SUITES " == *" $1 "* ]]; }
wanted_test() { [ -z "${TESTS:-}" ] || [[ " $TESTS " == *" $1 "* ]]; }

# names folder extension: the wanted tests there, without path and extension
names() {
	local f
	for f in "$TREE/$1"/*."$2"; do
		[ -f "$f" ] || continue
		f=${f##*/} f=${f%."$2"}
		[[ $f == *--* ]] || ! wanted_test "$f" || echo "$f"
	done
}

# report name seconds passed failed file-with-details: prints in one piece, whoever else is printing.
report() {
	echo "$3 $4 $1" >"$LIB_DIR/results/${1//\//_}"
	(
		flock 8
		printf '%-28s %4d passed, %d failed  (%d s)%s\n' "$1" "$3" "$4" "$2" "${SKIPPED:-}"
		if [ "$4" != 0 ]; then cat "$5"; echo; fi
	) 8>"$LIB_DIR/report.lock"
}

# count_tap log exit-code: sets PASSED and FAILED by the log's own top-level lines; a broken plan or a bad exit is a failure.
count_tap() {
	PASSED=$(grep -cE '^ok [0-9]' "$1" || true)
	local skipped
	skipped=$(grep -cE '^ok [0-9].*# SKIP' "$1" || true)
	[ "$skipped" = 0 ] || SKIPPED=" ($skipped skipped: $(sed -nE 's/^ok [0-9]+ - (.*) # SKIP (.*)/\1: \2/p' "$1" | paste -sd ';'))"
	FAILED=$(grep -cE '^not ok [0-9]' "$1" || true)
	local todo planned
	todo=$(grep -cE '^not ok\b.*# TODO' "$1" || true)
	FAILED=$((FAILED - todo))
	planned=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$1" | tail -1)
	if [ "$FAILED" = 0 ] && { [ "$2" != 0 ] || [ "${planned:-none}" != $((PASSED + todo)) ]; }; then
		FAILED=1
		echo "# exit code $2, planned ${planned:-nothing}, ran $((PASSED + todo))" >>"$1"
	fi
}

# tap name command...: runs something that speaks TAP
tap() {
	local name=$1 log rc=0 start=$SECONDS SKIPPED=
	shift
	# Two lanes write here: $RANDOM gave both the same name once.
	log=$(mktemp "$LIB_DIR/log.XXXXXX")
	# in the background, because a shell that waits hears Ctrl-C at once; what runs is ended by lib_end
	"$@" >"$log" 2>&1 &
	wait $! || rc=$?
	[ $rc != 124 ] || { echo "# timed out; what it last wrote, and its servers:"; tail -n 40 log/* 2>/dev/null || true; } >>"$log"
	count_tap "$log" $rc
	# With failures: everything but what went well.
	grep -vE '^ok\b' "$log" >"$log.failed" || true
	report "$name" $((SECONDS - start)) "$PASSED" "$FAILED" "$log.failed"
	rm -f "$log" "$log.failed"
}

# pg_regress_suite name program inputdir tests...
pg_regress_suite() {
	local name=$1 program=$2 input=$3 out=$LIB_DIR/out.${1//\//_} rc=0 start=$SECONDS
	shift 3
	[ $# != 0 ] || return 0
	pg mkdir -p "$out"
	pg timeout --foreground "${REGRESS_TIMEOUT:-600}" "$program" --inputdir="$input" --outputdir="$out" --bindir="$BIN" --host="$LIB_DIR" --port="$PGPORT" \
		--user=postgres --dbname="check_${name//\//_}" --dlpath="$("$PG_CONFIG" --pkglibdir)" "$@" >"$out/log" 2>&1 || rc=$?
	local passed failed
	passed=$(grep -cE '(^ok |\.\.\. ok )' "$out/log" || true)
	failed=$(grep -cE '(^not ok |\.\.\. (FAILED|failed))' "$out/log" || true)
	# A crash or a broken program counts too.
	[ $rc = 0 ] || [ "$failed" != 0 ] || failed=1
	[ $((passed + failed)) -ge $# ] || failed=$(($# - passed))
	cat "$out/log" "$out/regression.diffs" >"$out/details" 2>/dev/null || true
	[ $rc = 0 ] || grep -E 'PANIC|FATAL|TRAP|terminated by signal' "$LIB_DIR/server.log" | tail -20 >>"$out/details" || true
	report "$name" $((SECONDS - start)) "$passed" "$failed" "$out/details"
}

REGRESS_PROGRAM=$PGXS_DIR/src/test/regress/pg_regress
ISOLATION_PROGRAM=$PGXS_DIR/src/test/isolation/pg_isolation_regress

pgtap() {
	local db
	for t in $(names test/pgtap sql); do
		db=pgtap_$t
		sql "CREATE DATABASE \"$db\"" && DB=$db sql "CREATE EXTENSION pgtap; CREATE EXTENSION queue" || true
		tap "pgtap/$t" pg timeout --foreground 300 pg_prove --verbose --nocolor --dbname "$db" --username postgres "$TREE/test/pgtap/$t.sql"
	done
}

clients() {
	local driver
	# its own cluster in its own folder; KEEP_FAILED and the traps are its own too
	for driver in libpq psycopg node java go ruby; do
		wanted_test "$driver" || continue
		tap "clients/$driver" env -u PGPORT -u PGHOST -u PGUSER NO_BUILD=1 TMPDIR="$LIB_DIR" timeout 300 "$ROOT/test/clients/run.sh" "$driver"
	done
	! wanted_test frameworks ||
		tap clients/frameworks env -u PGPORT -u PGHOST -u PGUSER NO_BUILD=1 TMPDIR="$LIB_DIR" timeout 1200 "$ROOT/test/clients/frameworks.sh"
}

docs() {
	[ -z "${TESTS:-}" ] || return 0
	tap docs env -u PGPORT -u PGHOST -u PGUSER NO_BUILD=1 TMPDIR="$LIB_DIR" timeout 1200 "$ROOT/test/docs.sh"
}

pages() {
	wanted_test pages || return 0
	tap pages env -u PGPORT -u PGHOST -u PGUSER NO_BUILD=1 TMPDIR="$LIB_DIR" timeout 600 "$ROOT/test/browser/run.sh"
}

tap_file() {
	local dir=$LIB_DIR/tap.$1
	pg mkdir -p "$dir/log" "$dir/data"
	cd "$dir"
	tap "tap/$1" pg env -u PGPORT -u PGHOST -u PGUSER PATH="$TREE/test/bin:$PATH" TMPDIR="$LIB_DIR" PG_REGRESS="$REGRESS_PROGRAM" \
		PERL5LIB="$PGXS_DIR/src/test/perl:$TREE/test/t${PERL5LIB:+:$PERL5LIB}" TESTDIR="$dir" TESTDATADIR="$dir/data" \
		TESTLOGDIR="$dir/log" top_builddir="$dir" timeout "${TAP_TIMEOUT:-600}" bash -c '
			perl "$0" || { rc=$?; echo "# the end of its log:";
				find "$1" \( -name "regress_log_*" -o -path "*/log/*.log" \) -exec tail -n 25 {} + | sed "s/^/#   /"; exit $rc; }' "$TREE/test/t/$1.pl" "$dir"
	cd "$LIB_DIR"
	end_clusters "$dir"
	[ "$FAILED" != 0 ] && [ -n "${KEEP_FAILED:-}" ] || rm -rf "$dir"
}

# Takes the TAP files that nobody has taken yet, the last ones first: 401_chaos, the longest, would else run alone at the end.
tap_files() {
	local t
	for t in $(names test/t pl | sort -r); do
		mkdir "$LIB_DIR/claimed/$t" 2>/dev/null || continue
		tap_file "$t"
	done
}

on_one_cluster() {
	wanted_suite regress || wanted_suite isolation || wanted_suite pgtap || wanted_suite unloaded || return 0
	cluster_init "fsync = off" "max_prepared_transactions = 20" "log_line_prefix = '%m [%p] %b '"
	cluster_start
	! wanted_suite regress || pg_regress_suite regress "$REGRESS_PROGRAM" "$TREE" $(names sql sql)
	! wanted_suite isolation || pg_regress_suite isolation "$ISOLATION_PROGRAM" "$TREE/test/isolation" $(names test/isolation/specs spec)
	! wanted_suite pgtap || pgtap
	cluster_stop fast
	if wanted_suite unloaded; then
		cluster_start -c shared_preload_libraries=
		# without the notice of CREATE EXTENSION that nothing is preloaded
		export PGOPTIONS='-c client_min_messages=warning'
		pg_regress_suite unloaded/regress "$REGRESS_PROGRAM" "$TREE" $(names sql sql | grep -v '^preload_')
		pg_regress_suite unloaded/isolation "$ISOLATION_PROGRAM" "$TREE/test/isolation" \
			$(names test/isolation/specs spec | grep -v '^preload_')
		unset PGOPTIONS
		cluster_stop fast
	fi
}

# layout name
layout() { ! wanted_suite layout || [ -n "${TESTS:-}" ] || tap "$1" "$ROOT/test/$1.sh"; }

layout layout

# Three lanes: the suites that share a cluster, the TAP files, which start their own, and the clients, which wait most of
# their time.
(trap - EXIT; set +e; ! wanted_suite tap || tap_files) &
LIB_PIDS+=($!)
(trap - EXIT; set +e; ! wanted_suite clients || clients; ! wanted_suite docs || docs; ! wanted_suite pages || pages; layout layout_test
	! wanted_suite tap || tap_files) &
LIB_PIDS+=($!)
on_one_cluster
! wanted_suite tap || tap_files
wait
LIB_PIDS=()
# Alone, so that a loaded machine makes no mutant look caught.
if wanted_suite mutants && [ -z "${TESTS:-}" ]; then
	tap mutants env -u PGPORT -u PGHOST -u PGUSER -u SUITES TMPDIR="$LIB_DIR" MUTANTS_OF_DAY="${MUTANTS_OF_DAY:-10}" \
		timeout 900 "$ROOT/test/mutants.sh"
fi

read -r passed failed < <(cat "$LIB_DIR"/results/* 2>/dev/null | awk '{p += $1; f += $2} END {print p + 0, f + 0}')
[ $((passed + failed)) != 0 ] || failed=1
awk '$2 { print "FAILED: " $3 ", " $2 " of " $1 + $2 }' "$LIB_DIR"/results/* 2>/dev/null || true
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
