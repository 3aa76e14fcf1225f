-- Calls that leave parameters out: the planner gets them completed, by what is kept of the functions' defaults.
CREATE EXTENSION queue;

-- key_of under another name: which defaults a call got is seen in the key
CREATE FUNCTION queue.key_like(payload jsonb = '{"a": 1, "b": 2}', fields text[] = NULL, period interval = NULL) RETURNS text
	LANGUAGE C STABLE AS '$libdir/queue', 'queue_sql_key_of';
CREATE VIEW keys AS
SELECT queue.key_of('{"a": 1, "b": 2}') AS plain, queue.key_of('{"a": 1, "b": 2}', '{b}') AS b,
       queue.key_of('{"a": 1}') AS a, queue.key_of('{"a": 1, "b": 2}', '{b}', '1000 years') AS b_1000;
SELECT count(DISTINCT k) FROM keys, unnest(ARRAY[plain, b, a, b_1000]) k;

SELECT queue.key_like() = plain FROM keys;
SELECT queue.key_like('{"a": 1}') = a FROM keys;
SELECT queue.key_like(fields => '{b}') = b FROM keys;
SELECT queue.key_like(period => '1000 years', fields => '{b}') = b_1000 FROM keys;
SELECT queue.key_like(period => '1000 years', fields => '{b}', payload => '{"a": 1, "b": 2}') = b_1000 FROM keys;
-- as the whole of a column, and in FROM
SELECT queue.key_like() AS key, queue.key_like('{"a": 1, "b": 2}', fields => '{b}') AS b \gset
SELECT :'key' = plain AND :'b' = keys.b FROM keys;
SELECT k = plain FROM keys, queue.key_like() k;
SELECT k = b FROM keys, queue.key_like(fields => '{b}') k;
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.key_like(fields => '{b}', period => current_setting('x.y')::interval);

-- others' defaults are followed at once, by prepared statements too
PREPARE key AS SELECT queue.key_like() AS key;
EXECUTE key \gset
SELECT :'key' = plain FROM keys;
CREATE OR REPLACE FUNCTION queue.key_like(payload jsonb = '{"a": 1, "b": 2}', fields text[] = '{b}', period interval = NULL) RETURNS text
	LANGUAGE C STABLE AS '$libdir/queue', 'queue_sql_key_of';
SELECT queue.key_like() AS key \gset
SELECT :'key' = b FROM keys;
EXECUTE key \gset
SELECT :'key' = b FROM keys;
DROP FUNCTION queue.key_like;
CREATE FUNCTION queue.key_like(fields text[] = '{b}', payload jsonb = '{"a": 1, "b": 2}') RETURNS text
	LANGUAGE sql AS 'SELECT queue.key_of(payload, fields)';
SELECT queue.key_like() AS key \gset
SELECT :'key' = b FROM keys;
EXECUTE key \gset
SELECT :'key' = b FROM keys;
DROP FUNCTION queue.key_like;

-- enqueue, by name and by place
BEGIN;
SELECT queue.enqueue('call') AS id \gset
SELECT queue, kind, payload, priority, tags, state FROM queue.job WHERE id = :id;
SELECT queue.enqueue('call', tags => '{x}', priority => 3) AS id \gset
SELECT queue, kind, payload, priority, tags, state FROM queue.job WHERE id = :id;
SELECT queue.enqueue(delay => '1 day', kind => 'call', payload => '[1]') AS id \gset
SELECT queue, kind, payload, priority, tags, state FROM queue.job WHERE id = :id;
SELECT id, kind, attempt FROM queue.fetch(qty => 1, queue => 'default') \gset
SELECT :'kind', queue.complete(attempt => :attempt, job_id => :id);
ROLLBACK;

-- the plan leaves out again, from the end, what is as by default
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.enqueue('call');
EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM queue.enqueue('call', '[1]', queue => 'other');
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.enqueue('call', delay => '1 day');
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.enqueue('call', backoff => '{}');
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.enqueue('call', queue => NULL);
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.enqueue('call', on_conflict => NULL);
EXPLAIN (VERBOSE, COSTS OFF) SELECT queue.key_of('{}');
SELECT queue.enqueue('call', queue => NULL);
BEGIN;
PREPARE enqueue(int, text) AS SELECT queue.enqueue('call', priority => $1, unique_key => $2) AS id;
EXECUTE enqueue(2, 'k') \gset
SELECT priority, unique_key FROM queue.job WHERE id = :id;
EXECUTE enqueue(NULL, NULL) \gset
SELECT priority, unique_key FROM queue.job WHERE id = :id;
-- but not what the function would not put in by itself
CREATE FUNCTION queue.enqueue_like(kind text, payload jsonb = '[2]', queue text = 'default', priority int = 5) RETURNS bigint
	LANGUAGE C AS '$libdir/queue', 'queue_sql_enqueue';
SELECT queue.enqueue_like('call') AS id \gset
SELECT payload, priority FROM queue.job WHERE id = :id;
SELECT queue.enqueue_like('call', priority => 0) AS id \gset
SELECT priority FROM queue.job WHERE id = :id;
ROLLBACK;
DROP VIEW keys;
DROP EXTENSION queue;
