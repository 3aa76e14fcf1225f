-- Unique keys: who has one, what an enqueue does when it is taken, and who gets it next.
CREATE EXTENSION queue;
CREATE ROLE regress_queue_unique;
\pset format unaligned
\pset null NULL
SELECT queue.create_queue('q', backoff => '{"type": "fixed", "base": "1 hour", "jitter": 0}', keep_completed => '1 day'), queue.create_queue('other');
CREATE VIEW jobs AS SELECT kind, unique_key, state, payload, priority, failures, attempt, last_error, run_at > clock_timestamp() + '30 min' AS later FROM queue.job WHERE kind <> 'x' ORDER BY id;
-- the keys, with the jobs by the order of their enqueue
CREATE VIEW keys AS WITH j AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM queue.job)
	SELECT queue, kind, unique_key, (SELECT n FROM j WHERE id = job_id) AS job, until > clock_timestamp() AS in_window, (SELECT n FROM j WHERE id = successor) AS successor, ended
	FROM queue.unique_key ORDER BY 1, 2, 3;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE sql INTO result;
	RETURN coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, 'job \d+', 'job N', 'g');
END $$;

-- ignore, the default; the key is of a kind in a queue
SELECT queue.enqueue('k', '1', 'q', unique_key => 'a') AS a \gset
SELECT queue.enqueue('k', '2', 'q', unique_key => 'a') = :a AS ignored, queue.enqueue('k', '2', 'q', unique_key => 'b') <> :a AS another_key,
       queue.enqueue('k2', '2', 'q', unique_key => 'a') <> :a AS another_kind, queue.enqueue('k', '2', 'other', unique_key => 'a') <> :a AS another_queue,
       queue.enqueue('k', '2', 'q') <> :a AS no_key;
SELECT * FROM jobs;
SELECT * FROM keys;
SELECT unique_key FROM queue.find_jobs(jsonb_build_object('ids', :a));
-- also while it runs; it is free when the job has ended
SELECT unique_key FROM queue.fetch('q', 1, kinds => '{k}');
SELECT queue.enqueue('k', '2', 'q', unique_key => 'a') = :a AS ignored;
SELECT queue.complete(:a, 1);
SELECT state, unique_key FROM queue.job WHERE id = :a;
SELECT queue.enqueue('k', '2', 'q', unique_key => 'a') > :a AS new;
SELECT queue.purge('q'), queue.purge('other');
SELECT * FROM keys;
-- each other end too
SELECT queue.enqueue('k', '1', 'q', unique_key => 'cancel') AS c, queue.enqueue('k', '1', 'q', unique_key => 'discard') AS d, queue.enqueue('k', '1', 'q', unique_key => 'fail', max_attempts => 1) AS f,
       queue.enqueue('k', '1', 'q', unique_key => 'expire', expires_at => clock_timestamp() - interval '1 s') AS e, queue.enqueue('k', '1', 'q', unique_key => 'retry') AS r \gset
SELECT unique_key FROM queue.fetch('q', 10, kinds => '{k}');
SELECT queue.cancel(:c), queue.discard(:d), queue.fail(:f, 1), queue.fail(:r, 1);
SELECT unique_key FROM keys;
SELECT queue.cancel_jobs('{"queue": "q", "kind": "k", "unique_key": "retry"}');
SELECT unique_key FROM keys;

-- what is refused
SELECT try($$SELECT queue.enqueue('k', unique_key => '')$$), try($$SELECT queue.enqueue('k', unique_key => repeat('x', 201))$$),
       try($$SELECT queue.enqueue('k', unique_for => '1 min')$$), try($$SELECT queue.enqueue('k', unique_key => 'a', unique_for => '0')$$),
       try($$SELECT queue.enqueue('k', unique_key => 'a', unique_for => '2000 years')$$), try($$SELECT queue.enqueue('k', unique_key => 'a', on_conflict => 'x')$$);

