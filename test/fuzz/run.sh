#!/bin/bash
# make fuzz: libFuzzer on the parts that read what comes from outside and need no server, with the address and the undefined
# behaviour sanitizers.  test/fuzz/*.c are the targets, test/fuzz/corpus their seeds.
#
#   FUZZ_SECONDS=600 test/fuzz/run.sh [target ...]      so long each, two at a time; a finding is left in the folder that is named
#
# Speaks TAP.  Needs clang with its runtime libraries (Debian: clang, libclang-rt-dev); without them it is skipped.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
PG_CONFIG=${PG_CONFIG:-$("$ROOT/test/install.sh")}
SECONDS_EACH=${FUZZ_SECONDS:-600}
targets=("$@")
[ $# != 0 ] || targets=(cron answer wire netguard text web site)
echo "1..${#targets[@]}"
WORK=$(mktemp -d "${TMPDIR:-/tmp}/queue-fuzz-XXXXXX")
keep=
trap '[ -n "$keep" ] || rm -rf "$WORK"' EXIT
if ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return 0; }' |
	clang -x c -fsanitize=fuzzer,address,undefined -o "$WORK/try" - 2>/dev/null; then
	for i in "${!targets[@]}"; do echo "ok $((i + 1)) - ${targets[i]} # SKIP no clang with libFuzzer"; done
	exit 0
fi

# queue-web's files, which site goes through as a whole
site() {
	"$ROOT/web/embed.sh" "$ROOT/web/static" >"$WORK/static_files.c"
	echo "$WORK/static_files.c" "$ROOT"/web/{http,actions,views,entry,answer,auth,files,metrics,util}.c -I"$ROOT/web" \
		-DQUEUE_WEB_VERSION='"0"' $(pkg-config --cflags --libs libmicrohttpd)
}

build() {
	local more=$HERE/stubs.c
	[ "$1" != site ] || more=$(site)
	clang -g -O1 -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-w -I"$ROOT/src" -I"$HERE" -I"$("$PG_CONFIG" --includedir-server)" -D_GNU_SOURCE -DUSE_FUZZER \
		-o "$WORK/$1" "$HERE/$1.c" $more -L"$("$PG_CONFIG" --libdir)" -L"$("$PG_CONFIG" --pkglibdir)" \
		-L"$("$PG_CONFIG" --pkglibdir)/../lib" -lpgcommon -lpgport -lcurl -lm -lpthread
}

fuzz() { # number target
	local corpus=$WORK/corpus.$2 dict=()
	[ ! -f "$HERE/$2.dict" ] || dict=(-dict="$HERE/$2.dict")
	mkdir -p "$corpus"
	if build "$2" >"$WORK/$2.log" 2>&1 && (cd "$WORK" && nice "$WORK/$2" "${dict[@]}" -max_total_time="$SECONDS_EACH" -max_len=4096 -timeout=20 -rss_limit_mb=1024 \
		-print_final_stats=1 -artifact_prefix="$WORK/$2." "$corpus" "$HERE/corpus/$2") >>"$WORK/$2.log" 2>&1; then
		echo "ok $1 - $2: $(sed -n 's/^stat::number_of_executed_units: *//p' "$WORK/$2.log") inputs"
	else
		echo "not ok $1 - $2"
		tail -25 "$WORK/$2.log" | sed 's/^/#   /'
		touch "$WORK/bad"
	fi
}

for i in "${!targets[@]}"; do
	fuzz $((i + 1)) "${targets[i]}" &
	[ $((i % 2)) = 0 ] || wait
done
wait
[ ! -e "$WORK/bad" ] || { keep=1; echo "# left in $WORK"; exit 1; }
