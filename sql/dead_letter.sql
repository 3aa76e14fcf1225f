-- Dead letters: copies of discarded jobs in another queue, and back; and the job that is told of each.
CREATE EXTENSION queue;
CREATE ROLE regress_queue_dead;
\pset format unaligned
\pset null NULL
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE sql INTO result;
	RETURN coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || regexp_replace(SQLERRM, 'job \d+', 'job N', 'g');
END $$;
CREATE FUNCTION h(jsonb) RETURNS void LANGUAGE sql AS '';
CREATE VIEW jobs AS SELECT queue, kind, state, payload, priority, attempt, failures, max_attempts, unique_key, tags, headers, last_error FROM queue.job ORDER BY queue, id;

-- what is refused
SELECT queue.create_queue('dead'), queue.create_queue('a', max_attempts => 2, dead_letter => 'dead', backoff => '{"type": "fixed", "base": "1 ms", "jitter": 0}');
SELECT try($$SELECT queue.create_queue('b', dead_letter => 'b')$$), try($$SELECT queue.create_queue('b', dead_letter => 'none')$$), try($$SELECT queue.alter_queue('dead', dead_letter => 'a')$$),
       try($$SELECT queue.alter_queue('a', dead_letter => 'a')$$), try($$SELECT queue.alter_queue('default', on_discarded => '*')$$), try($$SELECT queue.alter_queue('default', on_discarded => '')$$);
SELECT queue.create_queue('b', dead_letter => 'a');
SELECT try($$SELECT queue.alter_queue('dead', dead_letter => 'b')$$);
SELECT queue.alter_queue('b', reset => '{dead_letter}'), queue.alter_queue('dead', dead_letter => 'b'), queue.alter_queue('dead', reset => '{dead_letter}');
SELECT queue.grant_queue('a', 'regress_queue_dead', 'manage');
SET ROLE regress_queue_dead;
SELECT try($$SELECT queue.alter_queue('a', dead_letter => 'b')$$), try($$SELECT queue.alter_queue('a', dead_letter => 'none')$$), try($$SELECT queue.alter_queue('a', reset => '{dead_letter}')$$);
RESET ROLE;
SELECT queue.alter_queue('a', dead_letter => 'dead');

-- out of attempts: the job is kept as discarded, and its copy waits
SELECT queue.enqueue('k', '{"n": 1}', 'a', priority => 3, unique_key => 'u', tags => '{x,y}', headers => '{"h": 1}', timeout => '7 s', concurrency_key => 'c', expires_at => clock_timestamp() + '1 day') AS a \gset
SELECT queue.fail(id, attempt, 'first') FROM queue.fetch('a', 1);
SELECT enqueued_at AS enqueued FROM queue.job WHERE id = :a \gset
SELECT queue.fail(id, attempt, 'last') FROM queue.fetch('a', 1, wait => '10 s');
SELECT * FROM jobs;
SELECT id AS copy, id > :a AS new_id, expires_at IS NULL AND concurrency_key IS NULL AS no_expiry FROM queue.job WHERE queue = 'dead' \gset
SELECT origin ->> 'queue' AS queue, (origin -> 'id')::bigint = :a AS id, origin -> 'priority' AS priority, origin -> 'attempt' AS attempt, (origin ->> 'enqueued_at')::timestamptz = :'enqueued' AS enqueued,
       (origin ->> 'expires_at')::timestamptz = (SELECT expires_at FROM queue.job WHERE id = :a) AS expires, origin ->> 'unique_key' AS key, jsonb_path_query_array(origin, '$.errors[*].attempt') AS attempts,
       jsonb_path_query_array(origin, '$.errors[*].error') AS errors, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(origin) k) FROM queue.job WHERE id = :copy;
SELECT available FROM queue.stat_queue WHERE queue = 'dead' UNION ALL SELECT count(*) FROM queue.job WHERE queue = 'dead' LIMIT 1 OFFSET 1;
SELECT count(*) AS keys FROM queue.unique_key;