-- error
SELECT queue.enqueue('k', '1', 'q', unique_key => 'a', on_conflict => 'error') AS a \gset
SELECT try($$SELECT queue.enqueue('k', '2', 'q', unique_key => 'a', on_conflict => 'error')$$);

-- replace: a waiting job gets payload, run_at and priority, and forgets its failures
SELECT queue.enqueue('k', '2', 'q', priority => 3, delay => '1 hour', tags => '{t}', unique_key => 'a', on_conflict => 'replace') = :a AS replaced;
SELECT * FROM jobs WHERE state IN ('available', 'scheduled');
SELECT queue.enqueue('k', '3', 'q', unique_key => 'a', on_conflict => 'replace') = :a AS replaced;
SELECT queue.fail(id, attempt, 'no') FROM queue.fetch('q', 1, kinds => '{k}');
SELECT * FROM jobs WHERE state = 'retryable';
SELECT queue.enqueue('k', '4', 'q', unique_key => 'a', on_conflict => 'replace') = :a AS replaced;
SELECT * FROM jobs WHERE state = 'available';
-- its concurrency key stays, and with it its line
SELECT queue.create_queue('keyed', max_running_per_key => 1);
SELECT queue.enqueue('k', '1', 'keyed', unique_key => 'a', concurrency_key => 'one') AS c \gset
SELECT queue.enqueue('k', '2', 'keyed', unique_key => 'a', concurrency_key => 'two', on_conflict => 'replace') = :c AS replaced;
SELECT payload, concurrency_key FROM queue.fetch('keyed');
SELECT queue.drop_queue('keyed', force => true);
-- replace_payload keeps the earlier run_at
SELECT queue.enqueue('k', '5', 'q', delay => '1 day', unique_key => 'a', on_conflict => 'replace_payload') = :a AS replaced;
SELECT * FROM jobs WHERE unique_key = 'a' AND state IN ('available', 'scheduled');
-- merge: two objects or two arrays
SELECT try($$SELECT queue.enqueue('k', '[6]', 'q', unique_key => 'a', on_conflict => 'merge')$$);
SELECT queue.enqueue('k', '{"a": 1, "b": 1}', 'q', unique_key => 'a', on_conflict => 'replace') = :a AS replaced;
SELECT try($$SELECT queue.enqueue('k', '[6]', 'q', unique_key => 'a', on_conflict => 'merge')$$);
SELECT * FROM queue.enqueue_unique('k', 'a', '{"b": 2, "c": 3}', '{"queue": "q", "on_conflict": "merge", "delay": "1 day"}') WHERE job_id = :a \gset m_
SELECT :'m_outcome', payload, later FROM jobs WHERE unique_key = 'a' AND state = 'available';
SELECT queue.enqueue('k', '[1]', 'q', unique_key => 'list', on_conflict => 'merge') AS l \gset
SELECT queue.enqueue('k', '[2, [3]]', 'q', unique_key => 'list', on_conflict => 'merge') = :l AS merged;
SELECT try($$SELECT queue.enqueue('k', '4', 'q', unique_key => 'list', on_conflict => 'merge') > 0$$);
SELECT payload FROM jobs WHERE unique_key = 'list';
SET queue.max_job_size = '1kB';
SELECT try(format($$SELECT queue.enqueue('k', '[%s]', 'q', unique_key => 'list', on_conflict => 'merge')$$, (SELECT string_agg('"some text here"', ',') FROM generate_series(1, 40))));
SELECT try(format($$SELECT queue.enqueue('k', '[%s]', 'q', unique_key => 'list', on_conflict => 'merge')$$, (SELECT string_agg('"some text here"', ',') FROM generate_series(1, 40))));
RESET queue.max_job_size;
SELECT queue.purge('q');

