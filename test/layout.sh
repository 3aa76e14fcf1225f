#!/bin/bash
# The shape of the source, as TAP: what may include what, how long a file may be, what names leave the library, and
# that the C symbols and the SQL script agree.  Needs a built queue.so.  Reads only.
#
#   test/layout.sh [folder]     the tree to look at; without it, this one.  test/layout_test.sh breaks each rule.
set -uo pipefail
cd "${1:-$(dirname "$0")/..}" || exit 1

# Low to high; a file includes only headers of lower folders, or of its own.
ORDER='lib shared config job executor http api scheduler server'
MAX_LINES=800
MAX_COLUMNS=120

n=0 bad_tests=0
ok() { n=$((n + 1)); echo "ok $n - $1"; }
not_ok() {
	n=$((n + 1)) bad_tests=1; echo "not ok $n - $1"; shift
	printf '%s\n' "$@" | sed 's/^/#   /'
}
# verdict name lines-of-complaint
verdict() { if [ -z "$2" ]; then ok "$1"; else not_ok "$1" "$2"; fi; }

sources=(src/*/*.[ch])
# queue-web is a program of its own: only the form of its files is checked.
web=()
for file in web/*.[ch]; do [ ! -f "$file" ] || [ "$file" = web/static_files.c ] || web+=("$file"); done
objects=()
for file in src/*/*.c; do [ ! -f "${file%.c}.o" ] || objects+=("${file%.c}.o"); done

# Every include of ours, as "file header": src/job/job.c lib/queue.h
INCLUDES=$(awk -v all="${sources[*]}" '
	BEGIN { n = split(all, a, " "); for (i = 1; i <= n; i++) { sub(/^src\//, "", a[i]); ours[a[i]] = 1 } }
	/^[ \t]*#[ \t]*include[ \t]+"/ { split($0, q, "\""); if (q[2] in ours) print FILENAME, q[2] }' "${sources[@]}")

verdict "every source file lies in a folder of the order" \
	"$(for file in src/*.[ch] "${sources[@]}"; do
		[ -e "$file" ] || continue
		folder=${file#src/} folder=${folder%/*}
		[[ " $ORDER " == *" $folder "* ]] || echo "$file"
	done)"

verdict "src holds nothing but sources and what is built of them" \
	"$(find src -type f ! -name '*.[chdo]' ! -name '*.so' ! -name '*.bc' ! -name '*.awk' ! -name '*.inc' ! -name README.md ! -name .built-for)"

verdict "an include goes to a lower folder or stays in its own" \
	"$(echo "$INCLUDES" | awk -v order="$ORDER" '
		BEGIN { n = split(order, o, " "); for (i = 1; i <= n; i++) level[o[i]] = i }
		{ split($1, from, "/"); split($2, to, "/")
		  if (level[to[1]] > level[from[2]]) print $1 " includes " $2 ", which lies higher" }')"

# A .c and its .h are one room.
verdict "no files include each other in a circle" \
	"$(echo "$INCLUDES" | sed -E 's/^src\/(.*)\.[ch] (.*)\.h$/\1 \2/' | awk '$1 != $2' | sort -u | tsort 2>&1 >/dev/null |
		grep -v 'contains a loop' | sed 's/^tsort: //')"

verdict "no file includes a header twice" \
	"$(awk '/^#include/ && seen[FILENAME, $2]++ {print FILENAME ": " $2}' "${sources[@]}")"

# Own header first; then blocks of system headers, ours, PostgreSQL's, each sorted.
verdict "includes are sorted: own header, <system>, ours, PostgreSQL's" \
	"$(awk -v all="${sources[*]}" '
		BEGIN { n = split(all, a, " "); for (i = 1; i <= n; i++) { sub(/^src\//, "", a[i]); ours[a[i]] = 1 } }
		FNR == 1 { own = FILENAME; sub(/^src\//, "", own); sub(/\.c$/, ".h", own); seen = 0; block = 0; last = "" }
		/^#include/ && !/\.inc"$/ && FILENAME != "src/lib/compat.h" {
			name = $2; gsub(/[<">]/, "", name)
			if (!seen++ && (name == own || name == "lib/queue.h")) next
			b = $2 ~ /^</ ? 1 : name in ours ? 2 : 3
			if (b < block) print FILENAME ": " name " stands behind another block"
			else if (b == block && name <= last) print FILENAME ": " name " stands behind " last
			block = b; last = name
		}' "${sources[@]}")"

verdict "no source file is longer than $MAX_LINES lines" \
	"$(wc -l "${sources[@]}" "${web[@]}" | awk -v max=$MAX_LINES '$2 != "total" && $1 > max {print $2 ": " $1 " lines"}')"

verdict "no source line is wider than $MAX_COLUMNS columns" \
	"$(awk -v max=$MAX_COLUMNS '
		length($0) + 3 * gsub(/\t/, "\t") > max {
			w = 0
			for (i = 1; i <= length($0); i++) w = substr($0, i, 1) == "\t" ? w + 4 - w % 4 : w + 1
			if (w > max) print FILENAME ":" FNR ": " w
		}' "${sources[@]}" "${web[@]}")"

verdict "every source file opens with a comment that names it" \
	"$(awk 'FNR == 1 && $0 != "/*" {print FILENAME}
		FNR == 2 { name = FILENAME; sub(/.*\//, "", name); if ($0 != " * " name) print FILENAME }' "${sources[@]}" "${web[@]}")"

verdict "no comment points at papers outside the repository" \
	"$(grep -nEi '(api|design|requirements)\.md|\bissue #?[0-9]' "${sources[@]}" "${web[@]}" sql/*--*.sql)"

verdict "src/README.md names only functions and files that exist, and every file" \
	"$(comm -23 <(grep -oE '`[a-z_]+\(\)`' src/README.md | tr -d '`()' | sort -u) <(grep -ohE '^[a-z_]+\(' "${sources[@]}" | tr -d '(' | sort -u) |
		sed 's/$/() is nowhere/'
	grep -oE '\b[a-z_]+/[a-z_]+\.[ch]\b' src/README.md | sort -u | while read -r name; do
		[ -f "src/$name" ] || echo "there is no src/$name"
	done
	words=" $(tr -cs 'a-z_' ' ' <src/README.md) "
	for file in src/*/*.c; do name=${file##*/}; [[ $words == *" ${name%.c} "* ]] || echo "$file is not named"; done)"

verdict "only lib/compat.h tests PG_VERSION_NUM" "$(grep -l 'PG_VERSION_NUM' "${sources[@]}" | grep -v '^src/lib/compat\.h$')"

verdict "only shared/clock.h reads the clock" \
	"$(grep -nE '\bGetCurrent(Timestamp|TransactionStartTimestamp|IntegerTimestamp)\b' "${sources[@]}" | grep -v '^src/shared/clock\.h:')"

# Names that leave an object, and the header of the same name that must declare each.
SQL_OR_PG='^(queue_sql_|pg_finfo_queue_|_PG_init$|_PG_fini$|Pg_magic_func$|_init$|_fini$)'
if [ -f queue.so ] && [ ${#objects[@]} != 0 ]; then
	verdict "every exported symbol has the extension's prefix" \
		"$(nm -D --defined-only queue.so | awk '{print $NF}' | grep -vE "$SQL_OR_PG" | grep -v '^queue_')"
	verdict "no object has a global symbol without the prefix" \
		"$(nm -g --defined-only "${objects[@]}" | awk 'NF == 3 {print $NF}' | grep -vE "$SQL_OR_PG" | grep -v '^queue_')"
	verdict "what a .c exports stands in the .h of its name" \
		"$(nm -A -g --defined-only "${objects[@]}" | awk 'NF == 3 {sub(/\.o:.*/, "", $1); print $1, $3}' | grep -vE " ${SQL_OR_PG#^}" |
			awk '{
				file = $1 ".c"; header = $1 == "src/server/init" ? "src/lib/queue.h" : $1 ".h"
				if (!(header in words)) {
					words[header] = " "
					while ((getline line <header) > 0) { gsub(/[^A-Za-z0-9_]+/, " ", line); words[header] = words[header] line " " }
				}
				if (!index(words[header], " " $2 " ")) print file ": " $2 " is not in " header
			}')"
	# What no other object uses need not leave its file; the server calls the mains by name.
	used=$(nm -u "${objects[@]}" | awk 'NF == 2 {print $2}' | sort -u)
	verdict "what a .c exports is used elsewhere" \
		"$(nm -g --defined-only "${objects[@]}" | awk 'NF == 3 {print $NF}' | grep -vE "$SQL_OR_PG" | grep -vE '_main$' | sort -u |
			comm -23 - <(echo "$used"))"
else
	not_ok "queue.so is built" "run make first"
fi

declared=$(grep -hoE 'PG_FUNCTION_INFO_V1\([a-z0-9_]+\)' "${sources[@]}" | sed -E 's/.*\((.*)\)/\1/' | sort -u)
used=$(cat sql/*--*.sql | tr '\n' ' ' | grep -oE "'(MODULE_PATHNAME|\\\$libdir/queue)'[[:space:]]*,[[:space:]]*'[a-z0-9_]+'" |
	sed -E "s/.*'([a-z0-9_]+)'\$/\1/" | sort -u)
verdict "every PG_FUNCTION_INFO_V1 symbol is used by an SQL script" "$(comm -23 <(echo "$declared") <(echo "$used"))"
verdict "every C symbol of the SQL script is in the library" "$(comm -13 <(echo "$declared") <(echo "$used"))"
verdict "SQL-callable symbols are called queue_sql_*" "$(echo "$declared" | grep -v '^queue_sql_')"

# As pg_buildext does for each version of PostgreSQL; make only says what it would do.
if [ -f "$(${PG_CONFIG:-pg_config} --pgxs 2>/dev/null)" ]; then
	elsewhere=$(mktemp -d)
	said=$(make -n -C "$elsewhere" -f "$PWD/Makefile" VPATH="$PWD" PG_CONFIG="${PG_CONFIG:-pg_config}" USE_PGXS=1 SHELL=/bin/sh \
		-B all 2>&1)
	verdict "a build in another folder compiles and links every source" \
		"$(for file in src/*/*.c; do
			[[ $said == *" -o ${file%.c}.o"* || $said == *"-o ${file%.c}.o "* ]] || echo "$file is not compiled"
			[[ $said == *"-shared"*"${file%.c}.o"* ]] || echo "$file is not linked"
		done)"
	rm -rf "$elsewhere"
fi

verdict "functions with a comment that says internal are in schema queue_internal" \
	"$(tr '\n' ' ' <sql/queue--1.0.sql | grep -oiE "COMMENT ON FUNCTION queue\.[a-z_]+(\([^)]*\))? IS +'internal")"

# 001 to 100 the server's processes, 101 on HTTP, 201 on fetch, 301 on queue-web; a new one takes the next free number of its hundred.
verdict "no two TAP files have one number" \
	"$(for file in test/t/[0-9]*_*.pl; do [ ! -f "$file" ] || basename "$file" .pl; done | awk -F_ '$1 in name {
		print "test/t/" $0 ".pl and " name[$1] ".pl: rename the newer one, and name it anew in test/mutants" } {name[$1] = $0}')"

verdict "every setting is called queue.*" \
	"$(grep -hoE 'DefineCustom(Bool|Int|Real|String|Enum)Variable\("[^"]*"' "${sources[@]}" | grep -v '"queue\.')"

echo "1..$n"
[ "$bad_tests" = 0 ]
