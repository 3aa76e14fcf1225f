#!/bin/bash
# make check-mutants: does the suite notice when a rule is gone?
#
# Each test/mutants/*.patch takes one guard out of the sources.  Its first lines say what the rule is and which tests
# notice: "Rule: ..", "Test: tap/013_wake isolation/claim" (as check.sh names them: suite/file).  Every mutant is built in a
# copy of the tree and installed into a private copy of the server, so that the installed library stays as it is; it is
# caught when a named test fails.  A mutant that lives, a patch that does not apply and one that does not build fail.
#
#   test/mutants.sh --new name "the rule" "suite/test .."    writes one out of the uncommitted change of src, web and the install scripts, and reverts it
#   test/mutants.sh [name ...]      these (a part of the name is enough); none: all
#   test/mutants.sh --random n [seed]   n that nobody chose (mutants_random.pl), each against all of regress, isolation,
#                                       pgtap, unloaded and tap up to the first failure; which ones the seed decides
#   MUTANTS_OF_DAY=10               that many, chosen by the day, so that a few weeks of CI see all
#   MUTANTS_LANES=2                 how many at a time
#
# Speaks TAP.  How to write one, and which are left out because they change nothing: test/mutants/README.md.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LANES=${MUTANTS_LANES:-2}
# seconds: of the day's choice none is expected to pass, so a busy machine, where it may be too little, does no harm
PATIENCE=${MUTANTS_OF_DAY:+10}
PATIENCE=${PATIENCE:-30}