-- a running job gets one successor, which the next request changes; it runs when the other has ended
SELECT queue.enqueue('k', '{"n": 1}', 'q', unique_key => 'a') AS a \gset
SELECT payload FROM queue.fetch('q', 1, kinds => '{k}');
SET queue.max_job_size = '1kB';
SELECT try(format($$SELECT queue.enqueue('k', '{"big": "%s"}', 'q', unique_key => 'a', on_conflict => 'merge')$$, repeat('x', 1000)));
RESET queue.max_job_size;
SELECT outcome, job_id AS s FROM queue.enqueue_unique('k', 'a', '{"n": 2}', '{"queue": "q", "on_conflict": "replace"}') \gset
SELECT :'outcome', :s > :a AS new;
SELECT queue.enqueue('k', '{"n": 3}', 'q', unique_key => 'a', on_conflict => 'replace') = :s AS replaced, queue.enqueue('k', '9', 'q', unique_key => 'a') = :a AS ignored,
       queue.enqueue('k', '{"m": 4}', 'q', unique_key => 'a', on_conflict => 'merge') = :s AS merged;
SELECT state, payload FROM jobs WHERE unique_key = 'a' AND state IN ('running', 'pending');
SELECT regexp_replace(queue.explain_job(:s), 'job \d+', 'job N');
SELECT * FROM queue.fetch('q', 1, kinds => '{k}');
SELECT queue.complete(:a, 1);
SELECT state, payload FROM jobs WHERE unique_key = 'a' AND state <> 'cancelled' AND payload ? 'm';
SELECT queue.enqueue('k', '9', 'q', unique_key => 'a') = :s AS ignored;
-- one that fails while another waits is replaced; so is one that is given back
SELECT payload FROM queue.fetch('q', 1, kinds => '{k}');
SELECT outcome FROM queue.enqueue_unique('k', 'a', '{"n": 5}', '{"queue": "q", "on_conflict": "replace", "delay": "1 hour"}');
SELECT queue.fail(:s, 1, 'it failed');
SELECT state, payload, failures, last_error, later FROM jobs WHERE unique_key = 'a' AND payload ?| '{m,n}' ORDER BY payload -> 'n';
SELECT error FROM queue.job_error WHERE job_id = :s;
SELECT id AS s FROM queue.job WHERE unique_key = 'a' AND state = 'scheduled' \gset
SELECT queue.retry(:s);
SELECT payload FROM queue.fetch('q', 1, kinds => '{k}');
SELECT outcome FROM queue.enqueue_unique('k', 'a', '{"n": 6}', '{"queue": "q", "on_conflict": "replace_payload"}');
SELECT queue.release(:s, 1);
SELECT state, payload FROM jobs WHERE unique_key = 'a' AND state IN ('available', 'pending') OR last_error = 'replaced';
-- the end of the successor changes nothing for the other
SELECT id AS s FROM queue.fetch('q', 1, kinds => '{k}') \gset
SELECT job_id AS t FROM queue.enqueue_unique('k', 'a', '{"n": 7}', '{"queue": "q", "on_conflict": "replace"}') \gset
SELECT queue.cancel(:t);
SELECT ended, successor, job_id = :s AS of_first FROM queue.unique_key;
SELECT job_id AS t FROM queue.enqueue_unique('k', 'a', '{"n": 8}', '{"queue": "q", "on_conflict": "replace"}') \gset
SELECT queue.cancel(:s);
SELECT state, payload FROM jobs WHERE payload = '{"n": 8}';
SELECT queue.cancel(:t);
SELECT * FROM keys;

-- whose lease has ended may still be completed by its worker: it gets a successor, and is not changed (in one transaction,
-- or the scheduler would end the lease)
SELECT queue.enqueue('k', '{"n": 9}', 'q', unique_key => 'a') AS a \gset
BEGIN;
SELECT leased_until <= clock_timestamp() AS ended FROM queue.fetch('q', 1, lease => '1 us', kinds => '{k}');
SELECT outcome FROM queue.enqueue_unique('k', 'a', '{"n": 10}', '{"queue": "q", "on_conflict": "replace"}');
SELECT queue.complete(:a, 1);
COMMIT;
SELECT payload FROM queue.fetch('q', 1, kinds => '{k}');
SELECT queue.cancel_jobs('{"queue": "q", "kind": "k", "unique_key": "a"}');

