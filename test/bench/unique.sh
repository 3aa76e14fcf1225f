#!/bin/bash
# Unique keys: an enqueue with a key of its own against a plain one, 16 clients, the median of five interleaved pairs; the
# WAL of each; and 32 sessions on one key beside workers: what they cost, and that there is never more than one live job.
. "$(dirname "$0")/common.sh"
bench_start "Enqueueing with a unique key"
T=$((5 / SCALE > 1 ? 5 / SCALE : 1))

script plain <<'SQL'
SELECT queue.enqueue('mail', '{"to": "ada@example.com", "template": "welcome"}');
SQL
script keyed <<'SQL'
\set a random(1, 1000000000)
\set b random(1, 1000000000)
SELECT queue.enqueue('mail', '{"to": "ada@example.com", "template": "welcome"}', unique_key => 'order:' || :a || ':' || :b);
SQL
script taken <<'SQL'
\set n random(1, 1000)
SELECT queue.enqueue('mail', '{}', unique_key => 'taken' || :n);
SQL
sql "SELECT count(queue.enqueue('mail', '{}', unique_key => 'taken' || n)) FROM generate_series(1, 1000) n" >/dev/null
ratios=
for what in plain keyed; do bench_pgbench $what -M prepared -c 16 -j 2 -T 1; done
for pair in 1 2 3 4 5; do
	if [ $((pair % 2)) = 1 ]; then order="plain keyed"; else order="keyed plain"; fi
	for what in $order; do bench_pgbench $what -M prepared -c 16 -j 2 -T $T; done
	ratios+="$(calc "$(tps keyed) / $(tps plain)" %.3f) "
done
bench_pgbench taken -M prepared -c 16 -j 2 -T $T
figure "plain enqueues a second" "$(tps plain)" info "" /s
figure "enqueues with a new key" "$(tps keyed)" info "" /s
figure "enqueues with a key that is taken (ignore)" "$(tps taken)" info "" /s
figure "  ratio of new keys ($ratios)" "$(tr ' ' '\n' <<<"$ratios" | grep . | median)" -ge 0.5
for what in plain keyed; do
	before=$(sql "SELECT pg_current_wal_insert_lsn()")
	bench_pgbench $what -M prepared -c 1 -t 2000
	figure "WAL of one $what enqueue, with its commit" "$(sql "SELECT round((pg_current_wal_insert_lsn() - '$before') / 2000)")" info "" bytes
done

# 32 sessions on one key, two workers that end, fail and give back what they get
sql "SELECT queue.purge('default'), queue.create_queue('one')" >/dev/null
script one <<'SQL'
\set n random(0, 3)
SELECT outcome FROM queue.enqueue_unique('k', 'the only one', jsonb_build_object('n', :n),
	jsonb_build_object('queue', 'one', 'on_conflict', (ARRAY['ignore', 'replace', 'replace_payload', 'merge'])[:n + 1]));
SQL
script work <<'SQL'
\set n random(0, 3)
SELECT CASE :n WHEN 0 THEN queue.release(id, attempt)::text WHEN 1 THEN queue.fail(id, attempt, 'no', '1 ms') ELSE queue.complete(id, attempt)::text END
FROM queue.fetch('one', 1);
SQL
bench_pgbench work -c 2 -j 1 -T $((T + 1)) &
bench_pgbench one -c 32 -j 2 -T $T &
sessions=$!
while kill -0 $sessions 2>/dev/null; do
	sql "SELECT count(*) FROM queue.live_job j JOIN queue.line l ON l.id = j.line WHERE l.queue = 'one' AND run_at <> 'infinity'"
	sleep 0.2
done >"$LIB_DIR/seen"
wait
seen=$(sort -n "$LIB_DIR/seen" | tail -1)
figure "32 sessions on one key" "$(tps one)" info "" /s
figure "  live jobs of that key" "$seen" -le 1
figure "  waits and errors: deadlocks" "$(grep -c deadlock "$LIB_DIR/server.log")" -eq 0
figure "  keys without a job, jobs without their key" "$(sql "SELECT (SELECT count(*) FROM queue.unique_key k WHERE NOT ended IS TRUE AND NOT EXISTS (SELECT FROM queue.live_job j WHERE j.id = k.job_id)) + (SELECT count(*) FROM queue.live_job j WHERE extra ? 'unique_key' AND NOT EXISTS (SELECT FROM queue.unique_key k WHERE j.id IN (k.job_id, k.successor)))")" -eq 0
bench_end
