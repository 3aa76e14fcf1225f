#!/bin/bash
# 4a. One enqueue a transaction with 16 clients, against a bare INSERT of the same payload into (id bigserial primary
# key, payload jsonb): the median of five interleaved pairs, with prepared statements and with the simple protocol.
. "$(dirname "$0")/common.sh"
bench_start "Enqueueing, one a transaction, 16 clients"
T=$((6 / SCALE > 1 ? 6 / SCALE : 1))

sql "CREATE TABLE bare (id bigserial PRIMARY KEY, payload jsonb)"
PAYLOAD='{"to": "ada@example.com", "template": "welcome", "user_id": 123456, "locale": "en", "params": {"first_name": "Ada", "plan": "basic"}}'
script bare <<SQL
INSERT INTO bare (payload) VALUES ('$PAYLOAD');
SQL
script enqueue <<SQL
SELECT queue.enqueue('mail', '$PAYLOAD');
SQL

for mode in prepared simple; do
	ratios= ours= theirs=
	bench_pgbench enqueue -M $mode -c 16 -j 2 -T 1
	for pair in 1 2 3 4 5; do
		# Who goes first alternates.
		if [ $((pair % 2)) = 1 ]; then order="enqueue bare"; else order="bare enqueue"; fi
		for what in $order; do bench_pgbench $what -M $mode -c 16 -j 2 -T $T; done
		ratios+="$(calc "$(tps enqueue) / $(tps bare)" %.3f) "
		ours+="$(tps enqueue) " theirs+="$(tps bare) "
	done
	figure "enqueues a second, $mode" "$(tr ' ' '\n' <<<"$ours" | grep . | median | xargs printf %.0f)" info "" /s
	figure "bare inserts a second, $mode" "$(tr ' ' '\n' <<<"$theirs" | grep . | median | xargs printf %.0f)" info "" /s
	figure "  ratio, $mode ($ratios)" "$(tr ' ' '\n' <<<"$ratios" | grep . | median)" -ge 0.9
done
bench_end