-- unique_for: also when the job has ended
SELECT queue.enqueue('k', '1', 'q', unique_key => 'w', unique_for => '1 hour') AS w \gset
SELECT queue.complete(id, attempt) FROM queue.fetch('q', 1, kinds => '{k}');
SELECT unique_key, in_window, ended FROM keys;
SELECT queue.enqueue('k', '2', 'q', unique_key => 'w') = :w AS ignored;
SELECT try($$SELECT queue.enqueue('k', '2', 'q', unique_key => 'w', on_conflict => 'error')$$);
SELECT queue.retry(:w);
SELECT unique_key, in_window, ended FROM keys;
SELECT queue.cancel(:w);
SELECT outcome FROM queue.enqueue_unique('k', 'w', '{}', '{"queue": "q", "on_conflict": "replace"}');
SELECT unique_key, in_window, ended FROM keys;
SELECT try('SELECT queue.retry(' || :w || ')');
SELECT queue.purge('q');
SELECT queue.retry(:w);
SELECT unique_key, in_window, ended FROM keys;
SELECT queue.purge('q');
-- a job that is replaced brings its own window, and shortens none
BEGIN;
SELECT queue.enqueue('k', '1', 'q', unique_key => 'longer') AS l, queue.enqueue('k', '1', 'q', unique_key => 'shorter', unique_for => '1 hour') AS s \gset
SELECT queue.enqueue('k', '2', 'q', unique_key => 'longer', unique_for => '1 hour', on_conflict => 'replace') = :l AS longer,
       queue.enqueue('k', '2', 'q', unique_key => 'shorter', unique_for => '1 us', on_conflict => 'replace') = :s AS shorter;
SELECT unique_key, in_window FROM keys;
ROLLBACK;
-- so does a successor
BEGIN;
SELECT queue.enqueue('succeeded', '1', 'q', unique_key => 'window', unique_for => '1 us') AS w \gset
SELECT count(*) FROM queue.fetch('q', kinds => '{succeeded}');
SELECT outcome FROM queue.enqueue_unique('succeeded', 'window', '2', '{"queue": "q", "on_conflict": "replace", "unique_for": "1 hour"}');
SELECT unique_key, in_window, successor IS NOT NULL AS successor FROM keys;
ROLLBACK;
SELECT queue.enqueue('k', '1', 'q', unique_key => 'past', unique_for => '1 us') AS w \gset
SELECT queue.cancel(:w), count(*) AS keys FROM queue.unique_key GROUP BY ();
SELECT * FROM keys;

-- what is of no use any more goes: a window that is over, the key of a job that somebody deleted
SELECT queue.enqueue('k', '1', 'q', unique_key => 'over', unique_for => '1 hour') AS o, queue.enqueue('k', '2', 'q', unique_key => 'live', unique_for => '1 hour') AS l,
       queue.enqueue('k', '3', 'q', unique_key => 'gone') AS g \gset
SELECT queue.cancel(:o);
DELETE FROM queue.live_job WHERE id = :g;
SELECT queue.maintain();
SELECT unique_key, ended FROM keys;
SET queue.debug_clock_offset = '2h';
SELECT queue.maintain();
RESET queue.debug_clock_offset;
SELECT unique_key, ended FROM keys;
SELECT queue.purge('q'), queue.delete_jobs('{"queue": "q"}') > 0 AS deleted;

