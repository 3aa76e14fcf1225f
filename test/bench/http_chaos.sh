#!/bin/bash
# Four endpoints of one handler: one hangs, one refuses connections, one answers 500 for 80 %, one is fine (timeout 2 s).
# Each job gets exactly one 2xx, its other answers equal its rows in job_error, the fine endpoint stays as fast as alone,
# breakers open, probe and close.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/http.sh"
bench_start "HTTP endpoints in trouble"
server_start http
JOBS=$((4000 / SCALE))
sql "SELECT queue.alter_queue('default', keep_completed => '1 day', max_attempts => 200)" >/dev/null

# p99 of the fine endpoint's answers, as the worker sees them, in ms
fine_p99() {
	sql "SELECT (result->>'duration_ms')::int FROM queue.job WHERE kind = '$1' AND result->>'body' = 'fine'" | percentile 99
}
# a steady stream, not a burst: $JOBS jobs over some 20 seconds
stream() {
	for i in $(seq 200); do
		sql "SELECT count(*) FROM queue.enqueue_many('$1', array_fill('{}'::jsonb, ARRAY[$((JOBS / 200))]))" >/dev/null
		sleep 0.05
	done
}

sql "SELECT queue.register_http_handler('alone', '$SERVER_URL/status/200?body=fine', timeout => '2 s')" >/dev/null
stream alone
until_empty
alone=$(fine_p99 alone)
figure "p99 of the fine endpoint alone" "$alone" info - ms

sql "SELECT queue.register_http_handler('four', '$SERVER_URL/status/200?body=fine', timeout => '2 s', max_running => 100,
	backoff => '{\"type\": \"fixed\", \"base\": \"200 ms\"}', breaker => '{\"cap\": \"5 s\"}')" >/dev/null
for url in "$SERVER_URL/hang" http://127.0.0.1:1/ "$SERVER_URL/flaky/80"; do
	sql "SELECT queue.add_endpoint('four', '$url')" >/dev/null
done
: >"$LIB_DIR/http/http.log"
stream four &
streamer=$!
opened=0
for i in $(seq 100); do
	sleep 0.1
	n=$(sql "SELECT count(*) FROM queue.stat_endpoint WHERE kind = 'four' AND breaker <> 'closed'")
	[ "$n" -le "$opened" ] || opened=$n
done
wait $streamer
until_empty
figure "breakers seen open or half-open at once (hang, refuse, flaky)" "$opened" -eq 3
figure "jobs that got exactly one 2xx" "$(grep -a what=answer "$LIB_DIR/http/http.log" | grep -a 'status=200	' |
	grep -ao 'job=[0-9]*' | sort | uniq -c | awk '$1 == 1' | wc -l)" -eq "$JOBS"
# answers that were no 2xx, job by job, against the rows of job_error with a status
grep -a what=answer "$LIB_DIR/http/http.log" | grep -av 'status=200	' | grep -ao 'job=[0-9]*' | cut -d= -f2 | sort | uniq -c |
	awk '{print $2, $1}' | sort >"$LIB_DIR/answered"
sql "SELECT job_id || ' ' || count(*) FROM queue.job_error WHERE http_status = 500 GROUP BY job_id" | sort >"$LIB_DIR/told"
figure "jobs whose bad answers differ from their rows in job_error" "$(comm -3 "$LIB_DIR/answered" "$LIB_DIR/told" | wc -l)" -eq 0
sql "SELECT job_id || ' ' || count(*) FROM queue.job_error WHERE error LIKE 'timeout:%' GROUP BY job_id" | sort >"$LIB_DIR/told"
grep -a what=request "$LIB_DIR/http/http.log" | grep -a 'path=/hang	' | grep -ao 'queue-job-id=[0-9]*' | cut -d= -f2 | sort | uniq -c |
	awk '{print $2, $1}' | sort >"$LIB_DIR/answered"
figure "jobs whose timeouts differ from their rows in job_error" "$(comm -3 "$LIB_DIR/answered" "$LIB_DIR/told" | wc -l)" -eq 0
together=$(fine_p99 four)
figure "p99 of the fine endpoint beside the others" "$together" -le $((alone + 20)) ms
figure "requests to the hanging endpoint" "$(grep -a what=request "$LIB_DIR/http/http.log" | grep -ac 'path=/hang	')" info -
figure "breakers that opened, by the log" "$(grep -cE 'breaker of .*: (closed|half-open) -> open' "$LIB_DIR/server.log")" -ge 3
figure "and were probed" "$(grep -cE 'breaker of .*: open -> half-open' "$LIB_DIR/server.log")" -ge 3

# the flaky one recovers
sql "SELECT queue.remove_endpoint('four', '$SERVER_URL/hang'), queue.remove_endpoint('four', 'http://127.0.0.1:1/')" >/dev/null
sql "SELECT queue.add_endpoint('four', '$SERVER_URL/flaky/0'), queue.add_endpoint('four', '$SERVER_URL/flaky/80', 0)" >/dev/null
stream four
until_empty
figure "endpoints with a closed breaker" \
	"$(sql "SELECT count(*) FROM queue.stat_endpoint WHERE kind = 'four' AND weight > 0 AND breaker = 'closed'")" -eq 2
bench_end
