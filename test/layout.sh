#!/bin/bash
# The shape of the source, as TAP: what may include what, how long a file may be, what names leave the library, and
# that the C symbols and the SQL script agree.  Needs a built queue.so.  Reads only.
set -uo pipefail
cd "$(dirname "$0")/.."

# Low to high; a file includes only headers of lower folders, or of its own.
ORDER='lib shared config job executor http api scheduler server'
MAX_LINES=800

n=0 bad_tests=0
ok() { n=$((n + 1)); echo "ok $n - $1"; }
not_ok() {
	n=$((n + 1)) bad_tests=1; echo "not ok $n - $1"; shift
	printf '%s\n' "$@" | sed 's/^/#   /'
}
# verdict name lines-of-complaint
verdict() { if [ -z "$2" ]; then ok "$1"; else not_ok "$1" "$2"; fi; }

declare -A LEVEL
level=0
for word in $ORDER; do LEVEL[$word]=$((level += 1)); done

# 1. Include direction, one test a file.
for file in src/*/*.[ch]; do
	folder=$(basename "$(dirname "$file")")
	mine=${LEVEL[$folder]:-}
	bad=
	if [ -z "$mine" ]; then
		bad="src/$folder is not in the list of test/layout.sh"
	else
		for header in $(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]+"([a-z_]+\/[a-z_]+)\.h".*/\1/p' "$file"); do
			[ -f "src/$header.h" ] || continue
			theirs=${LEVEL[${header%%/*}]:-0}
			[ "$theirs" -le "$mine" ] || bad+="$file includes $header.h, which lies higher"$'\n'
		done
	fi
	verdict "$file includes only what lies below it" "${bad%$'\n'}"
done

# 2. File sizes.
verdict "no source file is longer than $MAX_LINES lines" \
	"$(wc -l src/*/*.[ch] | awk -v max=$MAX_LINES '$2 != "total" && $1 > max {print $2 ": " $1 " lines"}')"

# 3. Every file says what it is, in a comment at its top.
verdict "every source file opens with a comment" \
	"$(for file in src/*/*.[ch]; do head -c 2 "$file" | grep -q '/\*' || echo "$file"; done)"

# 4. Versions are told apart in one place.
verdict "only compat.h tests PG_VERSION_NUM" "$(grep -l 'PG_VERSION_NUM' src/*/*.[ch] | grep -v '^src/lib/compat\.h$')"

# 5. Names that leave the library.
if [ -f queue.so ]; then
	verdict "every exported symbol has the extension's prefix" \
		"$(nm -D --defined-only queue.so | awk '{print $NF}' |
			grep -vE '^(queue_|pg_finfo_queue_|_PG_init$|_PG_fini$|Pg_magic_func$|_init$|_fini$)')"
	verdict "no object has a global symbol without the prefix" \
		"$(nm -g --defined-only src/*/*.o | awk 'NF == 3 {print $NF}' |
			grep -vE '^(queue_|pg_finfo_queue_|_PG_init$|_PG_fini$|Pg_magic_func$)')"
else
	not_ok "queue.so is built" "run make first"
fi

# 6. C functions and the newest SQL script.
declared=$(grep -hoE 'PG_FUNCTION_INFO_V1\([a-z0-9_]+\)' src/*/*.c | sed -E 's/.*\((.*)\)/\1/' | sort -u)
used=$(cat sql/queue--*.sql | tr '\n' ' ' | grep -oE "'(MODULE_PATHNAME|\\\$libdir/queue)'[[:space:]]*,[[:space:]]*'[a-z0-9_]+'" |
	sed -E "s/.*'([a-z0-9_]+)'\$/\1/" | sort -u)
verdict "every PG_FUNCTION_INFO_V1 symbol is used by the SQL script" "$(comm -23 <(echo "$declared") <(echo "$used"))"
verdict "every C symbol of the SQL script is in the library" "$(comm -13 <(echo "$declared") <(echo "$used"))"
verdict "SQL-callable symbols are called queue_sql_*" "$(echo "$declared" | grep -v '^queue_sql_')"

# 7. Settings.
verdict "every setting is called queue.*" \
	"$(grep -hoE 'DefineCustom(Bool|Int|Real|String|Enum)Variable\("[^"]*"' src/*/*.c | grep -v '"queue\.')"

echo "1..$n"
[ "$bad_tests" = 0 ]
