-- What people look at: the views' columns, a job in each state, explain_job, doctor.
CREATE EXTENSION queue;
\pset null NULL
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'queue.job'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'queue.job_error'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attrelid::regclass AS view, string_agg(attname, ', ' ORDER BY attnum) AS columns FROM pg_attribute
 WHERE attrelid IN ('queue.stat_queue'::regclass, 'queue.stat_handler'::regclass, 'queue.stat_endpoint'::regclass, 'queue.stat_worker'::regclass) AND attnum > 0
 GROUP BY 1 ORDER BY 1::text;
\pset format unaligned
-- none of the stat views scans a job table
EXPLAIN (COSTS OFF) SELECT * FROM queue.stat_worker;
SELECT DISTINCT c.relname FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
  JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
 WHERE r.ev_class IN ('queue.stat_queue'::regclass, 'queue.stat_handler'::regclass, 'queue.stat_endpoint'::regclass, 'queue.stat_worker'::regclass) AND c.relkind IN ('r', 'p') ORDER BY 1;

-- every state
SELECT queue.create_queue('v', keep_completed => '1 day', max_attempts => 2);
SELECT queue.create_queue('quick', backoff => '{"type": "fixed", "base": "0", "jitter": 0}');
SELECT queue.enqueue(s, to_jsonb(s), 'v', delay => CASE s WHEN 'scheduled' THEN '1 day'::interval END) AS id, s INTO TEMP ids
  FROM unnest('{scheduled,available,running,retryable,completed,cancelled,discarded}'::text[]) s;
INSERT INTO ids SELECT queue.enqueue('due again', '1', 'quick'), 'due again';
SELECT count(*) FROM queue.fetch_any('{v,quick}', 9, kinds => '{running,retryable,completed,cancelled,discarded,due again}');
SELECT s, CASE s WHEN 'retryable' THEN queue.fail(id, 1, 'r') WHEN 'completed' THEN queue.complete(id, 1)::text WHEN 'cancelled' THEN queue.cancel(id, 'c')::text
	WHEN 'discarded' THEN queue.fail(id, 1, 'd', discard => true) WHEN 'due again' THEN queue.fail(id, 1, 'a') END FROM ids ORDER BY id;
SELECT s, state, attempt, failures, last_error, started_at IS NOT NULL AS started, finished_at IS NOT NULL AS finished, leased_until IS NOT NULL AS leased
  FROM ids LEFT JOIN queue.job j USING (id) ORDER BY id;
SELECT kind, attempt, error, started_at IS NOT NULL AS started FROM queue.job_error ORDER BY job_id;
SELECT s, regexp_replace(regexp_replace(queue.explain_job(id), '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^ ,;]*', '<time>', 'g'), '[A-Z][a-z][a-z] [A-Z][a-z][a-z] \d\d \d\d:\d\d:\d\d(\.\d+)? \d{4} [A-Z]+', '<time>', 'g')
  FROM ids WHERE s NOT IN ('available', 'due again') ORDER BY id;
SELECT queue.explain_job(1000000), queue.explain_job(-1);
SELECT queue.explain_job(null);
-- a queue and a handler appear before anything happened to them
SELECT queue FROM queue.stat_queue ORDER BY queue;
SELECT kind, type, target, state FROM queue.stat_handler;
SELECT count(*) FROM queue.stat_endpoint;
-- a row of the view as a value: to jsonb and back
SELECT j = jsonb_populate_record(null::queue.job, to_jsonb(j)) AS same FROM queue.job j WHERE kind = 'running';
-- a queue dropped underneath
SELECT queue.drop_queue('v', force => true);
SELECT s FROM ids JOIN queue.job USING (id) ORDER BY id;
SELECT kind FROM queue.job_error ORDER BY job_id;
SELECT queue FROM queue.stat_queue ORDER BY queue;
-- the views are no way to write
INSERT INTO queue.job (id) VALUES (1);
DELETE FROM queue.job;
-- doctor: a line for each thing, each bad one with a hint
SELECT count(*) > 5 AS checks, bool_and(ok IS NOT NULL AND check_name <> '' AND (ok OR hint <> '')) AS well_formed FROM queue.doctor();
DROP TABLE ids;
DROP EXTENSION queue;
