-- What the pages show in the tests and in the screenshots: an ordinary shop, and what its users' worst enemy would
-- enqueue. Nothing here depends on how long something takes: jobs end at once or stay as they are.
CREATE EXTENSION queue;
SELECT queue.create_queue('orders', keep_completed => '1 day', description => 'what customers wait for');
SELECT queue.create_queue('mail', keep_completed => '1 day');
SELECT queue.create_queue('reports');
SELECT queue.create_queue('imports');
SELECT queue.create_queue('dead');
SELECT queue.alter_queue('imports', dead_letter => 'dead');

-- Until the scheduler has let them go: jobs with a group or dependencies.
CREATE PROCEDURE let_go(of text) LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM queue.job WHERE kind = of AND state = 'pending') LOOP
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;

CREATE TABLE shop (card_works boolean);
INSERT INTO shop VALUES (false);
CREATE FUNCTION pay(j queue.job) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM queue.log('charging order ' || (j.payload ->> 'order'));
	IF NOT (SELECT card_works FROM public.shop) THEN
		RAISE EXCEPTION 'card declined: the bank does not answer';
	END IF;
	RETURN jsonb_build_object('charged', j.payload -> 'amount');
END $$;
CREATE FUNCTION send(j queue.job) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"accepted": true}'::jsonb $$;
CREATE FUNCTION flaky(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING 'the file is not there yet';
	RAISE EXCEPTION 'no such file: %', j.payload ->> 'file';
END $$;
CREATE FUNCTION broken(j queue.job) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '</script><script>pwned = 1</script><img src=x onerror="pwned = 1"> %', U&'\202Egnp.exe';
END $$;
SELECT queue.register_sql_handler('pay', 'pay', max_attempts => 1);
SELECT queue.register_sql_handler('send', 'send');
SELECT queue.register_sql_handler('flaky', 'flaky', backoff => '{"type": "fixed", "base": "1 day", "jitter": 0}');
SELECT queue.register_sql_handler('broken', 'broken', max_attempts => 1);
SELECT queue.register_http_handler('webhook', 'http://127.0.0.1:9/hooks/orders?key=hidden',
	secret => 'whsec_ZGVtbyBzZWNyZXQ=');
SELECT queue.add_endpoint('webhook', 'http://127.0.0.1:9/hooks/second', weight => 2);
SELECT queue.pause_handler('webhook');

SELECT count(*) FROM queue.enqueue_many('pay', ARRAY(SELECT jsonb_build_object('order', 1000 + n, 'amount', 19.90)
	FROM generate_series(1, 100) n), 'orders');
SELECT count(*) FROM queue.enqueue_many('send', ARRAY(SELECT jsonb_build_object('to',
	'customer' || n || '@example.com') FROM generate_series(1, 60) n), 'mail');
SELECT queue.enqueue('flaky', jsonb_build_object('file', n || '.csv'), 'mail') FROM generate_series(1, 7) n;
SELECT queue.enqueue('broken', '{"file": "a.csv"}', 'imports', max_attempts => 1);
SELECT queue.enqueue('webhook', '{"order": 17}', 'orders', tags => '{eu, gold}',
	headers => '{"traceparent": "00-secret-value"}', priority => -5);
SELECT queue.enqueue('webhook', '{"order": 18}', 'orders', delay => '3 days', tags => '{eu}');
SELECT queue.enqueue('send', '{"to": "vip@example.com"}', 'mail', delay => '2 hours');
SELECT queue.enqueue('step', jsonb_build_object('n', n), 'imports', group_key => 'customer 7')
	FROM generate_series(1, 3) n;
-- Nobody has come for these, and they were due long ago.
SELECT queue.enqueue('resize', jsonb_build_object('picture', n), 'imports',
	run_at => clock_timestamp() - interval '3 hours') FROM generate_series(1, 12) n;

-- A worker of one's own is at it.
SELECT queue.enqueue('report', '{"month": "2026-10"}', 'reports') AS report \gset
SELECT attempt AS claim FROM queue.fetch('reports', 1, lease => '1 day', worker => 'report-worker-7',
	kinds => '{report}') \gset
SELECT queue.log('reading 1,204 invoices', job_id => :report, attempt => :claim);
SELECT queue.log('invoice 317 has no address', 'warning', :report, :claim);
SELECT queue.progress(:report, '{"done": 37, "total": 100}', :claim);
SELECT queue.enqueue('report', '{"month": "2026-11"}', 'reports');
SELECT queue.pause('reports');

SELECT queue.schedule('nightly report', '30 4 * * 1-5', 'report', '{"month": "last"}', 'reports',
	timezone => 'Europe/Berlin');
SELECT queue.schedule('cleanup', '*/5 * * * *', 'clean', queue => 'imports');
SELECT queue.pause_schedule('cleanup');

SELECT workflow_id AS flow FROM queue.enqueue_workflow('[
	{"ref": "load", "kind": "load", "queue": "imports"},
	{"ref": "check", "kind": "check", "queue": "imports", "depends_on": ["load"]},
	{"ref": "convert", "kind": "convert", "queue": "imports", "depends_on": ["load"]},
	{"ref": "index", "kind": "index", "queue": "imports", "depends_on": ["check", "convert"]},
	{"ref": "tell", "kind": "tell", "queue": "mail",
	"depends_on": ["index"]}]', 'import of the catalogue', 'imports') LIMIT 1 \gset
CALL let_go('load');
SELECT queue.complete(id, attempt, '{"rows": 4711}') FROM queue.fetch('imports', 1, kinds => '{load}');
SELECT count(*)
	FROM queue.enqueue_workflow('[{"ref": "first", "kind": "broken", "queue": "mail"}, {"ref": "second",
	"kind": "send", "queue": "mail", "depends_on": ["first"]}]', 'one that fails', 'mail');
