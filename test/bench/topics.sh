#!/bin/bash
# Topics: a publish that reaches 3 of 1,000 subscriptions against one statement with 3 enqueues; one that reaches none.
. "$(dirname "$0")/common.sh"
bench_start "Publishing to topics"
T=$((5 / SCALE > 1 ? 5 / SCALE : 1))

script three <<'SQL'
SELECT queue.enqueue('a', '{"to": "ada@example.com", "total": 5}'), queue.enqueue('b', '{"to": "ada@example.com", "total": 5}'),
       queue.enqueue('c', '{"to": "ada@example.com", "total": 5}');
SQL
script publish <<'SQL'
SELECT queue.publish('orders.eu.created', '{"to": "ada@example.com", "total": 5}');
SQL
script filtered <<'SQL'
SELECT queue.publish('invoices.eu.created', '{"to": "ada@example.com", "total": 5}');
SQL
script nobody <<'SQL'
SELECT queue.publish('orders.us.created', '{"to": "ada@example.com", "total": 5}');
SQL
sql "SELECT count(queue.subscribe(format('t%s.*.u%s.#', n, n), 'k')) FROM generate_series(1, 994) n" >/dev/null
sql "SELECT queue.subscribe('orders.eu.created', 'a'), queue.subscribe('orders.eu.*', 'b'), queue.subscribe('*.eu.created.#', 'c'),
            queue.subscribe('invoices.#', 'a', filter => '\$.total > 1'), queue.subscribe('invoices.#', 'b', filter => '\$.total > 2')" >/dev/null
ratios=
for what in three publish; do bench_pgbench $what -M prepared -c 16 -j 2 -T 1; done
for pair in 1 2 3; do
	if [ $((pair % 2)) = 1 ]; then order="three publish"; else order="publish three"; fi
	for what in $order; do bench_pgbench $what -M prepared -c 16 -j 2 -T $T; done
	ratios+="$(calc "$(tps publish) / $(tps three)" %.3f) "
done
for what in filtered nobody; do bench_pgbench $what -M prepared -c 16 -j 2 -T $T; done
figure "statements with 3 enqueues a second" "$(tps three)" info "" /s
figure "publishes that reach 3 of 1,000 subscriptions" "$(tps publish)" info "" /s
figure "  ratio ($ratios)" "$(tr ' ' '\n' <<<"$ratios" | grep . | median)" -ge 0.8
figure "publishes that reach 3, two by a filter" "$(tps filtered)" info "" /s
figure "publishes that reach nobody" "$(tps nobody)" info "" /s
bench_end