if [ "${1:-}" = --new ]; then
	[ $# = 4 ] || { echo 'usage: test/mutants.sh --new name "the rule" "suite/test .."' >&2; exit 1; }
	cd "$ROOT"
	# not the tests in sql: the one that is to notice may be there, uncommitted
	sources=(src web 'sql/*--*.sql')
	! git diff --quiet -- "${sources[@]}" || { echo "src, web and the install scripts have no uncommitted change" >&2; exit 1; }
	{
		printf 'Rule: %s\nTest: %s\n\n' "$3" "$4"
		git diff --no-color -U2 -- "${sources[@]}"
	} >"test/mutants/$2.patch"
	git checkout -q -- "${sources[@]}"
	exit 0
fi

PATCHES=$ROOT/test/mutants
PG_CONFIG=${PG_CONFIG:-$("$ROOT/test/install.sh" test)}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/queue-mutants-XXXXXX")
chmod 755 "$WORK"
mkdir -m 1777 "$WORK/tmp"
export QUEUE_MUTANTS=$WORK
if [ "${1:-}" = --random ]; then
	seed=${3:-$(($(date +%s) / 86400))}
	echo "# seed $seed"
	PATCHES=$WORK/random
	mkdir "$PATCHES"
	"$ROOT/test/mutants_random.pl" "$PATCHES" "$seed" "${2:?how many}"
	set --
fi
# The lanes and all that they started; each check.sh cleans up after itself, and is waited for.
end() {
	local rc=$? pid left
	trap - EXIT INT TERM HUP
	for pid in $(jobs -p); do end_tree "$pid"; done
	wait
	for _ in $(seq 200); do
		left=$(ours)
		[ -n "$left" ] || break
		sleep 0.1
	done
	[ -z "$left" ] || kill -KILL $left 2>/dev/null || true
	# whoever is just ending may still write into it
	for _ in $(seq 100); do ! rm -rf "$WORK" 2>/dev/null || break; sleep 0.1; done
	exit $rc
}
# end_tree pid: it, before it goes on with something else, and its children; a lane alone would leave what it runs.
end_tree() {
	local child children
	children=$(pgrep -P "$1" || true)
	kill "$1" 2>/dev/null || true
	for child in $children; do end_tree "$child"; done
}
# ours: the processes that the lanes left, by their environment or (a server overwrites that) by where they work.
ours() {
	local pid
	for pid in $({ grep -lsF "QUEUE_MUTANTS=$WORK" /proc/[0-9]*/environ; find /proc -maxdepth 2 -name cwd -lname "$WORK*" 2>/dev/null; } |
		cut -d/ -f3 | sort -u); do
		[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" || echo "$pid"
	done
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# private_server folder: a copy of the server that finds its own share and lib folders by where its programs lie.
private_server() {
	local kind path
	for kind in bindir pkglibdir sharedir; do
		path=$("$PG_CONFIG" --$kind)
		mkdir -p "$1$(dirname "$path")"
		[ -e "$1$path" ] || cp -al "$path" "$1$path" 2>/dev/null || { rm -rf "${1:?}$path"; cp -a "$path" "$1$path"; }
	done
	# a hard link would be written through
	rm -f "$1$("$PG_CONFIG" --pkglibdir)/queue.so" "$1$("$PG_CONFIG" --sharedir)"/extension/queue[.-]*
	path=$("$PG_CONFIG" --includedir-server)
	mkdir -p "$1$(dirname "$(dirname "$path")")"
	ln -sfn "$(dirname "$path")" "$1$(dirname "$path")"
	path=$("$PG_CONFIG" --includedir)
	[ -e "$1$path" ] || { mkdir -p "$1$(dirname "$path")"; ln -sfn "$path" "$1$path"; }
}

# chosen: the patches to run, one a line
chosen() {
	local all=("$PATCHES"/*.patch) day step i
	if [ $# != 0 ]; then
		for i in "${all[@]}"; do
			for day in "$@"; do [[ ${i##*/} != *"${day%.patch}"*.patch ]] || echo "$i"; done
		done | sort -u
	elif [ -n "${MUTANTS_OF_DAY:-}" ]; then
		# one of each part of the alphabet, so that no day has only those whose tests are long
		day=$(($(date +%s) / 86400))
		step=$(((${#all[@]} + MUTANTS_OF_DAY - 1) / MUTANTS_OF_DAY))
		for ((i = day % step; i < ${#all[@]}; i += step)); do echo "${all[i]}"; done
	else
		printf '%s\n' "${all[@]}"
	fi
}

# exists suite/test: is there such a file?
exists() {
	case $1 in
		regress/*) [ -f "$ROOT/sql/${1#*/}.sql" ] ;;
		isolation/*) [ -f "$ROOT/test/isolation/specs/${1#*/}.spec" ] ;;
		pgtap/*) [ -f "$ROOT/test/pgtap/${1#*/}.sql" ] ;;
		tap/*) [ -f "$ROOT/test/t/${1#*/}.pl" ] ;;
		all) ;;
		*) false ;;
	esac
}

# passes suite/test tree server: a hang is a failure too, and so is a wait in vain, which need not last three minutes;
# the first failure ends a test
passes() {
	[ "$1" != all ] || { passes_all "$2" "$3"; return; }
	TMPDIR=$WORK/tmp SUITES=${1%%/*} TESTS=${1#*/} PG_CONFIG=$3 WERROR='' QUEUE_STOP_AT_FAILURE=1 \
		PG_TEST_TIMEOUT_DEFAULT=$PATIENCE PGISOLATIONTIMEOUT=$PATIENCE timeout --kill-after=20 150 "$2/test/check.sh" >"$2.log" 2>&1
}

# passes_all tree server: the whole suite, up to the first file that fails
passes_all() {
	local failed= check line
	mkfifo "$1.out"
	TMPDIR=$WORK/tmp SUITES='regress isolation pgtap unloaded tap' TESTS='' PG_CONFIG=$2 WERROR='' QUEUE_STOP_AT_FAILURE=1 \
		PG_TEST_TIMEOUT_DEFAULT=100 timeout --kill-after=20 1800 "$1/test/check.sh" >"$1.out" 2>&1 &
	check=$!
	while read -r line; do
		echo "$line"
		[ -z "$failed" ] && [[ $line =~ ^[^\ ]+\ +[0-9]+\ passed,\ [1-9][0-9]*\ failed ]] || continue
		failed=$line
		kill $check 2>/dev/null || true
	done <"$1.out" >"$1.log"
	rm "$1.out"
	wait $check && [ -z "$failed" ]
}

# try patch tree server: prints "caught by ..", or why not
try() {
	local patch=$1 tree=$2 server=$3 round test tests
	tests=$(sed -n 's/^Test: //p' "$patch")
	[ -n "$tests" ] || { echo "it names no test"; return; }
	for test in $tests; do exists "$test" || { echo "there is no test $test"; return; }; done
	if ! patch -d "$tree" -p1 -s -F2 --no-backup-if-mismatch <"$patch" >"$tree.log" 2>&1; then
		echo "the patch does not apply"
	elif ! make -s -C "$tree" all WERROR= PG_CONFIG="$server" >"$tree.log" 2>&1; then
		echo "it does not build: $(grep -m1 -E 'error|Error|\*\*\*' "$tree.log")"
	else
		# One that is caught only now and then is a fault of its test, and says so; it does not stop who has not to do with it.
		for round in '' ', at the second try: a test that notices by chance'; do
			for test in $tests; do
				passes "$test" "$tree" "$server" && continue
				[ $? != 124 ] || round=", which hangs$round"
				[ "$test" != all ] || test=$(grep -m1 -E ' [1-9][0-9]* failed' "$tree.log" | cut -d' ' -f1)
				echo "caught by $test$round"
				break 2
			done
			[ "$tests" != all ] || break
		done
	fi
	# whole files: patch -R may find another place that looks alike
	sed -n 's/^+++ b\///p' "$patch" | while read -r file; do cp "$ROOT/$file" "$tree/$file"; done
}

# lane number: takes the mutants that no lane has taken yet
lane() {
	local tree=$WORK/tree.$1 server=$WORK/server.$1 patch name answer start test
	mkdir "$tree" "$server"
	chmod 755 "$tree" "$server"
	tar -C "$ROOT" --exclude=.git --exclude=./test/bench/results -cf - . | tar -C "$tree" -xf -
	private_server "$server"
	server=$server$("$PG_CONFIG" --bindir)/pg_config
	make -s -C "$tree" all WERROR= PG_CONFIG="$server" >"$tree.log" 2>&1 || { cat "$tree.log" >&2; return 1; }
	# Without a mutant the tests pass, else they prove nothing.  Of the day's choice the rest of make check tells.
	[ -n "${MUTANTS_OF_DAY:-}" ] || [ "$PATCHES" != "$ROOT/test/mutants" ] || while read -r test; do
		mkdir "$WORK/control.${test//\//_}" 2>/dev/null || continue
		passes "$test" "$tree" "$server" || { echo "# $test fails without any mutant:"; sed 's/^/#   /' "$tree.log"; touch "$WORK/alive"; }
	done < <(xargs -d '\n' sed -n 's/^Test: //p' <"$WORK/chosen" | tr ' ' '\n' | sort -u)
	while read -r patch; do
		name=$(basename "$patch" .patch)
		mkdir "$WORK/taken.$name" 2>/dev/null || continue
		start=$SECONDS
		answer=$(try "$patch" "$tree" "$server")
		(
			flock 8
			echo x >>"$WORK/count"
			# (of those that nobody chose, some are no C)
			if [[ $answer == caught* ]] || [[ $PATCHES != "$ROOT/test/mutants" && $answer == "it does not build"* ]]; then
				echo "ok $(wc -l <"$WORK/count") - $name: $answer ($((SECONDS - start)) s)"
			else
				echo "not ok $(wc -l <"$WORK/count") - $name: ${answer:-it lives}"
				touch "$WORK/alive"
				sed -n 's/^Rule: /#   the rule: /p; s/^Test: /#   to be caught by: /p' "$patch"
			fi
		) 8>"$WORK/lock"
	done <"$WORK/chosen"
}

chosen "$@" >"$WORK/chosen"
[ -s "$WORK/chosen" ] || { echo "no mutant of that name" >&2; exit 1; }
echo "1..$(wc -l <"$WORK/chosen")"
for ((i = 1; i <= LANES; i++)); do lane "$i" & done
wait
[ "$(cat "$WORK/count" 2>/dev/null | wc -l)" = "$(wc -l <"$WORK/chosen")" ] && [ ! -e "$WORK/alive" ]