SELECT queue.create_workflow('a batch', 'mail') AS batch \gset
SELECT queue.enqueue('send', '{"to": "all"}', 'mail', workflow => :batch);
SELECT queue.close_workflow(:batch);

-- Hostile: markup, quotes, marks of direction, escapes, digits that a double does not hold, depth, length.
SELECT queue.create_queue('<b>q" & ''x</b>');
SELECT queue.enqueue('<img src=x onerror="pwned = 1">', jsonb_build_object(
	'html', '</script><script>pwned = 1</script><!--', 'quotes',
	$$"'`\$$, 'rtl', U&'\202Eabc\2066', 'zero', '\u0000 and \x00',
	'exact', 12345678901234567890, 'small', 0.1000, 'big', 1e30, '__proto__', '{"polluted": true}'::jsonb,
	'constructor', 1,
	'long', repeat('0123456789', 5000)), '<b>q" & ''x</b>', tags => ARRAY['<i>tag</i>', U&'\202Etag'],
	unique_key => 'javascript:pwned=1', group_key => '"><script>pwned=1</script>',
	headers => '{"<u>h</u>": "secret-value"}') AS hostile \gset
SELECT queue.enqueue('deep', (repeat('[', 1000) || '12345678901234567891' || repeat(']', 1000))::jsonb,
	'<b>q" & ''x</b>') AS deep \gset
CALL let_go('<img src=x onerror="pwned = 1">');
SELECT attempt AS claim FROM queue.fetch('<b>q" & ''x</b>', 1, lease => '1 day',
	worker => '<script>pwned=1</script>', kinds => ARRAY['<img src=x onerror="pwned = 1">']) \gset
SELECT queue.log('<script>pwned=1</script> "' || U&'\202E' || E'\x1b[31m', 'error', :hostile, :claim);
SELECT queue.progress(:hostile, '"<script>pwned=1</script>"', :claim);
SELECT queue.schedule('<script>pwned=1</script>', '0 0 1 1 *', '<i>kind</i>', queue => '<b>q" & ''x</b>');
SELECT count(*)
	FROM queue.enqueue_workflow('[{"ref": "<script>pwned=1</script>", "kind": "<i>a</i>", "queue": "imports"},
	{"ref": "]]>", "kind": "b", "queue": "imports",
	"depends_on": ["<script>pwned=1</script>"]}]', '<script>pwned=1</script>', '<b>q" & ''x</b>');
SELECT queue.enqueue('many', '{"tenant": 1}', '<b>q" & ''x</b>', concurrency_key => '</td>');