-- retry_jobs, move_jobs: a job whose key is taken is left and not counted; of two with one key the first wins
SELECT queue.enqueue('x', '1', 'q', unique_key => 'a') AS x \gset
SELECT queue.cancel(:x, 'twice'), queue.enqueue('x', '2', 'q', unique_key => 'a') AS x, queue.enqueue('x', '3', 'q', unique_key => 'b') AS y \gset
SELECT queue.cancel(:x, 'twice'), queue.cancel(:y, 'twice');
SELECT queue.retry_jobs('{"queue": "q", "error": "twice"}');
SELECT payload, state FROM queue.job WHERE last_error = 'twice' ORDER BY id;
SELECT queue.enqueue('y', '4', 'q', unique_key => 'b', unique_for => '1 hour') AS b \gset
SELECT queue.move_jobs('{"queue": "q", "kind": ["x", "y"], "state": "available"}', queue => 'other', kind => 'z');
SELECT queue, kind, payload, state FROM queue.job WHERE payload IN ('1', '3', '4') AND state = 'available' ORDER BY id;
SELECT queue, kind, unique_key, in_window FROM keys;
SELECT queue.move_jobs('{"queue": "q", "kind": "y"}', kind => 'y2');
SELECT queue, kind, unique_key, in_window FROM keys;
SELECT queue.move_jobs('{"queue": "q", "kind": "y2"}', priority => 7);
SELECT queue.purge('q'), queue.purge('other');

-- find_jobs and cancel_jobs by key; enqueue alone is enough to cancel what waits
SELECT queue.enqueue('k', to_jsonb(n), 'q', unique_key => 'n' || n) FROM generate_series(1, 4) n \g /dev/null
SELECT string_agg(payload::text, ',') FROM queue.find_jobs('{"unique_key": ["n1", "n3", "none"]}');
SELECT string_agg(payload::text, ',') FROM queue.find_jobs('{"unique_key": "n2", "queue": "q", "kind": "k", "state": ["available"]}');
SELECT payload FROM queue.fetch('q', 1, kinds => '{k}');
SELECT queue.grant_queue('q', 'regress_queue_unique');
SET ROLE regress_queue_unique;
SELECT queue.cancel_jobs('{"queue": "q", "kind": "k", "unique_key": ["n1", "n2", "none"]}');
SELECT try($$SELECT queue.cancel_jobs('{"queue": "q", "kind": "k", "unique_key": "n3", "payload": 3}')$$), try($$SELECT queue.cancel_jobs('{"queue": "q", "kind": "k"}')$$),
       queue.cancel_jobs('{"queue": "other", "kind": "k", "unique_key": "n3"}'),
       queue.cancel_jobs('{"queue": "q", "kind": "k", "unique_key": "n3", "state": "retryable"}');
SELECT outcome FROM queue.enqueue_unique('k', 'n3', '{}', '{"queue": "q"}');
RESET ROLE;
SELECT payload, state FROM queue.job WHERE unique_key ~ '^n\d' ORDER BY id;
SELECT queue.drop_queue('q', force => true), count(*) FROM queue.unique_key GROUP BY ();
SELECT * FROM keys;

-- enqueue_json(_many): ids in the order of the array, whatever the order of the keys
SELECT queue.create_queue('j');
SELECT queue.enqueue_json('{"kind": "k", "queue": "j", "unique_key": "b", "payload": 1}') AS b \gset
SELECT id = :b AS b, id - :b AS ids FROM queue.enqueue_json_many('[{"kind": "k", "queue": "j", "unique_key": "c", "payload": 2}, {"kind": "k", "queue": "j", "payload": 3},
	{"kind": "k", "queue": "j", "unique_key": "b", "payload": 4, "on_conflict": "replace"}, {"kind": "k", "queue": "j", "unique_key": "a", "payload": 5},
	{"kind": "k", "queue": "j", "unique_key": "c", "payload": 6, "on_conflict": "replace"}, {"kind": "k", "queue": "j", "unique_key": "a", "payload": 7}]') id;
SELECT id - :b AS n, unique_key, payload FROM queue.job WHERE queue = 'j' ORDER BY id;
SELECT try($$SELECT queue.enqueue_json_many('[{"kind": "k", "queue": "j"}, {"kind": "k", "queue": "j", "unique_key": "b", "on_conflict": "error"}]')$$);
SELECT try($$SELECT queue.enqueue_unique('k', 'x', '{}', '{"kind": "k"}')$$), try($$SELECT queue.enqueue_unique('k', NULL)$$), try($$SELECT queue.enqueue_unique(NULL, 'x')$$),
       try($$SELECT queue.enqueue_unique('k', 'x', NULL)$$), try($$SELECT queue.enqueue_unique('k', 'x', '{}', '{"colour": 1}')$$),
       try($$SELECT queue.enqueue_unique('k', 'x', '{}', '{"payload": 1}')$$), try($$SELECT queue.enqueue_unique('k', 'x', '{}', '{"unique_key": "y"}')$$), try($$SELECT queue.enqueue_unique('k', 'x', '{}', '5')$$);