-- only handlers that name the queue serve it; fetch takes what none serves
SET client_min_messages = error;
SELECT queue.register_sql_handler('k', 'h');
RESET client_min_messages;
SELECT kind, max_attempts, origin = (SELECT origin FROM queue.job WHERE id = :copy) AS origin FROM queue.fetch('dead', 1);
SELECT queue.release(:copy);
SELECT try($$SELECT queue.test_run($$ || :copy || ')');
SELECT queue.unregister_handler('k');

-- redrive: its id, and all that it had; the discarded one goes
SELECT try($$SELECT queue.redrive(NULL)$$), try($$SELECT queue.redrive('none')$$), try($$SELECT queue.redrive('dead', 0)$$);
SELECT queue.redrive('a'), queue.redrive('dead');
SELECT * FROM jobs;
SELECT id = :a AS same_id, enqueued_at = :'enqueued' AS enqueued, expires_at > clock_timestamp() AS expires, origin FROM queue.job;
SELECT extra -> 'timeout' AS timeout, (SELECT concurrency_key FROM queue.job) FROM queue.live_job;
SELECT kind, unique_key, job_id = :a AS holder FROM queue.unique_key;
SELECT attempt, queue.complete(id, attempt) FROM queue.fetch('a', 1);

-- discarded by hand, and from a handler; the chain of two
SELECT queue.alter_queue('dead', dead_letter => 'b');
SELECT queue.enqueue('k', '{"n": 2}', 'a') AS a \gset
SELECT queue.discard(:a, 'by hand');
SELECT queue.discard_jobs('{"queue": "dead"}', 'there too');
SELECT queue, payload, state, origin ->> 'queue' AS from, origin -> 'origin' ->> 'queue' AS before FROM queue.job ORDER BY id;
SELECT queue.redrive('b'), queue.redrive('b'), queue.redrive('dead');
SELECT queue, state, id = :a AS first FROM queue.job;
SELECT queue.purge('a'), queue.alter_queue('dead', reset => '{dead_letter}');

-- a retry of the original removes its letter; one that somebody works on would stay, and its job run once more
SELECT queue.enqueue('k', to_jsonb(n), 'a') FROM generate_series(1, 4) n \g /dev/null
SELECT queue.discard_jobs('{"queue": "a"}');
SELECT payload FROM queue.fetch('dead', 1);
SELECT payload, regexp_replace(try('SELECT queue.retry(' || id || ')'), 'letter \d+', 'letter N') AS retry FROM queue.job WHERE state = 'discarded' AND payload IN ('1', '2') ORDER BY id;
SELECT queue.retry_jobs('{"queue": "a", "payload": 3}');
SELECT regexp_replace(try($$SELECT queue.retry_jobs('{"queue": "a", "payload": 1}')$$), 'letter \d+', 'letter N') AS retry_jobs;
SELECT queue, payload, state FROM jobs;
-- it waits again: the original comes back, by itself or by its letter
SELECT queue.release(id) FROM queue.job WHERE queue = 'dead' AND payload = '1';
SELECT queue.retry(id) FROM queue.job WHERE queue = 'a' AND payload = '1';
SELECT queue.redrive('dead', 1);
SELECT queue, payload, state FROM jobs;
SELECT queue.purge('a'), queue.purge('dead'), queue.delete_jobs('{"queue": "a"}');

-- a letter whose original lives (nothing makes that but a hand) stays
SELECT queue.enqueue('k', '1', 'a') AS a, queue.enqueue('k', '1', 'dead') AS letter \gset
UPDATE queue.live_job SET extra = jsonb_build_object('origin', jsonb_build_object('id', :a::bigint, 'queue', 'a')) WHERE id = :letter;
SELECT try($$SELECT queue.redrive('dead')$$), queue.redrive('dead');
SELECT queue, payload, state FROM jobs;
SELECT queue.purge('a'), queue.purge('dead');

-- nor is one a letter whose origin makes no sense
BEGIN;
SELECT queue.enqueue('k', '2', 'dead') AS letter \gset
UPDATE queue.live_job SET extra = '{"origin": {"id": 1e30, "queue": "a"}}' WHERE id = :letter;
SELECT try($$SELECT queue.redrive('dead')$$);
ROLLBACK;

-- a key that is taken stops only its letter; qty counts those that went
SELECT queue.enqueue('k', to_jsonb(n), 'a', unique_key => 'key' || n) FROM generate_series(1, 5) n \g /dev/null
SELECT queue.discard_jobs('{"queue": "a"}');
SELECT queue.enqueue('k', '"new"', 'a', unique_key => 'key1') IS NOT NULL AS taken;
SELECT queue.redrive('dead', 2);
SELECT queue, payload, state FROM jobs WHERE state <> 'discarded';
SELECT queue.redrive('dead'), queue.redrive('dead');
SELECT queue.cancel_jobs('{"queue": "a", "kind": "k", "unique_key": "key1"}');
SELECT queue.redrive('dead');
SELECT queue, payload, state FROM jobs;
SELECT queue.purge('a'), queue.delete_jobs('{"queue": "a"}');

-- who may not enqueue there, and whose queue is gone
SELECT queue.enqueue('k', '1', 'a') AS a, queue.create_queue('c', dead_letter => 'dead') \gset
SELECT queue.enqueue('k', '2', 'c') AS c \gset
SELECT queue.discard(:a), queue.discard(:c);
SELECT queue.revoke_queue('a', 'regress_queue_dead'), queue.grant_queue('dead', 'regress_queue_dead', 'manage');
SET ROLE regress_queue_dead;
SELECT queue.redrive('dead');
RESET ROLE;
SELECT queue.drop_queue('c');
SELECT queue.redrive('dead');
SELECT queue, payload, state FROM jobs;
SELECT queue.purge('a'), queue.purge('dead'), queue.delete_jobs('{"kind": "k"}');

-- a dead-letter queue that is dropped: with force; then nothing is lost, whatever the queue keeps
SELECT queue.alter_queue('a', keep_discarded => '0');
SELECT try($$SELECT queue.drop_queue('dead')$$);
SELECT queue.drop_queue('dead', force => true);
SELECT detail, hint FROM queue.doctor() WHERE check_name = 'dead letters';
SELECT queue.enqueue('k', '1', 'a') AS a \gset
SELECT queue.discard(:a);
SELECT state, (SELECT keep_until FROM queue.finished_job f WHERE f.id = j.id) FROM queue.job j WHERE id = :a;
SELECT queue.create_queue('dead'), queue.retry(:a), queue.discard(:a);
SELECT queue, state FROM queue.job;
SELECT queue.retry(:a), queue.redrive('dead');
SELECT queue, state, id = :a AS same FROM queue.job;
SELECT queue.purge('a');
-- a cycle by hand is told
UPDATE queue.queue SET dead_letter = 'a' WHERE name = 'dead';
SELECT detail FROM queue.doctor() WHERE check_name = 'dead letters';
UPDATE queue.queue SET dead_letter = NULL WHERE name = 'dead';

-- of a job with very many dependencies the letter tells 10,000
BEGIN;
SELECT queue.create_queue('deep', dead_letter => 'dead');
CREATE TEMP TABLE dependency AS SELECT id FROM queue.enqueue_many('d', array_fill('{}'::jsonb, '{10001}'), 'deep') id;
SELECT queue.enqueue('deep', queue => 'deep', depends_on => (SELECT array_agg(id) FROM dependency)) AS deep \gset
SELECT queue.discard(:deep);
SELECT jsonb_array_length(origin -> 'depends_on') FROM queue.job WHERE queue = 'dead' AND kind = 'deep';
ROLLBACK;

-- what fails otherwise than for want of a line fails the discard: a job without its letter would be lost
BEGIN;
SELECT queue.enqueue('k', '1', 'a') AS a \gset
CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more letters'; END $$;
CREATE TRIGGER full_up BEFORE INSERT ON queue.live_job FOR EACH ROW EXECUTE FUNCTION full_up();
SELECT try(format('SELECT queue.discard(%s)', :a));
ROLLBACK;

-- on_discarded: one job for each, with the job as its payload; none for itself
SELECT queue.alter_queue('a', on_discarded => 'told');
SELECT queue.enqueue('k', '{"n": 1}', 'a', tags => '{x}', max_attempts => 1) AS a \gset
SELECT queue.fail(id, attempt, 'it broke') FROM queue.fetch('a', 1, worker => 'w');
SELECT kind, payload - '{id,enqueued_at,started_at,finished_at,run_at}'::text[] AS payload, (payload -> 'id')::bigint = :a AS id, (payload ->> 'finished_at')::timestamptz > (payload ->> 'started_at')::timestamptz AS finished
FROM queue.job WHERE queue = 'a';
SELECT queue.discard(id) FROM queue.job WHERE kind = 'told';
SELECT queue, kind, state FROM jobs;
-- also where the dead-letter queue is not there
SELECT queue.purge('a'), queue.purge('dead'), queue.drop_queue('dead', force => true);
SELECT queue.enqueue('k', queue => 'a') AS a \gset
SELECT queue.discard(:a);
SELECT queue, kind, state FROM jobs;
SELECT queue.create_queue('dead'), queue.alter_queue('a', reset => '{dead_letter,on_discarded}');
SELECT name, dead_letter, on_discarded FROM queue.queue ORDER BY name;
-- of many failed attempts a letter tells the last ones
SELECT queue.create_queue('m', max_attempts => 13, dead_letter => 'dead');
SELECT queue.enqueue('k', queue => 'm') AS m \gset
DO $$ BEGIN
	FOR i IN 1 .. 13 LOOP
		PERFORM queue.fail(id, attempt, 'no ' || i, '0') FROM queue.fetch('m', 1);
	END LOOP;
END $$;
SELECT state, failures FROM queue.job WHERE id = :m;
SELECT jsonb_path_query_array(origin, '$.errors[*].attempt') AS attempts, jsonb_path_query_array(origin, '$.errors[*].error') AS errors
	FROM queue.job WHERE queue = 'dead' AND (origin -> 'id')::bigint = :m;
-- max_attempts are those of the handler that serves a job, also when it has ended: first one that names the queue, then
-- that of the kind, then that of all kinds; in a dead-letter queue only one that names it
SET client_min_messages = error;
SELECT queue.register_sql_handler('*', 'h', max_attempts => 4), queue.register_sql_handler('served', 'h', max_attempts => 3),
	queue.register_sql_handler('named', 'h', max_attempts => 5), queue.register_sql_handler('named', 'h', queues => '{m,dead}', max_attempts => 6);
RESET client_min_messages;
CREATE TEMP TABLE served AS SELECT queue.enqueue(kind, queue => queue, delay => '1 hour') AS id
	FROM unnest('{served,named,other}'::text[]) kind, unnest('{a,m,dead}'::text[]) queue;
SELECT kind, queue, max_attempts, state FROM queue.job JOIN served USING (id) ORDER BY kind, queue;
SELECT count(queue.cancel(id)) FROM served;
SELECT kind, queue, max_attempts, state FROM queue.job JOIN served USING (id) ORDER BY kind, queue;
DROP TABLE served;
DROP FUNCTION try, h(jsonb);
DROP OWNED BY regress_queue_dead;
DROP ROLE regress_queue_dead;
SET client_min_messages = error;
DROP EXTENSION queue CASCADE;