-- many ends in one call
SELECT count(*) FROM queue.complete_many((SELECT array_agg(id) FROM queue.fetch('j', 10)));
SELECT * FROM keys;

-- in one transaction, and undone by a savepoint
BEGIN;
SELECT queue.enqueue('k', '1', 'j', unique_key => 's') AS s \gset
SAVEPOINT a;
SELECT queue.enqueue('k', '2', 'j', unique_key => 's', on_conflict => 'replace') = :s AS replaced;
SELECT queue.enqueue('k', '3', 'j', unique_key => 't') \g /dev/null
ROLLBACK TO a;
SELECT queue.enqueue('k', '4', 'j', unique_key => 't') \g /dev/null
SELECT unique_key, payload FROM jobs WHERE unique_key IN ('s', 't');
SELECT payload FROM queue.fetch('j', 1);
SELECT outcome FROM queue.enqueue_unique('k', 's', '5', '{"queue": "j", "on_conflict": "replace"}');
SELECT queue.complete(:s, 1);
SELECT payload FROM queue.fetch('j', 10) ORDER BY id;
ROLLBACK;
SELECT * FROM keys;

-- a handler that enqueues its own key
CREATE FUNCTION again(j queue.job) RETURNS void BEGIN ATOMIC
	SELECT outcome FROM queue.enqueue_unique('again', j.unique_key, '{"n": 2}', '{"queue": "j", "on_conflict": "replace"}') WHERE j.payload = '{"n": 1}';
END;
BEGIN;
SET client_min_messages = error;
SELECT queue.register_sql_handler('again', 'again', '{j}');
RESET client_min_messages;
SELECT queue.test_run(queue.enqueue('again', '{"n": 1}', 'j', unique_key => 'h'));
SELECT payload, state FROM queue.job WHERE kind = 'again' AND queue = 'j';
SELECT state FROM queue.test_drain('j');
SELECT * FROM keys;
COMMIT;

-- and one that enqueues another's: that job does not run, so it is changed
CREATE FUNCTION replace_other(j queue.job) RETURNS jsonb BEGIN ATOMIC
	SELECT to_jsonb(outcome) FROM queue.enqueue_unique('k', 'o', '2', '{"queue": "j", "on_conflict": "replace"}');
END;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT queue.alter_queue('j', keep_completed => '1 day'), queue.register_sql_handler('other', 'replace_other', '{j}');
SELECT queue.enqueue('k', '1', 'j', unique_key => 'o') AS o, queue.enqueue('other', '{}', 'j') AS other \gset
SELECT queue.test_run(:other);
SELECT queue.result(:other), payload FROM queue.job WHERE id = :o;
ROLLBACK;
DROP FUNCTION replace_other(queue.job);

-- a replacement that names a group brings its own time to the waiting job
BEGIN;
SELECT queue.create_queue('timed');
SELECT outcome FROM queue.enqueue_unique('k', 'u', '{"n": 1}', '{"queue": "timed"}');
SELECT outcome FROM queue.enqueue_unique('k', 'u', '{"n": 2}', '{"queue": "timed", "group_key": "g", "on_conflict": "replace"}');
SELECT payload, state, run_at <= clock_timestamp() AS due, group_key FROM queue.job WHERE queue = 'timed';
SELECT outcome FROM queue.enqueue_unique('k', 'h', '{"n": 1}', '{"queue": "timed", "group_key": "g", "delay": "1 day"}');
SELECT outcome FROM queue.enqueue_unique('k', 'h', '{"n": 2}', '{"queue": "timed", "group_key": "g", "delay": "1 hour", "on_conflict": "replace_payload"}');
SELECT payload, state, run_at < clock_timestamp() + interval '2 hours' AS sooner, group_key FROM queue.job WHERE queue = 'timed' AND unique_key = 'h';
ROLLBACK;

-- another job's window keeps a retry out, its own does not
BEGIN;
SELECT queue.create_queue('w', keep_completed => '1 day');
SELECT queue.enqueue('k', '1', 'w', unique_key => 'w') AS a \gset
SELECT queue.cancel(:a);
SELECT queue.enqueue('k', '2', 'w', unique_key => 'w', unique_for => '1 hour') AS b \gset
SELECT queue.complete(:b, attempt) FROM queue.fetch('w');
SELECT try(format('SELECT queue.retry(%s)', :a)), try(format('SELECT queue.retry(%s)', :b));
ROLLBACK;
-- a successor is not moved: the key is the other one's
BEGIN;
SELECT queue.enqueue('k', '1', 'j', unique_key => 'm') AS a \gset
SELECT attempt FROM queue.fetch('j');
SELECT queue.enqueue('k', '2', 'j', unique_key => 'm', on_conflict => 'replace') AS b \gset
SELECT queue.move_jobs(jsonb_build_object('ids', :b), 'other');
SELECT queue, kind, unique_key, successor IS NOT NULL AS successor FROM keys WHERE unique_key = 'm';
SELECT queue.complete(:a, 1);
SELECT queue, payload, state FROM queue.job WHERE id = :b;
ROLLBACK;

-- key_of
SELECT queue.key_of('{"a": 1, "b": [1, {"c": null}]}') = queue.key_of('{"b": [1.0, {"c": null}], "a": 1.00}') AS same,
       queue.key_of('{"a": {"x": 1, "y": [2]}, "b": 1}', '{a}') = queue.key_of('{"b": 2, "a": {"y": [2], "x": 1}}', '{a}') AS "same within",
       queue.key_of('{"a": {"x": 1, "y": [2]}}', '{a}') <> queue.key_of('{"a": {"x": 1, "y": [3]}}', '{a}') AS "differs within", length(queue.key_of('{}'));
SELECT count(DISTINCT queue.key_of(p)) = count(*) AS all_differ FROM unnest('{"{}","[]","null","\"\"","1","\"1\"","[1]","[[1]]","true","false","{\"a\":null}","{\"a\":{}}","{\"ab\":\"c\"}","{\"a\":\"bc\"}","[\"a\",\"b\"]","[\"ab\"]"}'::jsonb[]) p;
SELECT queue.key_of('{"a": 1, "b": 2}', '{a}') = queue.key_of('{"a": 1, "b": 3}', '{a}') AS same_fields, queue.key_of('{"a": 1, "b": 2}', '{b,a,a}') = queue.key_of('{"b": 2, "a": 1}') AS all_fields,
       queue.key_of('{"a": 1}', '{a,b}') = queue.key_of('{"a": 1, "b": null}', '{a,b}') AS missing_is_null;
SELECT queue.key_of('{"a": 1}');
SELECT try($$SELECT queue.key_of(NULL)$$), try($$SELECT queue.key_of('[]', '{a}')$$), try($$SELECT queue.key_of('{}', '{}')$$), try($$SELECT queue.key_of('{}', period => '0')$$);
SELECT queue.key_of('{}', period => '100 years') = queue.key_of('{}', period => '100 years') AS same, queue.key_of('{}', period => '100 years') = queue.key_of('{}') AS without;
SET queue.debug_clock_offset = '9d';
SELECT queue.key_of('{}', period => '1 day') AS later \gset
RESET queue.debug_clock_offset;
SELECT queue.key_of('{}', period => '1 day') = :'later' AS same_later;
DROP FUNCTION try;
DROP OWNED BY regress_queue_unique;
DROP ROLE regress_queue_unique;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
